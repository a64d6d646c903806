use super::*;
use crate::{
    evidence::{Fact, PortShape},
    kind::Kind,
};
use std::net::{IpAddr, Ipv4Addr};

mod bounds;
mod floods;
mod properties;
mod proposing;
mod recon;

const START: u64 = 1_800_000_000;
const SCANNER: &str = "198.51.100.7";

/// A judge, its clock, and sensors that number their batches.
struct Court {
    judge: Judge,
    policy: Policy,
    fleet: usize,
    now: Timestamp,
    sequence: u64,
}

impl Court {
    fn with_sensors(fleet: usize) -> Self {
        let now = Timestamp::from_secs(START);
        Self { judge: Judge::new(7), policy: Policy::default(), fleet, now, sequence: 0 }
    }

    fn pass(&mut self, duration: Duration) {
        self.now = self.now.saturating_add(duration);
    }

    fn hears(
        &mut self,
        sensor: &str,
        record: impl FnOnce(&mut EvidenceRecord),
        source: &str,
    ) -> Vec<Proposal> {
        let mut evidence = about(Subject::Source(source.parse().unwrap()), self.now);
        record(&mut evidence);
        self.hears_record(sensor, &evidence)
    }

    fn hears_record(&mut self, sensor: &str, record: &EvidenceRecord) -> Vec<Proposal> {
        self.sequence += 1;
        let trace = TraceParent::default();
        let arrival = Arrival { sensor, epoch: 1, sequence: self.sequence, trace: &trace, now: self.now };
        self.judge.observe(&arrival, record, &self.policy, Fleet { sensors: self.fleet })
    }
}

fn about(subject: Subject, at: Timestamp) -> EvidenceRecord {
    EvidenceRecord::new(subject, at, at)
}

fn host(number: u32) -> IpAddr {
    IpAddr::V4(Ipv4Addr::from(0x0a00_0000 + number))
}

/// Tried `port` on host `number`, and nobody there.
fn failed(record: &mut EvidenceRecord, number: u32, port: u16) {
    record.counters.add(Fact::Attempt, 1);
    record.counters.add(Fact::Refused, 1);
    record.failed_ports.insert_port(port);
    record.failed_hosts.insert_address(host(number));
}

/// Connected to an open port of host `number` and said nothing. A sensor vouches for it from the second one on.
fn touched(record: &mut EvidenceRecord, number: u32, port: u16) {
    record.counters.add(Fact::EmptySession, 1);
    record.touched.insert_endpoint(host(number), port);
}

fn logins(record: &mut EvidenceRecord, short_sessions: u64) {
    record.add_shape(PortShape { port: 22, sessions: short_sessions, short_sessions, long_sessions: 0 });
    record.proof = Proof::Handshake;
}

fn verbs(proposals: &[Proposal]) -> Vec<(Verb, Kind, String)> {
    proposals.iter().map(|p| (p.verb, p.kinds[0], p.target.to_string())).collect()
}

fn throttled(kind: Kind) -> Vec<(Verb, Kind, String)> {
    vec![(Verb::Throttle, kind, SCANNER.to_owned())]
}

fn blocked(kind: Kind) -> Vec<(Verb, Kind, String)> {
    vec![(Verb::Block, kind, SCANNER.to_owned())]
}
