//! Three whole coordinators, as operators build them up: init, join, add.

use crate::cluster::{Cluster, SOON, eventually, run_node};
use netguard_coordinator::{
    app::Running,
    setup::{Join, join},
};
use netguard_daemon::{client, drain::Drain};
use netguard_proto::{
    COORDINATOR_SERVER_NAME,
    v1::{
        AddCoordinatorRequest, BlockRequest, GetStatusRequest, ListAllowlistRequest, ListDecisionsRequest,
        RemoveCoordinatorRequest, Status, admin_service_client::AdminServiceClient,
    },
};
use tonic::{Code, transport::Channel};

pub(crate) struct Further {
    pub(crate) running: Running,
    pub(crate) drain: Drain,
}

/// Joins with a token, starts, and is added.
pub(crate) async fn further(cluster: &Cluster, name: &str) -> Further {
    let data_dir = cluster.dir.path().join(name);
    let joining = Join {
        data_dir: data_dir.clone(),
        server: cluster.address(),
        token: cluster.token("coordinator", "", 0).await,
        advertise_agents: "127.0.0.1:0".parse().unwrap(),
        advertise_peers: "127.0.0.1:0".parse().unwrap(),
    };
    let node = join(&joining).await.unwrap();
    let drain = Drain::new();
    let running = run_node(&data_dir, drain.clone()).await;
    let add = AddCoordinatorRequest {
        id: node.node_id,
        peer_address: running.peers.to_string(),
        agent_address: running.agents.to_string(),
    };
    let added = cluster.owner().await.add_coordinator(add).await.unwrap().into_inner();
    assert!(added.outcome.contains("is a voter now"), "{}", added.outcome);
    tokio::time::timeout(SOON, running.readiness.ready()).await.expect("it follows a leader");
    Further { running, drain }
}

pub(crate) async fn owner_at(cluster: &Cluster, node: &Running) -> AdminServiceClient<Channel> {
    let channel = client::connect(&cluster.owner, &node.agents.to_string(), COORDINATOR_SERVER_NAME).await;
    AdminServiceClient::new(channel.unwrap())
}

async fn status(cluster: &Cluster, node: &Running) -> Status {
    owner_at(cluster, node).await.get_status(GetStatusRequest {}).await.unwrap().into_inner()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_coordinator_serves_anyone_and_a_removed_one_nobody() {
    let cluster = Cluster::start().await;
    let (second, third) = (further(&cluster, "second").await, further(&cluster, "third").await);
    let shown = status(&cluster, &third.running).await;
    assert_eq!((shown.coordinators.len(), shown.answered_by), (3, 3));
    assert!(shown.coordinators.iter().all(|member| member.membership == "voter"), "{shown:?}");

    // Written at a follower, seen at another.
    let block = BlockRequest { prefix: "203.0.113.7".into(), ..BlockRequest::default() };
    owner_at(&cluster, &second.running).await.block(block.clone()).await.unwrap();
    let all = ListDecisionsRequest { linearizable: true, ..ListDecisionsRequest::default() };
    let seen = owner_at(&cluster, &third.running).await.list_decisions(all).await.unwrap().into_inner();
    assert_eq!(seen.decisions.len(), 1);

    // A sensor enrolled at one is known at every other at once.
    let sensor = cluster.enrol("sensor", "web-1").await;
    let channel =
        client::connect(&sensor, &third.running.agents.to_string(), COORDINATOR_SERVER_NAME).await.unwrap();
    let refused = AdminServiceClient::new(channel).get_status(GetStatusRequest {}).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied, "known, though not allowed this");

    let removed = cluster.owner().await.remove_coordinator(RemoveCoordinatorRequest { id: 3 }).await;
    assert!(removed.unwrap().into_inner().outcome.contains("is revoked"));
    assert_eq!(status(&cluster, &second.running).await.coordinators.len(), 2);
    eventually("the removed one's own never-block entries are gone", || async {
        let listed =
            cluster.owner().await.list_allowlist(ListAllowlistRequest {}).await.unwrap().into_inner();
        !listed.entries.iter().any(|entry| entry.added_by.ends_with("coordinator/3"))
    })
    .await;
    let again = AddCoordinatorRequest {
        id: 3,
        peer_address: third.running.peers.to_string(),
        agent_address: third.running.agents.to_string(),
    };
    let refused = cluster.owner().await.add_coordinator(again).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition, "{}", refused.message());

    // Two are left, and both must stand for a majority.
    let block = BlockRequest { prefix: "203.0.113.8".into(), ..block };
    cluster.owner().await.block(block).await.unwrap();
    for node in [second, third] {
        node.drain.start();
        node.running.finished().await.unwrap();
    }
}
