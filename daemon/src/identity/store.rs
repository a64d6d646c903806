//! An identity on disk: `key.pem` (0600), `cert.pem`, `ca.pem`, replaced together.
//!
//! Each new file is made whole as `<name>.new` first; only then are they renamed over the old ones. A crash in between
//! leaves a mix, and [`IdentityDir::load`] finishes or undoes the step by asking which set belongs together.

use super::{Identity, IdentityError};
use std::{
    fs::{self, DirBuilder, File},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

/// Largest of the three files, in bytes: a chain of a few certificates.
const MAX_BYTES: u64 = 256 << 10;

/// A directory that holds one identity, or none yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdentityDir {
    directory: PathBuf,
}

impl IdentityDir {
    #[must_use]
    pub fn at(directory: impl Into<PathBuf>) -> Self {
        Self { directory: directory.into() }
    }

    #[must_use]
    pub fn path(&self) -> &Path {
        &self.directory
    }

    #[must_use]
    pub fn key(&self) -> PathBuf {
        self.directory.join("key.pem")
    }

    #[must_use]
    pub fn cert(&self) -> PathBuf {
        self.directory.join("cert.pem")
    }

    #[must_use]
    pub fn ca(&self) -> PathBuf {
        self.directory.join("ca.pem")
    }

    /// Whether there is an identity (or part of one) here.
    #[must_use]
    pub fn exists(&self) -> bool {
        self.files().iter().any(|file| file.exists() || staged(file).exists())
    }

    /// In the order in which they are replaced: the key last.
    fn files(&self) -> [PathBuf; 3] {
        [self.ca(), self.cert(), self.key()]
    }

    /// Reads the identity, first setting right what a crash left half done.
    pub fn load(&self) -> Result<Identity, IdentityError> {
        let files = self.files();
        if files.iter().any(|file| staged(file).exists()) {
            let newest = files.clone().map(|file| if staged(&file).exists() { staged(&file) } else { file });
            if let Ok(identity) = read(&newest) {
                commit(&self.directory, &files)?;
                return Ok(identity);
            }
        }
        if !self.exists() {
            return Err(IdentityError::Missing(self.directory.clone()));
        }
        let identity = read(&files)?;
        for file in files.iter().map(|file| staged(file)).filter(|file| file.exists()) {
            fs::remove_file(&file).map_err(at(&file))?;
        }
        Ok(identity)
    }

    /// Replaces what is here. When it returns, the new identity survives a power cut; when it fails, the old one stands.
    pub fn store(&self, identity: &Identity) -> Result<(), IdentityError> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.directory).map_err(at(&self.directory))?;
        let files = self.files();
        for (file, text, mode) in [
            (&files[0], &identity.ca_pem, 0o644),
            (&files[1], &identity.cert_chain_pem, 0o644),
            (&files[2], &identity.key_pem, 0o600),
        ] {
            write_whole(&staged(file), text.as_bytes(), mode)?;
        }
        sync_directory(&self.directory)?;
        commit(&self.directory, &files)
    }
}

/// Where the next version of a file waits.
fn staged(file: &Path) -> PathBuf {
    file.with_extension("pem.new")
}

fn at(path: &Path) -> impl Fn(io::Error) -> IdentityError + '_ {
    |source| IdentityError::Io { path: path.to_owned(), source }
}

fn commit(directory: &Path, files: &[PathBuf; 3]) -> Result<(), IdentityError> {
    for file in files.iter().filter(|file| staged(file).exists()) {
        fs::rename(staged(file), file).map_err(at(file))?;
    }
    sync_directory(directory)
}

fn sync_directory(directory: &Path) -> Result<(), IdentityError> {
    File::open(directory).and_then(|directory| directory.sync_all()).map_err(at(directory))
}

/// Made under a third name and renamed, so that a staged file is never half written.
fn write_whole(path: &Path, bytes: &[u8], mode: u32) -> Result<(), IdentityError> {
    let temporary = path.with_extension("tmp");
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(at(&temporary)(error)),
        _ => {}
    }
    // `create_new` with the mode: at no moment is a key readable by others.
    let mut file =
        File::options().write(true).create_new(true).mode(mode).open(&temporary).map_err(at(&temporary))?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(at(&temporary))?;
    fs::rename(&temporary, path).map_err(at(path))
}

fn read(files: &[PathBuf; 3]) -> Result<Identity, IdentityError> {
    let [ca, cert, key] = files;
    let metadata = fs::metadata(key).map_err(at(key))?;
    if metadata.mode() & 0o077 != 0 {
        return Err(IdentityError::Exposed { path: key.clone(), mode: metadata.mode() & 0o7777 });
    }
    Identity::from_pem(&text(cert)?, &text(key)?, &text(ca)?)
}

fn text(path: &Path) -> Result<String, IdentityError> {
    let metadata = fs::metadata(path).map_err(at(path))?;
    if !metadata.is_file() || metadata.len() > MAX_BYTES {
        let source = io::Error::other(format!("not a regular file of at most {MAX_BYTES} bytes"));
        return Err(IdentityError::Io { path: path.to_owned(), source });
    }
    fs::read_to_string(path).map_err(at(path))
}
