//! How a host asks for its certificate, the first one and each further one: the client's side of `EnrollService`.

use crate::v1::{EnrollRequest, EnrollResponse, RenewRequest, enroll_service_client::EnrollServiceClient};
use netguard_core::identity::Role;
use tonic::transport::Channel;

/// What a coordinator said instead of issuing a certificate; its text tells the operator what to check.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.message())]
pub struct Refused(#[from] tonic::Status);

/// Trades a token for a certificate of `role`. `channel` leads to a server that proved to be the token's cluster, `csr`
/// is PKCS#10, DER; without `wished_id` the token or the cluster names the host.
pub async fn enroll(
    channel: Channel,
    role: Role,
    token: String,
    csr: Vec<u8>,
    wished_id: Option<&str>,
) -> Result<EnrollResponse, Refused> {
    let request = EnrollRequest {
        token,
        csr,
        wished_id: wished_id.unwrap_or_default().to_owned(),
        role: role.name().to_owned(),
        ..EnrollRequest::default()
    };
    Ok(EnrollServiceClient::new(channel).enroll(request).await?.into_inner())
}

/// The next certificate for the one `channel` shows; `csr` is PKCS#10, DER, of a new key.
pub async fn renew(channel: Channel, csr: Vec<u8>) -> Result<EnrollResponse, Refused> {
    Ok(EnrollServiceClient::new(channel).renew(RenewRequest { csr }).await?.into_inner())
}
