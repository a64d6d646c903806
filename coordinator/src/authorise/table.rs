use netguard_core::identity::Role::{
    self, AdminOperator, AdminOwner, AdminViewer, Coordinator, Responder, Sensor,
};

/// Who may call a method.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Whoever reaches the listener, with or without a certificate: only what has a guard of its own.
    Anyone,
    /// A valid identity with one of these roles.
    Roles(&'static [Role]),
}

/// One RPC.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    /// As in the HTTP/2 `:path`.
    pub method: &'static str,
    pub access: Access,
    /// Either side streams: the call may outlive its caller's right to it, and is watched.
    pub streams: bool,
}

const VIEWER: Access = Access::Roles(&[AdminViewer, AdminOperator, AdminOwner]);
const OPERATOR: Access = Access::Roles(&[AdminOperator, AdminOwner]);
const OWNER: Access = Access::Roles(&[AdminOwner]);
const SENSOR: Access = Access::Roles(&[Sensor]);
const RESPONDER: Access = Access::Roles(&[Responder]);
const COORDINATOR: Access = Access::Roles(&[Coordinator]);
/// Everybody whose certificate can run out. Coordinators hold the CAs and renew by themselves.
const RENEWING: Access = Access::Roles(&[Sensor, Responder, AdminViewer, AdminOperator, AdminOwner]);
const EVERY_ROLE: Access = Access::Roles(Role::ALL);

const fn unary(method: &'static str, access: Access) -> Row {
    Row { method, access, streams: false }
}

const fn streaming(method: &'static str, access: Access) -> Row {
    Row { method, access, streams: true }
}

/// Every RPC there is, and who may call it.
pub const ROLE_TABLE: &[Row] = &[
    unary("/netguard.v1.EnrollService/Enroll", Access::Anyone),
    unary("/netguard.v1.EnrollService/Renew", RENEWING),
    streaming("/netguard.v1.SensorService/StreamEvidence", SENSOR),
    streaming("/netguard.v1.ResponderService/Subscribe", RESPONDER),
    streaming("/netguard.v1.ResponderService/Report", RESPONDER),
    unary("/netguard.v1.AdminService/GetStatus", VIEWER),
    unary("/netguard.v1.AdminService/ListDecisions", VIEWER),
    unary("/netguard.v1.AdminService/Explain", VIEWER),
    streaming("/netguard.v1.AdminService/Watch", VIEWER),
    unary("/netguard.v1.AdminService/Block", OPERATOR),
    unary("/netguard.v1.AdminService/Unblock", OPERATOR),
    unary("/netguard.v1.AdminService/AddAllowlist", OPERATOR),
    unary("/netguard.v1.AdminService/RemoveAllowlist", OPERATOR),
    unary("/netguard.v1.AdminService/ListAllowlist", VIEWER),
    unary("/netguard.v1.AdminService/CheckAllowlist", VIEWER),
    unary("/netguard.v1.AdminService/GetPolicy", VIEWER),
    unary("/netguard.v1.AdminService/ApplyPolicy", OWNER),
    unary("/netguard.v1.AdminService/ListAgents", VIEWER),
    unary("/netguard.v1.AdminService/RevokeAgent", OWNER),
    unary("/netguard.v1.AdminService/CreateToken", OWNER),
    unary("/netguard.v1.AdminService/ListTokens", OWNER),
    unary("/netguard.v1.AdminService/RevokeToken", OWNER),
    unary("/netguard.v1.AdminService/AddCoordinator", OWNER),
    unary("/netguard.v1.AdminService/RemoveCoordinator", OWNER),
    unary("/netguard.v1.AdminService/ListRollouts", VIEWER),
    unary("/netguard.v1.AdminService/PromoteRollout", OPERATOR),
    unary("/netguard.v1.AdminService/RevertRollout", OPERATOR),
    unary("/netguard.v1.AdminService/ResetBreaker", OPERATOR),
    unary("/netguard.v1.AdminService/ListAudit", VIEWER),
    unary("/netguard.v1.AdminService/Import", OPERATOR),
    unary("/netguard.v1.AdminService/AddBouncer", OWNER),
    unary("/netguard.v1.AdminService/ListBouncers", VIEWER),
    unary("/netguard.v1.AdminService/RemoveBouncer", OWNER),
    unary("/netguard.v1.AdminService/ListFlows", VIEWER),
    unary("/netguard.peer.v1.RaftService/AppendEntries", COORDINATOR),
    unary("/netguard.peer.v1.RaftService/Vote", COORDINATOR),
    unary("/netguard.peer.v1.RaftService/InstallSnapshot", COORDINATOR),
    unary("/netguard.peer.v1.RaftService/Ping", COORDINATOR),
    unary("/netguard.peer.v1.ClusterService/Propose", COORDINATOR),
    unary("/netguard.peer.v1.ClusterService/ReadIndex", COORDINATOR),
    unary("/netguard.peer.v1.ClusterService/ChangeMembership", COORDINATOR),
    streaming("/netguard.peer.v1.ClusterService/ForwardEvidence", COORDINATOR),
    unary("/netguard.peer.v1.ClusterService/GetLocalState", COORDINATOR),
    unary("/netguard.peer.v1.ClusterService/GetEffects", COORDINATOR),
    unary("/netguard.peer.v1.ClusterService/GetStopped", COORDINATOR),
    unary("/netguard.peer.v1.ClusterService/GetFlows", COORDINATOR),
    streaming("/netguard.peer.v1.ClusterService/WatchLocalEvents", COORDINATOR),
    unary("/netguard.peer.v1.ClusterService/ExplainSubject", COORDINATOR),
    unary("/grpc.health.v1.Health/Check", EVERY_ROLE),
    streaming("/grpc.health.v1.Health/Watch", EVERY_ROLE),
];

/// The row of a method, if it has one.
#[must_use]
pub fn row(method: &str) -> Option<&'static Row> {
    ROLE_TABLE.iter().find(|row| row.method == method)
}

#[cfg(test)]
mod tests {
    use super::*;
    use prost::Message;
    use std::collections::BTreeMap;

    /// Adding an RPC without deciding who may call it fails here.
    #[test]
    fn every_rpc_has_exactly_one_row_and_every_row_an_rpc() {
        let files = prost_types::FileDescriptorSet::decode(netguard_proto::FILE_DESCRIPTOR_SET).unwrap();
        let mut declared: BTreeMap<String, bool> = BTreeMap::new();
        for file in &files.file {
            for service in &file.service {
                for method in &service.method {
                    declared.insert(
                        format!("/{}.{}/{}", file.package(), service.name(), method.name()),
                        method.client_streaming() || method.server_streaming(),
                    );
                }
            }
        }
        assert!(declared.len() >= 35, "the descriptor names the services: {declared:?}");
        let rows: BTreeMap<String, bool> = ROLE_TABLE
            .iter()
            .filter(|row| !row.method.starts_with("/grpc.health.v1."))
            .map(|row| (row.method.to_owned(), row.streams))
            .collect();
        assert_eq!(rows, declared);
        assert_eq!(rows.len() + 2, ROLE_TABLE.len(), "no row stands twice");
    }
}
