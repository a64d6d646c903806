//! Certificates are renewed long before they end, with a new key each time.
//!
//! Invariants: an identity is used only after it is on disk; it never changes its holder; a renewal that fails leaves
//! the old one in use and is tried again.

use crate::{
    backoff::Backoff,
    identity::{Identity, IdentityDir, new_key},
};
use anyhow::Context as _;
use std::{
    future::Future,
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime},
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// What a renewal brings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Renewed {
    /// PEM, leaf first.
    pub cert_chain_pem: String,
    /// The CA bundle, when the answer carries it: so a new CA spreads before the old one goes.
    pub ca_pem: Option<String>,
}

impl From<String> for Renewed {
    fn from(cert_chain_pem: String) -> Self {
        Self { cert_chain_pem, ca_pem: None }
    }
}

/// Shortest pause between two attempts.
const RETRY_FROM: Duration = Duration::from_secs(1);
/// Longest pause between two attempts: an hour-long outage costs a 24 h certificate little.
const RETRY_TO: Duration = Duration::from_secs(60);
/// The clock may jump (suspend, NTP): it is looked at again this often.
const LOOK_AGAIN: Duration = Duration::from_secs(60);
/// Renewal happens within ± this part of the lifetime around its half.
const JITTER: f64 = 0.1;

/// Renews in the background until `stop`. `renew` takes a CSR (PKCS#10, DER) to the coordinator and brings the
/// certificate back. The watch holds the identity in use: clients reconnect and servers reload when it changes.
pub fn start<F, R, Answer>(
    identity: Identity,
    directory: impl Into<PathBuf>,
    stop: CancellationToken,
    renew: F,
) -> watch::Receiver<Arc<Identity>>
where
    F: Fn(Vec<u8>) -> R + Send + Sync + 'static,
    R: Future<Output = anyhow::Result<Answer>> + Send,
    Answer: Into<Renewed>,
{
    let directory = IdentityDir::at(directory);
    let (sender, receiver) = watch::channel(Arc::new(identity));
    tokio::spawn(async move {
        stop.run_until_cancelled(keep_renewed(&sender, &directory, &renew)).await;
    });
    receiver
}

async fn keep_renewed<F, R, Answer>(sender: &watch::Sender<Arc<Identity>>, directory: &IdentityDir, renew: &F)
where
    F: Fn(Vec<u8>) -> R + Send + Sync,
    R: Future<Output = anyhow::Result<Answer>> + Send,
    Answer: Into<Renewed>,
{
    loop {
        let current = sender.borrow().clone();
        let due = due_at(&current, rand::random_range(-JITTER..=JITTER));
        while let Ok(left) = due.duration_since(SystemTime::now()) {
            tokio::time::sleep(left.min(LOOK_AGAIN).max(Duration::from_millis(1))).await;
        }
        let mut backoff = Backoff::between(RETRY_FROM, RETRY_TO);
        loop {
            match once(&current, directory, renew).await {
                Ok(new) => {
                    tracing::info!(identity = %new.spiffe, serial = %new.serial, "certificate renewed");
                    sender.send_replace(Arc::new(new));
                    break;
                }
                Err(error) if current.expired(SystemTime::now()) => {
                    tracing::error!(
                        error = format!("{error:#}"),
                        "the certificate has expired and is not renewed; check this host's clock, else enrol it again with a new token"
                    );
                }
                Err(error) => {
                    tracing::warn!(
                        error = format!("{error:#}"),
                        "the certificate cannot be renewed yet; trying again"
                    );
                }
            }
            backoff.wait().await;
        }
    }
}

/// Half of the lifetime after its start, moved by `jitter` of the lifetime.
fn due_at(identity: &Identity, jitter: f64) -> SystemTime {
    identity.not_before + identity.lifetime().mul_f64((0.5 + jitter).clamp(0.0, 1.0))
}

/// One renewal, from the new key to the disk.
pub async fn once<F, R, Answer>(
    current: &Identity,
    directory: &IdentityDir,
    renew: &F,
) -> anyhow::Result<Identity>
where
    F: Fn(Vec<u8>) -> R,
    R: Future<Output = anyhow::Result<Answer>>,
    Answer: Into<Renewed>,
{
    let key = new_key()?;
    let answer = renew(key.csr_der).await?.into();
    let new = current
        .renewed(&key.key_pem, &answer.cert_chain_pem, answer.ca_pem.as_deref())
        .context("the coordinator's answer was not taken")?;
    let (stored, directory) = (new.clone(), directory.clone());
    tokio::task::spawn_blocking(move || directory.store(&stored))
        .await
        .context("the renewed identity was not stored")?
        .context("the renewed identity was not stored; check the disk")?;
    Ok(new)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{self, Ca};

    fn short(id: &str, seconds: u64) -> rcgen::CertificateParams {
        let mut params = testing::agent(id);
        params.not_before = time::OffsetDateTime::now_utc() - Duration::from_secs(1);
        params.not_after = params.not_before + Duration::from_secs(seconds);
        params
    }

    #[test]
    fn renewal_is_due_around_half_of_the_life() {
        let identity = Ca::new().identity(&short("web-1", 1_000));
        let after = |jitter| due_at(&identity, jitter).duration_since(identity.not_before).unwrap().as_secs();
        assert_eq!([after(-0.1), after(0.0), after(0.1)], [400, 500, 600]);
    }

    #[tokio::test]
    async fn a_short_certificate_is_renewed_with_a_new_key_and_stored() {
        let ca = Arc::new(Ca::new());
        let directory = tempfile::tempdir().unwrap();
        let first = ca.identity(&short("web-1", 4));
        first.store(directory.path()).unwrap();
        let stop = CancellationToken::new();
        let mut watch = start(first.clone(), directory.path(), stop.clone(), move |csr| {
            let ca = ca.clone();
            async move { Ok(ca.certify(&csr, short("web-1", 3_600))) }
        });
        tokio::time::timeout(Duration::from_secs(10), watch.changed()).await.unwrap().unwrap();
        let renewed = watch.borrow().clone();
        assert_ne!(renewed.key_pem, first.key_pem);
        assert!(renewed.not_after > first.not_after);
        assert_eq!(Identity::load(directory.path()).unwrap().serial, renewed.serial);
        stop.cancel();
    }

    #[tokio::test]
    async fn an_answer_for_somebody_else_is_not_taken() {
        let ca = Ca::new();
        let directory = tempfile::tempdir().unwrap();
        let first = ca.agent("web-1");
        first.store(directory.path()).unwrap();
        let store = IdentityDir::at(directory.path());
        let other = async |csr: Vec<u8>| Ok(ca.certify(&csr, testing::agent("web-2")));
        let error = once(&first, &store, &other).await.unwrap_err();
        assert!(format!("{error:#}").contains("web-2"), "{error:#}");
        let foreign = Ca::new();
        let foreign = async |csr: Vec<u8>| Ok(foreign.certify(&csr, testing::agent("web-1")));
        assert!(once(&first, &store, &foreign).await.is_err());
        assert_eq!(Identity::load(directory.path()).unwrap().serial, first.serial);
    }
}
