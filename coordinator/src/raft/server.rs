use netguard_proto::peer::{PingRequest, PingResponse, RaftMessage, raft_service_server::RaftService};
use tonic::{Request, Response, Status};

/// Raft's messages from other members.
#[derive(Debug)]
pub struct RaftRpc;

#[tonic::async_trait]
impl RaftService for RaftRpc {
    async fn append_entries(&self, _: Request<RaftMessage>) -> Result<Response<RaftMessage>, Status> {
        todo!()
    }
    async fn vote(&self, _: Request<RaftMessage>) -> Result<Response<RaftMessage>, Status> {
        todo!()
    }
    async fn install_snapshot(&self, _: Request<RaftMessage>) -> Result<Response<RaftMessage>, Status> {
        todo!()
    }
    async fn ping(&self, _: Request<PingRequest>) -> Result<Response<PingResponse>, Status> {
        todo!()
    }
}
