//! `bouncers`: readers of decisions that bring an API key.

use super::wire::Written;
use crate::{
    Failure,
    args::BouncerCommand,
    cluster::{Again, Cluster},
    moment::{ago, iso},
    output::{Format, Output, View, table},
};
use netguard_proto::v1::{self, AddBouncerRequest, ListBouncersRequest, RemoveBouncerRequest};
use serde::Serialize;

#[derive(Debug, Serialize)]
struct Added {
    name: String,
    key: String,
}

impl View for Added {
    /// The key alone, so that `$(netguard-admin bouncers add …)` works.
    fn text(&self, _: u64) -> String {
        crate::escape::plain(&self.key).into_owned()
    }
}

#[derive(Debug, Serialize)]
struct Bouncer {
    name: String,
    created_by: String,
    created_at: Option<String>,
    created_at_us: u64,
    last_seen: Option<String>,
    last_seen_us: u64,
    address: String,
    version: String,
}

impl From<v1::Bouncer> for Bouncer {
    fn from(bouncer: v1::Bouncer) -> Self {
        Self {
            name: bouncer.name,
            created_by: bouncer.created_by,
            created_at: iso(bouncer.created_at),
            created_at_us: bouncer.created_at,
            last_seen: iso(bouncer.last_seen),
            last_seen_us: bouncer.last_seen,
            address: bouncer.address,
            version: bouncer.version,
        }
    }
}

#[derive(Debug, Serialize)]
struct Bouncers {
    bouncers: Vec<Bouncer>,
}

impl View for Bouncers {
    fn text(&self, now: u64) -> String {
        let rows = self.bouncers.iter().map(|bouncer| {
            [
                bouncer.name.clone(),
                ago(bouncer.last_seen_us, now),
                bouncer.address.clone(),
                bouncer.version.clone(),
                ago(bouncer.created_at_us, now),
                bouncer.created_by.clone(),
            ]
        });
        table(["BOUNCER", "SEEN", "FROM", "VERSION", "CREATED", "BY"], rows)
    }
}

pub(super) async fn execute(
    command: BouncerCommand,
    cluster: &mut Cluster,
    output: &mut Output<'_>,
) -> Result<(), Failure> {
    match command {
        BouncerCommand::Add { name } => {
            let request = AddBouncerRequest { name };
            // Sent twice it would be refused the second time, and the key of the first be lost.
            let added = cluster
                .call(Again::Never, async |mut client| client.add_bouncer(request.clone()).await)
                .await?;
            if output.format == Format::Table {
                output.remark(&format!("api_key of bouncer {}; it is shown only now", added.name));
            }
            output.show(&Added { name: added.name, key: added.key })
        }
        BouncerCommand::List => {
            let listed = cluster
                .call(Again::Safe, async |mut client| client.list_bouncers(ListBouncersRequest {}).await)
                .await?;
            output.show(&Bouncers { bouncers: listed.bouncers.into_iter().map(Bouncer::from).collect() })
        }
        BouncerCommand::Delete { name } => {
            let request = RemoveBouncerRequest { name };
            let written = cluster
                .call(Again::Safe, async |mut client| client.remove_bouncer(request.clone()).await)
                .await?;
            output.show(&Written::from(written))
        }
    }
}
