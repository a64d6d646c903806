//! A certificate authority for tests.

use crate::identity::Identity;
use netguard_proto::COORDINATOR_SERVER_NAME;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, SanType,
};
use std::{sync::Arc, time::Duration};
use time::OffsetDateTime;

#[derive(Clone)]
pub(crate) struct Ca {
    pub(crate) pem: String,
    issuer: Arc<Issuer<'static, KeyPair>>,
}

impl Ca {
    pub(crate) fn new() -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        let pem = params.self_signed(&key).unwrap().pem();
        Self { pem, issuer: Arc::new(Issuer::new(params, key)) }
    }

    /// An owner's identity that has `left` seconds left and is `old` seconds old.
    pub(crate) fn admin(&self, left: u64, old: u64) -> Identity {
        let key = KeyPair::generate().unwrap();
        let cert = Self::params(left, old).signed_by(&key, self.issuer.as_ref()).unwrap().pem();
        Identity::from_pem(cert, key.serialize_pem(), self.pem.clone()).map_err(str::to_owned).unwrap()
    }

    pub(crate) fn certify(&self, csr: &[u8]) -> String {
        let mut request = CertificateSigningRequestParams::from_der(&csr.into()).unwrap();
        request.params = Self::params(28_800, 300);
        request.signed_by(self.issuer.as_ref()).unwrap().pem()
    }

    /// Certificate and key of a coordinator.
    pub(crate) fn server(&self) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![SanType::DnsName(COORDINATOR_SERVER_NAME.try_into().unwrap())];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        (params.signed_by(&key, self.issuer.as_ref()).unwrap().pem(), key.serialize_pem())
    }

    fn params(left: u64, old: u64) -> CertificateParams {
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![SanType::URI("spiffe://test/admin:owner/owner".try_into().unwrap())];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.not_before = OffsetDateTime::now_utc() - Duration::from_secs(old);
        params.not_after = OffsetDateTime::now_utc() + Duration::from_secs(left);
        params
    }
}
