//! `block`, `unblock`, `blocklist`.

use super::wire::{Decision, Written, decisions_table, hex, parse_prefix, prefix, request_id};
use crate::{
    Failure,
    args::{OriginName, VerbName},
    cluster::{Again, Cluster},
    output::{Output, View},
};
use netguard_proto::v1::{BlockRequest, ListDecisionsRequest, Origin, UnblockRequest, Verb};
use serde::Serialize;
use std::collections::HashMap;

/// Decisions asked for at once: a page stays far below the largest message.
const PAGE: u32 = 1_000;

/// What `block` was asked for.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) prefix: String,
    pub(super) ttl: Option<u64>,
    pub(super) reason: String,
    pub(super) throttle: bool,
    pub(super) canary: bool,
}

pub(super) async fn block(
    wanted: Wanted,
    cluster: &mut Cluster,
    output: &mut Output<'_>,
) -> Result<(), Failure> {
    parse_prefix(&wanted.prefix)?;
    let request = BlockRequest {
        prefix: wanted.prefix,
        ttl_seconds: wanted.ttl.unwrap_or(0),
        reason: wanted.reason,
        verb: if wanted.throttle { Verb::Throttle } else { Verb::Block }.into(),
        traceparent: String::new(),
        request_id: request_id()?,
        canary: wanted.canary,
    };
    let written = cluster.call(Again::Safe, async |mut client| client.block(request.clone()).await).await?;
    output.show(&Written::from(written))
}

pub(super) async fn unblock(
    what: String,
    reason: String,
    cluster: &mut Cluster,
    output: &mut Output<'_>,
) -> Result<(), Failure> {
    let request = UnblockRequest { what, reason, request_id: request_id()? };
    let written = cluster.call(Again::Safe, async |mut client| client.unblock(request.clone()).await).await?;
    output.show(&Written::lifting(written))
}

/// Lifts what was imported for one reason about one target, and nothing else: what was decided here by others stays.
pub(super) async fn unblock_imported(
    what: &str,
    reason: String,
    only: &str,
    cluster: &mut Cluster,
    output: &mut Output<'_>,
) -> Result<(), Failure> {
    let asked = parse_prefix(what)?;
    let request = ListDecisionsRequest {
        overlapping: Some(asked.clone()),
        origin: Origin::Import.into(),
        limit: PAGE,
        linearizable: true,
        ..ListDecisionsRequest::default()
    };
    let listed =
        cluster.call(Again::Safe, async |mut client| client.list_decisions(request.clone()).await).await?;
    let target = prefix(&asked);
    let mine = listed
        .decisions
        .into_iter()
        .map(Decision::from)
        .find(|decision| decision.target == target && decision.reason == only);
    match mine {
        Some(decision) => unblock(decision.id, reason, cluster, output).await,
        None => {
            output.remark("nothing of that reason is in force there");
            Ok(())
        }
    }
}

/// What `blocklist` was asked for.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) prefix: Option<String>,
    pub(super) verb: Option<VerbName>,
    pub(super) origin: Option<OriginName>,
    pub(super) enforced: bool,
    pub(super) limit: usize,
    pub(super) linearizable: bool,
}

#[derive(Debug, Serialize)]
struct Blocklist {
    decisions: Vec<Decision>,
    revision: u64,
    /// There are more than the limit.
    more: bool,
}

impl View for Blocklist {
    fn text(&self, now: u64) -> String {
        let more = if self.more { "\n(there are more; raise --limit)" } else { "" };
        format!("{}{more}", decisions_table(&self.decisions, now))
    }
}

pub(super) async fn list(
    asked: Asked,
    cluster: &mut Cluster,
    output: &mut Output<'_>,
) -> Result<(), Failure> {
    let verb = asked.verb.map_or(Verb::Unspecified, |verb| match verb {
        VerbName::Block => Verb::Block,
        VerbName::Throttle => Verb::Throttle,
        VerbName::Shield => Verb::Shield,
    });
    let origin = asked.origin.map_or(Origin::Unspecified, |origin| match origin {
        OriginName::Detector => Origin::Detector,
        OriginName::Admin => Origin::Admin,
        OriginName::Feed => Origin::Feed,
        OriginName::Decoy => Origin::Decoy,
        OriginName::Import => Origin::Import,
    });
    let mut request = ListDecisionsRequest {
        overlapping: asked.prefix.as_deref().map(parse_prefix).transpose()?,
        verb: verb.into(),
        origin: origin.into(),
        without_simulated: asked.enforced,
        limit: 0,
        page: String::new(),
        linearizable: asked.linearizable,
    };
    let mut list = Blocklist { decisions: Vec::new(), revision: 0, more: false };
    loop {
        let missing = asked.limit.saturating_sub(list.decisions.len());
        if missing == 0 {
            list.more = true;
            break;
        }
        request.limit = u32::try_from(missing).map_or(PAGE, |missing| missing.min(PAGE));
        let page = cluster
            .call(Again::Safe, async |mut client| client.list_decisions(request.clone()).await)
            .await?;
        list.revision = page.revision;
        let stopped: HashMap<String, (u64, u64)> =
            page.stopped.iter().map(|one| (hex(&one.decision_id), (one.packets, one.bytes))).collect();
        list.decisions.extend(page.decisions.into_iter().take(missing).map(|wire| {
            let mut decision = Decision::from(wire);
            (decision.packets, decision.bytes) = stopped.get(&decision.id).copied().unwrap_or_default();
            decision
        }));
        if page.next_page.is_empty() || page.next_page == request.page {
            break;
        }
        request.page = page.next_page;
    }
    output.show(&list)
}
