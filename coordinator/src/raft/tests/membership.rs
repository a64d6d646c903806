use super::cluster::{CLUSTER, Cluster, until, wait};
use crate::{
    raft::{MembershipError, Timing},
    store::StoreKind,
};
use netguard_core::{identity::Role, ledger::Actor};
use netguard_daemon::client;
use netguard_proto::{
    PEER_SERVER_NAME,
    peer::{PingRequest, RaftMessage, raft_service_client::RaftServiceClient},
};
use openraft::{Vote, raft::VoteRequest};
use std::time::Duration;
use tonic::Code;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_come_and_go() {
    let mut cluster = Cluster::of_three(StoreKind::Sled).await;
    let view = wait(&mut cluster.node(2).cluster(), |view| view.live == [1, 2, 3]).await;
    assert_eq!(view.voters, [1, 2, 3]);
    assert_eq!(view.learners, Vec::<u64>::new());
    assert_eq!(view.addresses[&3], (cluster.address(3), "agents:3".to_owned()));

    let add = |id, address: &str| {
        cluster.node(2).add_member(Actor::Leader(1), id, address.to_owned(), "agents:9".to_owned())
    };
    assert_eq!(add(9, "host:1").await, Err(MembershipError::NotEnrolled { id: 9 }));
    assert_eq!(add(4, "nowhere").await, Err(MembershipError::Address("nowhere".into())));
    assert!(matches!(add(3, "host:1").await, Err(MembershipError::AlreadyMember { id: 3, .. })));
    assert_eq!(cluster.node(2).remove_member(Actor::Leader(1), 9).await, Err(MembershipError::NotMember(9)));

    // A dead member is taken out, and its certificate counts no more.
    let survivor = cluster.leader_id().await;
    let removed = if survivor == 3 { 2 } else { 3 };
    cluster.kill(removed).await;
    cluster.node(survivor).remove_member(Actor::Leader(1), removed).await.unwrap();
    for node in cluster.nodes.values() {
        let view = wait(&mut node.consensus.cluster(), |view| view.voters.len() == 2).await;
        assert!(!view.addresses.contains_key(&removed));
        let row = node.consensus.ledger().agent(Role::Coordinator, &removed.to_string()).cloned();
        assert!(row.unwrap().revoked.is_some());
    }

    // It comes back without having heard of it: nobody listens, and its terms stay its own.
    let before = cluster.node(survivor).cluster().borrow().term;
    cluster.start(removed).await;
    let campaigns = wait(&mut cluster.node(removed).cluster(), |view| view.term >= before + 4).await;
    cluster.block(cluster.node(survivor), 1).await;
    assert!(cluster.node(survivor).cluster().borrow().term < campaigns.term);
    cluster.kill(removed).await;

    // The next node gets a new id.
    let id = cluster.enrol().await;
    assert_eq!(id, 4);
    cluster.start(id).await;
    cluster.add(id).await;
    cluster.block(cluster.node(id), 2).await;
    cluster.assert_equal_ledgers().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_removes_itself() {
    let mut cluster = Cluster::of_three(StoreKind::Redb).await;
    let leader = cluster.leader_id().await;
    cluster.node(leader).remove_member(Actor::Leader(leader), leader).await.unwrap();
    cluster.kill(leader).await;
    cluster.block(cluster.leader(), 1).await;
    cluster.assert_equal_ledgers().await;
    assert_eq!(cluster.leader().cluster().borrow().voters.len(), 2);
}

/// Only members are listened to, and yet a node that was away must follow a leader it never heard of.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_was_away_follows_a_leader_that_is_new_to_it() {
    let mut cluster = Cluster::of_three(StoreKind::Sled).await;
    let away = if cluster.leader_id().await == 3 { 2 } else { 3 };
    cluster.kill(away).await;
    let new = cluster.enrol().await;
    // Quicker than the others, so that it is the first to stand when the term has moved.
    cluster.timing = Timing {
        heartbeat: Duration::from_millis(20),
        election_min: Duration::from_millis(60),
        election_max: Duration::from_millis(100),
        ..Timing::default()
    };
    cluster.start(new).await;
    cluster.timing = Timing::default();
    cluster.add(new).await;
    until("the new node leads", async || {
        cluster.node(new).inner.raft.trigger().elect().await.unwrap();
        let mut view = cluster.node(new).cluster();
        let led =
            tokio::time::timeout(Duration::from_secs(1), view.wait_for(|view| view.leader == Some(new)));
        led.await.is_ok().then_some(())
    })
    .await;
    cluster.block(cluster.node(new), 1).await;
    cluster.start(away).await;
    wait(&mut cluster.node(away).cluster(), |view| view.leader == Some(new) && view.voters.len() == 4).await;
    cluster.assert_equal_ledgers().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_voter_stays() {
    let cluster = Cluster::of_one(StoreKind::Redb, Timing::default()).await;
    assert_eq!(cluster.node(1).remove_member(Actor::Leader(1), 1).await, Err(MembershipError::LastVoter(1)));
    cluster.block(cluster.node(1), 1).await;
}

/// Bad input 44: a term nobody could top, from somebody who is no member.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_term_is_taken_from_whom_it_may_not() {
    let cluster = Cluster::of_one(StoreKind::Sled, Timing::default()).await;
    let term = cluster.node(1).cluster().borrow().term;
    let vote = |cluster: &str, from: u64, candidate: u64| RaftMessage {
        cluster: cluster.into(),
        from,
        body: postcard::to_stdvec(&VoteRequest::new(Vote::new(u64::MAX, candidate), None)).unwrap(),
    };
    let caller = |id: u64| {
        let identity = cluster.identity(id);
        let channel = client::connect_lazy(&identity, &cluster.address(1), PEER_SERVER_NAME).unwrap();
        RaftServiceClient::new(channel)
    };
    for (certificate, message, wanted) in [
        (9, vote(CLUSTER, 9, 9), Code::PermissionDenied),
        (9, vote(CLUSTER, 1, 1), Code::PermissionDenied),
        (1, vote("other", 1, 1), Code::FailedPrecondition),
        (1, vote(CLUSTER, 1, 9), Code::PermissionDenied),
        (1, RaftMessage { body: vec![0xff; 3], ..vote(CLUSTER, 1, 1) }, Code::InvalidArgument),
    ] {
        let refused = caller(certificate).vote(message).await.unwrap_err();
        assert_eq!(refused.code(), wanted, "{refused}");
    }
    for refused in [
        caller(9).append_entries(vote(CLUSTER, 9, 9)).await.unwrap_err(),
        caller(9).install_snapshot(vote(CLUSTER, 9, 9)).await.unwrap_err(),
        caller(9)
            .ping(PingRequest { cluster: CLUSTER.into(), from: 9 })
            .await
            .map(|_| RaftMessage::default())
            .unwrap_err(),
    ] {
        assert_eq!(refused.code(), Code::PermissionDenied, "{refused}");
    }
    cluster.block(cluster.node(1), 1).await;
    assert_eq!(cluster.node(1).cluster().borrow().term, term);
}
