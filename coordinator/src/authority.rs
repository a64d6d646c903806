//! The cluster's two certificate authorities and everything they sign.
//!
//! Invariants: the peers' listener trusts only the peers CA and the agents' listener only the agents CA, so an agent's
//! certificate is worthless between coordinators, whatever it says. A certificate's names come from the registry,
//! never from a signing request: of that only the public key is taken.

mod ca;
mod csr;
mod files;
mod leaf;

pub use ca::{AuthorityError, CertificateAuthority, Issued};
pub use csr::{CsrError, MAX_CSR_BYTES, public_key_of};
pub use files::FileError;
pub(crate) use files::{create_private_dir, make_durable, read_public, write_public};
pub use leaf::{
    ADMIN_LIFETIME, AGENT_LIFETIME, COORDINATOR_LIFETIME, ServerIdentities, lifetime_of, server_identities,
};

use std::path::{Path, PathBuf};

/// Both authorities of a cluster, as they lie in `<data_dir>/ca/`.
#[derive(Debug)]
pub struct Authorities {
    /// Signs sensors, responders, admins, and what coordinators show them.
    pub agents: CertificateAuthority,
    /// Signs what coordinators show each other.
    pub peers: CertificateAuthority,
}

impl Authorities {
    /// Two new authorities for `cluster`.
    ///
    /// Errors: when the system gives no random numbers.
    pub fn create(cluster: &str) -> Result<Self, AuthorityError> {
        Ok(Self {
            agents: CertificateAuthority::create(&format!("NetGuard agents CA of {cluster}"))?,
            peers: CertificateAuthority::create(&format!("NetGuard peers CA of {cluster}"))?,
        })
    }

    /// Reads both from `<data_dir>/ca/`.
    ///
    /// Errors: a file that is missing, broken, or readable by others.
    pub fn load(data_dir: &Path) -> Result<Self, AuthorityError> {
        let dir = ca_dir(data_dir);
        Ok(Self {
            agents: CertificateAuthority::load(&dir, "agents")?,
            peers: CertificateAuthority::load(&dir, "peers")?,
        })
    }

    /// Writes both to `<data_dir>/ca/`, keys readable by their owner alone, durable on return.
    ///
    /// Errors: whatever the file system says.
    pub fn store(&self, data_dir: &Path) -> Result<(), AuthorityError> {
        let dir = ca_dir(data_dir);
        create_private_dir(&dir)?;
        self.agents.store(&dir, "agents")?;
        self.peers.store(&dir, "peers")?;
        make_durable(&dir)?;
        Ok(())
    }
}

fn ca_dir(data_dir: &Path) -> PathBuf {
    data_dir.join("ca")
}

#[cfg(test)]
mod tests;
