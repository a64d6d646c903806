//! Messages that are too large, or none at all: refused with a code that says so, and the second one of a connection
//! ends it, and no other.

use crate::{
    cluster::Cluster,
    wire::{Wire, framed, tls},
};
use netguard_daemon::identity::Identity;
use netguard_proto::{
    COORDINATOR_SERVER_NAME, MAX_MESSAGE_BYTES, PEER_SERVER_NAME,
    v1::{
        BlockRequest, EvidenceBatch, GetStatusRequest, ListDecisionsRequest, SensorHello, SensorMessage,
        admin_service_client::AdminServiceClient, sensor_message,
    },
};
use prost::Message as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tonic::Code;

const STATUS: &str = "/netguard.v1.AdminService/GetStatus";
const BLOCK: &str = "/netguard.v1.AdminService/Block";
const EVIDENCE: &str = "/netguard.v1.SensorService/StreamEvidence";
const VOTE: &str = "/netguard.peer.v1.RaftService/Vote";

/// The head of a message of `length` bytes, and none of them.
fn announced(length: u32) -> Vec<u8> {
    [&[0][..], &length.to_be_bytes()].concat()
}

/// Field 100, unknown to everybody, as a group in a group in a group.
fn nested_groups(depth: usize) -> Vec<u8> {
    [[0xa3, 0x06].repeat(depth), [0xa4, 0x06].repeat(depth)].concat()
}

/// 1 MB of an unknown field of bytes: number 100, length-delimited.
fn unknown_fields() -> Vec<u8> {
    let one = [&[0xa2, 0x06, 100][..], &[7; 100]].concat();
    one.repeat(1_000_000 / one.len())
}

async fn wire(cluster: &Cluster, identity: &Identity) -> Wire {
    Wire::connect(identity, cluster.running.agents, COORDINATOR_SERVER_NAME).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_message_is_refused_twice_and_then_the_connection_ends() {
    let cluster = Cluster::start().await;
    let mut honest = AdminServiceClient::new(cluster.connect(&cluster.owner).await);
    let wrong_type = vec![0x08, 1]; // field 1 as a number; it is a text
    let cases: Vec<(&str, Vec<u8>, bool, Code)> = vec![
        ("a length of 2 GiB", announced(1 << 31), false, Code::ResourceExhausted),
        ("a length of 4 GiB", announced(u32::MAX), false, Code::ResourceExhausted),
        (
            "one byte too many",
            announced(u32::try_from(MAX_MESSAGE_BYTES).unwrap() + 1),
            false,
            Code::ResourceExhausted,
        ),
        ("groups 10,000 deep", framed(&nested_groups(10_000)), true, Code::InvalidArgument),
        ("a wrong wire type", framed(&wrong_type), true, Code::InvalidArgument),
        ("an unfinished number", framed(&[0x10, 0xff]), true, Code::InvalidArgument),
        ("half a message", announced(100), true, Code::InvalidArgument),
        ("no message", Vec::new(), true, Code::InvalidArgument),
        ("an unknown compression", vec![7, 0, 0, 0, 0], true, Code::InvalidArgument),
    ];
    for (what, body, end, code) in cases {
        let mut wire = wire(&cluster, &cluster.owner).await;
        assert_eq!(wire.call(BLOCK, body.clone(), end).await.unwrap(), code, "{what}");
        // Once may be an accident: the connection is good for an honest call.
        assert_eq!(wire.call(STATUS, framed(&[]), true).await.unwrap(), Code::Ok, "after {what}");
        assert_eq!(wire.call(BLOCK, body, end).await.unwrap(), code, "{what}, again");
        wire.ended().await;
        honest.get_status(GetStatusRequest {}).await.expect(what);
    }
    let listed = honest.list_decisions(ListDecisionsRequest::default()).await.unwrap();
    assert_eq!(listed.into_inner().decisions, []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn between_the_second_offence_and_the_end_no_service_is_reached() {
    let cluster = Cluster::start().await;
    let mut wire = wire(&cluster, &cluster.owner).await;
    for _ in 0..2 {
        let refused = wire.call(BLOCK, announced(1 << 31), false).await;
        assert_eq!(refused.unwrap(), Code::ResourceExhausted);
    }
    let block = BlockRequest { prefix: "203.0.113.7".into(), ..BlockRequest::default() };
    match wire.call(BLOCK, framed(&block.encode_to_vec()), true).await {
        Ok(code) => assert_eq!(code, Code::ResourceExhausted),
        Err(error) => assert!(error.is_io() || error.is_go_away(), "{error}"),
    }
    wire.ended().await;
    let listed = cluster.owner().await.list_decisions(ListDecisionsRequest::default()).await.unwrap();
    assert_eq!(listed.into_inner().decisions, []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_is_held_to_the_same_rules() {
    let cluster = Cluster::start().await;
    let sensor = cluster.enrol("sensor", "web-1").await;
    for (body, code) in
        [(announced(1 << 31), Code::ResourceExhausted), (framed(&[0x0a, 5, 1]), Code::InvalidArgument)]
    {
        let mut wire = wire(&cluster, &sensor).await;
        assert_eq!(wire.call(EVIDENCE, body.clone(), false).await.unwrap(), code);
        assert_eq!(wire.call(EVIDENCE, body, false).await.unwrap(), code);
        wire.ended().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_only_odd_harms_nobody() {
    let cluster = Cluster::start().await;
    let sensor = cluster.enrol("sensor", "web-1").await;
    let mut owners = wire(&cluster, &cluster.owner).await;
    for _ in 0..3 {
        assert_eq!(owners.call(STATUS, framed(&unknown_fields()), true).await.unwrap(), Code::Ok);
        let shallow = framed(&nested_groups(10));
        assert_eq!(owners.call(STATUS, shallow, true).await.unwrap(), Code::Ok);
    }
    // Both of a oneof: the last one counts, as the encoding says.
    let hello = SensorHello { sensor_id: "web-1".into(), epoch: 1, ..SensorHello::default() };
    let hello = SensorMessage { of: Some(sensor_message::Of::Hello(hello)) }.encode_to_vec();
    let batch = SensorMessage { of: Some(sensor_message::Of::Batch(EvidenceBatch::default())) };
    let batch = batch.encode_to_vec();
    let mut sensors = wire(&cluster, &sensor).await;
    for _ in 0..3 {
        let both = framed(&[&batch[..], &hello].concat());
        assert_eq!(sensors.call(EVIDENCE, both, true).await.unwrap(), Code::Ok);
        let other = framed(&[&hello[..], &batch].concat());
        assert_eq!(sensors.call(EVIDENCE, other, true).await.unwrap(), Code::InvalidArgument, "no hello");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frame_larger_than_agreed_ends_the_connection() {
    let cluster = Cluster::start().await;
    let mut stream = tls(&cluster.owner, cluster.running.agents, COORDINATOR_SERVER_NAME).await;
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
    stream.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await.unwrap(); // empty SETTINGS
    stream.write_all(&[0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 1]).await.unwrap(); // DATA of 16 MiB - 1
    let mut answer = Vec::new();
    let read = tokio::time::timeout(crate::cluster::SOON, stream.read_to_end(&mut answer)).await;
    // It may leave without a TLS goodbye.
    let _ = read.expect("it hangs up");
    cluster.owner().await.get_status(GetStatusRequest {}).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn coordinators_are_held_to_them_too_and_the_honest_go_on() {
    let cluster = Cluster::start().await;
    let peer = Identity::load(&cluster.data_dir().join("identity/peers")).unwrap();
    let connect = || Wire::connect(&peer, cluster.running.peers, PEER_SERVER_NAME);
    let (mut wrong, mut honest) = (connect().await, connect().await);
    for _ in 0..2 {
        assert_eq!(wrong.call(VOTE, announced(1 << 31), false).await.unwrap(), Code::ResourceExhausted);
        // Refused by the service, not for its form (it names another cluster): not an offence, however often.
        for _ in 0..3 {
            let refused = honest.call(VOTE, framed(&[]), true).await.unwrap();
            assert_eq!(refused, Code::FailedPrecondition);
        }
    }
    wrong.ended().await;
    assert_eq!(honest.call(VOTE, framed(&[]), true).await.unwrap(), Code::FailedPrecondition);
    cluster.owner().await.get_status(GetStatusRequest {}).await.unwrap();
}
