//! Join: a token against a certificate, and its renewal.

use anyhow::Context as _;
use netguard_daemon::{
    client,
    identity::{Identity, IdentityDir, JoinToken, new_key, pinned_channel},
    renewal::Renewed,
};
use netguard_proto::{
    COORDINATOR_SERVER_NAME,
    v1::{EnrollRequest, RenewRequest, enroll_service_client::EnrollServiceClient},
};
use std::path::Path;

/// Enrols this host with `token` at `server` (`host:port`) and stores the identity in `<data_dir>/identity`.
/// The token is sent only to a server whose chain leads to the CA key it pins.
pub async fn enroll(
    server: &str,
    token: &str,
    id: Option<&str>,
    data_dir: &Path,
) -> anyhow::Result<Identity> {
    let directory = IdentityDir::at(data_dir.join("identity"));
    anyhow::ensure!(
        !directory.exists(),
        "{} holds an identity already: remove it to enrol this host anew",
        data_dir.join("identity").display()
    );
    let pin = token.trim().parse::<JoinToken>()?.ca_spki_sha256;
    let key = new_key()?;
    let channel = pinned_channel(server, pin, COORDINATOR_SERVER_NAME).await?;
    let request = EnrollRequest {
        token: token.trim().to_owned(),
        csr: key.csr_der,
        wished_id: id.unwrap_or_default().to_owned(),
        peer_csr: Vec::new(),
    };
    let answer = EnrollServiceClient::new(channel)
        .enroll(request)
        .await
        .map_err(|status| anyhow::anyhow!("{server} refused to enrol this host: {}", status.message()))?
        .into_inner();
    let identity = Identity::from_pem(&answer.certificate, &key.key_pem, &answer.agents_ca)
        .context("the coordinator's answer is no identity")?;
    directory.store(&identity)?;
    Ok(identity)
}

/// One renewal at whichever coordinator can be reached.
pub async fn renew(
    identity: &Identity,
    endpoints: &client::Endpoints,
    csr: Vec<u8>,
) -> anyhow::Result<Renewed> {
    let (_, channel) = endpoints.connect(identity).await?;
    let answer = EnrollServiceClient::new(channel).renew(RenewRequest { csr }).await?.into_inner();
    Ok(Renewed { cert_chain_pem: answer.certificate, ca_pem: Some(answer.agents_ca) })
}
