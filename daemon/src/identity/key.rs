//! Keys of our own: made here (P-256), asked about, never printed.

use super::{IdentityError, certificates};
use rcgen::PublicKeyData;
use rustls_pki_types::{CertificateDer, UnixTime};
use std::{fmt, time::Duration};
use x509_parser::prelude::{FromDer, X509Certificate};

/// A fresh private key and the request to certify it.
pub struct NewKey {
    pub key_pem: String,
    /// PKCS#10. It names nobody: the server takes only its public key.
    pub csr_der: Vec<u8>,
}

impl fmt::Debug for NewKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewKey").finish_non_exhaustive()
    }
}

/// Makes an ECDSA P-256 key and its certificate request.
pub fn new_key() -> Result<NewKey, IdentityError> {
    let failed = |error: rcgen::Error| IdentityError::Malformed { what: "a new key", why: error.to_string() };
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).map_err(failed)?;
    let mut params = rcgen::CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    let request = params.serialize_request(&key).map_err(failed)?;
    Ok(NewKey { key_pem: key.serialize_pem(), csr_der: request.der().to_vec() })
}

/// The public key of a private one, as SubjectPublicKeyInfo.
pub(super) fn public_key_of(key_pem: &str) -> Result<Vec<u8>, IdentityError> {
    // rcgen's error could quote the input, so it is not passed on.
    let key = rcgen::KeyPair::from_pem(key_pem).map_err(|_| IdentityError::Malformed {
        what: "the private key",
        why: "it is not a PKCS#8 PEM key".to_owned(),
    })?;
    Ok(key.subject_public_key_info())
}

/// SHA-256 of the SubjectPublicKeyInfo of the first certificate in `ca_pem`.
pub fn ca_spki_sha256(ca_pem: &str) -> Result<[u8; 32], IdentityError> {
    let all = certificates("the CA certificate", ca_pem)?;
    all.first().and_then(|ca| spki_sha256(ca)).ok_or_else(|| IdentityError::Malformed {
        what: "the CA certificate",
        why: "not an X.509 certificate".to_owned(),
    })
}

/// SHA-256 of a certificate's SubjectPublicKeyInfo.
pub(super) fn spki_sha256(der: &[u8]) -> Option<[u8; 32]> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let digest = ring::digest::digest(&ring::digest::SHA256, certificate.public_key().raw);
    digest.as_ref().try_into().ok()
}

/// Whether the chain's leaf leads to one of `cas`, at a time when it is valid.
pub(super) fn issued_by_any(
    chain: &[CertificateDer<'_>],
    cas: &[CertificateDer<'_>],
) -> Result<bool, IdentityError> {
    let malformed = |what, error: webpki::Error| IdentityError::Malformed { what, why: format!("{error:?}") };
    let anchors = cas
        .iter()
        .map(webpki::anchor_from_trusted_cert)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| malformed("the CA certificate", error))?;
    let Some((leaf, intermediates)) = chain.split_first() else { return Ok(false) };
    let at =
        X509Certificate::from_der(leaf).map_or(0, |(_, parsed)| parsed.validity().not_before.timestamp());
    let at = UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(at).unwrap_or(0)));
    let leaf = webpki::EndEntityCert::try_from(leaf).map_err(|error| malformed("the certificate", error))?;
    Ok([webpki::KeyUsage::client_auth(), webpki::KeyUsage::server_auth()].into_iter().any(|usage| {
        leaf.verify_for_usage(
            crate::crypto::provider().signature_verification_algorithms.all,
            &anchors,
            intermediates,
            at,
            usage,
            None,
            None,
        )
        .is_ok()
    }))
}
