use super::*;
use crate::v1;
use netguard_core::{
    conversations::Totals,
    decision::{Decision, DecisionId, Origin, Proof, Score, ScorePart, Target, Verb},
    evidence::{Counters, Distinct, EvidenceRecord, Fact, PortShape},
    kind::Kind,
    ledger::{Change, Entry},
    net::{NeverBlockEntry, Prefix, Protocol},
    rollout::{CanaryReport, Hold, RolloutId},
    subject::{Service, Subject},
    time::Timestamp,
    trace::TraceParent,
};
use proptest::prelude::*;
use prost::Message;
use std::{net::IpAddr, time::Duration};

fn addresses() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        any::<[u8; 4]>().prop_map(IpAddr::from),
        any::<[u8; 16]>().prop_map(|bytes| netguard_core::net::canonical(IpAddr::from(bytes))),
    ]
}

fn prefixes() -> impl Strategy<Value = Prefix> {
    // Shorter than /96, a prefix around ::ffff:0:0 covers IPv4-mapped and other addresses alike and has no text form.
    (addresses(), 0u8..=128).prop_map(|(address, len)| Prefix::containing(address, len))
}

fn services() -> impl Strategy<Value = Service> {
    (addresses(), any::<u8>(), any::<u16>()).prop_map(|(address, protocol, port)| Service {
        address,
        protocol: Protocol(protocol),
        port,
    })
}

fn times() -> impl Strategy<Value = Timestamp> {
    (1..=Timestamp::MAX_SANE.as_micros()).prop_map(Timestamp::from_micros)
}

fn targets() -> impl Strategy<Value = (Verb, Target)> {
    prop_oneof![
        (prop_oneof![Just(Verb::Block), Just(Verb::Throttle)], prefixes())
            .prop_map(|(verb, prefix)| (verb, Target::Source(prefix))),
        services().prop_map(|service| (Verb::Shield, Target::Service(service))),
    ]
}

fn kinds() -> impl Strategy<Value = Kind> {
    proptest::sample::select(Kind::ALL)
}

fn names() -> impl Strategy<Value = String> {
    "[a-z0-9][a-z0-9._-]{0,62}"
}

/// Exact ones: a sketch's bytes are not canonical, see `a_sketch_keeps_its_estimate`.
fn distincts() -> impl Strategy<Value = Distinct> {
    proptest::collection::vec(any::<u64>(), 0..=64).prop_map(|values| {
        let mut distinct = Distinct::default();
        values.into_iter().for_each(|value| distinct.insert(value));
        distinct
    })
}

fn traces() -> impl Strategy<Value = TraceParent> {
    prop_oneof![
        Just(TraceParent::default()),
        Just(TraceParent::parse("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"))
    ]
}

prop_compose! {
    fn parts()(kind in kinds(), measured: u64, threshold: u64, weight: u32, sensors: u32, points_milli: u64) -> ScorePart {
        ScorePart { kind, measured, threshold, weight, sensors, points_milli }
    }
}

prop_compose! {
    fn decisions()(
        id: u128,
        (verb, target) in targets(),
        origin in proptest::sample::select(&[Origin::Detector, Origin::Admin, Origin::Feed, Origin::Decoy, Origin::Import][..]),
        proof in proptest::sample::select(&[Proof::None, Proof::Handshake, Proof::Application, Proof::Decoy][..]),
        kinds in proptest::collection::vec(kinds(), 0..4),
        score in (any::<u64>(), proptest::collection::vec(parts(), 0..4)),
        (sensors, sample_flows) in (proptest::collection::vec(names(), 0..=16), proptest::collection::vec("1:[A-Za-z0-9+/=]{28}", 0..=4)),
        reason in "[ -~äß€]{0,80}",
        (a, b) in (times(), times()),
        revision: u64,
        trace in traces(),
        simulated: bool,
        (first_packet_at, threshold_at) in (proptest::option::of(times()), proptest::option::of(times())),
    ) -> Decision {
        Decision {
            id: DecisionId(id), verb, target, origin, kinds, proof, sensors, sample_flows, reason, revision, trace,
            score: Score { total_milli: score.0, parts: score.1 },
            created_at: a.min(b), expires_at: a.max(b), simulated, first_packet_at, threshold_at,
        }
    }
}

prop_compose! {
    fn records()(
        subject in prop_oneof![addresses().prop_map(Subject::Source), services().prop_map(Subject::Service)],
        (a, b, c, d) in (times(), times(), times(), times()),
        counts in proptest::collection::vec((proptest::sample::select(Fact::ALL), any::<u64>()), 0..10),
        (failed_ports, failed_hosts, touched, sources) in (distincts(), distincts(), distincts(), distincts()),
        shapes in proptest::collection::vec((any::<u16>(), 0..u64::MAX / 16, 0..u64::MAX / 16, 0..u64::MAX / 16), 0..8),
        flows in proptest::collection::vec("1:[A-Za-z0-9+/=]{28}", 0..=4),
        proof in proptest::sample::select(&[Proof::None, Proof::Handshake][..]),
        destinations in proptest::collection::vec(addresses(), 0..12),
    ) -> EvidenceRecord {
        let mut record = EvidenceRecord::new(subject, a.min(b), a.max(b));
        let mut counters = Counters::default();
        counts.into_iter().for_each(|(fact, count)| counters.add(fact, count));
        record.counters = counters;
        (record.failed_ports, record.failed_hosts, record.touched, record.sources) =
            (failed_ports, failed_hosts, touched, sources);
        for (port, sessions, short_sessions, long_sessions) in shapes {
            record.add_shape(PortShape { port, sessions, short_sessions, long_sessions });
        }
        (record.first_packet, record.last_packet) = (c.min(d), c.max(d));
        record.flows = flows;
        record.proof = proof;
        destinations.into_iter().for_each(|destination| record.seen_against(destination));
        record
    }
}

prop_compose! {
    fn entries()(id: u128, (verb, target) in targets(), expires_at in times(), trace in traces(), revision: u64, rollout: u64) -> Entry {
        let rollout = (rollout > 0).then_some(RolloutId(rollout));
        Entry { decision: DecisionId(id), verb, target, expires_at, trace, revision, rollout }
    }
}

fn never_blocks() -> impl Strategy<Value = Vec<NeverBlockEntry>> {
    proptest::collection::vec(
        (prefixes(), "[ -~]{0,40}").prop_map(|(prefix, why)| NeverBlockEntry { prefix, why }),
        0..5,
    )
}

fn holds() -> impl Strategy<Value = Hold> {
    (1..u64::MAX, proptest::collection::vec("[a-z]{1,9}", 0..4))
        .prop_map(|(rollout, canaries)| Hold { rollout: RolloutId(rollout), canaries })
}

prop_compose! {
    fn canary_reports()(numbers in proptest::array::uniform8(any::<u64>()), bad in "[ -~]{0,40}", why_failing in "[ -~]{0,40}") -> CanaryReport {
        let [revision, elements, failing, good_known, good_hit, active_before, active_after, healthy_for] = numbers;
        CanaryReport {
            rollout: RolloutId(revision.max(1)), revision, elements, failing, good_known, good_hit, active_before,
            active_after, healthy_for: Duration::from_micros(healthy_for), bad, why_failing,
        }
    }
}

fn changes() -> impl Strategy<Value = Change> {
    prop_oneof![
        entries().prop_map(Change::Put),
        targets().prop_map(|(verb, target)| Change::Remove { verb, target }),
        never_blocks().prop_map(Change::NeverBlock),
        (1u32..=60_000).prop_map(Change::ThrottlePerMinute),
        holds().prop_map(Change::Hold),
        any::<u64>().prop_map(|rollout| Change::Release(RolloutId(rollout))),
        any::<u64>().prop_map(Change::BreakerResets),
    ]
}

/// Through the bytes and back.
fn over_the_wire<D, W>(value: &D) -> Result<D, ConvertError>
where
    D: Clone + TryFrom<W, Error = ConvertError>,
    W: Message + Default + From<D>,
{
    D::try_from(W::decode(W::from(value.clone()).encode_to_vec().as_slice()).unwrap())
}

proptest! {
    #[test]
    fn what_is_sent_is_what_arrives(
        decision in decisions(),
        record in records(),
        changes in proptest::collection::vec(changes(), 0..5),
        entries in proptest::collection::vec(entries(), 0..5),
        never_block in never_blocks(),
        holds in proptest::collection::vec(holds(), 0..3),
        canary_report in canary_reports(),
        (verb, target) in targets(),
        revision in 1..u64::MAX,
        at in times(),
    ) {
        prop_assert_eq!(over_the_wire::<_, v1::Decision>(&decision), Ok(decision));
        prop_assert_eq!(over_the_wire::<_, v1::EvidenceRecord>(&record), Ok(record.clone()));
        let delta = Delta { previous: revision - 1, revision, changes, trace: TraceParent::default(), committed_at: Some(at) };
        prop_assert_eq!(over_the_wire::<_, v1::Delta>(&delta), Ok(delta));
        let part = SnapshotPart { ledger_id: "l".into(), revision, entries, never_block, last: true, throttle_per_minute: Some(20), holds, breaker_resets: revision };
        prop_assert_eq!(over_the_wire::<_, v1::SnapshotPart>(&part), Ok(part));
        prop_assert_eq!(over_the_wire::<_, v1::CanaryReport>(&canary_report), Ok(canary_report));
        let good_peers = GoodPeers { known: 9, tripped: "3 of 9".into(), resets: revision, withheld: 3, unmeasured: "no module".into() };
        prop_assert_eq!(over_the_wire::<_, v1::GoodPeers>(&good_peers), Ok(good_peers));
        let not = NotEffective { verb, target, why: "no nft".into(), decision: Some(DecisionId(7)) };
        prop_assert_eq!(over_the_wire::<_, v1::NotEffective>(&not), Ok(not));
        let drift = Drift { what: "table inet netguard was missing".into(), noticed_at: Some(at), repaired_at: None };
        prop_assert_eq!(over_the_wire::<_, v1::Drift>(&drift), Ok(drift));
        let stopped = Stopped { decision: DecisionId(u128::from(revision)), packets: revision, bytes: u64::MAX };
        prop_assert_eq!(over_the_wire::<_, v1::Stopped>(&stopped), Ok(stopped));
        let probe = Probe { probed_at: Some(at), met: false, why: "no packet came".into() };
        prop_assert_eq!(over_the_wire::<_, v1::Probe>(&probe), Ok(probe));
        let totals = Totals { flows: revision, bytes_to_client: 7, first: at, last: at, ..Totals::default() };
        let entry = FlowEntry {
            source: "192.0.2.1".parse().unwrap(), destination: "2001:db8::1".parse().unwrap(), port: 443,
            protocol: Protocol::TCP, service: "ssl".into(), totals,
        };
        prop_assert_eq!(over_the_wire::<_, v1::Conversation>(&entry), Ok(entry));
        let batch = Batch {
            sequence: revision, cut_at: at, sent_at: Some(at), records: vec![record], again: true,
            losses: [("capture.ring_full".to_owned(), 3)].into(), conditions: ["flow.emergency".to_owned()].into(),
            ..Batch::default()
        };
        prop_assert_eq!(over_the_wire::<_, v1::EvidenceBatch>(&batch), Ok(batch));
    }

    #[test]
    fn a_sketch_keeps_its_estimate(values in proptest::collection::vec(any::<u64>(), 65..400)) {
        let mut distinct = Distinct::default();
        values.into_iter().for_each(|value| distinct.insert(value));
        let back = Distinct::try_from(v1::Distinct::from(&distinct)).unwrap();
        prop_assert_eq!(back.count(), distinct.count());
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        let bytes = bytes.as_slice();
        let _ = v1::Decision::decode(bytes).map(Decision::try_from);
        let _ = v1::EvidenceBatch::decode(bytes).map(Batch::try_from);
        let _ = v1::EvidenceRecord::decode(bytes).map(EvidenceRecord::try_from);
        let _ = v1::FlowWindow::decode(bytes).map(FlowWindow::try_from);
        let _ = v1::SensorHello::decode(bytes).map(Hello::try_from);
        let _ = v1::Delta::decode(bytes).map(Delta::try_from);
        let _ = v1::SnapshotPart::decode(bytes).map(SnapshotPart::try_from);
        let _ = v1::CanaryReport::decode(bytes).map(CanaryReport::try_from);
        let _ = v1::GoodPeers::decode(bytes).map(GoodPeers::try_from);
        let _ = v1::NotEffective::decode(bytes).map(NotEffective::try_from);
        let _ = v1::Drift::decode(bytes).map(Drift::try_from);
        let _ = v1::Stopped::decode(bytes).map(Stopped::try_from);
        let _ = v1::Probe::decode(bytes).map(Probe::try_from);
    }

    #[test]
    fn a_damaged_record_is_refused_or_sane(record in records(), at in any::<proptest::sample::Index>(), byte: u8) {
        let mut bytes = v1::EvidenceRecord::from(record).encode_to_vec();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        if let Ok(Ok(record)) = v1::EvidenceRecord::decode(bytes.as_slice()).map(EvidenceRecord::try_from) {
            prop_assert!(record.start <= record.end && record.end <= Timestamp::MAX_SANE);
            prop_assert!(record.first_packet <= record.last_packet && record.last_packet <= Timestamp::MAX_SANE);
            prop_assert!(record.shapes.len() <= EvidenceRecord::MAX_SHAPES && record.flows.len() <= 4);
        }
    }
}

fn sound_record() -> v1::EvidenceRecord {
    let subject = Subject::Source("192.0.2.1".parse().unwrap());
    let mut record = EvidenceRecord::new(subject, Timestamp::from_secs(10), Timestamp::from_secs(11));
    record.counters.add(Fact::Attempt, 1);
    record.into()
}

#[test]
fn the_field_that_is_wrong_is_named() {
    type Spoil = fn(&mut v1::EvidenceRecord);
    let cases: &[(Spoil, &str)] = &[
        (|r| r.subject = None, "record.subject is missing"),
        (|r| r.end = 9_000_000, "record.end lies before record.start"),
        (|r| r.start = 0, "record.start is missing"),
        (|r| r.end = u64::MAX, "record.end is not a time between 1970 and 9999: check the sender's clock"),
        (|r| r.last_packet = 1, "record.last_packet lies before record.first_packet"),
        (|r| r.proof = 99, "proof has the value 99, which this version does not know"),
        (|r| r.proof = 0, "proof is missing"),
        (|r| r.flows = vec!["1:x".into(); 5], "flows holds 5 and takes at most 4"),
        (|r| r.flows = vec!["1:\u{1b}[2J".into()], "flows has a character that does not belong there"),
        (|r| r.shapes = vec![v1::PortShape::default(); 9], "record.shapes holds 9 and takes at most 8"),
        (
            |r| r.shapes = vec![v1::PortShape { port: 65_536, ..Default::default() }],
            "shape.port takes 0 to 65535, not 65536",
        ),
        (
            |r| r.failed_ports = Some(v1::Distinct { exact: vec![1; 65], sketch: vec![] }),
            "record.failed_ports: more than 64 exact values",
        ),
        (
            |r| r.subject = Some(v1::Subject { of: Some(v1::subject::Of::Source(vec![1, 2, 3])) }),
            "subject.source has 3 bytes and takes 4 or 16",
        ),
    ];
    for (spoil, message) in cases {
        let mut record = sound_record();
        spoil(&mut record);
        let error = EvidenceRecord::try_from(record).unwrap_err();
        assert_eq!(error.to_string(), *message);
        assert_eq!(tonic::Status::from(error).code(), tonic::Code::InvalidArgument);
    }
}

#[test]
fn a_window_of_flows_is_bounded_and_names_what_is_wrong() {
    let entry =
        v1::Conversation { source: vec![192, 0, 2, 1], destination: vec![10, 0, 0, 1], ..Default::default() };
    let window = |conversations| v1::FlowWindow { start: 1, end: 2, conversations, other: None };
    let read = |wire: v1::FlowWindow| FlowWindow::try_from(wire).map_err(|error| error.to_string());
    let states = [("SF".to_owned(), 2), ("NEW".to_owned(), 5)];
    let known = v1::Conversation { states: states.into(), ..entry.clone() };
    let states = read(window(vec![known])).unwrap().entries[0].totals.states;
    assert_eq!(states.iter().map(|(state, count)| (state.name(), count)).collect::<Vec<_>>(), [("SF", 2)]);
    let wrong = |spoil: fn(&mut v1::Conversation)| {
        let mut entry = entry.clone();
        spoil(&mut entry);
        read(window(vec![entry])).unwrap_err()
    };
    assert_eq!(wrong(|entry| entry.source.clear()), "conversation.source has 0 bytes and takes 4 or 16");
    assert_eq!(wrong(|entry| entry.protocol = 256), "conversation.protocol takes 0 to 255, not 256");
    assert_eq!(
        wrong(|entry| entry.service = "x".repeat(33)),
        "conversation.service holds 33 and takes at most 32"
    );
    assert_eq!(wrong(|entry| entry.first = 1), "conversation.last lies before conversation.first");
    let many = read(window(vec![entry.clone(); 4_097])).unwrap_err();
    assert_eq!(many, "window.conversations holds 4097 and takes at most 4096");
    assert_eq!(
        read(v1::FlowWindow { start: 3, ..window(vec![]) }).unwrap_err(),
        "window.end lies before window.start"
    );
    assert_eq!(read(v1::FlowWindow::default()).unwrap_err(), "window.start is missing");
}

#[test]
fn unknown_counters_are_left_out_and_known_ones_stand() {
    let mut wire = sound_record();
    wire.counters.insert("quantum_flux".into(), 7);
    let record = EvidenceRecord::try_from(wire).unwrap();
    assert_eq!(record.counters.iter().collect::<Vec<_>>(), [(Fact::Attempt, 1)]);
}

#[test]
fn one_bad_record_does_not_cost_its_batch() {
    let bad = v1::EvidenceRecord { end: 1, ..sound_record() };
    let wire = v1::EvidenceBatch {
        sequence: 4,
        cut_at: 12_000_000,
        records: vec![sound_record(), bad, sound_record()],
        ..Default::default()
    };
    let batch = Batch::try_from(wire).unwrap();
    assert_eq!((batch.records.len(), batch.refused), (2, 1));
    let why = ConvertError::Order { field: "record.end", other: "record.start" };
    assert_eq!(batch.first_refusal, Some(why));
}

#[test]
fn prefixes_are_exact_and_mapped_ones_unwrapped() {
    let prefix = |address: &[u8], length| {
        Prefix::try_from(v1::Prefix { address: address.to_vec(), length }).map(|prefix| prefix.to_string())
    };
    assert_eq!(prefix(&[192, 0, 2, 0], 24).as_deref(), Ok("192.0.2.0/24"));
    let mut mapped = [0; 16];
    mapped[10..].copy_from_slice(&[255, 255, 10, 0, 0, 1]);
    assert_eq!(prefix(&mapped, 128).as_deref(), Ok("10.0.0.1"));
    assert!(matches!(prefix(&[192, 0, 2, 1], 24), Err(ConvertError::Prefix { .. })));
    assert!(matches!(prefix(&[192, 0, 2, 1], 33), Err(ConvertError::OutOfRange { .. })));
    assert!(matches!(prefix(&[192, 0, 2, 1], 256 + 32), Err(ConvertError::OutOfRange { .. })));
    assert!(matches!(prefix(&[], 0), Err(ConvertError::Bytes { .. })));
}

#[test]
fn a_verb_only_goes_with_its_kind_of_target() {
    let service = Service { address: "192.0.2.1".parse().unwrap(), protocol: Protocol::TCP, port: 80 };
    let key = v1::EntryKey::from((Verb::Block, Target::Service(service)));
    assert_eq!(<(Verb, Target)>::try_from(key), Err(ConvertError::VerbTarget));
    let key = v1::EntryKey::from((Verb::Shield, Target::Source("192.0.2.1".parse().unwrap())));
    assert_eq!(<(Verb, Target)>::try_from(key), Err(ConvertError::VerbTarget));
}

#[test]
fn text_shows_what_would_deceive() {
    let shown = text("why", "a\u{1b}[31m\u{202e}b\0".into()).unwrap();
    assert_eq!(shown, "a\\u{1b}[31m\\u{202e}b\\u{0}");
    assert!(matches!(text("why", "x".repeat(1025)), Err(ConvertError::TooMany { .. })));
    for bad in ["", "../../x", "=cmd()", "<script>", "a\0", "A"] {
        assert_eq!(name("sensor_id", bad.into()), Err(ConvertError::Name { field: "sensor_id" }), "{bad:?}");
    }
}

#[test]
fn hello_is_checked_like_the_rest() {
    let hello = Hello {
        sensor_id: "host-1".into(),
        epoch: 9,
        version: "0.1.0".into(),
        networks: vec!["10.0.0.0/8".parse().unwrap()],
        interfaces: vec!["eth0".into()],
        conditions: ["capture.blind".to_owned()].into(),
    };
    assert_eq!(over_the_wire::<_, v1::SensorHello>(&hello), Ok(hello.clone()));
    let with = |conditions: Vec<String>| {
        Hello::try_from(v1::SensorHello { conditions, ..v1::SensorHello::from(hello.clone()) }).map(|_| ())
    };
    let field = "hello.conditions";
    assert_eq!(with(vec!["a b".into()]), Err(ConvertError::Character { field }));
    let many = (0..33).map(|number| number.to_string()).collect();
    assert_eq!(with(many), Err(ConvertError::TooMany { field, len: 33, max: 32 }));
}
