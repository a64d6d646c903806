//! The lab as an operator: the admin service over mTLS, at whichever coordinator answers.

use anyhow::{Context, bail};
use netguard_proto::{
    COORDINATOR_SERVER_NAME, MAX_MESSAGE_BYTES, v1, v1::admin_service_client::AdminServiceClient,
};
use std::{
    future::Future,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};
use tonic::{
    Code, Response, Status,
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity},
};

/// One call at one coordinator: long enough for a commit, short enough to try another.
const CALL_TIMEOUT: Duration = Duration::from_secs(3);
const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);
/// All tries together.
const DEADLINE: Duration = Duration::from_secs(15);
/// Between two tries, so that a cluster in an election is not hammered.
const RETRY_INTERVAL: Duration = Duration::from_millis(5);

type Client = AdminServiceClient<Channel>;

/// An owner's connection to the cluster.
#[derive(Debug, Clone)]
pub struct Control {
    clients: Vec<Client>,
    preferred: Arc<AtomicUsize>,
}

impl Control {
    /// An owner with the identity in `directory` (key.pem, cert.pem, ca.pem), at these agents' listeners.
    ///
    /// Connections are made when first used, and again when lost.
    pub fn new(directory: &Path, addresses: &[String]) -> anyhow::Result<Self> {
        let read = |name: &str| {
            let path = directory.join(name);
            std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))
        };
        let tls = ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(read("ca.pem")?))
            .identity(Identity::from_pem(read("cert.pem")?, read("key.pem")?))
            .domain_name(COORDINATOR_SERVER_NAME);
        let clients = addresses
            .iter()
            .map(|address| {
                let channel = Endpoint::from_shared(format!("https://{address}"))?
                    .tls_config(tls.clone())?
                    .connect_timeout(CONNECT_TIMEOUT)
                    .tcp_nodelay(true)
                    .connect_lazy();
                Ok(AdminServiceClient::new(channel).max_decoding_message_size(MAX_MESSAGE_BYTES))
            })
            .collect::<anyhow::Result<_>>()?;
        Ok(Self { clients, preferred: Arc::default() })
    }

    /// Calls one coordinator after the other until one answers. A refusal is an answer.
    pub async fn call<T, F>(&self, what: &str, call: impl Fn(Client) -> F) -> anyhow::Result<T>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let preferred = self.preferred.load(Ordering::Relaxed);
            let client = self.clients.get(preferred % self.clients.len()).context("no coordinator named")?;
            let error = match tokio::time::timeout(CALL_TIMEOUT, call(client.clone())).await {
                Ok(Ok(response)) => return Ok(response.into_inner()),
                Ok(Err(status)) if is_refusal(status.code()) => bail!("{what}: {}", status.message()),
                Ok(Err(status)) => format!("{:?}: {}", status.code(), status.message()),
                Err(_) => format!("no answer in {CALL_TIMEOUT:?}"),
            };
            if Instant::now() >= deadline {
                bail!("{what}: no coordinator answers ({error})");
            }
            self.preferred.store(preferred.wrapping_add(1), Ordering::Relaxed);
            tokio::time::sleep(RETRY_INTERVAL).await;
        }
    }

    pub async fn status(&self) -> anyhow::Result<v1::Status> {
        self.call("status", |mut client| async move { client.get_status(v1::GetStatusRequest {}).await })
            .await
    }

    /// A join token for one agent of this role and name.
    pub async fn token(&self, role: &str, name: &str) -> anyhow::Result<String> {
        let request = v1::CreateTokenRequest { role: role.into(), name: name.into(), ttl_seconds: 600 };
        let made = self
            .call("token", |mut client| {
                let request = request.clone();
                async move { client.create_token(request).await }
            })
            .await?;
        Ok(made.token)
    }

    pub async fn add_coordinator(
        &self,
        request: v1::AddCoordinatorRequest,
    ) -> anyhow::Result<v1::WriteResponse> {
        self.call("add coordinator", |mut client| {
            let request = request.clone();
            async move { client.add_coordinator(request).await }
        })
        .await
    }

    /// What the cluster knows of an address, a service or a decision.
    pub async fn explain(&self, what: &str) -> anyhow::Result<v1::Explanation> {
        let request = v1::ExplainRequest { what: what.into() };
        self.call("explain", |mut client| {
            let request = request.clone();
            async move { client.explain(request).await }
        })
        .await
    }

    /// Every decision, simulated ones included, read so that nothing acknowledged is missing.
    pub async fn decisions(&self) -> anyhow::Result<Vec<v1::Decision>> {
        let mut decisions = Vec::new();
        let mut page = String::new();
        loop {
            let request = v1::ListDecisionsRequest {
                limit: 10_000,
                page: page.clone(),
                linearizable: true,
                ..v1::ListDecisionsRequest::default()
            };
            let listed = self
                .call("list decisions", |mut client| {
                    let request = request.clone();
                    async move { client.list_decisions(request).await }
                })
                .await?;
            decisions.extend(listed.decisions);
            if listed.next_page.is_empty() {
                return Ok(decisions);
            }
            page = listed.next_page;
        }
    }

    pub async fn block(&self, request: &v1::BlockRequest) -> anyhow::Result<v1::WriteResponse> {
        self.call("block", |mut client| {
            let request = request.clone();
            async move { client.block(request).await }
        })
        .await
    }

    pub async fn unblock(&self, what: &str) -> anyhow::Result<v1::WriteResponse> {
        let request =
            v1::UnblockRequest { what: what.into(), reason: "lab".into(), request_id: request_id() };
        self.call("unblock", |mut client| {
            let request = request.clone();
            async move { client.unblock(request).await }
        })
        .await
    }

    /// Changes the cluster's policy.
    pub async fn change_policy(
        &self,
        change: impl FnOnce(&mut netguard_core::policy::Policy),
    ) -> anyhow::Result<()> {
        let current = self
            .call("policy show", |mut client| async move {
                client.get_policy(v1::GetPolicyRequest { version: 0 }).await
            })
            .await?;
        let mut policy =
            serde_norway::from_str(&current.yaml).context("the cluster's policy does not read")?;
        change(&mut policy);
        let request = v1::ApplyPolicyRequest {
            yaml: serde_norway::to_string(&policy)?,
            base_version: current.version,
            dry_run: false,
        };
        self.call("policy apply", |mut client| {
            let request = request.clone();
            async move { client.apply_policy(request).await }
        })
        .await?;
        Ok(())
    }
}

/// Random, so that a call tried at two coordinators acts once.
#[must_use]
pub fn request_id() -> Vec<u8> {
    uuid::Uuid::new_v4().as_bytes().to_vec()
}

/// Whether another coordinator would say the same.
fn is_refusal(code: Code) -> bool {
    matches!(
        code,
        Code::InvalidArgument
            | Code::NotFound
            | Code::AlreadyExists
            | Code::PermissionDenied
            | Code::FailedPrecondition
            | Code::Unimplemented
            | Code::OutOfRange
    )
}
