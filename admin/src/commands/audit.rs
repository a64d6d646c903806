//! `audit`: who changed what.

use crate::{
    Failure,
    cluster::{Again, Cluster},
    moment::iso,
    output::{Output, View, table},
};
use netguard_proto::v1::{self, ListAuditRequest};
use serde::Serialize;
use std::collections::VecDeque;

/// Entries asked for at once; the most the coordinator gives.
const PAGE: u32 = 1_000;

#[derive(Debug, Serialize)]
struct Entry {
    number: u64,
    at: Option<String>,
    at_us: u64,
    actor: String,
    action: String,
    subject: String,
    outcome: String,
    log_index: u64,
    traceparent: String,
}

impl From<v1::AuditEntry> for Entry {
    fn from(entry: v1::AuditEntry) -> Self {
        Self {
            number: entry.number,
            at: iso(entry.at),
            at_us: entry.at,
            actor: entry.actor,
            action: entry.action,
            subject: entry.subject,
            outcome: entry.outcome,
            log_index: entry.log_index,
            traceparent: entry.traceparent,
        }
    }
}

#[derive(Debug, Serialize)]
struct Audit {
    entries: VecDeque<Entry>,
    /// Pass it as `--after` to go on from here.
    next: u64,
}

impl View for Audit {
    fn text(&self, _: u64) -> String {
        let rows = self.entries.iter().map(|entry| {
            [
                entry.number.to_string(),
                entry.at.clone().unwrap_or_default(),
                entry.actor.clone(),
                entry.action.clone(),
                entry.subject.clone(),
                entry.outcome.clone(),
            ]
        });
        table(["NUMBER", "AT", "WHO", "DID", "TO", "OUTCOME"], rows)
    }
}

pub(super) async fn show(
    after: u64,
    last: usize,
    cluster: &mut Cluster,
    output: &mut Output<'_>,
) -> Result<(), Failure> {
    let mut audit = Audit { entries: VecDeque::new(), next: after };
    loop {
        let request = ListAuditRequest { after: audit.next, limit: PAGE };
        let page = cluster.call(Again::Safe, async |mut client| client.list_audit(request).await).await?;
        let (before, empty) = (audit.next, page.entries.is_empty());
        // Numbers only grow; a coordinator that says otherwise must not keep us here for ever.
        audit.next = page.entries.iter().map(|entry| entry.number).max().unwrap_or(before).max(before);
        audit.entries.extend(page.entries.into_iter().map(Entry::from));
        while audit.entries.len() > last {
            audit.entries.pop_front();
        }
        if empty || audit.next == before {
            break;
        }
    }
    output.show(&audit)
}
