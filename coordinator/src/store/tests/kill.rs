//! A process that appends is killed at any moment; whatever it said was durable must be there.

use super::reopen;
use crate::store::{Batch, Log, StoreKind};
use std::{
    env, fs,
    io::{BufRead, BufReader, Write},
    path::PathBuf,
    process::{Child, Command, Stdio},
};

const DIR: &str = "NETGUARD_TEST_APPEND_DIR";
const KIND: &str = "NETGUARD_TEST_APPEND_KIND";
const ROUNDS: u32 = 12;

/// The process that is killed: this test binary, asked for this one test.
#[tokio::test]
#[ignore = "run by the test below, as a process of its own"]
async fn child_that_appends() {
    let (Ok(dir), Ok(kind)) = (env::var(DIR), env::var(KIND)) else { return };
    let log = Log::open(kind.parse().unwrap(), &PathBuf::from(dir), "prod/1").unwrap();
    let mut next = log.last().unwrap().map_or(1, |(index, _)| index + 1);
    let mut out = std::io::stdout();
    loop {
        let entries = (next..next + 7).map(|index| (index, vec![index.to_be_bytes()[7]; 300])).collect();
        let values = vec![("vote", next.to_be_bytes().to_vec())];
        log.write_durably(Batch { entries, values, remove: None }).await.unwrap();
        next += 7;
        writeln!(out, "acknowledged {}", next - 1).unwrap();
        if next % 140 == 1 && next > 400 {
            log.write_durably(Batch { remove: Some(0..=next - 300), ..Batch::default() }).await.unwrap();
        }
    }
}

fn append(kind: StoreKind, dir: &std::path::Path) -> Child {
    Command::new(env::current_exe().unwrap())
        .args(["store::tests::kill::child_that_appends", "--exact", "--ignored", "--nocapture"])
        .env(DIR, dir)
        .env(KIND, kind.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

#[test]
fn what_was_acknowledged_survives_kill_9() {
    for kind in StoreKind::ALL {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("raft");
        let mut acknowledged = 0;
        for round in 0..ROUNDS {
            let mut child = append(*kind, &path);
            let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
            let mut seen = 0;
            let mut take = |line: std::io::Result<String>| {
                if let Some(index) = line.unwrap().strip_prefix("acknowledged ") {
                    acknowledged = index.parse().unwrap();
                    seen += 1;
                }
                seen
            };
            // Another number of acknowledgements each time, so that the kill falls into another moment.
            for line in lines.by_ref() {
                if take(line) > round * 13 {
                    break;
                }
            }
            child.kill().unwrap();
            for line in lines {
                take(line);
            }
            child.wait().unwrap();

            let log = reopen(*kind, &path);
            let entries = log.read(0..=u64::MAX).unwrap();
            let (first, last) = (entries.first().unwrap().0, entries.last().unwrap().0);
            assert!(last >= acknowledged, "{kind}: {last} is there, {acknowledged} was acknowledged");
            assert_eq!(entries.len() as u64, last - first + 1, "{kind}: no holes");
            for (index, value) in &entries {
                assert_eq!(*value, vec![index.to_be_bytes()[7]; 300], "{kind}: entry {index}");
            }
            let vote = log.value("vote").unwrap().unwrap();
            assert!(u64::from_be_bytes(vote.try_into().unwrap()) + 6 >= acknowledged, "{kind}");
        }
        assert!(acknowledged > 400, "{kind}: {acknowledged}");
        let bytes: u64 = size(&path);
        assert!(bytes < 32 << 20, "{kind}: {bytes} bytes for 300 entries");
    }
}

fn size(path: &std::path::Path) -> u64 {
    let metadata = fs::metadata(path).unwrap();
    if !metadata.is_dir() {
        return metadata.len();
    }
    fs::read_dir(path).unwrap().map(|entry| size(&entry.unwrap().path())).sum()
}
