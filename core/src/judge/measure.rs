//! What a rule measures of a subject, over its window and over its slow one.

use super::{
    Fleet,
    subject::{Key, SubjectState},
    window::{Counts, Field, Tried, Window},
};
use crate::{
    policy::{Measure, Rule},
    time::Timestamp,
};
use std::time::Duration;

/// Distinct endpoints that must have answered the scan itself before its source counts as proven. One could be the
/// single health check of an innocent host in whose name somebody sends the rest.
pub(super) const PROVING_ENDPOINTS: u64 = 2;
/// The fewest hosts that make a sweep, however small the fleet. With first contacts that fail four times in five for a
/// scanner and once in five for anybody else, four failures in a row are 256 times likelier from a scanner (Threshold
/// Random Walk; Jung, Paxson, Berger and Balakrishnan, 2004); three are 64 times likelier.
const FEWEST_SWEPT_HOSTS: u64 = 3;
/// Ports a host more (hosts a port more) than which one sensor's view is a scan (a sweep), not peer-to-peer: such
/// clients try about one port on each of many peers, most of them gone.
const LOPSIDED: u64 = 3;
/// Tries per port or host from which it is a scan of both at once, whatever its shape.
const DENSE: u64 = 4;
/// One sensor's view of many hosts (a gateway, a capture file): a source of which so many tries work for each that fails
/// is a busy client or resolver, not a sweep. Benign first contacts succeed four times in five (Jung et al., 2004).
const WORKING_PER_FAILED: u64 = 4;
/// From this multiple of the threshold on, nobody needs the exact number.
const PLENTY: u64 = 4;

/// A measure held against its threshold.
#[derive(Debug, Clone)]
pub(super) struct Reading {
    pub(super) rule: Rule,
    pub(super) measured: u64,
    pub(super) threshold: u64,
    pub(super) window: Duration,
    /// Sensors whose evidence it is.
    pub(super) sensors: Vec<std::sync::Arc<str>>,
    /// Completed handshakes that belong to the evidence itself.
    pub(super) handshakes: u64,
    pub(super) proven: bool,
    pub(super) ports: u64,
    pub(super) hosts: u64,
    pub(super) counts: Counts,
    pub(super) first_packet: Timestamp,
    pub(super) last_packet: Timestamp,
}

/// The reading of the window, or of the slow one when that says more. `None` when there is nothing of it.
pub(super) fn read(
    rule: &Rule,
    key: &Key,
    state: &SubjectState,
    now: Timestamp,
    fleet: Fleet,
) -> Option<Reading> {
    let is_service = matches!(key, Key::Service(_));
    if is_service != (rule.row.measure == Measure::UnansweredSyns) {
        return None;
    }
    let fast = read_window(rule, state, now, fleet, rule.threshold, rule.window, false);
    let slow = rule.slow.and_then(|(threshold, window)| {
        if window <= rule.window {
            return None;
        }
        read_window(rule, state, now, fleet, threshold, window, true)
    });
    let ratio = |reading: &Reading| u128::from(reading.measured) * 1000 / u128::from(reading.threshold);
    match (fast, slow) {
        (Some(fast), Some(slow)) => {
            let fast_says_it = fast.measured >= fast.threshold || ratio(&fast) >= ratio(&slow);
            Some(if fast_says_it { fast } else { slow })
        }
        (fast, slow) => fast.or(slow),
    }
}

fn read_window(
    rule: &Rule,
    state: &SubjectState,
    now: Timestamp,
    fleet: Fleet,
    threshold: u64,
    window: Duration,
    slow: bool,
) -> Option<Reading> {
    let from = now.saturating_sub(window);
    let sensors = |last: fn(&super::seen::Seen) -> Timestamp| {
        let mut names: Vec<_> = state
            .seen
            .iter()
            .filter(|seen| last(seen) > Timestamp::default() && last(seen) >= from)
            .map(|seen| seen.sensor.clone())
            .collect();
        names.sort_unstable();
        names.dedup();
        names
    };
    let of_source = rule.row.measure != Measure::UnansweredSyns;
    let found = state.rings.window(now, window, of_source);
    let mut reading = Reading {
        rule: *rule,
        measured: 0,
        threshold,
        window,
        sensors: Vec::new(),
        handshakes: 0,
        proven: false,
        ports: 0,
        hosts: 0,
        counts: found.counts,
        first_packet: found.first_packet,
        last_packet: found.last_packet,
    };
    match rule.row.measure {
        Measure::FailedPorts | Measure::FailedHosts => {
            reading.sensors = sensors(|seen| seen.last_failed);
            tries(&mut reading, &found, state, fleet, slow);
        }
        Measure::ShortLoginSessions => {
            reading.sensors = sensors(|seen| seen.last_login);
            reading.measured = found.counts.short_sessions;
            reading.handshakes = found.counts.short_sessions;
            // Only sessions whose handshakes a sensor saw completed are counted at all.
            reading.proven = reading.measured > 0;
        }
        Measure::EmptySessions => {
            reading.sensors = sensors(|seen| seen.last);
            reading.handshakes = found.counts.empty_sessions;
            // Whoever looks at many endpoints says nothing to each of them once: that is a scan, or a health check.
            reading.hosts = found.distinct(Field::Touched).max(1);
            reading.measured = found.counts.empty_sessions / reading.hosts;
            reading.proven = reading.measured > 0;
        }
        Measure::UnansweredSyns => {
            reading.sensors = sensors(|seen| seen.last);
            reading.measured = unanswered_syns(&found.counts, slow);
        }
    }
    (reading.measured > 0).then_some(reading)
}

fn tries(reading: &mut Reading, found: &Window<'_>, state: &SubjectState, fleet: Fleet, slow: bool) {
    let several = reading.sensors.len() > 1;
    let sweep = reading.rule.row.measure == Measure::FailedHosts;
    reading.handshakes = found.distinct(Field::Touched);
    reading.proven = reading.handshakes >= PROVING_ENDPOINTS && found.touches_are_proven();
    let measured = |tried: &Tried| {
        let (many, others) = if sweep { (tried.hosts, tried.ports) } else { (tried.ports, tried.hosts) };
        // The slow rings stop counting at some dozens, tries go on: there density says nothing.
        let dense = !slow && tried.failed >= DENSE.saturating_mul(tried.ports.max(tried.hosts));
        if several || dense {
            many
        } else {
            many.saturating_sub(LOPSIDED.saturating_mul(others.saturating_sub(1)))
        }
    };
    // Adding up sketches has its price: where one sub-window is enough by itself, its numbers do.
    let enough = |tried: &Tried| measured(tried) >= reading.threshold.saturating_mul(PLENTY);
    let tried = found.busiest().filter(enough).unwrap_or_else(|| found.tried());
    (reading.ports, reading.hosts, reading.measured) = (tried.ports, tried.hosts, measured(&tried));
    if sweep && reading.measured < reading.threshold && reading.hosts >= reading.threshold {
        // As Zeek counts: hosts tried on the same port, whatever else the source does (an infected peer-to-peer client).
        reading.measured = reading.measured.max(found.hosts_of_busiest_port());
    }
    if !sweep {
        return;
    }
    if several && fleet.sensors > 1 {
        // The whole of a small fleet is as much as anybody can sweep.
        let hosts = u64::try_from(fleet.sensors.max(reading.sensors.len())).unwrap_or(u64::MAX);
        reading.threshold = reading.threshold.min(hosts.max(FEWEST_SWEPT_HOSTS));
        // A host with which the source has more to do than it fails at was not tried blindly.
        reading.measured = reading.measured.saturating_sub(state.acquainted_sensors(&reading.sensors));
    } else if slow || found.counts.worked >= WORKING_PER_FAILED.saturating_mul(found.counts.failed) {
        // Everybody who surfs meets some dead hosts, and in an hour many.
        reading.measured = 0;
    }
}

/// SYNs nobody completed: at least half of all, else it is a busy service with some loss.
///
/// The slow variant counts only what our service answered and nobody acknowledged (half-open connections): a dead
/// service that its clients keep asking for is no flood.
fn unanswered_syns(counts: &Counts, slow: bool) -> u64 {
    let syns = counts.syns.saturating_sub(counts.refused);
    let asked = if slow { syns.min(counts.syn_acks) } else { syns };
    let unanswered = asked.saturating_sub(counts.handshakes);
    if unanswered >= asked.div_ceil(2) { unanswered } else { 0 }
}
