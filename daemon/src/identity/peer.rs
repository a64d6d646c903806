//! What a certificate must look like before its holder is anybody to us, beyond what the chain check proves.

use super::{SpiffeParts, certificates};
use std::time::{Duration, SystemTime};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

/// Longest identity URI taken, in bytes: three names of 63 and the rest.
const MAX_URI_LEN: usize = 255;

/// A certificate that names exactly one identity. That its chain and dates hold is the TLS layer's to prove.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerCert {
    pub uri: String,
    pub spiffe: SpiffeParts,
    pub not_before: SystemTime,
    pub not_after: SystemTime,
    /// Hexadecimal.
    pub serial: String,
    /// SHA-256 of the whole certificate: tells a renewed one from an old one.
    pub fingerprint: [u8; 32],
    /// SubjectPublicKeyInfo, DER.
    pub public_key: Vec<u8>,
}

impl PeerCert {
    #[must_use]
    pub fn expired(&self, now: SystemTime) -> bool {
        now >= self.not_after
    }
}

/// Which rule a certificate breaks. For our log: the other side learns only that it was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PeerCertError {
    #[error("not an X.509 certificate")]
    NotACertificate,
    #[error("a CA certificate cannot be an identity")]
    IsCa,
    #[error("no extended key usage: it must be for clientAuth or serverAuth")]
    NoKeyUsage,
    #[error("its extended key usage says \"any\" or neither clientAuth nor serverAuth")]
    WrongKeyUsage,
    #[error("no URI in it that names an identity")]
    NoUri,
    #[error("more than one URI in it")]
    SeveralUris,
    #[error("the URI is not of the form spiffe://<cluster>/<role>/<id>")]
    NotSpiffe,
    #[error("a wildcard name in it")]
    Wildcard,
    #[error("a subject alternative name of a kind we do not issue")]
    StrangeName,
    #[error("its dates cannot be read")]
    BadDates,
}

/// Reads the one identity out of a DER certificate.
pub fn peer_identity_from_cert(der: &[u8]) -> Result<PeerCert, PeerCertError> {
    let (rest, certificate) = X509Certificate::from_der(der).map_err(|_| PeerCertError::NotACertificate)?;
    if !rest.is_empty() {
        return Err(PeerCertError::NotACertificate);
    }
    // An extension that stands twice is an error in x509-parser; which of the two would count?
    if certificate
        .basic_constraints()
        .map_err(|_| PeerCertError::NotACertificate)?
        .is_some_and(|it| it.value.ca)
    {
        return Err(PeerCertError::IsCa);
    }
    let usage = certificate
        .extended_key_usage()
        .map_err(|_| PeerCertError::NotACertificate)?
        .ok_or(PeerCertError::NoKeyUsage)?
        .value;
    if usage.any || !(usage.client_auth || usage.server_auth) {
        return Err(PeerCertError::WrongKeyUsage);
    }
    let names = certificate
        .subject_alternative_name()
        .map_err(|_| PeerCertError::NotACertificate)?
        .ok_or(PeerCertError::NoUri)?
        .value;
    let mut uri = None;
    for name in &names.general_names {
        match name {
            GeneralName::URI(_) if uri.is_some() => return Err(PeerCertError::SeveralUris),
            GeneralName::URI(text) => uri = Some(*text),
            GeneralName::DNSName(name) if name.contains('*') => return Err(PeerCertError::Wildcard),
            GeneralName::DNSName(_) | GeneralName::IPAddress(_) => {}
            _ => return Err(PeerCertError::StrangeName),
        }
    }
    let uri = uri.ok_or(PeerCertError::NoUri)?;
    if uri.contains('*') {
        return Err(PeerCertError::Wildcard);
    }
    let printable = uri.len() <= MAX_URI_LEN && uri.bytes().all(|byte| byte.is_ascii_graphic());
    let spiffe = SpiffeParts::parse(uri).filter(|_| printable).ok_or(PeerCertError::NotSpiffe)?;
    let validity = certificate.validity();
    let digest = ring::digest::digest(&ring::digest::SHA256, der);
    Ok(PeerCert {
        uri: uri.to_owned(),
        spiffe,
        not_before: moment(validity.not_before.timestamp())?,
        not_after: moment(validity.not_after.timestamp())?,
        serial: certificate.raw_serial().iter().map(|byte| format!("{byte:02x}")).collect(),
        fingerprint: digest.as_ref().try_into().map_err(|_| PeerCertError::NotACertificate)?,
        public_key: certificate.public_key().raw.to_vec(),
    })
}

/// The same for the first certificate of a PEM text.
pub fn peer_identity_from_pem(pem: &str) -> Result<PeerCert, PeerCertError> {
    let all = certificates("the certificate", pem).map_err(|_| PeerCertError::NotACertificate)?;
    all.first().map_or(Err(PeerCertError::NotACertificate), |leaf| peer_identity_from_cert(leaf))
}

fn moment(seconds: i64) -> Result<SystemTime, PeerCertError> {
    let seconds = u64::try_from(seconds).map_err(|_| PeerCertError::BadDates)?;
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds)).ok_or(PeerCertError::BadDates)
}
