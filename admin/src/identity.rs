//! The operator's identity on disk, and its renewal.
//!
//! Invariants: a key that others may read is not used; a renewal replaces key and certificate together or not at all,
//! also when the machine stops in the middle or two commands run at once. (The daemons' room does the same for agents;
//! this program does not depend on it.)

use crate::Failure;
use rustls_pki_types::{CertificateDer, pem::PemObject as _};
use std::{
    env,
    fs::{self, File},
    io::{self, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

/// A lock older than this was left by a program that died.
const LOCK_LIFE: Duration = Duration::from_secs(60);
/// Largest of the three files, in bytes.
const MAX_BYTES: u64 = 256 << 10;

#[derive(Clone)]
pub(crate) struct Identity {
    pub(crate) cert_pem: String,
    pub(crate) key_pem: String,
    pub(crate) ca_pem: String,
    pub(crate) uri: String,
    pub(crate) not_before: SystemTime,
    pub(crate) not_after: SystemTime,
}

/// The directory named, else the user's, else the host's.
pub(crate) fn directory(named: Option<&Path>) -> PathBuf {
    if let Some(named) = named {
        return named.to_owned();
    }
    let base = env::var_os("XDG_CONFIG_HOME").filter(|base| !base.is_empty()).map(PathBuf::from);
    let base = base.or_else(|| env::var_os("HOME").map(|home| Path::new(&home).join(".config")));
    match base.map(|base| base.join("netguard")) {
        Some(own) if own.join("key.pem").exists() => own,
        _ => PathBuf::from("/etc/netguard/admin"),
    }
}

impl Identity {
    /// Reads the identity, first setting right what an interrupted renewal left.
    pub(crate) fn load(directory: &Path) -> Result<Self, Failure> {
        let files = Files::of(directory);
        if files.any_staged()
            && let Ok(newest) = Self::read(&files.newest())
        {
            // Without write access the staged files are used where they are.
            let _ = files.commit();
            return Ok(newest);
        }
        if !files.key.exists() {
            return Err(Failure::usage(format!(
                "no identity in {}: name its directory with --identity or NETGUARD_IDENTITY (the first owner's was made \
                 by `netguard-coordinator init --admin-dir`)",
                directory.display()
            )));
        }
        Self::read(&files)
    }

    fn read(files: &Files) -> Result<Self, Failure> {
        let mode = fs::metadata(&files.key).map_err(|error| unreadable(&files.key, &error))?.mode();
        if mode & 0o077 != 0 {
            let path = files.key.display();
            return Err(Failure::usage(format!(
                "{path}: group or others may read this private key (mode {:04o}); run: chmod 600 {path}",
                mode & 0o7777
            )));
        }
        Self::from_pem(text(&files.cert)?, text(&files.key)?, text(&files.ca)?)
            .map_err(|why| Failure::usage(format!("{}: {why}", files.cert.display())))
    }

    /// The error is what is wrong with the certificate or key.
    pub(crate) fn from_pem(cert_pem: String, key_pem: String, ca_pem: String) -> Result<Self, &'static str> {
        let leaf = CertificateDer::from_pem_slice(cert_pem.as_bytes()).map_err(|_| "no certificate in it")?;
        let (_, parsed) = X509Certificate::from_der(&leaf).map_err(|_| "not an X.509 certificate")?;
        let key =
            rcgen::KeyPair::from_pem(&key_pem).map_err(|_| "the private key beside it cannot be read")?;
        if rcgen::PublicKeyData::subject_public_key_info(&key) != parsed.public_key().raw {
            return Err("the private key beside it belongs to another certificate");
        }
        let names = parsed.subject_alternative_name().ok().flatten().ok_or("it names no identity")?;
        let uri = names.value.general_names.iter().find_map(|name| match name {
            GeneralName::URI(uri) => Some((*uri).to_owned()),
            _ => None,
        });
        let moment = |seconds: i64| {
            SystemTime::UNIX_EPOCH
                + Duration::from_secs(u64::try_from(seconds).unwrap_or(0).min(253_402_300_799))
        };
        let validity = parsed.validity();
        Ok(Self {
            uri: uri.ok_or("it names no identity")?,
            not_before: moment(validity.not_before.timestamp()),
            not_after: moment(validity.not_after.timestamp()),
            cert_pem,
            key_pem,
            ca_pem,
        })
    }

    /// Past half of its life.
    pub(crate) fn due(&self, now: SystemTime) -> bool {
        let life = self.not_after.duration_since(self.not_before).unwrap_or_default();
        now >= self.not_before + life / 2
    }

    pub(crate) fn expired(&self, now: SystemTime) -> bool {
        now >= self.not_after
    }

    /// Puts a renewed identity in place of the old one.
    pub(crate) fn store(&self, directory: &Path) -> io::Result<()> {
        let files = Files::of(directory);
        for (path, text, mode) in [
            (&files.ca, &self.ca_pem, 0o644),
            (&files.cert, &self.cert_pem, 0o644),
            (&files.key, &self.key_pem, 0o600),
        ] {
            let temporary = path.with_extension("tmp");
            match fs::remove_file(&temporary) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            let mut file = File::options().write(true).create_new(true).mode(mode).open(&temporary)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            fs::rename(&temporary, staged(path))?;
        }
        File::open(directory)?.sync_all()?;
        files.commit()
    }
}

fn unreadable(path: &Path, error: &io::Error) -> Failure {
    Failure::usage(format!("{}: {error}", path.display()))
}

fn text(path: &Path) -> Result<String, Failure> {
    let metadata = fs::metadata(path).map_err(|error| unreadable(path, &error))?;
    if !metadata.is_file() || metadata.len() > MAX_BYTES {
        return Err(Failure::usage(format!("{}: not a regular file of sane size", path.display())));
    }
    fs::read_to_string(path).map_err(|error| unreadable(path, &error))
}

/// Where the next version of a file waits until all three are whole.
fn staged(path: &Path) -> PathBuf {
    path.with_extension("pem.new")
}

struct Files {
    key: PathBuf,
    cert: PathBuf,
    ca: PathBuf,
}

impl Files {
    fn of(directory: &Path) -> Self {
        Self {
            key: directory.join("key.pem"),
            cert: directory.join("cert.pem"),
            ca: directory.join("ca.pem"),
        }
    }

    fn all(&self) -> [&PathBuf; 3] {
        [&self.ca, &self.cert, &self.key]
    }

    fn any_staged(&self) -> bool {
        self.all().iter().any(|path| staged(path).exists())
    }

    fn newest(&self) -> Self {
        let newest = |path: &Path| if staged(path).exists() { staged(path) } else { path.to_owned() };
        Self { key: newest(&self.key), cert: newest(&self.cert), ca: newest(&self.ca) }
    }

    fn commit(&self) -> io::Result<()> {
        for path in self.all().into_iter().filter(|path| staged(path).exists()) {
            fs::rename(staged(path), path)?;
        }
        match self.key.parent() {
            Some(directory) => File::open(directory)?.sync_all(),
            None => Ok(()),
        }
    }
}

/// Held while one command renews; `None` when another one does.
pub(crate) struct RenewalLock(PathBuf);

impl RenewalLock {
    pub(crate) fn take(directory: &Path) -> io::Result<Option<Self>> {
        let path = directory.join("renewal.lock");
        let stale =
            |metadata: fs::Metadata| metadata.modified().ok()?.elapsed().ok().map(|age| age > LOCK_LIFE);
        if fs::metadata(&path).ok().and_then(stale) == Some(true) {
            let _ = fs::remove_file(&path);
        }
        match File::options().write(true).create_new(true).open(&path) {
            Ok(_) => Ok(Some(Self(path))),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl Drop for RenewalLock {
    fn drop(&mut self) {
        // Left behind, it is taken for stale in a minute.
        let _ = fs::remove_file(&self.0);
    }
}

/// A new P-256 key (PEM) and the request (DER) to certify it.
pub(crate) fn new_key() -> Result<(String, Vec<u8>), rcgen::Error> {
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
    let mut params = rcgen::CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    let request = params.serialize_request(&key)?;
    Ok((key.serialize_pem(), request.der().to_vec()))
}

#[cfg(test)]
mod tests;
