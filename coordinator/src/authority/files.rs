//! Files that hold secrets: made readable by their owner alone, refused when they are not.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

/// Largest key or certificate file read, in bytes.
const MAX_FILE_BYTES: u64 = 64 << 10;

/// What went wrong with which file.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    #[error("{path}: {source}")]
    Io { path: PathBuf, source: io::Error },
    #[error(
        "{path} can be read by others (mode {mode:03o}): a private key must be its owner's alone; if nobody else can \
         have read it, run chmod 600 {path}"
    )]
    Exposed { path: PathBuf, mode: u32 },
    #[error("{path} is not a regular file")]
    NotRegular { path: PathBuf },
    #[error("{path} has more than {MAX_FILE_BYTES} bytes: that is no key or certificate")]
    TooLong { path: PathBuf },
}

fn at<'a>(path: &'a Path) -> impl Fn(io::Error) -> FileError + 'a {
    move |source| FileError::Io { path: path.to_owned(), source }
}

/// Reads a private file. Errors: it is missing, no regular file, too long, or others may read or write it.
pub(crate) fn read_private(path: &Path) -> Result<String, FileError> {
    read(path, true)
}

pub(crate) fn read_public(path: &Path) -> Result<String, FileError> {
    read(path, false)
}

fn read(path: &Path, private: bool) -> Result<String, FileError> {
    if !fs::metadata(path).map_err(at(path))?.is_file() {
        return Err(FileError::NotRegular { path: path.to_owned() });
    }
    let file = File::open(path).map_err(at(path))?;
    let metadata = file.metadata().map_err(at(path))?;
    let mode = metadata.permissions().mode() & 0o777;
    if private && mode & 0o077 != 0 {
        return Err(FileError::Exposed { path: path.to_owned(), mode });
    }
    let mut text = String::new();
    let read = file.take(MAX_FILE_BYTES + 1).read_to_string(&mut text).map_err(at(path))?;
    if u64::try_from(read).is_ok_and(|read| read > MAX_FILE_BYTES) {
        return Err(FileError::TooLong { path: path.to_owned() });
    }
    Ok(text)
}

/// Writes whole or not at all (temporary file, fsync, rename), mode 0600 from the first byte on.
pub(crate) fn write_private(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    write(path, bytes, 0o600)
}

pub(crate) fn write_public(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    write(path, bytes, 0o644)
}

fn write(path: &Path, bytes: &[u8], mode: u32) -> Result<(), FileError> {
    let temporary = path.with_extension("new");
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(at(&temporary)(error)),
        _ => {}
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(&temporary)
        .map_err(at(&temporary))?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(at(&temporary))?;
    fs::rename(&temporary, path).map_err(at(path))?;
    path.parent().map_or(Ok(()), make_durable)
}

/// Creates a directory, and those above it, that only its owner can enter.
pub(crate) fn create_private_dir(path: &Path) -> Result<(), FileError> {
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(at(path))
}

/// Makes the names in a directory outlive a power cut.
pub(crate) fn make_durable(dir: &Path) -> Result<(), FileError> {
    let dir = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(at(dir))
}
