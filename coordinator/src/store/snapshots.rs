use super::{StoreError, guard::sync_dir};
use sha2::{Digest, Sha256};
use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

const MAGIC: &[u8] = b"netguard snapshot 1\n";
const DIGEST_BYTES: usize = 32;
const SUFFIX: &str = "snapshot";

/// A snapshot as it lies on the disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StoredSnapshot {
    /// Describes the data: which entries are in it.
    pub(crate) meta: Vec<u8>,
    pub(crate) data: Vec<u8>,
}

/// Snapshots as plain files: written aside, synced, renamed, the directory synced, and only then is the one before it
/// deleted. Read back against their SHA-256.
#[derive(Debug)]
pub(crate) struct Snapshots {
    dir: PathBuf,
}

impl Snapshots {
    pub(crate) fn open(dir: &Path) -> Result<Self, StoreError> {
        let open = || -> io::Result<()> {
            fs::create_dir_all(dir)?;
            for entry in fs::read_dir(dir)? {
                let path = entry?.path();
                if path.extension().is_some_and(|extension| extension == "tmp") {
                    fs::remove_file(path)?;
                }
            }
            sync_dir(dir)?;
            dir.parent().map_or(Ok(()), sync_dir)
        };
        open().map_err(|error| StoreError::Open { path: dir.to_owned(), why: error.to_string() })?;
        Ok(Self { dir: dir.to_owned() })
    }

    /// Durable at return. `index` is that of the last log entry in it.
    pub(crate) fn save(&self, index: u64, snapshot: &StoredSnapshot) -> Result<(), StoreError> {
        let name = format!("{index:020}.{SUFFIX}");
        self.write(&name, snapshot)
            .map_err(|error| StoreError::Write(format!("{}: {error}", self.dir.join(&name).display())))?;
        // Older ones are only in the way: one that cannot be deleted now is deleted the next time.
        for (older, path) in self.files()? {
            if older != index
                && let Err(error) = fs::remove_file(&path)
            {
                tracing::warn!(path = %path.display(), %error, "an old snapshot cannot be deleted");
            }
        }
        Ok(())
    }

    fn write(&self, name: &str, snapshot: &StoredSnapshot) -> io::Result<()> {
        let (aside, path) = (self.dir.join(format!("{name}.tmp")), self.dir.join(name));
        let mut digest = Sha256::new();
        let mut file = File::create(&aside)?;
        let lengths = [snapshot.meta.len() as u64, snapshot.data.len() as u64].map(u64::to_be_bytes).concat();
        for part in [MAGIC, &lengths, &snapshot.meta, &snapshot.data] {
            digest.update(part);
            file.write_all(part)?;
        }
        file.write_all(&digest.finalize())?;
        file.sync_all()?;
        fs::rename(&aside, &path)?;
        sync_dir(&self.dir)
    }

    /// The newest one, if there is any.
    ///
    /// Errors: [`StoreError::Damaged`] when it does not match its digest: the log before it is purged, so an older one
    /// would leave a hole.
    pub(crate) fn latest(&self) -> Result<Option<StoredSnapshot>, StoreError> {
        let Some((_, path)) = self.files()?.pop() else { return Ok(None) };
        let bytes = fs::read(&path).map_err(StoreError::read)?;
        parse(&bytes).map(Some).ok_or_else(|| StoreError::Damaged { what: path.display().to_string() })
    }

    /// By index, oldest first.
    fn files(&self) -> Result<Vec<(u64, PathBuf)>, StoreError> {
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.dir).map_err(StoreError::read)? {
            let path = entry.map_err(StoreError::read)?.path();
            let index = path
                .file_name()
                .and_then(|name| name.to_str()?.strip_suffix(SUFFIX)?.strip_suffix('.')?.parse().ok());
            if let Some(index) = index {
                files.push((index, path));
            }
        }
        files.sort();
        Ok(files)
    }
}

fn parse(bytes: &[u8]) -> Option<StoredSnapshot> {
    let (content, digest) = bytes.split_at_checked(bytes.len().checked_sub(DIGEST_BYTES)?)?;
    if Sha256::digest(content).as_slice() != digest {
        return None;
    }
    let rest = content.strip_prefix(MAGIC)?;
    let (meta_len, rest) = rest.split_first_chunk::<8>()?;
    let (data_len, rest) = rest.split_first_chunk::<8>()?;
    let (meta, data) = rest.split_at_checked(usize::try_from(u64::from_be_bytes(*meta_len)).ok()?)?;
    (data.len() as u64 == u64::from_be_bytes(*data_len))
        .then(|| StoredSnapshot { meta: meta.to_vec(), data: data.to_vec() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(text: &str) -> StoredSnapshot {
        StoredSnapshot { meta: b"meta".to_vec(), data: text.as_bytes().to_vec() }
    }

    #[test]
    fn the_newest_snapshot_is_read_back_and_the_older_are_gone() {
        let dir = tempfile::tempdir().unwrap();
        let snapshots = Snapshots::open(dir.path()).unwrap();
        assert_eq!(snapshots.latest().unwrap(), None);
        snapshots.save(9, &snapshot("nine")).unwrap();
        snapshots.save(10, &snapshot("ten")).unwrap();
        fs::write(dir.path().join("00000000000000000011.snapshot.tmp"), b"half").unwrap();
        let reopened = Snapshots::open(dir.path()).unwrap();
        assert_eq!(reopened.latest().unwrap(), Some(snapshot("ten")));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let snapshots = Snapshots::open(dir.path()).unwrap();
        snapshots.save(1, &snapshot("data")).unwrap();
        let path = dir.path().join("00000000000000000001.snapshot");
        let good = fs::read(&path).unwrap();
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(parse(&bad), None, "bit {bit}");
        }
        for len in 0..good.len() {
            assert_eq!(parse(&good[..len]), None, "cut at {len}");
        }
        fs::write(&path, &good[..good.len() - 1]).unwrap();
        assert!(matches!(snapshots.latest(), Err(StoreError::Damaged { .. })));
    }
}
