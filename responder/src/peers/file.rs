//! The good peers of this host on disk, so that a restart does not forget them: they take minutes to be learned, and just
//! then nothing would stand between them and a wrong decision.
//!
//! Invariants: written whole or not at all (a new file, synced, put in the place of the old one); what cannot be read is
//! left out with a warning, never a reason not to start; at most [`MAX_GOOD`] are read.

use netguard_core::{peers::MAX_GOOD, time::Timestamp};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Read as _, Write as _},
    net::IpAddr,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

const NAME: &str = "good-peers.json";
/// A line of the longest address and time, as many as there may be, and some room.
const MAX_BYTES: u64 = 128 * MAX_GOOD as u64;
const VERSION: u32 = 1;

/// What is written: microseconds since 1970 by address.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Content {
    version: u32,
    last_heard_us: BTreeMap<IpAddr, u64>,
}

/// Where the good peers are kept.
#[derive(Debug, Clone)]
pub(crate) struct GoodPeersFile {
    path: PathBuf,
    /// Told once.
    broken: Arc<AtomicBool>,
}

impl GoodPeersFile {
    pub(crate) fn in_directory(directory: &Path) -> Self {
        Self { path: directory.join(NAME), broken: Arc::default() }
    }

    /// Who was good when it was written last; nobody, when there is no file or it makes no sense.
    pub(crate) fn load(&self) -> Vec<(IpAddr, Timestamp)> {
        match self.read() {
            Ok(content) => {
                let heard = content.last_heard_us.into_iter().take(MAX_GOOD);
                heard.map(|(peer, last)| (peer, Timestamp::from_micros(last))).collect()
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => {
                tracing::warn!(
                    file = %self.path.display(), %error,
                    "the good peers of this host cannot be read: they are learned anew"
                );
                Vec::new()
            }
        }
    }

    fn read(&self) -> io::Result<Content> {
        let file = File::open(&self.path)?;
        if !file.metadata()?.is_file() {
            return Err(io::Error::other("it is no file"));
        }
        let mut text = String::new();
        if file.take(MAX_BYTES + 1).read_to_string(&mut text)? as u64 > MAX_BYTES {
            return Err(io::Error::other("it is too long"));
        }
        let content: Content = serde_json::from_str(&text)?;
        if content.version != VERSION {
            return Err(io::Error::other(format!("version {} is not known here", content.version)));
        }
        Ok(content)
    }

    /// Writes them. Blocks until they are on disk.
    pub(crate) fn store(&self, good: impl Iterator<Item = (IpAddr, Timestamp)>) {
        let last_heard_us = good.map(|(peer, last)| (peer, last.as_micros())).collect();
        let written = self.write(&Content { version: VERSION, last_heard_us });
        let told = self.broken.swap(written.is_err(), Ordering::Relaxed);
        if let Err(error) = &written
            && !told
        {
            tracing::warn!(
                file = %self.path.display(), %error,
                "the good peers of this host cannot be written: a restart forgets them; check the disk"
            );
        }
    }

    fn write(&self, content: &Content) -> io::Result<()> {
        let directory = self.path.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(directory)?;
        let new = self.path.with_extension("new");
        let mut file = File::create(&new)?;
        file.write_all(&serde_json::to_vec(content)?)?;
        file.sync_all()?;
        fs::rename(&new, &self.path)?;
        File::open(directory)?.sync_all()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_peers_outlive_a_restart_and_a_damaged_file_only_warns() {
        let directory = tempfile::tempdir().unwrap();
        let file = GoodPeersFile::in_directory(&directory.path().join("not/there/yet"));
        assert_eq!(file.load(), []);
        let good: Vec<(IpAddr, Timestamp)> = vec![
            ("192.0.2.1".parse().unwrap(), Timestamp::from_secs(5)),
            ("2001:db8::1".parse().unwrap(), Timestamp::from_secs(6)),
        ];
        file.store(good.iter().copied());
        assert_eq!(GoodPeersFile::in_directory(&directory.path().join("not/there/yet")).load(), good);

        let path = file.path.clone();
        let whole = fs::read(&path).unwrap();
        for damaged in [
            &whole[..whole.len() / 2],
            b"",
            b"\xff\xfe",
            br#"{"version":2,"last_heard_us":{}}"#,
            br#"{"version":1,"last_heard_us":{"192.0.2.300":1}}"#,
            br#"{"version":1,"last_heard_us":{"192.0.2.1":-1}}"#,
            &vec![b' '; usize::try_from(MAX_BYTES).unwrap() + 1],
        ] {
            fs::write(&path, damaged).unwrap();
            assert_eq!(file.load(), []);
        }
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        assert_eq!(file.load(), []);
        file.store(good.iter().copied());
        assert!(file.broken.load(Ordering::Relaxed));
        fs::remove_dir(&path).unwrap();
        file.store(good.iter().copied());
        assert!(!file.broken.load(Ordering::Relaxed) && file.load() == good);
    }
}
