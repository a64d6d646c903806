//! Putting a new file in the place of an old one, so that whoever reads sees the one or the other whole.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::Path,
};

/// Writes `path` anew with these permissions: a temporary file beside it, synced, renamed over it, and the directory
/// synced. Its owner stays the old file's.
///
/// Errors: as the file system has them; then the old file stands as it was.
pub(crate) fn file(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let directory = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    let mut name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_owned();
    name.push(".netguard-new");
    let temporary = directory.join(name);
    let written = write(&temporary, path, content, mode).and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written?;
    File::open(directory)?.sync_all()
}

fn write(temporary: &Path, path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    use std::os::unix::fs::{MetadataExt as _, fchown};
    let _ = fs::remove_file(temporary);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(temporary)?;
    if let Ok(old) = fs::metadata(path) {
        fchown(&file, Some(old.uid()), Some(old.gid()))?;
    }
    file.set_permissions(fs::Permissions::from_mode(mode))?;
    file.write_all(content)?;
    file.sync_all()
}
