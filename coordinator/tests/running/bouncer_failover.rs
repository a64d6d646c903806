//! One key, several coordinators: what a bouncer is told when it goes from one to the next.

use crate::{
    bouncers::{get, key, stream},
    cluster::{Cluster, eventually},
    several::{Further, further, owner_at},
};
use netguard_coordinator::app::Running;
use netguard_daemon::client;
use netguard_proto::{
    COORDINATOR_SERVER_NAME,
    v1::{
        AddBouncerRequest, BlockRequest, ListDecisionsRequest, RemoveBouncerRequest, UnblockRequest,
        admin_service_client::AdminServiceClient,
    },
};
use std::collections::BTreeSet;

/// What a bouncer holds: it takes what is new and drops what is deleted, in this order, as the firewall bouncer does.
#[derive(Default)]
struct Held(BTreeSet<String>);

impl Held {
    async fn poll(&mut self, node: &Running, startup: bool, key: &str) {
        let (new, deleted) = stream(node.bouncers.unwrap(), startup, key).await;
        self.0.extend(new);
        for source in deleted {
            self.0.remove(&source);
        }
    }

    fn sources(&self) -> Vec<String> {
        self.0.iter().cloned().collect()
    }
}

async fn block(cluster: &Cluster, node: &Running, prefix: &str) {
    let request = BlockRequest { prefix: prefix.into(), ..BlockRequest::default() };
    owner_at(cluster, node).await.block(request).await.unwrap();
}

async fn unblock(cluster: &Cluster, node: &Running, what: &str) {
    let request = UnblockRequest { what: what.into(), ..UnblockRequest::default() };
    owner_at(cluster, node).await.unblock(request).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whichever_coordinator_a_bouncer_asks_it_ends_with_what_is_in_force() {
    let cluster = Cluster::start().await;
    let (second, third) = (further(&cluster, "second").await, further(&cluster, "third").await);
    let key = key(&cluster, "web-1").await;
    let nodes = [&cluster.running, &second.running, &third.running];
    let mut held = Held::default();
    block(&cluster, nodes[0], "203.0.113.1").await;
    held.poll(nodes[0], true, &key).await;
    let mut inside: BTreeSet<String> = ["203.0.113.1".to_owned()].into();
    // Behind a balancer each question goes to another coordinator, and each change is made at yet another.
    for round in 0..12_usize {
        let source = format!("203.0.113.{}", 1 + round % 4);
        if inside.remove(&source) {
            unblock(&cluster, nodes[(round + 1) % 3], &source).await;
        } else {
            block(&cluster, nodes[(round + 1) % 3], &source).await;
            inside.insert(source);
        }
        held.poll(nodes[(round * 2 + round / 5) % 3], false, &key).await;
        assert_eq!(held.sources(), inside.iter().cloned().collect::<Vec<_>>(), "round {round}");
    }

    // Its coordinator goes while something ends; another goes on, with the same key.
    block(&cluster, nodes[2], "203.0.113.20").await;
    block(&cluster, nodes[2], "203.0.113.21").await;
    held.poll(nodes[0], false, &key).await;
    assert!(held.sources().contains(&"203.0.113.20".to_owned()));
    unblock(&cluster, nodes[2], "203.0.113.20").await;
    let owner = cluster.owner.clone();
    let _files = cluster.stop().await;
    let address = second.running.agents.to_string();
    let channel = client::connect(&owner, &address, COORDINATOR_SERVER_NAME).await.unwrap();
    let mut admin = AdminServiceClient::new(channel);
    let all = ListDecisionsRequest { linearizable: true, ..ListDecisionsRequest::default() };
    eventually("the two that are left have a leader", || {
        let (mut admin, all) = (admin.clone(), all.clone());
        async move { admin.list_decisions(all).await.is_ok() }
    })
    .await;
    held.poll(&second.running, false, &key).await;
    inside.insert("203.0.113.21".to_owned());
    assert_eq!(held.sources(), inside.into_iter().collect::<Vec<_>>());

    // A key is deleted at one and worth nothing at the other.
    let remove = RemoveBouncerRequest { name: "web-1".into() };
    admin.remove_bouncer(remove).await.unwrap();
    eventually("the key is refused elsewhere too", || async {
        get(third.running.bouncers.unwrap(), "/v1/decisions", &key).await.0 == 403
    })
    .await;

    // Alone, one cannot know what the others decided: who starts is told what is known, who holds something keeps it.
    let add = AddBouncerRequest { name: "web-2".into() };
    let key = admin.add_bouncer(add).await.unwrap().into_inner().key;
    let alone = third.running.bouncers.unwrap();
    eventually("the new key is known", || async { get(alone, "/v1/decisions/stream", &key).await.0 == 200 })
        .await;
    let Further { running, drain } = second;
    drain.start();
    running.finished().await.unwrap();
    eventually("it stands alone", || async { get(alone, "/v1/decisions/stream", &key).await.0 == 503 }).await;
    let (new, deleted) = stream(alone, true, &key).await;
    assert!(new.contains(&"203.0.113.21".to_owned()) && deleted.is_empty(), "{new:?} {deleted:?}");
    third.drain.start();
    third.running.finished().await.unwrap();
}
