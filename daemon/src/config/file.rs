//! Reading a file an operator named: regular, of sane size, and with permissions that fit what it holds.

use super::{ConfigError, MAX_FILE_BYTES};
use std::{
    fs::File,
    io::{self, Read},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::Path,
};

/// Whether others on the host may read the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Secrecy {
    Public,
    Secret,
}

/// `O_NONBLOCK`: opening a FIFO must not hang the start. The value is the same on every Linux architecture we build.
const O_NONBLOCK: i32 = 0o4000;

/// Reads a small file that holds one secret (a token, a password), without surrounding whitespace.
pub fn read_secret(path: &Path) -> Result<String, ConfigError> {
    Ok(read(path, Secrecy::Secret)?.trim().to_owned())
}

/// The text of a regular UTF-8 file of at most [`MAX_FILE_BYTES`], without its byte order mark.
pub(crate) fn read(path: &Path, secrecy: Secrecy) -> Result<String, ConfigError> {
    let unreadable = |source: io::Error| ConfigError::Unreadable { path: path.to_owned(), source };
    let unfit = |problem: String| ConfigError::Unfit { path: path.to_owned(), problem };

    if path.symlink_metadata().map_err(unreadable)?.is_symlink()
        && !stays_in_its_directory(path).map_err(unreadable)?
    {
        return Err(unfit(
            "is a symbolic link that leaves its directory; name the file it points to".to_owned(),
        ));
    }
    let file = File::options().read(true).custom_flags(O_NONBLOCK).open(path).map_err(unreadable)?;
    // Asked of the open file, so that nobody can swap it in between.
    let metadata = file.metadata().map_err(unreadable)?;
    if !metadata.is_file() {
        return Err(unfit("is not a regular file".to_owned()));
    }
    let mode = metadata.mode();
    if mode & 0o002 != 0 {
        return Err(unfit(format!(
            "anybody may write to it (mode {:04o}); run: chmod o-w {}",
            mode & 0o7777,
            path.display()
        )));
    }
    if secrecy == Secrecy::Secret && mode & 0o077 != 0 {
        return Err(unfit(format!(
            "holds a secret but group or others have access (mode {:04o}); run: chmod 600 {}",
            mode & 0o7777,
            path.display()
        )));
    }
    let mut bytes = Vec::new();
    file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(unfit(format!(
            "is larger than {MAX_FILE_BYTES} bytes; that is no configuration of ours"
        )));
    }
    String::from_utf8(bytes).map_err(|error| {
        let before = error.as_bytes().get(..error.utf8_error().valid_up_to()).unwrap_or_default();
        let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
        ConfigError::Invalid { path: path.to_owned(), line, problem: "is not UTF-8 text".to_owned() }
    })
}

/// Kubernetes mounts `name` as a link to `..data/name` in the same directory; that stays allowed.
fn stays_in_its_directory(path: &Path) -> io::Result<bool> {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.canonicalize()?,
        _ => Path::new(".").canonicalize()?,
    };
    Ok(path.canonicalize()?.starts_with(directory))
}
