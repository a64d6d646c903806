use super::{Admin, text, write::Writer};
use crate::bouncers::ApiKey;
use netguard_core::ledger::{Command, Outcome};
use netguard_proto::v1::{
    AddBouncerRequest, AddBouncerResponse, Bouncer, ListBouncersResponse, RemoveBouncerRequest, WriteResponse,
};
use tonic::Status;

impl Admin {
    /// The key leaves the cluster here, once; the ledger keeps its hash alone.
    pub(super) async fn make_bouncer(
        &self,
        writer: Writer,
        request: AddBouncerRequest,
    ) -> Result<AddBouncerResponse, Status> {
        let key = ApiKey::generate().ok_or_else(|| Status::internal("the system gave no random numbers"))?;
        let name = request.name;
        let command = Command::BouncerAdd { name: name.clone(), key_sha256: key.sha256() };
        match writer.commit(command).await?.1 {
            Outcome::Done => Ok(AddBouncerResponse { name, key: key.as_str().to_owned() }),
            _ => Err(Status::internal("the ledger made no bouncer")),
        }
    }

    /// All that have a key, each as the coordinator tells that was asked last.
    pub(super) async fn bouncers(&self) -> ListBouncersResponse {
        let live = self.shared.flow.agents().gather(&self.shared.consensus).await;
        let ledger = self.shared.consensus.ledger();
        let bouncers = ledger.bouncers().map(|bouncer| {
            let seen = live.bouncer(&bouncer.name);
            Bouncer {
                name: bouncer.name.clone(),
                created_by: bouncer.created_by.clone(),
                created_at: bouncer.created_at.as_micros(),
                last_seen: seen.map_or(0, |seen| seen.last_seen),
                address: seen.map(|seen| seen.address.clone()).unwrap_or_default(),
                version: seen.map(|seen| seen.version.clone()).unwrap_or_default(),
            }
        });
        ListBouncersResponse { bouncers: bouncers.collect() }
    }

    pub(super) async fn drop_bouncer(
        &self,
        writer: Writer,
        request: RemoveBouncerRequest,
    ) -> Result<WriteResponse, Status> {
        let name = text::echo(&request.name);
        writer
            .answer(Command::BouncerRemove { name: request.name }, |_| {
                format!("bouncer {name} is deleted; its key is worth nothing any more")
            })
            .await
    }
}
