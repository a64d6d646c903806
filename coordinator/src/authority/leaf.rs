use super::{Authorities, AuthorityError, CertificateAuthority, Issued, ca::common_name};
use netguard_core::identity::{Role, SpiffeId};
use netguard_proto::{COORDINATOR_SERVER_NAME, PEER_SERVER_NAME};
use rcgen::{
    CertificateParams, ExtendedKeyUsagePurpose, KeyPair, PublicKeyData, SanType, SubjectPublicKeyInfo,
    string::Ia5String,
};
use std::time::Duration;
use time::OffsetDateTime;

/// Life of a sensor's or responder's certificate; it is renewed at half of it.
pub const AGENT_LIFETIME: Duration = Duration::from_secs(24 * 3600);
/// Life of an admin's certificate: a working day.
pub const ADMIN_LIFETIME: Duration = Duration::from_secs(8 * 3600);
/// Life of a coordinator's certificates.
pub const COORDINATOR_LIFETIME: Duration = Duration::from_secs(7 * 24 * 3600);

/// Life of a bouncer's certificate: such programs read it at their start and renew nothing. Deleting the bouncer makes it
/// worthless at once.
pub(crate) const BOUNCER_LIFETIME: Duration = Duration::from_secs(365 * 24 * 3600);

/// How long a certificate of `role` lives.
#[must_use]
pub const fn lifetime_of(role: Role) -> Duration {
    match role {
        Role::Sensor | Role::Responder => AGENT_LIFETIME,
        Role::AdminViewer | Role::AdminOperator | Role::AdminOwner => ADMIN_LIFETIME,
        Role::Coordinator => COORDINATOR_LIFETIME,
        Role::Bouncer => BOUNCER_LIFETIME,
    }
}

impl CertificateAuthority {
    /// A client certificate: one SPIFFE URI, no DNS name, client authentication only, so that no agent can pose as a
    /// server. For sensors, responders, admins and bouncers, by the agents CA.
    ///
    /// Errors: see [`AuthorityError`].
    pub fn issue_client(
        &self,
        identity: &SpiffeId,
        public_key: &SubjectPublicKeyInfo,
        now: OffsetDateTime,
    ) -> Result<Issued, AuthorityError> {
        let mut parameters = named(identity, None)?;
        parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.sign(parameters, public_key, now, lifetime_of(identity.role))
    }

    /// What a coordinator shows on the agents' listener: server authentication only. The chain carries the CA itself,
    /// because an agent that joins knows nothing but that CA's pin.
    ///
    /// Errors: see [`AuthorityError`].
    pub fn issue_agents_server(
        &self,
        identity: &SpiffeId,
        public_key: &SubjectPublicKeyInfo,
        now: OffsetDateTime,
    ) -> Result<Issued, AuthorityError> {
        let mut parameters = named(identity, Some(COORDINATOR_SERVER_NAME))?;
        parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.with_chain(self.sign(parameters, public_key, now, COORDINATOR_LIFETIME)?)
    }

    /// What a coordinator shows other coordinators, as server and as client. By the peers CA.
    ///
    /// Errors: see [`AuthorityError`].
    pub fn issue_peer(
        &self,
        identity: &SpiffeId,
        public_key: &SubjectPublicKeyInfo,
        now: OffsetDateTime,
    ) -> Result<Issued, AuthorityError> {
        let mut parameters = named(identity, Some(PEER_SERVER_NAME))?;
        parameters.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        self.sign(parameters, public_key, now, COORDINATOR_LIFETIME)
    }

    fn with_chain(&self, issued: Issued) -> Result<Issued, AuthorityError> {
        Ok(Issued { pem: format!("{}{}", issued.pem, self.certificate_pem()), ..issued })
    }
}

fn named(identity: &SpiffeId, server_name: Option<&str>) -> Result<CertificateParams, AuthorityError> {
    let mut parameters = CertificateParams::default();
    parameters.distinguished_name = common_name(&identity.id);
    parameters.subject_alt_names = vec![SanType::URI(Ia5String::try_from(identity.to_string())?)];
    if let Some(name) = server_name {
        parameters.subject_alt_names.push(SanType::DnsName(Ia5String::try_from(name)?));
    }
    Ok(parameters)
}

/// A coordinator's own two certificates, with the keys just made for them.
#[derive(Debug)]
pub struct ServerIdentities {
    pub agents: KeyAndCertificate,
    pub peers: KeyAndCertificate,
}

/// A private key and its certificate chain, in PEM.
pub struct KeyAndCertificate {
    pub key_pem: String,
    pub issued: Issued,
}

impl std::fmt::Debug for KeyAndCertificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeyAndCertificate").field("not_after", &self.issued.not_after).finish_non_exhaustive()
    }
}

/// New keys and certificates for the coordinator `node_id`, from the authorities it holds itself.
///
/// Errors: see [`AuthorityError`].
pub fn server_identities(
    authorities: &Authorities,
    cluster: &str,
    node_id: u64,
    now: OffsetDateTime,
) -> Result<ServerIdentities, AuthorityError> {
    let identity = SpiffeId { cluster: cluster.to_owned(), role: Role::Coordinator, id: node_id.to_string() };
    let with_key = |issue: &dyn Fn(&SubjectPublicKeyInfo) -> Result<Issued, AuthorityError>| {
        let key = KeyPair::generate()?;
        let public_key = SubjectPublicKeyInfo::from_der(&key.subject_public_key_info())?;
        Ok::<_, AuthorityError>(KeyAndCertificate {
            key_pem: key.serialize_pem(),
            issued: issue(&public_key)?,
        })
    };
    Ok(ServerIdentities {
        agents: with_key(&|key| authorities.agents.issue_agents_server(&identity, key, now))?,
        peers: with_key(&|key| authorities.peers.issue_peer(&identity, key, now))?,
    })
}
