//! The one crypto provider (ring), and which algorithms our own certificates may use.
//!
//! Invariant: our CAs and keys are ECDSA, so nothing else is ever verified on our listeners: a 16384-bit RSA key costs
//! an attacker nothing and us nothing.

use rustls::{
    SignatureScheme,
    crypto::{CryptoProvider, WebPkiSupportedAlgorithms},
};
use std::sync::{Arc, LazyLock};
use webpki::ring as algorithm;

/// ECDSA P-256 and P-384, and Ed25519; nothing of RSA.
pub(crate) const ALGORITHMS: WebPkiSupportedAlgorithms = WebPkiSupportedAlgorithms {
    all: &[
        algorithm::ECDSA_P256_SHA256,
        algorithm::ECDSA_P256_SHA384,
        algorithm::ECDSA_P384_SHA256,
        algorithm::ECDSA_P384_SHA384,
        algorithm::ED25519,
    ],
    mapping: &[
        (SignatureScheme::ECDSA_NISTP256_SHA256, &[algorithm::ECDSA_P256_SHA256]),
        (SignatureScheme::ECDSA_NISTP384_SHA384, &[algorithm::ECDSA_P384_SHA384]),
        (SignatureScheme::ED25519, &[algorithm::ED25519]),
    ],
};

static PROVIDER: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| {
    Arc::new(CryptoProvider {
        signature_verification_algorithms: ALGORITHMS,
        ..rustls::crypto::ring::default_provider()
    })
});

/// Makes ring the process' provider. First thing in every `main`; harmless when repeated.
pub fn install() {
    // An error means that it is installed already.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// What our own listeners and the enrolment channel use.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    PROVIDER.clone()
}

/// What an operator needs to read of a TLS error: the rule itself where it was one of ours.
pub(crate) fn reason(error: &rustls::Error) -> String {
    match error {
        rustls::Error::InvalidCertificate(rustls::CertificateError::Other(other)) => other.0.to_string(),
        other => other.to_string(),
    }
}

/// The signature part of a certificate verifier: TLS 1.3 alone, and nothing but [`ALGORITHMS`]. Servers' and clients'
/// verifiers are two traits of rustls that ask for the same three methods.
macro_rules! tls13_signatures {
    () => {
        fn verify_tls12_signature(
            &self,
            _: &[u8],
            _: &rustls_pki_types::CertificateDer<'_>,
            _: &rustls::DigitallySignedStruct,
        ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
            Err(rustls::Error::General("TLS 1.2 is not spoken here".to_owned()))
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            certificate: &rustls_pki_types::CertificateDer<'_>,
            signature: &rustls::DigitallySignedStruct,
        ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
            let algorithms = &crate::crypto::ALGORITHMS;
            rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
        }

        fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
            crate::crypto::ALGORITHMS.supported_schemes()
        }
    };
}
pub(crate) use tls13_signatures;
