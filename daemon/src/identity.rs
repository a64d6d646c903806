//! Who this process is: a key made here, a certificate for it, and the CA that everything is verified against.
//!
//! Invariants: a key never leaves its host and its file is readable by its owner alone; what is on disk is always one
//! whole identity, also after a crash in the middle of a renewal; a certificate names exactly one identity.

mod enrol;
mod key;
mod peer;
mod pin;
mod store;
mod token;

pub use enrol::{Certified, Joining, enrol};
pub use key::{NewKey, ca_spki_sha256, new_key};
pub use peer::{PeerCert, PeerCertError, peer_identity_from_cert, peer_identity_from_pem};
pub use pin::pinned_channel;
pub use store::IdentityDir;
pub use token::{JoinToken, TokenError};

use rustls_pki_types::{CertificateDer, pem::PemObject};
use std::{
    fmt, io,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

/// Why an identity cannot be used. Messages name the file or the part, never its content.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    #[error("no identity in {}: enrol this host first", .0.display())]
    Missing(PathBuf),
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("{}: group or others may read this private key (mode {mode:04o}); run: chmod 600 {}", path.display(), path.display())]
    Exposed { path: PathBuf, mode: u32 },
    #[error("{what} cannot be read: {why}")]
    Malformed { what: &'static str, why: String },
    #[error("the private key does not belong to the certificate; enrol again")]
    KeyMismatch,
    #[error("the certificate is not acceptable: {0}")]
    Certificate(#[from] PeerCertError),
    #[error("the certificate was not issued by the CA beside it; enrol again")]
    NotIssuedByCa,
    #[error("the renewed certificate is for {got}, not for {expected}")]
    ChangedIdentity { expected: String, got: String },
}

/// The parts of `spiffe://<cluster>/<role>/<id>`. Which roles exist is for the caller to say.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SpiffeParts {
    pub uri: String,
    pub cluster: String,
    pub role: String,
    pub id: String,
}

impl SpiffeParts {
    /// Splits the URI; no part may be empty, and there is nothing but the three.
    #[must_use]
    pub fn parse(uri: &str) -> Option<Self> {
        let mut parts = uri.strip_prefix("spiffe://")?.split('/').filter(|part| !part.is_empty());
        let (cluster, role, id) = (parts.next()?, parts.next()?, parts.next()?);
        let parts = Self { uri: uri.to_owned(), cluster: cluster.into(), role: role.into(), id: id.into() };
        (format!("spiffe://{cluster}/{role}/{id}") == uri).then_some(parts)
    }
}

impl fmt::Display for SpiffeParts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.uri)
    }
}

/// A complete identity, checked: the key fits the certificate, and the certificate fits the CA.
#[derive(Clone)]
pub struct Identity {
    pub spiffe: SpiffeParts,
    pub not_before: SystemTime,
    pub not_after: SystemTime,
    /// Serial number, hexadecimal.
    pub serial: String,
    /// The certificate, and intermediates if any.
    pub cert_chain_pem: String,
    pub key_pem: String,
    /// The CA bundle that the other side is verified against; two CAs while one replaces the other.
    pub ca_pem: String,
}

impl Identity {
    /// Puts the three parts together and checks that they belong together. An expired certificate is taken: the caller
    /// may still renew it; see [`expired`](Self::expired).
    pub fn from_pem(cert_chain_pem: &str, key_pem: &str, ca_pem: &str) -> Result<Self, IdentityError> {
        let chain = certificates("the certificate", cert_chain_pem)?;
        let cas = certificates("the CA certificate", ca_pem)?;
        let leaf = chain
            .first()
            .ok_or_else(|| IdentityError::Malformed { what: "the certificate", why: "none found".into() })?;
        let peer = peer_identity_from_cert(leaf)?;
        if key::public_key_of(key_pem)? != peer.public_key {
            return Err(IdentityError::KeyMismatch);
        }
        if !key::issued_by_any(&chain, &cas)? {
            return Err(IdentityError::NotIssuedByCa);
        }
        Ok(Self {
            spiffe: peer.spiffe,
            not_before: peer.not_before,
            not_after: peer.not_after,
            serial: peer.serial,
            cert_chain_pem: cert_chain_pem.to_owned(),
            key_pem: key_pem.to_owned(),
            ca_pem: ca_pem.to_owned(),
        })
    }

    /// Reads `key.pem`, `cert.pem` and `ca.pem` in `directory`.
    pub fn load(directory: &Path) -> Result<Self, IdentityError> {
        IdentityDir::at(directory).load()
    }

    /// Replaces what is in `directory`, as a whole or not at all.
    pub fn store(&self, directory: &Path) -> Result<(), IdentityError> {
        IdentityDir::at(directory).store(self)
    }

    /// The same holder and CA with a new key and certificate.
    pub fn renewed(
        &self,
        key_pem: &str,
        cert_chain_pem: &str,
        ca_pem: Option<&str>,
    ) -> Result<Self, IdentityError> {
        let new = Self::from_pem(cert_chain_pem, key_pem, ca_pem.unwrap_or(&self.ca_pem))?;
        if new.spiffe != self.spiffe {
            return Err(IdentityError::ChangedIdentity {
                expected: self.spiffe.uri.clone(),
                got: new.spiffe.uri,
            });
        }
        Ok(new)
    }

    #[must_use]
    pub fn expired(&self, now: SystemTime) -> bool {
        now >= self.not_after
    }

    /// How long the certificate is valid in all.
    #[must_use]
    pub fn lifetime(&self) -> Duration {
        self.not_after.duration_since(self.not_before).unwrap_or_default()
    }

    /// SHA-256 of the first CA's public key: what join tokens pin.
    pub fn ca_spki_sha256(&self) -> Result<[u8; 32], IdentityError> {
        ca_spki_sha256(&self.ca_pem)
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity")
            .field("uri", &self.spiffe.uri)
            .field("serial", &self.serial)
            .field("not_after", &self.not_after)
            .finish_non_exhaustive()
    }
}

/// All certificates in a PEM text; none is an error.
pub(crate) fn certificates(
    what: &'static str,
    pem: &str,
) -> Result<Vec<CertificateDer<'static>>, IdentityError> {
    let malformed = |why: String| IdentityError::Malformed { what, why };
    let certificates = CertificateDer::pem_slice_iter(pem.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| malformed(error.to_string()))?;
    if certificates.is_empty() {
        return Err(malformed("no certificate in it".to_owned()));
    }
    Ok(certificates)
}

#[cfg(test)]
mod tests;
