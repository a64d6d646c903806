//! Remembers, beside the log, that there was one.

use super::StoreError;
use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

/// Lies beside the log's directory, not in it: whoever deletes the log leaves it.
fn marker(dir: &Path) -> PathBuf {
    dir.with_extension("begun")
}

/// Errors: [`StoreError::Gone`] when a log was begun here once and is there no more.
pub(super) fn check(dir: &Path, log: &Path) -> Result<(), StoreError> {
    if marker(dir).exists() && !log.exists() {
        return Err(StoreError::Gone { path: log.to_owned() });
    }
    Ok(())
}

/// Makes the marker and the directory entries durable.
pub(super) fn mark(dir: &Path) -> io::Result<()> {
    let marker = marker(dir);
    if !marker.exists() {
        File::create(&marker)?.sync_all()?;
    }
    sync_dir(dir)?;
    dir.parent().map_or(Ok(()), sync_dir)
}

pub(super) fn sync_dir(dir: &Path) -> io::Result<()> {
    fs::File::open(dir)?.sync_all()
}
