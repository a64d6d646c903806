use super::{Admin, write::Writer};
use crate::{
    authorise::Caller,
    never_block::{admins_name, owner_name},
    node::HostPort,
    refusal::membership_status,
};
use netguard_core::{
    identity::Role,
    ledger::{Actor, Command, RequestId},
    shard::NodeId,
    trace::TraceParent,
};
use netguard_proto::v1::{AddCoordinatorRequest, WriteResponse};
use tonic::Status;

impl Admin {
    pub(super) async fn add_member(
        &self,
        caller: Caller,
        request: AddCoordinatorRequest,
    ) -> Result<WriteResponse, Status> {
        let consensus = &self.shared.consensus;
        let peers = reachable("the peers' address", &request.peer_address)?;
        let agents = reachable("the agents' address", &request.agent_address)?;
        if consensus
            .ledger()
            .agent(Role::Coordinator, &request.id.to_string())
            .is_some_and(|row| row.revoked.is_some())
        {
            return Err(Status::failed_precondition(format!(
                "coordinator {} is revoked: join that host again, it gets a new id",
                request.id
            )));
        }
        let log_index = consensus
            .add_member(Actor::Identity(caller.spiffe), request.id, peers.to_string(), agents.to_string())
            .await
            .map_err(|error| membership_status(&error))?;
        Ok(self.changed(log_index, format!("coordinator {} is a voter now, at {peers}", request.id)))
    }

    /// Takes a coordinator out for good: its certificate counts no more, and its id is not given again.
    pub(super) async fn remove_member(&self, writer: Writer, id: NodeId) -> Result<WriteResponse, Status> {
        let consensus = &self.shared.consensus;
        if id == self.shared.node.node_id {
            return Err(Status::failed_precondition(format!(
                "coordinator {id} is the one you are asking: ask another to take it out"
            )));
        }
        let actor = Actor::Identity(writer.caller.spiffe.clone());
        let log_index =
            consensus.remove_member(actor.clone(), id).await.map_err(|error| membership_status(&error))?;
        let reason = "removed from the cluster".to_owned();
        let revoke = Command::AgentRevoke { role: Role::Coordinator, agent: id.to_string(), reason };
        writer.commit(revoke).await?;
        // What it computed protects nobody any more.
        for owner in [owner_name(id), admins_name(id)] {
            let forget = Command::NeverBlockSet { owner, entries: Vec::new() };
            let request = RequestId(rand::random());
            let proposed = consensus.propose(request, actor.clone(), TraceParent::default(), forget).await;
            if let Err(error) = proposed {
                tracing::warn!(id, %error, "the never-block entries of a removed coordinator stay for now");
            }
        }
        Ok(self.changed(log_index, format!("coordinator {id} is out, and its certificate is revoked")))
    }

    fn changed(&self, log_index: u64, outcome: String) -> WriteResponse {
        let revision = self.shared.consensus.ledger().revision();
        WriteResponse { revision, log_index, outcome, decisions: Vec::new() }
    }
}

#[allow(clippy::result_large_err, reason = "tonic's own error type")]
fn reachable(what: &str, text: &str) -> Result<HostPort, Status> {
    let bad = |error: &dyn std::fmt::Display| Status::invalid_argument(format!("{what}: {error}"));
    let address: HostPort = text.parse().map_err(|error| bad(&error))?;
    if address.port() == 0 {
        return Err(bad(&crate::node::BadHostPort::Port));
    }
    Ok(address)
}
