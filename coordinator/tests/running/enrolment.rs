use crate::cluster::{Cluster, eventually, key_modes};
use netguard_coordinator::{
    node::Node,
    setup::{Join, JoinError, join},
};
use netguard_daemon::identity::{JoinToken, new_key, pinned_channel};
use netguard_proto::{
    COORDINATOR_SERVER_NAME,
    v1::{
        EnrollRequest, ListAgentsRequest, ListAuditRequest, ListTokensRequest, RenewRequest,
        enroll_service_client::EnrollServiceClient,
    },
};
use tonic::Code;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_joins_renews_and_stands_in_the_registry() {
    let cluster = Cluster::start().await;
    let sensor = cluster.enrol("sensor", "web-1").await;
    assert_eq!(sensor.spiffe.uri, "spiffe://prod/sensor/web-1");

    let key = new_key().unwrap();
    let mut client = EnrollServiceClient::new(cluster.connect(&sensor).await);
    let renewed = client.renew(RenewRequest { csr: key.csr_der }).await.unwrap().into_inner();
    let again = sensor.renewed(&key.key_pem, &renewed.certificate, Some(&renewed.agents_ca)).unwrap();
    assert_ne!(again.serial, sensor.serial);
    assert_eq!(renewed.coordinators, [cluster.running.node.advertise_agents.to_string()]);

    let listed =
        cluster.owner().await.list_agents(ListAgentsRequest { role: "sensor".into() }).await.unwrap();
    let agents = listed.into_inner().agents;
    assert_eq!((agents.len(), agents[0].id.as_str(), agents[0].revoked), (1, "web-1", false));
    assert_eq!(agents[0].certificate_expires_at, renewed.not_after);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_identity_comes_from_the_token_whatever_is_wished() {
    let cluster = Cluster::start().await;
    let named = cluster.token("sensor", "db-1", 0).await;
    let (_, given) = cluster.try_enrol(&named, "owner").await.unwrap();
    assert_eq!(given.id, "db-1");

    let free = cluster.token("responder", "", 0).await;
    for bad in ["../x", "A", "a/b", &"a".repeat(64), "x\u{202e}"] {
        assert_eq!(cluster.try_enrol(&free, bad).await.unwrap_err().code(), Code::InvalidArgument, "{bad:?}");
    }
    let (_, given) = cluster.try_enrol(&free, "fw-1").await.unwrap();
    assert_eq!(given.id, "fw-1");

    let taken = cluster.token("responder", "", 0).await;
    assert_eq!(cluster.try_enrol(&taken, "fw-1").await.unwrap_err().code(), Code::AlreadyExists);
    let (_, given) = cluster.try_enrol(&taken, "").await.unwrap();
    assert!(given.id.starts_with("responder-"), "{}", given.id);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_ten_that_use_one_token_exactly_one_wins() {
    let cluster = Cluster::start().await;
    let token = cluster.token("sensor", "", 0).await;
    let names: Vec<String> = (0..10).map(|i| format!("racer-{i}")).collect();
    let races = names.iter().map(|name| cluster.try_enrol(&token, name));
    let results = futures_like_join(races).await;
    let winners = results.iter().filter(|result| result.is_ok()).count();
    assert_eq!(winners, 1);
    for refused in results.into_iter().filter_map(Result::err) {
        assert_eq!(refused.code(), Code::Unauthenticated);
    }
    let tokens = cluster.owner().await.list_tokens(ListTokensRequest {}).await.unwrap().into_inner().tokens;
    assert_eq!(tokens.len(), 1);
    assert_eq!(tokens[0].state, "used");
}

/// Polls all at once; the standard library has no join for a list.
async fn futures_like_join<F: Future>(futures: impl Iterator<Item = F>) -> Vec<F::Output> {
    let mut futures: Vec<_> = futures.map(|future| (Box::pin(future), None)).collect();
    std::future::poll_fn(|context| {
        let mut pending = false;
        for (future, output) in &mut futures {
            if output.is_none() {
                match future.as_mut().poll(context) {
                    std::task::Poll::Ready(value) => *output = Some(value),
                    std::task::Poll::Pending => pending = true,
                }
            }
        }
        if pending { std::task::Poll::Pending } else { std::task::Poll::Ready(()) }
    })
    .await;
    futures.into_iter().filter_map(|(_, output)| output).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_token_of_any_kind_gets_one_and_the_same_answer() {
    let cluster = Cluster::start().await;
    let good = cluster.token("sensor", "web-1", 0).await;
    let spent = cluster.token("sensor", "web-2", 0).await;
    cluster.try_enrol(&spent, "").await.unwrap();
    let short = cluster.token("sensor", "web-3", 1).await;
    eventually("the token expires", || async {
        let tokens =
            cluster.owner().await.list_tokens(ListTokensRequest {}).await.unwrap().into_inner().tokens;
        tokens.iter().any(|token| token.name == "web-3" && token.state == "expired")
    })
    .await;
    let whole = good.to_string();
    let mut wrong_secret = good.clone();
    wrong_secret.secret[31] ^= 1;
    let mut other_cluster = good.clone();
    other_cluster.ca_spki_sha256[0] ^= 1;
    let unknown = JoinToken::generate(good.ca_spki_sha256).unwrap();
    let texts = [
        ("reused", spent.to_string()),
        ("expired", short.to_string()),
        ("truncated", whole[..whole.len() - 1].to_owned()),
        ("wrong secret", wrong_secret.to_string()),
        ("other cluster", other_cluster.to_string()),
        ("unknown", unknown.to_string()),
        ("empty", String::new()),
        ("long", "ngj1.".repeat(10_000)),
        ("upper case", whole.to_uppercase()),
    ];
    let mut told = std::collections::BTreeSet::new();
    for (what, token) in texts {
        let request = EnrollRequest { token, csr: new_key().unwrap().csr_der, ..EnrollRequest::default() };
        let refused = cluster.send_enrol(request).await.expect_err(what);
        assert_eq!(refused.code(), Code::Unauthenticated, "{what}");
        told.insert(refused.message().to_owned());
    }
    assert_eq!(told.len(), 1, "{told:?}");
    let other_role = EnrollRequest {
        token: whole.clone(),
        csr: new_key().unwrap().csr_der,
        role: "responder".into(),
        ..EnrollRequest::default()
    };
    assert_eq!(cluster.send_enrol(other_role).await.unwrap_err().code(), Code::FailedPrecondition);

    // The caller is told one thing; whoever reads the audit trail, each.
    let from = |what: &str, attempts: &str| format!("{attempts} from 127.0.0.1: {what}");
    let known = |what: &str, token: &JoinToken| format!("{} ({:016x})", from(what, "1 attempt"), token.id);
    let mut expected = vec![
        known("token used already", &spent),
        known("token expired", &short),
        known("wrong secret", &good),
        known("token of another role", &good),
        from("token of another cluster", "1 attempt"),
        from("unknown token", "1 attempt"),
    ];
    expected.sort();
    let malformed = |subject: &str| subject.ends_with("from 127.0.0.1: malformed token");
    eventually("all of it is in the audit trail", || async {
        let mut subjects = audited(&cluster).await;
        subjects.retain(|subject| !malformed(subject));
        subjects.sort();
        subjects == expected
    })
    .await;
    assert!(audited(&cluster).await.iter().any(|subject| malformed(subject)));
    assert!(cluster.try_enrol(&good, "").await.is_ok(), "none of it spent the good one");
}

/// What the audit trail says of refused attempts to enrol.
async fn audited(cluster: &Cluster) -> Vec<String> {
    let request = ListAuditRequest { after: 0, limit: 1_000 };
    let entries = cluster.owner().await.list_audit(request).await.unwrap().into_inner().entries;
    entries.into_iter().filter(|entry| entry.action == "enrol.refused").map(|entry| entry.subject).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_request_spends_no_token() {
    let cluster = Cluster::start().await;
    let token = cluster.token("sensor", "web-1", 0).await;
    for csr in [Vec::new(), vec![0; 100], vec![0x30; 20_000], new_key().unwrap().csr_der[1..].to_vec()] {
        let request = EnrollRequest { token: token.to_string(), csr, ..EnrollRequest::default() };
        assert_eq!(cluster.send_enrol(request).await.unwrap_err().code(), Code::InvalidArgument);
    }
    let request = EnrollRequest {
        token: token.to_string(),
        csr: new_key().unwrap().csr_der,
        role: "responder".into(),
        ..EnrollRequest::default()
    };
    assert_eq!(cluster.send_enrol(request).await.unwrap_err().code(), Code::FailedPrecondition);
    assert!(cluster.try_enrol(&token, "").await.is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_tells_its_secret_to_its_own_cluster_alone() {
    let cluster = Cluster::start().await;
    let mut pin = cluster.owner.ca_spki_sha256().unwrap();
    pin[0] ^= 1;
    let refused = pinned_channel(&cluster.address(), pin, COORDINATOR_SERVER_NAME).await.unwrap_err();
    assert!(refused.to_string().contains("identity was refused"), "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn guessing_is_slowed_down_without_shutting_others_out_for_long() {
    let cluster = Cluster::start().await;
    let unknown = JoinToken::generate(cluster.owner.ca_spki_sha256().unwrap()).unwrap();
    let mut codes = Vec::new();
    for _ in 0..60 {
        codes.push(cluster.try_enrol(&unknown, "").await.unwrap_err().code());
    }
    assert_eq!(codes[0], Code::Unauthenticated);
    assert_eq!(codes.last(), Some(&Code::ResourceExhausted));
    eventually("the audit trail knows of both", || async {
        let audited = audited(&cluster).await;
        ["unknown token", "too many attempts"]
            .iter()
            .all(|what| audited.iter().any(|subject| subject.ends_with(what)))
    })
    .await;
    assert!(audited(&cluster).await.len() <= 2, "sixty attempts, two entries");
    let token = cluster.token("sensor", "web-1", 0).await;
    eventually("an honest agent gets in", || async { cluster.try_enrol(&token, "").await.is_ok() }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_further_coordinator_gets_its_number_both_certificates_and_the_authorities() {
    let cluster = Cluster::start().await;
    let joining = Join {
        data_dir: cluster.dir.path().join("second"),
        server: cluster.address(),
        token: cluster.token("coordinator", "", 0).await,
        advertise_agents: "127.0.0.1:7443".parse().unwrap(),
        advertise_peers: "127.0.0.1:7444".parse().unwrap(),
    };
    let node = join(&joining).await.unwrap();
    assert_eq!((node.node_id, node.cluster.as_str(), node.first), (2, "prod", false));
    assert_eq!(Node::load(&joining.data_dir).unwrap(), node);
    let modes = key_modes(&joining.data_dir);
    assert_eq!(modes, [0o600; 4], "two authorities, two identities");
    assert!(matches!(join(&joining).await, Err(JoinError::Setup(_))), "never over what is there");

    let elsewhere = Join { data_dir: cluster.dir.path().join("third"), ..joining.clone() };
    assert!(matches!(join(&elsewhere).await, Err(JoinError::Refused(_))), "the token is spent");
    assert!(!elsewhere.data_dir.join("node.json").exists());
    let sensors = Join { token: cluster.token("sensor", "", 0).await, ..elsewhere };
    let refused = join(&sensors).await;
    assert!(matches!(refused, Err(JoinError::Refused(status)) if status.code() == Code::FailedPrecondition));
}
