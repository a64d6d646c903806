//! `allowlist`: what must never be blocked.

use super::wire::{Written, parse_prefix};
use crate::{
    Failure,
    args::AllowlistCommand,
    cluster::{Again, Cluster},
    escape,
    moment::{ago, iso, left, now},
    output::{Output, View, table},
};
use netguard_proto::v1::{self, CheckAllowlistRequest, ListAllowlistRequest, RemoveAllowlistRequest};
use serde::Serialize;

#[derive(Debug, Serialize)]
struct Entry {
    prefix: String,
    reason: String,
    /// NetGuard's own: coordinators, gateways and the like.
    never_block: bool,
    added_by: String,
    added_at: Option<String>,
    added_at_us: u64,
    expires_at: Option<String>,
    expires_at_us: u64,
}

impl From<v1::AllowlistEntry> for Entry {
    fn from(entry: v1::AllowlistEntry) -> Self {
        Self {
            prefix: entry.prefix,
            reason: entry.reason,
            never_block: entry.never_block,
            added_by: entry.added_by,
            added_at: iso(entry.added_at),
            added_at_us: entry.added_at,
            expires_at: iso(entry.expires_at),
            expires_at_us: entry.expires_at,
        }
    }
}

#[derive(Debug, Serialize)]
struct Allowlist {
    entries: Vec<Entry>,
    revision: u64,
}

impl View for Allowlist {
    fn text(&self, now: u64) -> String {
        let rows = self.entries.iter().map(|entry| {
            [
                entry.prefix.clone(),
                if entry.never_block { "never-block" } else { "operator" }.to_owned(),
                if entry.expires_at_us == 0 { "for good".to_owned() } else { left(entry.expires_at_us, now) },
                ago(entry.added_at_us, now),
                entry.added_by.clone(),
                entry.reason.clone(),
            ]
        });
        table(["PREFIX", "LIST", "LEFT", "ADDED", "BY", "REASON"], rows)
    }
}

#[derive(Debug, Serialize)]
struct Checked {
    prefix: String,
    allowed: bool,
    because: String,
}

impl View for Checked {
    fn text(&self, _: u64) -> String {
        let because = escape::plain(&self.because);
        match (self.allowed, because.is_empty()) {
            (true, _) => format!("{} is never blocked: {because}", self.prefix),
            (false, true) => format!("{} may be blocked: nothing overlaps it", self.prefix),
            (false, false) => format!("{} may be blocked: {because}", self.prefix),
        }
    }
}

pub(super) async fn execute(
    command: AllowlistCommand,
    cluster: &mut Cluster,
    output: &mut Output<'_>,
) -> Result<(), Failure> {
    match command {
        AllowlistCommand::Add { prefix, reason, ttl } => {
            parse_prefix(&prefix)?;
            let expires_at = ttl.map_or(0, |ttl| now().saturating_add(ttl.saturating_mul(1_000_000)));
            let entry = v1::AllowlistEntry { prefix, reason, expires_at, ..Default::default() };
            let written = cluster
                .call(Again::Safe, async |mut client| client.add_allowlist(entry.clone()).await)
                .await?;
            output.show(&Written::lifting(written))
        }
        AllowlistCommand::Remove { prefix } => {
            parse_prefix(&prefix)?;
            let request = RemoveAllowlistRequest { prefix };
            let written = cluster
                .call(Again::Safe, async |mut client| client.remove_allowlist(request.clone()).await)
                .await?;
            output.show(&Written::from(written))
        }
        AllowlistCommand::List => {
            let list = cluster
                .call(Again::Safe, async |mut client| client.list_allowlist(ListAllowlistRequest {}).await)
                .await?;
            output.show(&Allowlist {
                entries: list.entries.into_iter().map(Entry::from).collect(),
                revision: list.revision,
            })
        }
        AllowlistCommand::Check { prefix } => {
            parse_prefix(&prefix)?;
            let request = CheckAllowlistRequest { prefix: prefix.clone() };
            let checked = cluster
                .call(Again::Safe, async |mut client| client.check_allowlist(request.clone()).await)
                .await?;
            output.show(&Checked { prefix, allowed: checked.allowed, because: checked.because })
        }
    }
}
