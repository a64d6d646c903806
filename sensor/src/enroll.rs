//! Join: a token against a certificate, and its renewal.

use netguard_core::identity::Role;
use netguard_daemon::{
    client,
    identity::{Certified, Identity, enrol},
    renewal::Renewed,
};
use netguard_proto::{
    COORDINATOR_SERVER_NAME,
    v1::{EnrollRequest, RenewRequest, enroll_service_client::EnrollServiceClient},
};
use std::path::Path;

/// Enrols this host as a sensor with `token` at `server` (`host:port`); the identity goes to `<data_dir>/identity`.
pub async fn enroll(
    server: &str,
    token: &str,
    id: Option<&str>,
    data_dir: &Path,
) -> anyhow::Result<Identity> {
    enrol(server, token, COORDINATOR_SERVER_NAME, &data_dir.join("identity"), async |joining| {
        let request = EnrollRequest {
            token: joining.token,
            csr: joining.csr,
            wished_id: id.unwrap_or_default().to_owned(),
            role: Role::Sensor.name().to_owned(),
            ..EnrollRequest::default()
        };
        let asked = EnrollServiceClient::new(joining.channel).enroll(request).await;
        let answer = asked.map_err(|status| anyhow::anyhow!("{}", status.message()))?.into_inner();
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
    let answer = EnrollServiceClient::new(channel).renew(RenewRequest { csr }).await?.into_inner();
    Ok(Renewed { cert_chain_pem: answer.certificate, ca_pem: Some(answer.agents_ca) })
}
