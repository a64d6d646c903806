//! How many records a second one judge takes in, on one core.

use netguard_core::{
    decision::Proof,
    evidence::{EvidenceRecord, Fact},
    judge::{Arrival, Fleet, Judge},
    net::Protocol,
    policy::Policy,
    subject::{Service, Subject},
    time::Timestamp,
    trace::TraceParent,
};
use serde::Serialize;
use std::{
    net::{IpAddr, Ipv4Addr},
    time::{Duration, Instant},
};

/// What one workload measured.
#[derive(Debug, Clone, Serialize)]
pub struct JudgeFigures {
    pub workload: &'static str,
    pub records: u64,
    pub records_per_second: u64,
    pub nanoseconds_per_record: u64,
    /// Slowest single record: what everybody behind it waits for.
    pub slowest_microseconds: u64,
    pub subjects: usize,
    pub bytes: usize,
}

type Make = fn(u64, Timestamp) -> EvidenceRecord;

/// Workloads a coordinator meets, from the usual to the hostile.
const WORKLOADS: [(&str, Make); 5] = [
    ("a thousand sources, a failed try each 100 ms", thousand),
    ("every record another spoofed source", spoofed),
    ("one fast scan, 200 ports in each record", scan),
    ("a peer-to-peer client, 5 dead peers in each record", peers),
    ("a SYN flood on one service", flood),
];

/// Runs every workload with `records` records, ten a millisecond of the judge's time.
#[must_use]
pub fn run(records: u64) -> Vec<JudgeFigures> {
    WORKLOADS.into_iter().map(|(workload, make)| measure(workload, make, records)).collect()
}

fn measure(workload: &'static str, make: Make, records: u64) -> JudgeFigures {
    let (mut judge, policy, trace) = (Judge::new(1), Policy::default(), TraceParent::default());
    let start = Timestamp::from_secs(1_800_000_000);
    let (mut spent, mut slowest) = (Duration::ZERO, Duration::ZERO);
    for sequence in 1..=records {
        let now = start.saturating_add(Duration::from_micros(sequence * 100));
        let record = make(sequence, now);
        let sensor = if sequence % 2 == 0 { "even" } else { "odd" };
        let arrival = Arrival { sensor, epoch: 1, sequence, trace: &trace, now };
        let began = Instant::now();
        std::hint::black_box(judge.observe(&arrival, &record, &policy, Fleet { sensors: 2 }));
        if sequence % 50_000 == 0 {
            judge.tick(now);
        }
        let took = began.elapsed();
        spent += took;
        slowest = slowest.max(took);
    }
    let nanoseconds = |duration: Duration| u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
    let each = nanoseconds(spent) / records.max(1);
    JudgeFigures {
        workload,
        records,
        records_per_second: 1_000_000_000 / each.max(1),
        nanoseconds_per_record: each,
        slowest_microseconds: nanoseconds(slowest) / 1000,
        subjects: judge.len(),
        bytes: judge.bytes(),
    }
}

fn source(number: u64, at: Timestamp) -> EvidenceRecord {
    let address = Ipv4Addr::from(u32::try_from(0x0b00_0000 + number).unwrap_or(u32::MAX));
    EvidenceRecord::new(Subject::Source(IpAddr::V4(address)), at, at)
}

fn fail(record: &mut EvidenceRecord, host: u64, port: u64) {
    record.counters.add(Fact::Attempt, 1);
    record.counters.add(Fact::Silent, 1);
    record.failed_ports.insert_port(u16::try_from(port % 65_536).unwrap_or_default());
    let host = Ipv4Addr::from(u32::try_from(0x0a00_0000 + host).unwrap_or(u32::MAX));
    record.failed_hosts.insert_address(IpAddr::V4(host));
}

fn thousand(sequence: u64, at: Timestamp) -> EvidenceRecord {
    let mut record = source(sequence % 1_000, at);
    fail(&mut record, sequence % 4, sequence / 1_000 % 8);
    record
}

fn spoofed(sequence: u64, at: Timestamp) -> EvidenceRecord {
    let mut record = source(sequence, at);
    fail(&mut record, 1, 80);
    record
}

fn scan(sequence: u64, at: Timestamp) -> EvidenceRecord {
    let mut record = source(1, at);
    (0..200).for_each(|port| fail(&mut record, 1, sequence * 200 + port));
    record
}

fn peers(sequence: u64, at: Timestamp) -> EvidenceRecord {
    let mut record = source(1, at);
    (0..5).for_each(|peer| fail(&mut record, sequence * 5 + peer, (sequence * 5 + peer).wrapping_mul(5_881)));
    record
}

fn flood(sequence: u64, at: Timestamp) -> EvidenceRecord {
    let service = Service { address: IpAddr::from([10, 0, 0, 4]), protocol: Protocol::TCP, port: 80 };
    let mut record = EvidenceRecord::new(Subject::Service(service), at, at);
    record.counters.add(Fact::ServiceSyn, 250);
    record.counters.add(Fact::ServiceSynAck, 250);
    (0..250).for_each(|n| {
        let address = Ipv4Addr::from(u32::try_from((sequence * 250 + n) % (1 << 32)).unwrap_or_default());
        record.sources.insert_address(IpAddr::V4(address));
    });
    record.proof = Proof::None;
    record
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_workload_is_measured() {
        let figures = run(200);
        assert_eq!(figures.len(), WORKLOADS.len());
        assert!(figures.iter().all(|figure| figure.records_per_second > 0 && figure.subjects > 0));
    }
}
