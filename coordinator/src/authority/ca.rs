use super::files::{FileError, read_private, read_public, write_private, write_public};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    SerialNumber, SubjectPublicKeyInfo,
};
use sha2::{Digest, Sha256};
use std::{fmt, path::Path, time::Duration};
use time::OffsetDateTime;

/// Life of a CA certificate. Long, because every agent pins it; the leaves live hours.
const CA_LIFETIME: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
/// How far a clock may be behind ours and still take a fresh certificate.
const CLOCK_SKEW: Duration = Duration::from_secs(5 * 60);

/// One certificate authority: ECDSA P-256, ten years, no intermediates below it.
pub struct CertificateAuthority {
    issuer: Issuer<'static, KeyPair>,
    certificate_pem: String,
    spki_sha256: [u8; 32],
    not_after: OffsetDateTime,
}

impl fmt::Debug for CertificateAuthority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CertificateAuthority").field("not_after", &self.not_after).finish_non_exhaustive()
    }
}

/// A certificate just signed.
#[derive(Debug, Clone)]
pub struct Issued {
    pub pem: String,
    pub not_after: OffsetDateTime,
}

impl CertificateAuthority {
    /// Errors: when the system gives no random numbers.
    pub fn create(name: &str) -> Result<Self, AuthorityError> {
        let key = KeyPair::generate()?;
        let now = OffsetDateTime::now_utc();
        let mut parameters = CertificateParams::default();
        parameters.distinguished_name = common_name(name);
        parameters.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        parameters.serial_number = Some(random_serial()?);
        parameters.not_before = now - CLOCK_SKEW;
        parameters.not_after = now + CA_LIFETIME;
        let certificate_pem = parameters.self_signed(&key)?.pem();
        Self::from_pem(&certificate_pem, &key.serialize_pem())
    }

    /// Errors: a certificate or key that is no CA's, or that do not belong together.
    pub fn from_pem(certificate_pem: &str, key_pem: &str) -> Result<Self, AuthorityError> {
        let key = KeyPair::from_pem(key_pem)?;
        let (_, pem) = x509_parser::pem::parse_x509_pem(certificate_pem.as_bytes())
            .map_err(|_| AuthorityError::Broken { what: "the CA certificate is not PEM".to_owned() })?;
        let certificate = pem.parse_x509().map_err(|_| AuthorityError::Broken {
            what: "the CA certificate is not an X.509 certificate".to_owned(),
        })?;
        if !certificate.is_ca() {
            return Err(AuthorityError::Broken { what: "the certificate is no CA's".to_owned() });
        }
        if certificate.public_key().subject_public_key.data.as_ref() != key.public_key_raw() {
            return Err(AuthorityError::Broken {
                what: "the CA's key and certificate do not belong together".to_owned(),
            });
        }
        let spki_sha256 = Sha256::digest(certificate.public_key().raw).into();
        let not_after = certificate.validity().not_after.to_datetime();
        Ok(Self {
            issuer: Issuer::from_ca_cert_pem(certificate_pem, key)?,
            certificate_pem: certificate_pem.to_owned(),
            spki_sha256,
            not_after,
        })
    }

    pub(super) fn load(dir: &Path, name: &str) -> Result<Self, AuthorityError> {
        let key_pem = read_private(&dir.join(format!("{name}.key.pem")))?;
        let certificate_pem = read_public(&dir.join(format!("{name}.cert.pem")))?;
        Self::from_pem(&certificate_pem, &key_pem)
    }

    pub(super) fn store(&self, dir: &Path, name: &str) -> Result<(), AuthorityError> {
        write_private(&dir.join(format!("{name}.key.pem")), self.key_pem().as_bytes())?;
        write_public(&dir.join(format!("{name}.cert.pem")), self.certificate_pem.as_bytes())?;
        Ok(())
    }

    #[must_use]
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// The private key: only for the file in `<data_dir>/ca/` and for a further coordinator that spent its token.
    #[must_use]
    pub fn key_pem(&self) -> String {
        self.issuer.key().serialize_pem()
    }

    /// SHA-256 of the CA's public key (SubjectPublicKeyInfo, DER): what join tokens pin.
    #[must_use]
    pub fn spki_sha256(&self) -> [u8; 32] {
        self.spki_sha256
    }

    /// Signs `parameters` for `public_key`, with a random serial, valid from five minutes ago for `lifetime`, though
    /// never longer than the CA itself.
    pub(super) fn sign(
        &self,
        mut parameters: CertificateParams,
        public_key: &SubjectPublicKeyInfo,
        now: OffsetDateTime,
        lifetime: Duration,
    ) -> Result<Issued, AuthorityError> {
        if now >= self.not_after {
            return Err(AuthorityError::Expired { at: self.not_after });
        }
        parameters.serial_number = Some(random_serial()?);
        parameters.is_ca = IsCa::ExplicitNoCa;
        parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        parameters.use_authority_key_identifier_extension = true;
        parameters.not_before = now - CLOCK_SKEW;
        parameters.not_after = (now + lifetime).min(self.not_after);
        let certificate = parameters.signed_by(public_key, &self.issuer)?;
        Ok(Issued { pem: certificate.pem(), not_after: parameters.not_after })
    }
}

pub(super) fn common_name(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}

/// 128 random bits, the top one clear so that the DER integer stays positive.
fn random_serial() -> Result<SerialNumber, AuthorityError> {
    use ring::rand::SecureRandom;
    let mut bytes = [0u8; 16];
    ring::rand::SystemRandom::new().fill(&mut bytes).map_err(|_| AuthorityError::Random)?;
    bytes[0] &= 0x7f;
    bytes[15] |= 1;
    Ok(SerialNumber::from_slice(&bytes))
}

/// Why an authority cannot do its work.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error("the certificate authority is broken: {what}")]
    Broken { what: String },
    #[error(transparent)]
    Request(#[from] super::CsrError),
    #[error("the certificate authority could not sign: {0}")]
    Signing(#[from] rcgen::Error),
    #[error("the certificate authority expired at {at}: a new one has to be made")]
    Expired { at: OffsetDateTime },
    #[error("the system gave no random numbers")]
    Random,
}
