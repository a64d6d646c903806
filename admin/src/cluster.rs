//! The coordinators, as one: whichever answers is asked.
//!
//! Invariants: what may act twice is sent again only when it carries an id that prevents that; everything has a limit in
//! time.

use crate::{
    Failure,
    args::Connection,
    failure::{is_unreachable, of_status, root_cause, tls_refusal},
    identity::{self, Identity, RenewalLock},
    output::Output,
};
use netguard_proto::{
    COORDINATOR_SERVER_NAME, MAX_MESSAGE_BYTES,
    v1::{
        RenewRequest, admin_service_client::AdminServiceClient, enroll_service_client::EnrollServiceClient,
    },
};
use std::{
    collections::VecDeque,
    fmt,
    path::Path,
    time::{Duration, SystemTime},
};
use tokio::time::timeout;
use tonic::{
    Response, Status,
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint},
};

/// Longest wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// Longest wait for an answer: a write may wait 10 s for a new leader, then a little more.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);
/// An agent that renews in time has hours left; a person waits no longer than this for it.
const RENEW_TIMEOUT: Duration = Duration::from_secs(4);
/// Expired no longer than this, an identity may still renew itself (and nothing else).
const GRACE: Duration = Duration::from_secs(72 * 3600);

pub(crate) type Client = AdminServiceClient<Channel>;

/// Whether a call may be sent to a second coordinator when the first did not answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Again {
    /// It reads, or does the same when done twice.
    Safe,
    /// It might be done twice.
    Never,
}

pub(crate) struct Cluster {
    /// The first is asked first; one that did not answer goes to the end.
    servers: VecDeque<String>,
    tls: Option<ClientTlsConfig>,
    client: Option<Client>,
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster").field("servers", &self.servers).finish_non_exhaustive()
    }
}

impl Cluster {
    /// Reads the identity and renews it when half of its life is over.
    pub(crate) async fn open(connection: &Connection, output: &mut Output<'_>) -> Result<Self, Failure> {
        let directory = identity::directory(connection.identity.as_deref());
        let identity = Identity::load(&directory)?;
        let servers = connection.server.iter().map(|server| server.trim().to_owned());
        let servers: VecDeque<_> = servers.filter(|server| !server.is_empty()).collect();
        if servers.is_empty() {
            return Err(Failure::usage("no coordinator named: use --server HOST:PORT or NETGUARD_SERVER"));
        }
        for server in &servers {
            endpoint(server, "https")?;
        }
        let mut cluster = Self { servers, tls: Some(tls(&identity)), client: None };
        let now = SystemTime::now();
        if identity.due(now) {
            match cluster.renew(&directory, &identity).await {
                Ok(Some(renewed)) => cluster.tls = Some(tls(&renewed)),
                Ok(None) => {}
                Err(why) if identity.expired(now) => {
                    return Err(Failure::Refused(format!(
                        "the certificate in {} has expired and could not be renewed ({why}); ask an owner for a new one \
                         (netguard-coordinator issue-admin)",
                        directory.display()
                    )));
                }
                Err(why) => output.remark(&format!("the certificate could not be renewed yet: {why}")),
            }
        }
        Ok(cluster)
    }

    /// Without TLS, for tests.
    #[cfg(test)]
    pub(crate) fn plain(servers: &[&str]) -> Self {
        Self { servers: servers.iter().map(|server| (*server).to_owned()).collect(), tls: None, client: None }
    }

    /// `Ok(None)` when another command is renewing right now. The error is for people.
    async fn renew(&self, directory: &Path, identity: &Identity) -> Result<Option<Identity>, String> {
        if SystemTime::now() > identity.not_after + GRACE {
            return Err("it expired more than three days ago".to_owned());
        }
        let lock = RenewalLock::take(directory)
            .map_err(|error| format!("{} cannot be written: {error}", directory.display()))?;
        let Some(_lock) = lock else { return Ok(None) };
        let (key_pem, csr) = identity::new_key().map_err(|error| error.to_string())?;
        let mut last = String::new();
        for server in &self.servers {
            let csr = csr.clone();
            let asked = async {
                let channel = self.connect(server).await.map_err(|failure| failure.to_string())?;
                let answer = EnrollServiceClient::new(channel).renew(RenewRequest { csr }).await;
                answer.map(Response::into_inner).map_err(|status| of_status(server, &status).to_string())
            };
            match timeout(RENEW_TIMEOUT, asked)
                .await
                .unwrap_or_else(|_| Err(format!("{server} did not answer in time")))
            {
                Ok(answer) => {
                    let ca_pem =
                        if answer.agents_ca.is_empty() { identity.ca_pem.clone() } else { answer.agents_ca };
                    let renewed = Identity::from_pem(answer.certificate, key_pem, ca_pem)?;
                    if renewed.uri != identity.uri {
                        return Err(format!("{server} answered with a certificate for {}", renewed.uri));
                    }
                    renewed.store(directory).map_err(|error| format!("it could not be stored: {error}"))?;
                    return Ok(Some(renewed));
                }
                Err(why) => last = why,
            }
        }
        Err(last)
    }

    async fn connect(&self, server: &str) -> Result<Channel, Failure> {
        let mut endpoint = endpoint(server, if self.tls.is_some() { "https" } else { "http" })?;
        if let Some(tls) = &self.tls {
            endpoint = endpoint.tls_config(tls.clone()).map_err(|error| {
                Failure::usage(format!("the identity cannot be used: {}", root_cause(&error)))
            })?;
        }
        // `connect_timeout` is for TCP alone; the handshake counts too.
        match timeout(CONNECT_TIMEOUT, endpoint.connect()).await {
            Ok(Ok(channel)) => Ok(channel),
            Ok(Err(error)) => Err(match tls_refusal(&error) {
                Some(why) => Failure::Refused(format!(
                    "{server} is not a coordinator of the cluster this identity belongs to ({why})"
                )),
                None => Failure::Unreachable(format!("{server}: {}", root_cause(&error))),
            }),
            Err(_) => Err(Failure::Unreachable(format!(
                "{server}: no answer within {} s",
                CONNECT_TIMEOUT.as_secs()
            ))),
        }
    }

    /// Calls the first coordinator that answers.
    pub(crate) async fn call<T>(
        &mut self,
        again: Again,
        call: impl AsyncFn(Client) -> Result<Response<T>, Status>,
    ) -> Result<T, Failure> {
        let mut failures = Vec::new();
        for _ in 0..self.servers.len() {
            let server = self.servers.front().cloned().unwrap_or_default();
            let failure = match self.client().await {
                Err(failure) => failure,
                Ok(client) => {
                    let answer = timeout(ANSWER_TIMEOUT, call(client)).await;
                    let status = match answer {
                        Ok(Ok(response)) => return Ok(response.into_inner()),
                        Ok(Err(status)) => status,
                        Err(_) => Status::deadline_exceeded(format!(
                            "no answer within {} s",
                            ANSWER_TIMEOUT.as_secs()
                        )),
                    };
                    if is_unreachable(&status) && again == Again::Never {
                        return Err(Failure::Unreachable(format!(
                            "{server} did not confirm it ({}); it may or may not be done: look before you try again",
                            status.message()
                        )));
                    }
                    of_status(&server, &status)
                }
            };
            match failure {
                Failure::Unreachable(why) => {
                    failures.push(why);
                    self.client = None;
                    self.servers.rotate_left(1);
                }
                other => return Err(other),
            }
        }
        Err(Failure::Unreachable(format!(
            "no coordinator reached: {}; check that they run and the ports are open",
            failures.join("; ")
        )))
    }

    /// The client in use, connecting first if there is none.
    async fn client(&mut self) -> Result<Client, Failure> {
        if let Some(client) = &self.client {
            return Ok(client.clone());
        }
        let server = self.servers.front().cloned().unwrap_or_default();
        let client = AdminServiceClient::new(self.connect(&server).await?)
            .max_decoding_message_size(MAX_MESSAGE_BYTES);
        self.client = Some(client.clone());
        Ok(client)
    }

    /// The connection broke in the middle of a stream: begin with the next one.
    pub(crate) fn move_on(&mut self) {
        self.client = None;
        self.servers.rotate_left(1);
    }
}

fn tls(identity: &Identity) -> ClientTlsConfig {
    ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(&identity.ca_pem))
        .identity(tonic::transport::Identity::from_pem(&identity.cert_pem, &identity.key_pem))
        .domain_name(COORDINATOR_SERVER_NAME)
}

fn endpoint(server: &str, scheme: &str) -> Result<Endpoint, Failure> {
    let bad = || Failure::usage(format!("--server: `{server}` is not of the form HOST:PORT"));
    let port = server.rsplit_once(':').and_then(|(host, port)| {
        // A bare IPv6 address would lose its last group as a port.
        let host_fits =
            !host.is_empty() && (!host.contains(':') || (host.starts_with('[') && host.ends_with(']')));
        port.parse::<u16>().ok().filter(|port| host_fits && *port != 0)
    });
    if port.is_none() || server.contains(['/', '@', '?', '#']) {
        return Err(bad());
    }
    Ok(Endpoint::from_shared(format!("{scheme}://{server}"))
        .map_err(|_| bad())?
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(Duration::from_secs(5))
        .keep_alive_timeout(Duration::from_secs(5))
        .keep_alive_while_idle(true))
}
