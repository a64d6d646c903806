//! What holds, to every responder: `ResponderService`.
//!
//! Invariants: a snapshot once, then every revision without a gap; a subscriber never goes back in time, whichever
//! coordinator it comes to; a slow one holds nobody up and costs bounded memory; a digest proves that both sides hold
//! the same.

mod feed;
mod parts;
mod subscriber;

use crate::{
    agents::{Agents, Arriving, Report},
    authorise::Caller,
    events::{AgentEvent, Enforced, EventHub},
    flow_metrics::FlowMetrics,
    raft::Consensus,
    rollouts,
};
use feed::Feed;
use netguard_core::{identity::Role, rollout::CanaryReport};
use netguard_proto::{
    convert::{self, ConvertError, Drift, GoodPeers, MAX_CANARY_REPORTS, NotEffective, Probe, Stopped},
    v1::{self, responder_service_server::ResponderService},
};
use subscriber::Subscriber;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

/// Messages between a subscription and the transport. A slow subscriber reads on from the ring, not from here.
const OUTBOUND: usize = 16;
/// Things that do not hold, in one report. A responder has at most as many entries as the ledger; beyond this the
/// number alone says enough.
const MAX_NOT_EFFECTIVE: usize = 1_024;
/// Changes by others in one report: each is an event.
const MAX_DRIFT: usize = 32;
/// Decisions that stopped something, in one report.
const MAX_STOPPED: usize = 1_024;

/// `ResponderService`, behind the authorisation layer.
#[derive(Debug, Clone)]
pub struct PushService {
    consensus: Consensus,
    agents: Agents,
    events: EventHub,
    metrics: FlowMetrics,
    stop: CancellationToken,
}

impl PushService {
    pub(crate) fn new(
        consensus: Consensus,
        agents: Agents,
        events: EventHub,
        metrics: FlowMetrics,
        stop: CancellationToken,
    ) -> Self {
        Self { consensus, agents, events, metrics, stop }
    }

    fn tell(&self, caller: &Caller, action: &'static str, detail: &str) {
        self.events.agent(&AgentEvent {
            role: Role::Responder,
            id: &caller.spiffe.id,
            address: &caller.remote.to_string(),
            action,
            detail,
        });
    }

    fn take_report(&self, id: &str, wire: v1::EnforcementReport) {
        let report = match report(wire, self.consensus.ledger().revision()) {
            Ok(report) => report,
            Err(error) => {
                self.metrics.drop("push", "report_malformed", 1);
                tracing::warn!(responder = id, %error, "a responder's report could not be read");
                return;
            }
        };
        let news = self.agents.report(id, report);
        rollouts::heard(&self.consensus, id, &news);
        if let Some((after, revision, at)) = news.effective {
            // A responder that just came holds a snapshot: what is in it was told when it was decided.
            let changes =
                if after == 0 { None } else { self.consensus.changes_after(after) }.unwrap_or_default();
            let ledger = self.consensus.ledger();
            self.events.enforced(&Enforced {
                responder: id,
                after,
                revision,
                at,
                changes: &changes,
                ledger: &ledger,
            });
        }
        for not in &news.not_effective {
            self.events.not_effective(id, not);
        }
        for drift in &news.drift {
            self.events.drift(id, drift);
        }
        if let Some(why) = &news.unmet {
            self.events.unmet(id, why);
        }
        if let Some(probe) = &news.probed {
            self.events.probed(id, probe);
        }
        if let Some(revision) = news.digest_differs {
            self.metrics.drop("push", "digest_differs", 1);
            tracing::error!(responder = id, revision, "a responder's set differs from the ledger's");
            self.events.digest_differs(id, revision);
        }
    }
}

/// Nobody can have enforced what is not decided yet: a higher revision is taken as the current one.
fn report(wire: v1::EnforcementReport, current: u64) -> Result<Report, ConvertError> {
    let failing = wire.not_effective.into_iter().take(MAX_NOT_EFFECTIVE);
    Ok(Report {
        effective_revision: wire.effective_revision.min(current),
        effective_at: convert::optional_time("report.effective_at", wire.effective_at)?,
        not_effective: failing.map(NotEffective::try_from).collect::<Result<_, _>>()?,
        digest: (wire.digest_revision > 0).then_some((wire.digest_revision, wire.digest_equal)),
        backend: convert::text("report.backend", wire.backend)?,
        entries: wire.entries,
        drift: wire.drift.into_iter().take(MAX_DRIFT).map(Drift::try_from).collect::<Result<_, _>>()?,
        stopped: wire
            .stopped
            .into_iter()
            .take(MAX_STOPPED)
            .map(Stopped::try_from)
            .collect::<Result<_, _>>()?,
        probe: wire.probe.map(Probe::try_from).transpose()?,
        canary_reports: wire
            .canary_reports
            .into_iter()
            .take(MAX_CANARY_REPORTS)
            .map(CanaryReport::try_from)
            .collect::<Result<_, _>>()?,
        good_peers: wire.good_peers.map(GoodPeers::try_from).transpose()?.unwrap_or_default(),
    })
}

#[tonic::async_trait]
impl ResponderService for PushService {
    type SubscribeStream = ReceiverStream<Result<v1::Push, Status>>;

    async fn subscribe(
        &self,
        request: Request<v1::SubscribeRequest>,
    ) -> Result<Response<Self::SubscribeStream>, Status> {
        let caller = Caller::of(&request)?;
        let v1::SubscribeRequest { from_revision, ledger_id, version, backend } = request.into_inner();
        let arriving = Arriving {
            id: caller.spiffe.id.clone(),
            version: convert::text("subscribe.version", version)?,
            address: caller.remote.to_string(),
            backend: convert::text("subscribe.backend", backend)?,
        };
        let ledger_id = convert::text("subscribe.ledger_id", ledger_id)?;
        if from_revision == 0 || ledger_id != self.consensus.ledger().id() {
            self.agents.forget_reports(&arriving.id);
        }
        let connection = self.agents.connect(Role::Responder, arriving);
        let detail = match &connection.replaces {
            Some(other) => format!("replaces its subscription from {other}"),
            None => String::new(),
        };
        self.tell(&caller, "connected", &detail);
        let (outbound, pushes) = mpsc::channel(OUTBOUND);
        let subscriber = Subscriber {
            consensus: self.consensus.clone(),
            connection,
            metrics: self.metrics.clone(),
            outbound,
            stop: self.stop.clone(),
        };
        let service = self.clone();
        tokio::spawn(async move {
            subscriber.run(Feed::new(from_revision, ledger_id)).await;
            service.tell(&caller, "disconnected", "");
        });
        Ok(Response::new(ReceiverStream::new(pushes)))
    }

    async fn report(
        &self,
        request: Request<Streaming<v1::EnforcementReport>>,
    ) -> Result<Response<v1::ReportSummary>, Status> {
        let caller = Caller::of(&request)?;
        let mut reports = request.into_inner();
        loop {
            tokio::select! {
                report = reports.message() => match report? {
                    Some(report) => self.take_report(&caller.spiffe.id, report),
                    None => return Ok(Response::new(v1::ReportSummary {})),
                },
                () = caller.ended() => return Err(Status::unauthenticated("the certificate is no longer valid")),
                () = self.stop.cancelled() => {
                    return Err(Status::unavailable("this coordinator stops: report to another"));
                }
            }
        }
    }
}
