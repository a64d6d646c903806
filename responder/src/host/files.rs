//! Reading files that others write: only regular ones, none that is huge, of each directory not too many.

use std::{
    fs, io,
    io::Read as _,
    path::{Path, PathBuf},
};

/// Longest file of somebody's configuration or leases that is read; a longer one is none.
const MAX_BYTES: usize = 1 << 20;
/// Files read of one directory.
const MAX_FILES: usize = 64;

/// The file system below a root, `/` but in tests. What cannot be read is empty.
#[derive(Debug, Clone)]
pub(super) struct Files {
    root: PathBuf,
}

impl Files {
    pub(super) fn below(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// `path`, which begins with `/`, below the root.
    pub(super) fn path(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    /// The text of a file.
    pub(super) fn text(&self, path: &str) -> String {
        text(&self.path(path))
    }

    /// The texts of a directory's files with this ending, in the order of their names.
    pub(super) fn texts(&self, directory: &str, ending: &str) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.path(directory)) else { return Vec::new() };
        let mut paths: Vec<_> = entries
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().ends_with(ending)))
            .collect();
        paths.sort();
        paths.truncate(MAX_FILES);
        paths.iter().map(|path| text(path)).collect()
    }

    /// A table of this thread's network namespace, not of the process' first thread's; as long as it is.
    pub(super) fn network_table(&self, name: &str) -> String {
        fs::read_to_string(self.path(&format!("/proc/thread-self/net/{name}"))).unwrap_or_default()
    }
}

fn text(path: &Path) -> String {
    // Opening a pipe would wait for a writer.
    if !fs::metadata(path).is_ok_and(|metadata| metadata.is_file()) {
        return String::new();
    }
    let bytes = beginning(path, MAX_BYTES + 1).unwrap_or_default();
    if bytes.len() > MAX_BYTES { String::new() } else { String::from_utf8_lossy(&bytes).into_owned() }
}

/// At most the first `limit` bytes of a file.
pub(super) fn beginning(path: &Path, limit: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    fs::File::open(path)?.take(limit as u64).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn only_ordinary_files_of_ordinary_size_are_read() {
        let root = tempfile::tempdir().unwrap();
        let files = Files::below(root.path());
        fs::create_dir_all(files.path("/etc/some.d")).unwrap();
        for (path, content) in [
            ("/etc/some.d/b.conf", b"b\xff".to_vec()),
            ("/etc/some.d/a.conf", b"a".to_vec()),
            ("/etc/some.d/a.conf.bak", b"x".to_vec()),
            ("/etc/huge", vec![b'x'; MAX_BYTES + 1]),
        ] {
            fs::write(files.path(path), content).unwrap();
        }
        assert!(Command::new("mkfifo").arg(files.path("/etc/pipe")).status().unwrap().success());
        assert_eq!(files.texts("/etc/some.d", ".conf"), ["a", "b\u{fffd}"]);
        for nothing in ["/etc/huge", "/etc/pipe", "/etc/some.d", "/etc/missing"] {
            assert_eq!(files.text(nothing), "", "{nothing}");
        }
        assert_eq!(files.texts("/etc/missing", ""), [] as [String; 0]);
    }
}
