//! A coordinator on free ports, and the clients that talk to it.

use netguard_coordinator::{
    app::{self, Running},
    bouncers::Tls,
    config::{Config, Listen},
    setup::{self, Init},
};
use netguard_core::identity::Role;
use netguard_daemon::{
    client,
    drain::Drain,
    identity::{Identity, JoinToken, NewKey, new_key, pinned_channel},
};
use netguard_proto::{
    COORDINATOR_SERVER_NAME,
    v1::{
        CreateTokenRequest, EnrollRequest, EnrollResponse, admin_service_client::AdminServiceClient,
        enroll_service_client::EnrollServiceClient,
    },
};
use std::{future::Future, net::SocketAddr, path::Path, time::Duration};
use tempfile::TempDir;
use tokio::time::Instant;
use tonic::{Status, transport::Channel};

/// Longest wait for anything that should happen soon.
pub(crate) const SOON: Duration = Duration::from_secs(10);

const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

pub(crate) struct Cluster {
    pub(crate) dir: TempDir,
    pub(crate) running: Running,
    pub(crate) owner: Identity,
    drain: Drain,
    door: Door,
}

/// The bouncers' listener.
#[derive(Clone)]
pub(crate) struct Door {
    pub(crate) listen: SocketAddr,
    pub(crate) tls: Option<Tls>,
}

impl Door {
    pub(crate) fn at(address: &str) -> Self {
        Self { listen: address.parse().unwrap(), tls: None }
    }
}

impl Cluster {
    pub(crate) async fn start() -> Self {
        Self::start_with_door(|_| Door { listen: ANY, tls: None }).await
    }

    /// With a bouncers' listener of its own, whose files may lie in the given directory.
    pub(crate) async fn start_with_door(door: impl FnOnce(&Path) -> Door) -> Self {
        netguard_daemon::crypto::install();
        let dir = tempfile::tempdir().unwrap();
        let init = Init {
            cluster: "prod".into(),
            data_dir: dir.path().join("data"),
            advertise_agents: "127.0.0.1:0".parse().unwrap(),
            advertise_peers: "127.0.0.1:0".parse().unwrap(),
            admin_dir: dir.path().join("owner"),
            admin_name: "owner".into(),
        };
        let owner = setup::init(&init).unwrap();
        let door = door(dir.path());
        Self::run(dir, owner, door).await
    }

    async fn run(dir: TempDir, owner: Identity, door: Door) -> Self {
        let drain = Drain::new();
        let running = run_with_door(&dir.path().join("data"), drain.clone(), door.clone()).await;
        tokio::time::timeout(SOON, running.readiness.ready()).await.expect("no leader");
        Self { dir, running, owner, drain, door }
    }

    /// Stops it as SIGTERM does, and starts it again on the same files.
    pub(crate) async fn restart(self) -> Self {
        let Self { dir, running, owner, drain, door } = self;
        drain.start();
        running.finished().await.unwrap();
        Self::run(dir, owner, door).await
    }

    /// Stops it for good, as SIGTERM does; its files stay.
    pub(crate) async fn stop(self) -> TempDir {
        self.drain.start();
        self.running.finished().await.unwrap();
        self.dir
    }

    pub(crate) fn address(&self) -> String {
        self.running.agents.to_string()
    }

    pub(crate) fn data_dir(&self) -> std::path::PathBuf {
        self.dir.path().join("data")
    }

    pub(crate) async fn connect(&self, identity: &Identity) -> Channel {
        client::connect(identity, &self.address(), COORDINATOR_SERVER_NAME).await.unwrap()
    }

    pub(crate) async fn admin(&self, identity: &Identity) -> AdminServiceClient<Channel> {
        AdminServiceClient::new(self.connect(identity).await)
    }

    pub(crate) async fn owner(&self) -> AdminServiceClient<Channel> {
        self.admin(&self.owner).await
    }

    pub(crate) fn issue_admin(&self, role: Role, name: &str) -> Identity {
        setup::issue_admin(&self.data_dir(), role, name, &self.dir.path().join(name)).unwrap()
    }

    pub(crate) async fn token(&self, role: &str, name: &str, ttl_seconds: u64) -> JoinToken {
        let request = CreateTokenRequest { role: role.into(), name: name.into(), ttl_seconds };
        let made = self.owner().await.create_token(request).await.unwrap().into_inner();
        made.token.parse().unwrap()
    }

    /// Joins as an agent does.
    pub(crate) async fn enrol(&self, role: &str, name: &str) -> Identity {
        let token = self.token(role, name, 0).await;
        let (key, response) = self.try_enrol(&token, "").await.unwrap();
        Identity::from_pem(&response.certificate, &key.key_pem, &response.agents_ca).unwrap()
    }

    pub(crate) async fn try_enrol(
        &self,
        token: &JoinToken,
        wished_id: &str,
    ) -> Result<(NewKey, EnrollResponse), Status> {
        let key = new_key().unwrap();
        let request = EnrollRequest {
            token: token.to_string(),
            csr: key.csr_der.clone(),
            wished_id: wished_id.into(),
            ..EnrollRequest::default()
        };
        let response = self.send_enrol(request).await?;
        Ok((key, response))
    }

    pub(crate) async fn send_enrol(&self, request: EnrollRequest) -> Result<EnrollResponse, Status> {
        let pin = self.owner.ca_spki_sha256().unwrap();
        let channel = pinned_channel(&self.address(), pin, COORDINATOR_SERVER_NAME).await.unwrap();
        EnrollServiceClient::new(channel).enroll(request).await.map(tonic::Response::into_inner)
    }
}

/// Runs the node in a data directory on free ports. A node that just stopped in this same process may hold its log for a
/// moment longer.
pub(crate) async fn run_node(data_dir: &Path, drain: Drain) -> Running {
    run_with_door(data_dir, drain, Door { listen: ANY, tls: None }).await
}

async fn run_with_door(data_dir: &Path, drain: Drain, door: Door) -> Running {
    let config = Config {
        data_dir: data_dir.to_owned(),
        listen: Listen { agents: ANY, peers: ANY, health: ANY },
        bouncer_listen: Some(door.listen),
        bouncer_tls: door.tls,
        ..Config::default()
    };
    let deadline = Instant::now() + SOON;
    loop {
        match app::run(config.clone(), drain.clone()).await {
            Ok(running) => return running,
            Err(error) if format!("{error:#}").contains("lock") && Instant::now() < deadline => {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            Err(error) => panic!("{error:#}"),
        }
    }
}

/// Waits for a condition with a deadline.
pub(crate) async fn eventually<F, R>(what: &str, mut holds: F)
where
    F: FnMut() -> R,
    R: Future<Output = bool>,
{
    let deadline = Instant::now() + SOON;
    while !holds().await {
        assert!(Instant::now() < deadline, "not within {SOON:?}: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The mode bits of everything that looks like a key below a directory.
pub(crate) fn key_modes(dir: &Path) -> Vec<u32> {
    use std::os::unix::fs::PermissionsExt;
    let mut modes = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap().map(Result::unwrap) {
        if entry.path().is_dir() {
            modes.extend(key_modes(&entry.path()));
        } else if entry.file_name().to_string_lossy().contains("key") {
            modes.push(entry.metadata().unwrap().permissions().mode() & 0o777);
        }
    }
    modes
}
