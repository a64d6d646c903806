use rcgen::SubjectPublicKeyInfo;
use x509_parser::{certification_request::X509CertificationRequest, prelude::FromDer};

/// Largest signing request taken, in bytes: a P-384 request without extensions has about 300.
pub const MAX_CSR_BYTES: usize = 16 << 10;

/// Public keys taken, by the DER of their algorithm: id-ecPublicKey with prime256v1 or secp384r1 (RFC 5480), Ed25519
/// (RFC 8410).
const KEY_ALGORITHMS: [&rcgen::SignatureAlgorithm; 3] =
    [&rcgen::PKCS_ECDSA_P256_SHA256, &rcgen::PKCS_ECDSA_P384_SHA384, &rcgen::PKCS_ED25519];

/// The public key of a PKCS#10 request whose signature proves that the sender holds its private key. Names and
/// extensions in it are not even looked at.
///
/// Errors: [`CsrError`] says what is wrong with it.
pub fn public_key_of(csr_der: &[u8]) -> Result<SubjectPublicKeyInfo, CsrError> {
    if csr_der.len() > MAX_CSR_BYTES {
        return Err(CsrError::TooLong);
    }
    let (rest, request) = X509CertificationRequest::from_der(csr_der).map_err(|_| CsrError::Malformed)?;
    if !rest.is_empty() {
        return Err(CsrError::Malformed);
    }
    let public_key = SubjectPublicKeyInfo::from_der(request.certification_request_info.subject_pki.raw)
        .map_err(|_| CsrError::KeyType)?;
    if !KEY_ALGORITHMS.contains(&rcgen::PublicKeyData::algorithm(&public_key)) {
        return Err(CsrError::KeyType);
    }
    request.verify_signature().map_err(|_| CsrError::Signature)?;
    Ok(public_key)
}

/// Why a signing request is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CsrError {
    #[error("the signing request has more than {MAX_CSR_BYTES} bytes")]
    TooLong,
    #[error("the signing request is not PKCS#10 in DER")]
    Malformed,
    #[error("the key must be ECDSA P-256, ECDSA P-384 or Ed25519")]
    KeyType,
    #[error("the signing request is not signed by its own key")]
    Signature,
}
