//! Agents that share this process: enrolled in the registry like any other, by commands instead of calls.

use crate::{authority::Authorities, enroll::timestamp, node::Node, raft::Consensus, setup};
use anyhow::Context;
use netguard_core::{
    identity::{Role, SpiffeId},
    ledger::{Actor, Applied, Command, Outcome, RequestId, TokenId},
    trace::TraceParent,
};
use netguard_daemon::identity::{Identity, JoinToken};
use time::OffsetDateTime;

/// Life of the token that is made and spent in one breath.
const TOKEN_TTL_SECONDS: u64 = 60;

pub(crate) async fn identity(
    consensus: &Consensus,
    authorities: &Authorities,
    node: &Node,
    role: Role,
    id: &str,
) -> anyhow::Result<Identity> {
    anyhow::ensure!(
        matches!(role, Role::Sensor | Role::Responder),
        "only sensors and responders share a coordinator's process"
    );
    let identity = setup::client_identity(authorities, &node.cluster, role, id)?;
    let certificate_expires_at = timestamp(OffsetDateTime::from(identity.not_after));
    consensus.linearizable().await?;
    if consensus.ledger().agent(role, id).is_some() {
        let renewed = Command::Renewed { role, agent: id.to_owned(), certificate_expires_at };
        commit(consensus, node, renewed).await?.outcome.context("the registry refused")?;
        return Ok(identity);
    }
    let token =
        JoinToken::generate(authorities.agents.spki_sha256()).context("the system gave no random numbers")?;
    let create = Command::TokenCreate {
        id: TokenId(token.id),
        secret_sha256: token.secret_hash(),
        role,
        name: Some(id.to_owned()),
        ttl_seconds: TOKEN_TTL_SECONDS,
    };
    commit(consensus, node, create).await?.outcome.context("the registry refused")?;
    let enrol = Command::Enrol {
        token: TokenId(token.id),
        secret_sha256: token.secret_hash(),
        agent: id.to_owned(),
        certificate_expires_at,
    };
    let outcome = commit(consensus, node, enrol).await?.outcome.context("the registry refused")?;
    anyhow::ensure!(matches!(outcome, Outcome::Enrolled { .. }), "the registry enrolled nobody");
    Ok(identity)
}

async fn commit(consensus: &Consensus, node: &Node, command: Command) -> anyhow::Result<Applied> {
    let actor = Actor::Identity(SpiffeId {
        cluster: node.cluster.clone(),
        role: Role::Coordinator,
        id: node.node_id.to_string(),
    });
    Ok(consensus.propose(RequestId(rand::random()), actor, TraceParent::default(), command).await?)
}
