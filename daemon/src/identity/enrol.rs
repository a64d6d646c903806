use super::{Identity, IdentityDir, IdentityError, JoinToken, new_key, pinned_channel};
use anyhow::Context as _;
use std::{
    fs::{self, DirBuilder},
    future::Future,
    os::unix::fs::DirBuilderExt as _,
    path::Path,
    time::Duration,
};
use tonic::transport::Channel;

/// Longest wait for the coordinator's answer: it commits on a majority, also while a leader is being elected.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);

/// What a host asks with: a channel to a server that proved the pinned key, the token, and a CSR for a key made here.
#[derive(Debug)]
pub struct Joining {
    pub channel: Channel,
    pub token: String,
    /// PKCS#10, DER.
    pub csr: Vec<u8>,
}

/// What the cluster answers, PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certified {
    pub cert_chain_pem: String,
    pub ca_pem: String,
}

/// Trades a token for an identity in `directory`. `ask` makes the call; the token reaches only a server whose chain
/// leads to the CA key it pins, and only once it is sure that the identity can be stored.
///
/// Errors: what the operator has to check; the token is spent only if `ask` succeeded.
pub async fn enrol<F, R>(
    server: &str,
    token: &str,
    server_name: &str,
    directory: &Path,
    ask: F,
) -> anyhow::Result<Identity>
where
    F: FnOnce(Joining) -> R,
    R: Future<Output = anyhow::Result<Certified>>,
{
    let store = IdentityDir::at(directory);
    anyhow::ensure!(
        !store.exists(),
        "{} holds an identity already: remove it to enrol this host anew",
        directory.display()
    );
    let token: JoinToken = token.trim().parse()?;
    check_writable(directory).with_context(|| format!("{} cannot be written", directory.display()))?;
    let key = new_key()?;
    let channel = pinned_channel(server, token.ca_spki_sha256, server_name).await?;
    let joining = Joining { channel, token: token.to_string(), csr: key.csr_der };
    let certified = tokio::time::timeout(ANSWER_TIMEOUT, ask(joining))
        .await
        .with_context(|| format!("{server} gave no answer within {} s", ANSWER_TIMEOUT.as_secs()))?
        .with_context(|| format!("{server} did not enrol this host"))?;
    let identity = Identity::from_pem(&certified.cert_chain_pem, &key.key_pem, &certified.ca_pem)
        .context("the coordinator's answer is no identity")?;
    if identity.ca_spki_sha256()? != token.ca_spki_sha256 {
        return Err(IdentityError::NotIssuedByCa).context("the answer names another CA than the token");
    }
    store.store(&identity)?;
    Ok(identity)
}

fn check_writable(directory: &Path) -> std::io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    let probe = directory.join(".writable");
    fs::write(&probe, [])?;
    fs::remove_file(probe)
}
