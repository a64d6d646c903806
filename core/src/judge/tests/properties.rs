//! What holds for any evidence in any order.

use super::*;
use proptest::prelude::*;

/// Evidence of every sort, from few sources, ports and hosts so that it adds up.
fn evidence(with_proof: bool) -> impl Strategy<Value = EvidenceRecord> {
    let proof = if with_proof {
        prop_oneof![Just(Proof::None), Just(Proof::Handshake)].boxed()
    } else {
        Just(Proof::None).boxed()
    };
    (
        (0u8..3, any::<bool>(), 0u64..1_000, proof),
        proptest::collection::vec((0u32..30, 1u16..40), 0..20),
        proptest::collection::vec((0u32..4, 1u16..4), 0..3),
        proptest::collection::vec((proptest::sample::select(Fact::ALL), 0u64..2_000), 0..4),
        proptest::option::of(0u64..20),
    )
        .prop_map(|((source, v6, second, proof), fails, touches, facts, short)| {
            let at = Timestamp::from_secs(START + second);
            let address = if v6 { format!("2001:db8::{source}") } else { format!("192.0.2.{source}") };
            let mut record = about(Subject::Source(address.parse().unwrap()), at);
            fails.into_iter().for_each(|(number, port)| failed(&mut record, number, port));
            touches.into_iter().for_each(|(number, port)| touched(&mut record, number, port));
            facts.into_iter().for_each(|(fact, count)| record.counters.add(fact, count));
            if let Some(short) = short {
                logins(&mut record, short);
            }
            record.proof = proof;
            record
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn what_is_not_proven_never_blocks(
        records in proptest::collection::vec((0u8..4, evidence(false)), 0..120),
        fleet in 0usize..6,
    ) {
        let mut court = Court::with_sensors(fleet);
        for (sensor, record) in &records {
            court.now = court.now.max(record.end);
            for proposal in court.hears_record(&format!("s{sensor}"), record) {
                prop_assert_ne!(proposal.verb, Verb::Block, "{}", proposal.reason);
            }
        }
    }

    #[test]
    fn order_and_repetition_of_arrival_change_nothing(
        records in proptest::collection::vec((0u8..4, evidence(true)), 1..40),
        order in any::<u64>(),
        again in proptest::collection::vec(any::<proptest::sample::Index>(), 0..40),
    ) {
        let numbered: Vec<_> = records.into_iter().zip(1u64..).map(|((sensor, record), n)| (sensor, n, record)).collect();
        let mut shuffled = numbered.clone();
        shuffled.sort_by_key(|(_, n, _)| (n ^ order).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        shuffled.extend(again.iter().map(|index| numbered[index.index(numbered.len())].clone()));
        let end = Timestamp::from_secs(START + 1_000);
        let held = |records: &[(u8, u64, EvidenceRecord)]| {
            let (mut judge, policy) = (Judge::new(1), Policy::default());
            for (sensor, sequence, record) in records {
                let trace = TraceParent::default();
                let name = format!("s{sensor}");
                let arrival = Arrival { sensor: &name, epoch: 1, sequence: *sequence, trace: &trace, now: end };
                judge.observe(&arrival, record, &policy, Fleet { sensors: 4 });
            }
            (0..3)
                .flat_map(|n| judge.explain(&Subject::Source(host_of(n)), &policy, end))
                .filter(|line| !line.contains("proposed"))
                .collect::<Vec<_>>()
        };
        prop_assert_eq!(held(&numbered), held(&shuffled));
    }
}

fn host_of(number: u8) -> IpAddr {
    IpAddr::from([192, 0, 2, number])
}
