//! A certificate authority for tests, which also issues what no honest one would.

use crate::identity::Identity;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, SanType,
};
use std::time::Duration;
use time::OffsetDateTime;

pub(crate) const SERVER_NAME: &str = "coordinator.test.internal";

pub(crate) struct Ca {
    pub(crate) pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Ca {
    pub(crate) fn new() -> Self {
        crate::crypto::install();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.distinguished_name.push(rcgen::DnType::CommonName, "test CA");
        let pem = params.self_signed(&key).unwrap().pem();
        Self { pem, issuer: Issuer::new(params, key) }
    }

    /// Certificate and key, PEM.
    pub(crate) fn issue(&self, params: &CertificateParams) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }

    pub(crate) fn identity(&self, params: &CertificateParams) -> Identity {
        let (cert, key) = self.issue(params);
        Identity::from_pem(&cert, &key, &self.pem).unwrap()
    }

    pub(crate) fn agent(&self, id: &str) -> Identity {
        self.identity(&agent(id))
    }

    pub(crate) fn server(&self) -> Identity {
        self.identity(&server())
    }

    /// What a coordinator does with a CSR: takes the public key and nothing else.
    pub(crate) fn certify(&self, csr_der: &[u8], params: CertificateParams) -> String {
        let mut request = CertificateSigningRequestParams::from_der(&csr_der.into()).unwrap();
        request.params = params;
        request.signed_by(&self.issuer).unwrap().pem()
    }
}

fn leaf(names: Vec<SanType>, usages: Vec<ExtendedKeyUsagePurpose>) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.subject_alt_names = names;
    params.extended_key_usages = usages;
    params.not_before = OffsetDateTime::now_utc() - Duration::from_secs(300);
    params.not_after = OffsetDateTime::now_utc() + Duration::from_secs(86_400);
    params
}

pub(crate) fn uri(text: &str) -> SanType {
    SanType::URI(text.try_into().unwrap())
}

pub(crate) fn dns(text: &str) -> SanType {
    SanType::DnsName(text.try_into().unwrap())
}

pub(crate) fn agent(id: &str) -> CertificateParams {
    leaf(vec![uri(&format!("spiffe://test/sensor/{id}"))], vec![ExtendedKeyUsagePurpose::ClientAuth])
}

pub(crate) fn server() -> CertificateParams {
    leaf(
        vec![uri("spiffe://test/coordinator/1"), dns(SERVER_NAME)],
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth],
    )
}
