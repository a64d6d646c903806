use super::{Admin, text, write::Writer};
use crate::agents::ClusterAgents;
use netguard_core::{
    identity::{Role, is_name},
    ledger::{Command, Ledger, Outcome},
};
use netguard_proto::{
    convert,
    v1::{Agent, ListAgentsResponse, RevokeAgentRequest, WriteResponse},
};
use tonic::Status;

impl Admin {
    pub(super) async fn fleet(&self, role: &str) -> Result<ListAgentsResponse, Status> {
        let roles: &[Role] = match role {
            "" => &[Role::Sensor, Role::Responder],
            "sensor" => &[Role::Sensor],
            "responder" => &[Role::Responder],
            other => {
                return Err(Status::invalid_argument(format!(
                    "`{}` is no role of agents: sensor or responder, or none for both",
                    text::echo(other)
                )));
            }
        };
        let live = self.shared.flow.agents().gather(&self.shared.consensus).await;
        let ledger = self.shared.consensus.ledger();
        Ok(ListAgentsResponse { agents: merge(&ledger, live, roles), revision: ledger.revision() })
    }

    pub(super) async fn revoke(
        &self,
        writer: Writer,
        request: RevokeAgentRequest,
    ) -> Result<WriteResponse, Status> {
        let role: Role = request
            .role
            .parse()
            .map_err(|error| Status::invalid_argument(format!("`{}`: {error}", text::echo(&request.role))))?;
        if !is_name(&request.id) {
            return Err(Status::invalid_argument(format!("`{}` is no agent's id", text::echo(&request.id))));
        }
        let own = &writer.caller.spiffe;
        if (own.role, &own.id) == (role, &request.id) {
            return Err(Status::failed_precondition(
                "that is you: another owner has to revoke you, or the cluster may be left without any",
            ));
        }
        if role == Role::Coordinator && self.is_member(&request.id) {
            return Err(Status::failed_precondition(format!(
                "coordinator {0} is a member: take it out with `netguard-admin cluster remove {0}`, which revokes it",
                request.id
            )));
        }
        let reason = convert::text("reason", request.reason)?;
        let named = format!("{role}/{}", request.id);
        writer
            .answer(Command::AgentRevoke { role, agent: request.id, reason }, |outcome| match outcome {
                Outcome::Unchanged => format!("{named} was revoked already"),
                _ => format!("{named} is revoked; its streams end within 5 s"),
            })
            .await
    }

    fn is_member(&self, id: &str) -> bool {
        let cluster = self.shared.consensus.cluster();
        let view = cluster.borrow();
        view.voters.iter().chain(&view.learners).any(|member| member.to_string() == id)
    }
}

/// Everybody in the registry, with what is known of the connected ones. Whoever is not in the registry is not shown:
/// it was revoked and enrolled anew under another name, or belongs to an earlier life of the cluster.
fn merge(ledger: &Ledger, mut live: ClusterAgents, roles: &[Role]) -> Vec<Agent> {
    ledger
        .agents()
        .filter(|row| roles.contains(&row.role))
        .map(|row| {
            let known = live.agents.remove(&(row.role.name().to_owned(), row.id.clone())).unwrap_or_default();
            Agent {
                id: row.id.clone(),
                role: row.role.name().to_owned(),
                enrolled_at: row.enrolled_at.as_micros(),
                revoked: row.revoked.is_some(),
                certificate_expires_at: row.certificate_expires_at.as_micros(),
                ..known
            }
        })
        .collect()
}
