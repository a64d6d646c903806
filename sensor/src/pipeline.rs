//! Frames → header → flows → evidence: the one path that live capture, `--read`, standalone and `netguard-lab evaluate`
//! share.
//!
//! Invariant: the same frames, times and seed give the same records and flow events in the same order.

mod ahead;
mod checksums;

pub use checksums::ChecksumPolicy;

use crate::capture::{Checksum, Frame, FrameSource, Next};
use checksums::Checksums;
use netguard_core::{
    application::{ApplicationLimits, Applications, Said, Transaction},
    evidence::{Accumulator, EvidenceLimits, EvidenceRecord, OwnNetworks},
    flow::{EndReason, FlowLimits, FlowSummary, FlowTable, Hint, Observation, Place, Sink},
    fragments::{FragmentLimits, Fragments},
    memory::MemoryLimit,
    net::Prefix,
    packet::{self, DecodeError, Decoded, Header, MAX_LAYERS, Packet, Plain, Transport, martian},
    time::Timestamp,
};
use std::{collections::BTreeMap, time::Duration};

/// How often evidence is given when nothing is hot.
pub const FLUSH_INTERVAL: Duration = Duration::from_millis(100);

#[derive(Debug, Clone)]
pub struct PipelineSettings {
    pub own: OwnNetworks,
    /// Keys the hashes: random for a live sensor, fixed for a replay.
    pub seed: u64,
    pub flows: FlowLimits,
    pub fragments: FragmentLimits,
    pub evidence: EvidenceLimits,
    pub checksums: ChecksumPolicy,
    /// Keep flow events until they are taken.
    pub flow_events: bool,
    /// Read what flows say, and keep that until it is taken.
    pub application: Option<ApplicationLimits>,
    /// Both ends of a tunnel must be among these for what comes in it to be evidence; see [`FlowTable::trusting`].
    pub trusted_tunnels: Vec<Prefix>,
}

impl PipelineSettings {
    /// A capture file: all addresses are ours, the same result every time.
    #[must_use]
    pub fn replay() -> Self {
        Self::live(OwnNetworks::Any, 0)
    }

    #[must_use]
    pub fn live(own: OwnNetworks, seed: u64) -> Self {
        Self {
            own,
            seed,
            flows: FlowLimits::default(),
            fragments: FragmentLimits::default(),
            evidence: EvidenceLimits::default(),
            checksums: ChecksumPolicy::default(),
            flow_events: false,
            application: None,
            trusted_tunnels: Vec::new(),
        }
    }

    /// What fits into so much memory, beside what else a sensor holds.
    #[must_use]
    pub fn within(limit: MemoryLimit, own: OwnNetworks, seed: u64) -> Self {
        let flows = FlowLimits {
            max_flows: limit.max_flows(),
            max_embryonic: limit.max_embryonic(),
            ..FlowLimits::default()
        };
        let (fragments, evidence) = (limit.fragments(), limit.evidence());
        Self { flows, fragments, evidence, ..Self::live(own, seed) }
    }

    /// For each of so many pipelines that share these bounds.
    #[must_use]
    pub fn shared_among(mut self, pipelines: usize) -> Self {
        let share = |bound: &mut usize| *bound = bound.div_ceil(pipelines.max(1));
        share(&mut self.flows.max_flows);
        share(&mut self.flows.max_embryonic);
        share(&mut self.fragments.max_datagrams);
        share(&mut self.fragments.max_bytes);
        share(&mut self.evidence.max_fresh_sources);
        share(&mut self.evidence.max_known_sources);
        share(&mut self.evidence.max_services);
        share(&mut self.evidence.max_records);
        if let Some(limits) = &mut self.application {
            share(&mut limits.max_dissected);
            share(&mut limits.max_flows);
            share(&mut limits.max_buffered);
            share(&mut limits.max_neighbours);
        }
        self
    }
}

#[derive(Debug)]
pub struct Pipeline {
    table: FlowTable,
    fragments: Fragments,
    checksums: Checksums,
    collected: Collected,
    frames: u64,
    bytes: u64,
    decode_errors: [u64; DecodeError::ALL.len()],
    arp: u64,
    tunnelled: u64,
    martians: BTreeMap<&'static str, u64>,
    /// What [`Self::take_counts`] gave before.
    told: BTreeMap<&'static str, u64>,
}

#[derive(Debug)]
struct Collected {
    evidence: Accumulator,
    flows: Option<Vec<FlowSummary>>,
    applications: Option<Applications>,
    said: Transactions,
}

/// Transactions between two times that they are taken: 100 ms of 650,000 a second.
const MAX_TRANSACTIONS: usize = 65_536;

/// What was said and not taken yet.
#[derive(Debug, Default)]
struct Transactions {
    kept: Vec<Transaction>,
    dropped: u64,
}

impl Transactions {
    fn keep(&mut self, transaction: Transaction) {
        if self.kept.len() < MAX_TRANSACTIONS {
            self.kept.push(transaction);
        } else {
            self.dropped += 1;
        }
    }
}

impl Sink for Collected {
    fn observe(&mut self, observation: &Observation) {
        self.evidence.observe(observation);
    }

    fn wants_flows(&self) -> bool {
        self.flows.is_some() || self.applications.is_some()
    }

    fn flow(&mut self, summary: &FlowSummary) {
        let Self { flows, applications, said, .. } = self;
        let application = applications.as_mut().and_then(|applications| match summary.reason {
            EndReason::Active => applications.get(summary.id).copied(),
            _ => applications.close(summary.id, summary.end, &mut |transaction| said.keep(transaction)),
        });
        if let Some(flows) = flows {
            flows.push(FlowSummary { application, ..summary.clone() });
        }
    }
}

impl Pipeline {
    #[must_use]
    pub fn new(settings: PipelineSettings) -> Self {
        Self {
            table: FlowTable::new(settings.flows, settings.seed).trusting(settings.trusted_tunnels),
            fragments: Fragments::new(settings.fragments, settings.seed),
            checksums: Checksums::new(settings.checksums, settings.seed),
            collected: Collected {
                evidence: Accumulator::new(settings.own, settings.evidence, settings.seed),
                flows: settings.flow_events.then(Vec::new),
                applications: settings.application.map(|limits| Applications::new(limits, settings.seed)),
                said: Transactions::default(),
            },
            frames: 0,
            bytes: 0,
            decode_errors: [0; DecodeError::ALL.len()],
            arp: 0,
            tunnelled: 0,
            martians: BTreeMap::new(),
            told: BTreeMap::new(),
        }
    }

    /// Takes one frame in. Whatever is wrong with it is counted.
    pub fn push(&mut self, frame: &Frame<'_>) {
        self.frames += 1;
        self.bytes += u64::from(frame.wire_length);
        let mut packet = match packet::decode(frame.bytes, frame.link) {
            Ok(Decoded::Packet(packet)) => packet,
            Ok(Decoded::Arp(arp)) => {
                self.arp += 1;
                let Collected { applications, said, .. } = &mut self.collected;
                // Out of a tunnel anybody may claim anything.
                if let (Some(applications), None) = (applications, arp.tunnel) {
                    applications.arp(&arp, frame.at, &mut |transaction| said.keep(transaction));
                }
                return;
            }
            Err(error) => return self.count(error),
        };
        // What the card took off stood outside of what is left.
        packet.header.vlan = frame.vlan.or(packet.header.vlan);
        self.packet(&packet, frame.checksum, frame.at);
    }

    fn packet(&mut self, packet: &Packet<'_>, checksum: Checksum, at: Timestamp) {
        if let Some(unread) = packet.unread {
            self.count(unread);
        }
        if self.checksums.looks_at(checksum) && self.checksums.refuses(packet, checksum) {
            return;
        }
        if let Transport::Fragment(_) = packet.header.transport {
            return self.fragment(packet, checksum, at);
        }
        self.tunnelled += u64::from(packet.header.tunnel.is_some());
        if let Some(reason) = martian(&packet.header) {
            *self.martians.entry(reason).or_default() += 1;
            return;
        }
        let place = self.table.push(&packet.header, at, &mut self.collected);
        self.read(&packet.header, || packet.payload, place, at);
    }

    /// As [`Self::push`], of a frame whose flow was asked for already.
    #[inline]
    fn hinted(&mut self, frame: &Frame<'_>, plain: &Plain<'_>, hint: &Hint) {
        self.frames += 1;
        self.bytes += u64::from(frame.wire_length);
        let mut header = plain.header();
        header.vlan = frame.vlan.or(header.vlan);
        if self.checksums.looks_at(frame.checksum) && self.checksums.refuses(&plain.packet(), frame.checksum)
        {
            return;
        }
        if let Some(reason) = martian(&header) {
            *self.martians.entry(reason).or_default() += 1;
            return;
        }
        let place = self.table.push_hinted(hint, &header, frame.at, &mut self.collected);
        self.read(&header, || plain.payload(), place, frame.at);
    }

    /// What a packet of a flow says.
    #[inline]
    fn read<'a>(
        &mut self,
        header: &Header,
        payload: impl FnOnce() -> &'a [u8],
        place: Option<Place>,
        at: Timestamp,
    ) {
        let Collected { applications, said, .. } = &mut self.collected;
        if let (Some(applications), Some(place)) = (applications, place) {
            let packet = Said {
                flow: place.flow,
                from_initiator: place.from_initiator,
                header,
                payload: payload(),
                at,
            };
            applications.push(&packet, &mut |transaction| said.keep(transaction));
        }
    }

    /// Takes a part of a packet in, and that packet when it was the last part.
    fn fragment(&mut self, packet: &Packet<'_>, checksum: Checksum, at: Timestamp) {
        let is_deep = packet.header.tunnel.is_some_and(|tunnel| u32::from(tunnel.depth) >= MAX_LAYERS);
        if is_deep {
            return self.count(DecodeError::TooDeep);
        }
        let verify = checksum != Checksum::Trusted;
        let Some(whole) = self.fragments.push(packet, verify, at) else { return };
        let checksum = if whole.verify { checksum } else { Checksum::Trusted };
        match packet::decode_reassembled(&whole.header, &whole.payload, whole.length) {
            // In a tunnel it may be a part once more, one tunnel deeper.
            Ok(Decoded::Packet(packet)) => self.packet(&packet, checksum, at),
            Ok(Decoded::Arp(_)) => self.arp += 1,
            Err(error) => self.count(error),
        }
    }

    fn count(&mut self, error: DecodeError) {
        if let Some(count) = self.decode_errors.get_mut(error as usize) {
            *count += 1;
        }
    }

    /// Lets time pass without a frame.
    pub fn advance(&mut self, now: Timestamp) {
        self.fragments.advance(now);
        self.table.advance(now, &mut self.collected);
    }

    /// Whether [`Self::flush_hot`] has something that should not wait.
    #[must_use]
    pub fn is_hot(&self) -> bool {
        self.collected.evidence.is_hot()
    }

    pub fn flush_hot(&mut self, now: Timestamp) -> Vec<EvidenceRecord> {
        self.collected.evidence.flush_hot(now)
    }

    /// What was seen since it was last asked, and what timed out by `now`.
    pub fn flush(&mut self, now: Timestamp) -> Vec<EvidenceRecord> {
        self.advance(now);
        self.collected.evidence.flush(now)
    }

    /// The end of the capture: pending tries are taken as failed, all flows are told.
    pub fn finish(&mut self) -> Vec<EvidenceRecord> {
        self.table.finish(&mut self.collected);
        let now = self.table.now();
        self.collected.evidence.flush(now)
    }

    /// Flow events since it was last asked; empty unless the settings asked for them.
    pub fn take_flows(&mut self) -> Vec<FlowSummary> {
        self.collected.flows.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// How many flow events wait to be taken.
    #[must_use]
    pub fn flow_events(&self) -> usize {
        self.collected.flows.as_ref().map_or(0, Vec::len)
    }

    /// What flows said since it was last asked; empty unless the settings asked for it.
    pub fn take_transactions(&mut self) -> Vec<Transaction> {
        std::mem::take(&mut self.collected.said.kept)
    }

    /// Interfaces changed their addresses.
    pub fn set_own(&mut self, own: OwnNetworks) {
        self.collected.evidence.set_own(own);
    }

    /// The packets' time so far.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.table.now()
    }

    /// When something times out next.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Timestamp> {
        self.table.next_deadline()
    }

    #[must_use]
    pub fn frames(&self) -> u64 {
        self.frames
    }

    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    #[must_use]
    pub fn flows(&self) -> usize {
        self.table.len()
    }

    /// What this pipeline suffers from now, by stable names: `flow.emergency` while the room for embryonic flows is being
    /// overrun.
    #[must_use]
    pub fn conditions(&self) -> Vec<&'static str> {
        self.table.is_emergency().then_some("flow.emergency").into_iter().collect()
    }

    /// Every counter since the start, by "stage.reason", with whether it means that sight was lost.
    #[must_use]
    pub fn counters(&self) -> BTreeMap<&'static str, (u64, bool)> {
        let decode = DecodeError::ALL
            .iter()
            .zip(self.decode_errors)
            .map(|(error, count)| (error.reason(), count, error.is_loss()));
        decode
            .chain([("packet.arp", self.arp, false), ("packet.tunnelled", self.tunnelled, false)])
            .chain(self.fragments.counts().named())
            .chain(self.checksums.named())
            .chain(self.martians.iter().map(|(reason, count)| (*reason, *count, false)))
            .chain(self.table.counts().named())
            .chain(self.collected.evidence.counts().named())
            .chain(self.collected.applications.iter().flat_map(|applications| applications.counts().named()))
            .chain([("application.untaken", self.collected.said.dropped, true)])
            .filter(|(_, count, _)| *count > 0)
            .map(|(name, count, loss)| (name, (count, loss)))
            .collect()
    }

    /// What was set aside or lost since it was last asked: "stage.reason", how many, and whether sight was lost.
    pub fn take_counts(&mut self) -> Vec<(&'static str, u64, bool)> {
        let mut new = Vec::new();
        for (name, (count, is_loss)) in self.counters() {
            let told = self.told.entry(name).or_default();
            if count > *told {
                new.push((name, count - *told, is_loss));
                *told = count;
            }
        }
        new
    }
}

/// What a replay gives.
#[derive(Debug, Clone)]
pub enum Output {
    /// The record, and the time at which a live sensor would have sent it.
    Evidence(Timestamp, EvidenceRecord),
    Flow(FlowSummary),
    /// Before the flow it belongs to.
    Transaction(Transaction),
}

/// Runs a capture through a pipeline in the capture's own time, as a live sensor would: a flush every
/// [`FLUSH_INTERVAL`], at once when hot. Long silences are skipped, timeouts in them are not.
///
/// Errors: the source's; what was read before it was given to `each`.
pub fn replay<S: FrameSource>(
    source: &mut S,
    pipeline: &mut Pipeline,
    mut each: impl FnMut(Output),
) -> Result<(), S::Error> {
    let mut next_flush: Option<Timestamp> = None;
    let outcome = loop {
        match source.next() {
            Ok(Next::Frame(frame)) => {
                let mut due = next_flush.unwrap_or_else(|| frame.at.saturating_add(FLUSH_INTERVAL));
                while due <= frame.at {
                    let records = pipeline.flush(due);
                    give(pipeline, due, records, &mut each);
                    let mut next = due.saturating_add(FLUSH_INTERVAL);
                    // Nothing can happen before the next deadline or frame.
                    let quiet_until = pipeline.next_deadline().unwrap_or(frame.at).min(frame.at);
                    if quiet_until > next {
                        next = quiet_until;
                    }
                    due = next;
                }
                next_flush = Some(due);
                pipeline.push(&frame);
                if pipeline.is_hot() {
                    let now = pipeline.now();
                    let records = pipeline.flush_hot(now);
                    give(pipeline, now, records, &mut each);
                }
            }
            Ok(Next::Quiet) => {}
            Ok(Next::End) => break Ok(()),
            Err(error) => break Err(error),
        }
    };
    let records = pipeline.finish();
    give(pipeline, pipeline.now(), records, &mut each);
    outcome
}

fn give(pipeline: &mut Pipeline, at: Timestamp, records: Vec<EvidenceRecord>, each: &mut impl FnMut(Output)) {
    for transaction in pipeline.take_transactions() {
        each(Output::Transaction(transaction));
    }
    for flow in pipeline.take_flows() {
        each(Output::Flow(flow));
    }
    for record in records {
        each(Output::Evidence(at, record));
    }
}
