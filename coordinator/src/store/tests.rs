mod kill;

use super::{Batch, Log, StoreError, StoreKind};
use std::fs;

fn entries(range: std::ops::RangeInclusive<u64>) -> Batch {
    Batch {
        entries: range.map(|index| (index, index.to_string().into_bytes())).collect(),
        ..Batch::default()
    }
}

fn indexes(log: &Log) -> Vec<u64> {
    log.read(0..=u64::MAX).unwrap().into_iter().map(|(index, _)| index).collect()
}

#[tokio::test]
async fn both_stores_keep_what_was_written() {
    for kind in StoreKind::ALL {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("raft");
        {
            let log = Log::open(*kind, &path, "prod/1").unwrap();
            assert_eq!(log.last().unwrap(), None);
            log.write_durably(entries(1..=300)).await.unwrap();
            log.write_durably(Batch {
                values: vec![("vote", b"me".to_vec())],
                remove: Some(1..=250),
                ..Batch::default()
            })
            .await
            .unwrap();
            log.write_durably(Batch { remove: Some(291..=u64::MAX), ..Batch::default() }).await.unwrap();
            assert_eq!(log.last().unwrap(), Some((290, b"290".to_vec())));
        }
        let log = reopen(*kind, &path);
        assert_eq!(indexes(&log), (251..=290).collect::<Vec<_>>(), "{kind}");
        assert_eq!(log.value("vote").unwrap(), Some(b"me".to_vec()));
        assert_eq!(log.value("nothing").unwrap(), None);
        assert_eq!(log.read(260..=261).unwrap(), [(260, b"260".to_vec()), (261, b"261".to_vec())]);
        let big = Batch { entries: vec![(291, vec![7; 70_000])], ..Batch::default() };
        assert!(matches!(log.write(big), Err(StoreError::TooLarge { bytes: 70_000 })));
    }
}

/// The flush worker lets go of the database a moment after the last handle.
pub(crate) fn reopen(kind: StoreKind, path: &std::path::Path) -> Log {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    loop {
        match Log::open(kind, path, "prod/1") {
            Ok(log) => return log,
            Err(error) if std::time::Instant::now() > deadline => panic!("{error}"),
            Err(_) => std::thread::yield_now(),
        }
    }
}

#[test]
fn a_log_is_opened_only_as_what_it_is() {
    for kind in StoreKind::ALL {
        let other = if *kind == StoreKind::Sled { StoreKind::Redb } else { StoreKind::Sled };
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("raft");
        drop(Log::open(*kind, &path, "prod/1").unwrap());
        drop(reopen(*kind, &path));
        assert!(
            matches!(Log::open(other, &path, "prod/1"), Err(StoreError::OtherKind { found, .. }) if found == *kind)
        );
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
        loop {
            match Log::open(*kind, &path, "prod/2") {
                Err(StoreError::OtherNode { found, .. }) => {
                    assert_eq!(found, "prod/1");
                    break;
                }
                Err(StoreError::Open { .. }) if std::time::Instant::now() < deadline => {
                    std::thread::yield_now()
                }
                other => panic!("{other:?}"),
            }
        }
        fs::remove_dir_all(&path).unwrap();
        assert!(matches!(Log::open(*kind, &path, "prod/1"), Err(StoreError::Gone { .. })));
    }
}

#[test]
fn a_damaged_store_is_an_error_and_no_panic() {
    for kind in StoreKind::ALL {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("raft");
        {
            let log = Log::open(*kind, &path, "prod/1").unwrap();
            log.write(entries(1..=100)).unwrap();
        }
        drop(reopen(*kind, &path));
        let file = match kind {
            StoreKind::Sled => path.join("log.sled/conf"),
            StoreKind::Redb => path.join("log.redb"),
        };
        let len = usize::try_from(fs::metadata(&file).unwrap().len()).unwrap();
        fs::write(&file, vec![0x5a; len]).unwrap();
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
        loop {
            match Log::open(*kind, &path, "prod/1") {
                Err(StoreError::Open { why, .. })
                    if why.contains("lock") && std::time::Instant::now() < deadline => {}
                Err(StoreError::Open { .. }) => break,
                other => panic!("{kind}: {other:?}"),
            }
        }
    }
}
