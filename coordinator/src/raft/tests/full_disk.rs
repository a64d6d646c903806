//! A disk that runs full: the node stops and says so, nothing acknowledged is lost, and space lets it start again.

use super::cluster::{Cluster, PATIENCE};
use crate::{raft::Timing, store::StoreKind};
use netguard_core::{
    ledger::{Actor, Command, RequestId},
    net::NeverBlockEntry,
    trace::TraceParent,
};
use std::{env, fs, path::PathBuf, process};
use tokio::time::timeout;

const DISK: &str = "NETGUARD_TEST_SMALL_DISK";
const KIND: &str = "NETGUARD_TEST_SMALL_DISK_KIND";
/// Deleted to make space again.
const RESERVE: &str = "reserve";

/// First process: writes until the disk is full, and stops.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "run by the test below, on a disk of its own"]
async fn until_it_is_full() {
    let (Some(disk), Ok(kind)) = (env::var_os(DISK).map(PathBuf::from), env::var(KIND)) else { return };
    fs::write(disk.join(RESERVE), vec![0; 4 << 20]).unwrap();
    let cluster = Cluster::at(&disk, kind.parse().unwrap(), Timing::default()).await;
    let mut acknowledged = 0;
    let filled = async {
        loop {
            // Some 40 KiB each, and never the same.
            let entries = (0..200_u32)
                .map(|n| NeverBlockEntry {
                    prefix: format!("10.{}.{}.{n}", acknowledged / 256, acknowledged % 256).parse().unwrap(),
                    why: "x".repeat(200),
                })
                .collect();
            let command = Command::NeverBlockSet { owner: "1".into(), entries };
            let id = RequestId(rand::random());
            match cluster.node(1).propose(id, Actor::Leader(1), TraceParent::default(), command).await {
                Ok(applied) => {
                    assert!(applied.outcome.is_ok(), "{applied:?}");
                    acknowledged = applied.revision;
                }
                Err(error) => return error,
            }
        }
    };
    let error = timeout(PATIENCE * 2, filled).await.expect("the disk gets full");
    let reason = timeout(PATIENCE, cluster.node(1).failed()).await.expect("the node says that it stopped");
    assert!(reason.contains("No space left") && reason.contains("Is it full"), "{error}: {reason}");
    fs::remove_file(disk.join(RESERVE)).unwrap();
    fs::write(disk.join("acknowledged"), acknowledged.to_string()).unwrap();
    process::exit(0);
}

/// Second process: there is space again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "run by the test below, on a disk of its own"]
async fn with_space_again() {
    let (Some(disk), Ok(kind)) = (env::var_os(DISK).map(PathBuf::from), env::var(KIND)) else { return };
    let acknowledged: u64 = fs::read_to_string(disk.join("acknowledged")).unwrap().parse().unwrap();
    assert!(acknowledged > 50, "{acknowledged}");
    let cluster = Cluster::at(&disk, kind.parse().unwrap(), Timing::default()).await;
    cluster.node(1).linearizable().await.unwrap();
    assert!(cluster.node(1).ledger().revision() >= acknowledged, "what was acknowledged is there");
    cluster.block(cluster.node(1), 7).await;
}

#[test]
fn a_full_disk_stops_the_node_and_space_lets_it_start_again() {
    for kind in StoreKind::ALL {
        let disk = tempfile::tempdir().unwrap();
        let run = "mount -t tmpfs -o size=16m netguard-test \"$NETGUARD_TEST_SMALL_DISK\" || exit 77
            for step in until_it_is_full with_space_again; do
                \"$0\" raft::tests::full_disk::$step --exact --ignored --nocapture || exit 1
            done";
        let output = process::Command::new("unshare")
            .args(["--mount", "sh", "-c", run])
            .arg(env::current_exe().unwrap())
            .env(DISK, disk.path())
            .env(KIND, kind.to_string())
            .output();
        let said = output.as_ref().map(|output| String::from_utf8_lossy(&output.stderr).into_owned());
        let may = said.as_ref().is_ok_and(|said| !said.contains("unshare failed"))
            && output.as_ref().is_ok_and(|output| output.status.code() != Some(77));
        if !may {
            assert!(env::var_os("CI").is_none(), "this test needs root, unshare and mount: {output:?}");
            eprintln!("not run: it needs root, unshare and mount");
            return;
        }
        let output = output.unwrap();
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        assert!(output.status.success() && said.contains("1 passed"), "{kind}: {said}");
    }
}
