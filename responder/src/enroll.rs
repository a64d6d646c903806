//! Join: a token against a certificate, and its renewal.

use netguard_core::identity::Role;
use netguard_daemon::{
    client,
    identity::{Certified, Identity, Joining, enrol},
    renewal::Renewed,
};
use netguard_proto::{COORDINATOR_SERVER_NAME, enrolment};
use std::path::Path;

/// Enrols this host as a responder with `token` at `server` (`host:port`); the identity goes to `<data_dir>/identity`.
pub async fn enroll(
    server: &str,
    token: &str,
    id: Option<&str>,
    data_dir: &Path,
) -> anyhow::Result<Identity> {
    enrol(server, token, COORDINATOR_SERVER_NAME, &data_dir.join("identity"), async |joining| {
        let Joining { channel, token, csr } = joining;
        let answer = enrolment::enroll(channel, Role::Responder, token, csr, id).await?;
        Ok(Certified { cert_chain_pem: answer.certificate, ca_pem: answer.agents_ca })
    })
    .await
}

/// One renewal at whichever coordinator can be reached.
pub async fn renew(
    identity: &Identity,
    endpoints: &client::Endpoints,
    csr: Vec<u8>,
) -> anyhow::Result<Renewed> {
    let (_, channel) = endpoints.connect(identity).await?;
    let answer = enrolment::renew(channel, csr).await?;
    Ok(Renewed { cert_chain_pem: answer.certificate, ca_pem: Some(answer.agents_ca) })
}
