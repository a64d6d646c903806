use crate::cluster::{Cluster, eventually};
use netguard_core::identity::Role;
use netguard_proto::v1::{
    AllowlistEntry, ApplyPolicyRequest, BlockRequest, CheckAllowlistRequest, Decision, ExplainRequest,
    GetPolicyRequest, GetStatusRequest, ListAllowlistRequest, ListAuditRequest, ListDecisionsRequest,
    RemoveAllowlistRequest, UnblockRequest, Verb, WatchRequest,
};
use tonic::Code;

fn block(prefix: &str) -> BlockRequest {
    BlockRequest { prefix: prefix.into(), reason: "test".into(), ..BlockRequest::default() }
}

async fn decisions(cluster: &Cluster) -> Vec<Decision> {
    let request = ListDecisionsRequest { linearizable: true, ..ListDecisionsRequest::default() };
    cluster.owner().await.list_decisions(request).await.unwrap().into_inner().decisions
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_block_is_seen_explained_audited_and_lifted() {
    let cluster = Cluster::start().await;
    let mut owner = cluster.owner().await;
    let written = owner.block(block("203.0.113.7")).await.unwrap().into_inner();
    assert!(written.outcome.starts_with("block 203.0.113.7 for 4h, until "), "{}", written.outcome);
    let seen = decisions(&cluster).await;
    assert_eq!((seen.len(), seen[0].verb, seen[0].simulated), (1, i32::from(Verb::Block), false));
    assert_eq!(seen[0].expires_at - seen[0].created_at, 4 * 3600 * 1_000_000);

    let why = owner.explain(ExplainRequest { what: "203.0.113.7".into() }).await.unwrap().into_inner();
    assert_eq!(why.decisions.len(), 1);
    assert!(why.decisions[0].active);

    let status = owner.get_status(GetStatusRequest {}).await.unwrap().into_inner();
    assert_eq!((status.cluster.as_str(), status.decisions, status.leader), ("prod", 1, 1));
    assert_eq!((status.mode.as_str(), status.coordinators.len()), ("simulate", 1));
    assert_eq!(status.revision, written.revision);

    let lifted = owner.unblock(UnblockRequest { what: "203.0.113.0/24".into(), ..Default::default() }).await;
    assert_eq!(lifted.unwrap().into_inner().outcome, "1 decision lifted");
    assert_eq!(decisions(&cluster).await, []);
    let nothing = owner.unblock(UnblockRequest { what: "203.0.113.7".into(), ..Default::default() }).await;
    assert_eq!(nothing.unwrap_err().code(), Code::NotFound);

    let why = owner.explain(ExplainRequest { what: "203.0.113.7".into() }).await.unwrap().into_inner();
    assert!(!why.decisions[0].active);
    assert!(why.notes.iter().any(|note| note.contains("admin:owner/owner lifted it")), "{:?}", why.notes);

    let audit =
        owner.list_audit(ListAuditRequest { after: 0, limit: 1000 }).await.unwrap().into_inner().entries;
    let own: Vec<_> = audit
        .iter()
        .filter(|entry| entry.actor == "spiffe://prod/admin:owner/owner")
        .map(|entry| entry.action.as_str())
        .collect();
    assert_eq!(own, ["block", "unblock", "unblock"], "the refused one too");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_retry_with_the_same_id_acts_once() {
    let cluster = Cluster::start().await;
    let mut owner = cluster.owner().await;
    let request = BlockRequest { request_id: vec![7; 16], ..block("203.0.113.7") };
    let first = owner.block(request.clone()).await.unwrap().into_inner();
    owner.unblock(UnblockRequest { what: "203.0.113.7".into(), ..Default::default() }).await.unwrap();
    let again = owner.block(request).await.unwrap().into_inner();
    assert_eq!(again, first, "answered as it was then");
    assert_eq!(decisions(&cluster).await, [], "and not done again");
    let short = BlockRequest { request_id: vec![7; 15], ..block("203.0.113.7") };
    assert_eq!(owner.block(short).await.unwrap_err().code(), Code::InvalidArgument);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_must_not_be_blocked_is_refused_with_the_reason() {
    let cluster = Cluster::start().await;
    let mut owner = cluster.owner().await;
    for (prefix, code, text) in [
        ("010.0.0.1", Code::InvalidArgument, "without leading zeros"),
        ("1.2.3", Code::InvalidArgument, "not an address"),
        ("203.0.113.7/33", Code::InvalidArgument, "prefix length"),
        ("203.0.113.7/24", Code::InvalidArgument, "did you mean 203.0.113.0/24"),
        ("fe80::1%eth0", Code::InvalidArgument, "zone"),
        ("0.0.0.0/0", Code::FailedPrecondition, "lock yourself out"),
        ("::/0", Code::InvalidArgument, "wider than"),
        ("192.0.0.0/7", Code::InvalidArgument, "wider than /8"),
        ("193.0.0.0/7", Code::InvalidArgument, "did you mean 192.0.0.0/7"),
        ("127.0.0.1", Code::FailedPrecondition, "lock yourself out"),
        ("::ffff:127.0.0.2", Code::FailedPrecondition, "loopback"),
        ("64:ff9b::7f00:1", Code::FailedPrecondition, "loopback"),
        ("224.0.0.1", Code::FailedPrecondition, "multicast"),
    ] {
        let refused = owner.block(block(prefix)).await.expect_err(prefix);
        assert_eq!(refused.code(), code, "{prefix}: {}", refused.message());
        assert!(refused.message().contains(text), "{prefix}: {}", refused.message());
    }
    for ttl_seconds in [31 * 24 * 3600, 100 * 365 * 24 * 3600, u64::MAX] {
        let refused = owner.block(BlockRequest { ttl_seconds, ..block("203.0.113.7") }).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument);
    }
    let shield = BlockRequest { verb: Verb::Shield.into(), ..block("203.0.113.7") };
    assert_eq!(owner.block(shield).await.unwrap_err().code(), Code::InvalidArgument);
    assert_eq!(decisions(&cluster).await, []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_allowlist_cancels_and_prevents() {
    let cluster = Cluster::start().await;
    let mut owner = cluster.owner().await;
    owner.block(block("203.0.113.7")).await.unwrap();
    let entry =
        AllowlistEntry { prefix: "203.0.113.0/24".into(), reason: "partner".into(), ..Default::default() };
    let written = owner.add_allowlist(entry).await.unwrap().into_inner();
    assert_eq!(written.outcome, "203.0.113.0/24 is allowed; 1 decision lifted");
    let refused = owner.block(block("203.0.113.7")).await.unwrap_err();
    assert!(refused.message().contains("partner"), "{}", refused.message());

    let check = CheckAllowlistRequest { prefix: "203.0.113.9".into() };
    let checked = owner.check_allowlist(check.clone()).await.unwrap().into_inner();
    assert!(checked.allowed && checked.because.contains("partner"), "{checked:?}");
    let listed = owner.list_allowlist(ListAllowlistRequest {}).await.unwrap().into_inner().entries;
    assert_eq!(listed.iter().filter(|entry| !entry.never_block).count(), 1);
    assert!(listed.iter().any(|entry| entry.never_block && entry.prefix == "127.0.0.0/8"));

    let remove = RemoveAllowlistRequest { prefix: "203.0.113.0/24".into() };
    owner.remove_allowlist(remove.clone()).await.unwrap();
    assert_eq!(owner.remove_allowlist(remove).await.unwrap_err().code(), Code::NotFound);
    assert!(!owner.check_allowlist(check).await.unwrap().into_inner().allowed);
    owner.block(block("203.0.113.7")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_policy_is_checked_applied_and_kept_by_version() {
    let cluster = Cluster::start().await;
    let mut owner = cluster.owner().await;
    let current = owner.get_policy(GetPolicyRequest { version: 0 }).await.unwrap().into_inner();
    let yaml = current.yaml.replace("mode: simulate", "mode: enforce");
    let apply = ApplyPolicyRequest { yaml, base_version: current.version, dry_run: true };
    let tried = owner.apply_policy(apply.clone()).await.unwrap().into_inner();
    assert!(tried.outcome.contains("mode: simulate → enforce"), "{}", tried.outcome);
    let status = |cluster: &Cluster| {
        let owner = cluster.owner.clone();
        let channel = cluster.address();
        async move {
            let channel =
                netguard_daemon::client::connect(&owner, &channel, netguard_proto::COORDINATOR_SERVER_NAME);
            let mut client =
                netguard_proto::v1::admin_service_client::AdminServiceClient::new(channel.await.unwrap());
            client.get_status(GetStatusRequest {}).await.unwrap().into_inner().mode
        }
    };
    assert_eq!(status(&cluster).await, "simulate", "a dry run changes nothing");
    let apply = ApplyPolicyRequest { dry_run: false, ..apply };
    owner.apply_policy(apply.clone()).await.unwrap();
    assert_eq!(status(&cluster).await, "enforce");
    let stale = ApplyPolicyRequest { yaml: "act_score: 7\n".into(), ..apply };
    assert_eq!(owner.apply_policy(stale).await.unwrap_err().code(), Code::Aborted);
    let before = owner.get_policy(GetPolicyRequest { version: current.version }).await.unwrap().into_inner();
    assert_eq!(before.yaml, current.yaml);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_are_watched_and_resumed_after_a_cursor() {
    let cluster = Cluster::start().await;
    let mut owner = cluster.owner().await;
    let mut watch = owner.watch(WatchRequest::default()).await.unwrap().into_inner();
    owner.block(block("203.0.113.7")).await.unwrap();
    let first = loop {
        let event = watch.message().await.unwrap().expect("the stream goes on");
        if event.json.contains("203.0.113.7") {
            break event;
        }
    };
    drop(watch);
    owner.block(block("203.0.113.8")).await.unwrap();
    let resumed = WatchRequest { after: first.cursor, types: Vec::new() };
    let mut watch = owner.watch(resumed).await.unwrap().into_inner();
    let next = loop {
        let event = watch.message().await.unwrap().expect("the stream goes on");
        assert!(!event.json.contains("203.0.113.7\""), "told twice: {}", event.json);
        if event.json.contains("203.0.113.8") {
            break event;
        }
    };
    assert!(serde_json::from_str::<serde_json::Value>(&next.json).is_ok());
    let bad = WatchRequest { after: "yesterday".into(), types: Vec::new() };
    assert_eq!(owner.watch(bad).await.unwrap_err().code(), Code::InvalidArgument);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_is_there_after_a_restart() {
    let cluster = Cluster::start().await;
    let sensor = cluster.enrol("sensor", "web-1").await;
    let viewer = cluster.issue_admin(Role::AdminViewer, "bob");
    cluster.owner().await.block(block("203.0.113.7")).await.unwrap();
    let before = decisions(&cluster).await;
    let cluster = cluster.restart().await;
    assert_eq!(decisions(&cluster).await, before);
    let agents = cluster.admin(&viewer).await.get_status(GetStatusRequest {}).await.unwrap().into_inner();
    assert_eq!((agents.sensors, agents.decisions), (1, 1));
    cluster.connect(&sensor).await;
    eventually("the host's own addresses are on the list", || async {
        let listed =
            cluster.owner().await.list_allowlist(ListAllowlistRequest {}).await.unwrap().into_inner();
        listed.entries.iter().any(|entry| entry.never_block)
    })
    .await;
}
