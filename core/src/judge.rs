//! Evidence → proposals: one judge for a fleet, for one host and for a capture file.
//!
//! Invariants:
//! * Order and repetition of arrival change nothing: a record counts once per (sensor, epoch, sequence) and subject, and
//!   lands in the sub-window of its own time.
//! * No evidence without proof ever leads to [`Verb::Block`]; a flood whose sources may be forged names none.
//! * Memory is bounded by [`MAX_SUBJECTS`] and [`MAX_BYTES`]; what goes first is what is least suspicious.
//! * `now` and the hash seed come from outside: a replay decides the same every time.

mod busy_ports;
mod eviction;
mod measure;
mod proposal;
mod reason;
mod score;
mod seen;
mod subject;
mod window;

pub use eviction::{MAX_BYTES, MAX_SUBJECTS};
pub use proposal::Proposal;

use crate::{
    decision::{MAX_SENSORS, Proof, Target, Verb},
    evidence::EvidenceRecord,
    policy::{Mode, Policy},
    subject::Subject,
    time::Timestamp,
    trace::TraceParent,
};
use foldhash::quality::FixedState;
use hashbrown::{HashMap, HashSet};
use measure::Reading;
use std::{sync::Arc, time::Duration};
use subject::{Key, Proposed, SubjectState};

/// The fleet as the coordinator knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fleet {
    /// Sensors connected to the cluster.
    pub sensors: usize,
}

/// How a record came in.
#[derive(Debug, Clone, Copy)]
pub struct Arrival<'a> {
    pub sensor: &'a str,
    pub epoch: u64,
    pub sequence: u64,
    pub trace: &'a TraceParent,
    /// The judge's time. The caller has shifted the record's times to it; a replay takes it from the file.
    pub now: Timestamp,
}

/// Adds up the evidence of all sensors and proposes decisions.
#[derive(Debug)]
pub struct Judge {
    /// Boxed, so that a growing table moves little: everybody waits for it.
    subjects: HashMap<Key, Box<SubjectState>, FixedState>,
    /// Names of sensors, kept once.
    sensors: HashSet<Arc<str>, FixedState>,
    /// The sum of the subjects' weights.
    bytes: usize,
    evicted: u64,
    limits: eviction::Limits,
    /// The longest window any rule asked for lately.
    longest: Duration,
}

impl Judge {
    /// `seed` makes the hash tables unguessable: attackers choose the keys.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            subjects: HashMap::with_hasher(FixedState::with_seed(seed)),
            sensors: HashSet::with_hasher(FixedState::with_seed(seed)),
            bytes: 0,
            evicted: 0,
            limits: eviction::Limits::default(),
            longest: Duration::from_secs(3600),
        }
    }

    /// Takes one record; what it adds up to comes back as proposals, the severest verb only.
    ///
    /// Idempotent per (sensor, epoch, sequence, subject): a batch holds at most one record of a subject.
    pub fn observe(
        &mut self,
        arrival: &Arrival<'_>,
        record: &EvidenceRecord,
        policy: &Policy,
        fleet: Fleet,
    ) -> Vec<Proposal> {
        self.longest = longest_window(policy);
        // A record from the future tells of a clock that is ahead, not of the future.
        let at = record.end.min(arrival.now);
        if at < arrival.now.saturating_sub(self.longest) {
            return Vec::new();
        }
        let sensor = self.sensor(arrival.sensor);
        let key = Key::of(&record.subject);
        self.make_room(arrival.now);
        let state = self.subjects.entry(key).or_default();
        if !state.take(&sensor, arrival.epoch, arrival.sequence, record, at) {
            return Vec::new();
        }
        let proposal = judge(&key, state, arrival, record, at, policy, fleet, self.longest);
        let alone = proposal.is_some() || !state.proposed.is_empty();
        self.weigh(key);
        let mut proposals = Vec::from_iter(proposal);
        if let Some(neighbourhood) = key.neighbourhood() {
            proposals.extend(self.observe_neighbour(
                neighbourhood,
                &sensor,
                alone,
                arrival,
                record,
                at,
                policy,
                fleet,
            ));
        }
        proposals
    }

    /// Adds an IPv6 source's evidence to its /64, for attackers who change their address within it. A source that is
    /// dealt with alone is left out: its neighbours do not answer for it.
    #[expect(clippy::too_many_arguments, reason = "one record on its way through")]
    fn observe_neighbour(
        &mut self,
        neighbourhood: Key,
        sensor: &Arc<str>,
        alone: bool,
        arrival: &Arrival<'_>,
        record: &EvidenceRecord,
        at: Timestamp,
        policy: &Policy,
        fleet: Fleet,
    ) -> Option<Proposal> {
        if alone {
            if let Some(state) = self.subjects.get_mut(&neighbourhood)
                && state.proposed.is_empty()
            {
                **state = SubjectState { weight: state.weight, ..SubjectState::default() };
                self.weigh(neighbourhood);
            }
            return None;
        }
        let Subject::Source(address) = record.subject else { return None };
        self.make_room(arrival.now);
        let state = self.subjects.entry(neighbourhood).or_default();
        state.add_member(address, at);
        // Repetition was kept out at the source itself; here it only matters who saw it, and when.
        state.note_sensor(sensor, record, at);
        let proposal = judge(&neighbourhood, state, arrival, record, at, policy, fleet, self.longest);
        self.weigh(neighbourhood);
        proposal
    }

    /// Ages what is held and lets go of what is over. To be called every few seconds.
    pub fn tick(&mut self, now: Timestamp) {
        let longest = self.longest;
        let bytes = &mut self.bytes;
        self.subjects.retain(|_, state| {
            let over = state.expire(now, longest);
            let weight = if over { 0 } else { state.weigh() };
            *bytes = bytes.saturating_sub(state.weight).saturating_add(weight);
            state.weight = weight;
            !over
        });
        self.sensors.retain(|name| Arc::strong_count(name) > 1);
        self.make_room(now);
    }

    /// Lets (target, verb) be proposed again at once: the ledger did not take it for a reason that passes.
    pub fn forget_proposed(&mut self, target: &Target, verb: Verb) {
        if let Some(state) = self.subjects.get_mut(&Key::of_target(target)) {
            state.forget(verb);
        }
    }

    /// What is held of a subject and what holds a decision back, in words; empty when nothing is held.
    #[must_use]
    pub fn explain(&self, subject: &Subject, policy: &Policy, now: Timestamp) -> Vec<String> {
        let key = Key::of(subject);
        [Some(key), key.neighbourhood()]
            .into_iter()
            .flatten()
            .filter_map(|key| Some((key, self.subjects.get(&key)?)))
            .flat_map(|(key, state)| explain(&key, state, policy, now))
            .collect()
    }

    /// Subjects held.
    #[must_use]
    pub fn len(&self) -> usize {
        self.subjects.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.subjects.is_empty()
    }

    /// What is held weighs about this much, in bytes.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Subjects let go of for want of room, ever: a loss, and counted as one.
    #[must_use]
    pub const fn evicted(&self) -> u64 {
        self.evicted
    }

    fn sensor(&mut self, name: &str) -> Arc<str> {
        if let Some(known) = self.sensors.get(name) {
            return known.clone();
        }
        let name: Arc<str> = name.into();
        self.sensors.insert(name.clone());
        name
    }

    fn weigh(&mut self, key: Key) {
        if let Some(state) = self.subjects.get_mut(&key) {
            let weight = state.weigh();
            self.bytes = self.bytes.saturating_sub(state.weight).saturating_add(weight);
            state.weight = weight;
        }
    }
}

fn longest_window(policy: &Policy) -> Duration {
    policy
        .rules()
        .flat_map(|rule| [Some(rule.window), rule.slow.map(|(_, window)| window)])
        .flatten()
        .max()
        .unwrap_or_default()
}

#[expect(clippy::too_many_arguments, reason = "one record on its way through")]
fn judge(
    key: &Key,
    state: &mut SubjectState,
    arrival: &Arrival<'_>,
    record: &EvidenceRecord,
    at: Timestamp,
    policy: &Policy,
    fleet: Fleet,
    longest: Duration,
) -> Option<Proposal> {
    let now = arrival.now;
    state.absorb(record, at, now, longest);
    let severest = if matches!(key, Key::Service(_)) { Verb::Shield } else { Verb::Block };
    if state.holds(severest, policy, now) {
        return None;
    }
    let readings = readings(key, state, policy, now, fleet);
    let half_life = policy.half_life();
    let faded = state.carried.map(|carried| score::decayed(carried, now, half_life));
    score::carry(&mut state.carried, &readings, now, half_life);
    let verdict = score::verdict(&readings, &faded, u64::from(policy.act_score) * 1000)?;
    if state.holds(verdict.verb, policy, now) {
        return None;
    }
    if let Key::Neighbourhood(_) = key {
        // Alone, a source is judged by itself.
        let window = verdict.readings.first().map_or(Duration::ZERO, |reading| reading.window);
        if state.members_since(now.saturating_sub(window)) < 2 {
            return None;
        }
    }
    let leading = verdict.readings.first()?;
    let (kind, ttl) = (leading.rule.row.kind, leading.rule.ttl);
    let simulated = policy.mode_of(kind) == Mode::Simulate;
    let service = if let Key::Service(service) = key { Some(*service) } else { None };
    let mut sensors: Vec<String> =
        verdict.readings.iter().flat_map(|reading| &reading.sensors).map(ToString::to_string).collect();
    sensors.sort_unstable();
    sensors.dedup();
    sensors.truncate(MAX_SENSORS);
    let proposal = Proposal {
        verb: verdict.verb,
        target: key.target(),
        kinds: verdict.readings.iter().map(|reading| reading.rule.row.kind).collect(),
        proof: if verdict.verb == Verb::Block { Proof::Handshake } else { Proof::None },
        sensors,
        sample_flows: state.flows.clone(),
        reason: reason::sentence(&verdict.readings, service, state.login_port),
        ttl,
        trace: arrival.trace.clone(),
        first_packet_at: verdict.readings.iter().map(|reading| reading.first_packet).min().unwrap_or(at),
        threshold_at: record.last_packet,
        score: verdict.score,
    };
    state.note(Proposed { verb: verdict.verb, kind, simulated, at: now, ttl });
    Some(proposal)
}

fn readings(key: &Key, state: &SubjectState, policy: &Policy, now: Timestamp, fleet: Fleet) -> Vec<Reading> {
    policy.rules().filter_map(|rule| measure::read(&rule, key, state, now, fleet)).collect()
}

fn explain(key: &Key, state: &SubjectState, policy: &Policy, now: Timestamp) -> Vec<String> {
    let sensors = state.seen.iter().map(|seen| &seen.sensor).collect::<std::collections::BTreeSet<_>>().len();
    let readings = readings(key, state, policy, now, Fleet { sensors });
    let mut lines: Vec<String> = readings
        .iter()
        .map(|reading| {
            let points = score::points_milli(reading);
            format!("{}: {}", key.target(), reason::state_of(reading, points, state.login_port))
        })
        .collect();
    if !lines.is_empty() {
        lines.push(format!(
            "{}: a decision is proposed at {} points; seen by {sensors} {}",
            key.target(),
            policy.act_score,
            if sensors == 1 { "sensor" } else { "sensors" },
        ));
    }
    lines.extend(state.proposed.iter().map(|proposed| {
        let again = proposed.at.saturating_add(proposed.ttl / 2).since(now);
        format!(
            "{}: {} proposed {} ago, not again for {}",
            key.target(),
            proposed.verb,
            reason::rounded(now.since(proposed.at)),
            reason::rounded(again),
        )
    }));
    lines
}

#[cfg(test)]
mod tests;
