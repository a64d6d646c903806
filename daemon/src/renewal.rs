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
                        "the certificate has expired and cannot be renewed; check the coordinators and this host's clock"
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
