//! `cluster`: the coordinators.

use super::{status, wire::Written};
use crate::{
    Failure,
    args::ClusterCommand,
    cluster::{Again, Cluster},
    output::{Output, View, table},
};
use netguard_proto::v1::{self, AddCoordinatorRequest, RemoveCoordinatorRequest};
use serde::Serialize;

#[derive(Debug, Clone, Serialize)]
pub(super) struct Coordinator {
    id: u64,
    membership: String,
    leader: bool,
    live: bool,
    matched: u64,
    peer_address: String,
    agent_address: String,
}

impl From<v1::Coordinator> for Coordinator {
    fn from(coordinator: v1::Coordinator) -> Self {
        Self {
            id: coordinator.id,
            membership: coordinator.membership,
            leader: coordinator.leader,
            live: coordinator.live,
            matched: coordinator.matched,
            peer_address: coordinator.peer_address,
            agent_address: coordinator.agent_address,
        }
    }
}

#[derive(Debug, Serialize)]
struct Coordinators {
    coordinators: Vec<Coordinator>,
}

impl View for Coordinators {
    fn text(&self, _: u64) -> String {
        coordinators_table(&self.coordinators)
    }
}

pub(super) fn coordinators_table(coordinators: &[Coordinator]) -> String {
    let rows = coordinators.iter().map(|coordinator| {
        [
            coordinator.id.to_string(),
            if coordinator.leader { "leader" } else { "" }.to_owned(),
            coordinator.membership.clone(),
            if coordinator.live { "yes" } else { "NO" }.to_owned(),
            if coordinator.matched == 0 { String::new() } else { coordinator.matched.to_string() },
            coordinator.peer_address.clone(),
            coordinator.agent_address.clone(),
        ]
    });
    table(["COORDINATOR", "ROLE", "MEMBERSHIP", "LIVE", "LOG", "PEERS", "AGENTS"], rows)
}

pub(super) async fn execute(
    command: ClusterCommand,
    cluster: &mut Cluster,
    output: &mut Output<'_>,
) -> Result<(), Failure> {
    let written = match command {
        ClusterCommand::Status => {
            let coordinators = status::ask(cluster).await?.coordinators;
            return output.show(&Coordinators { coordinators });
        }
        ClusterCommand::Add { id, peer_address, agent_address } => {
            // Adding a member that is one already changes nothing.
            let request = AddCoordinatorRequest { id, peer_address, agent_address };
            cluster
                .call(Again::Safe, async |mut client| client.add_coordinator(request.clone()).await)
                .await?
        }
        ClusterCommand::Remove { id } => {
            let request = RemoveCoordinatorRequest { id };
            cluster.call(Again::Safe, async |mut client| client.remove_coordinator(request).await).await?
        }
    };
    output.show(&Written::from(written))
}
