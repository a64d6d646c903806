//! What would cut a cluster off from itself is refused by each layer alone: the ledger when it is asked, the ledger when a
//! judge proposes, and the plan of every host.

#![allow(clippy::unwrap_used, reason = "a panic is the report")]

use netguard_core::{
    decision::{Decision, DecisionId, Origin, Proof, Score, Target, Verb},
    kind::Kind,
    ledger::{Actor, Command, Entry, Ledger, Request, RequestId},
    net::NeverBlockEntry,
    plan::{Desired, Layout, Scope},
    time::Timestamp,
    trace::TraceParent,
};

/// Everybody; the cluster's network; a host's own network. In all their disguises.
const CUT_OFF: &[&str] = &[
    "0.0.0.0/0",
    "0.0.0.0/1",
    "::/0",
    "::/1",
    "10.20.0.0/16",
    "10.20.30.0/24",
    "10.20.30.1",
    "64:ff9b::a14:1e01",
    "2002:a14:1e01::/48",
    "fd20::/64",
    "fd20::1",
];
/// A coordinator of the cluster, or an address of the host itself.
const OURS: [&str; 2] = ["10.20.30.1", "fd20::1"];
const NOW: Timestamp = Timestamp::from_secs(1_000_000);

fn ours() -> Vec<NeverBlockEntry> {
    let entry = |address: &str| NeverBlockEntry { prefix: address.parse().unwrap(), why: "ours".into() };
    OURS.map(entry).into()
}

fn ask(ledger: &mut Ledger, number: u64, command: Command) -> bool {
    let request = Request {
        id: RequestId(number.into()),
        at: NOW,
        actor: Actor::Leader(1),
        trace: TraceParent::default(),
        command,
    };
    ledger.apply(number, &request).0.outcome.is_ok()
}

fn proposal(number: u64, source: &str, verb: Verb) -> Decision {
    Decision {
        id: DecisionId(number.into()),
        verb,
        target: Target::Source(source.parse().unwrap()),
        origin: Origin::Detector,
        kinds: vec![Kind::PortScan],
        score: Score::default(),
        proof: Proof::Handshake,
        sensors: vec!["web-1".into()],
        sample_flows: vec![],
        reason: "scanned".into(),
        created_at: NOW,
        expires_at: Timestamp::from_secs(1_003_600),
        revision: 0,
        trace: TraceParent::default(),
        simulated: false,
        first_packet_at: None,
        threshold_at: None,
    }
}

#[test]
fn no_layer_lets_a_cluster_cut_itself_off() {
    let mut ledger = Ledger::new();
    assert!(ask(&mut ledger, 1, Command::Initialise { cluster: "prod".into(), never_block: ours() }));
    let mut desired = Desired::default();
    desired.set_host_never_block(ours());
    let mut number = 1;
    for source in CUT_OFF {
        for verb in [Verb::Block, Verb::Throttle] {
            number += 1;
            let by_hand = Command::AdminBlock {
                id: DecisionId(number.into()),
                verb,
                prefix: source.parse().unwrap(),
                ttl_seconds: 60,
                reason: "by mistake".into(),
                canary: false,
            };
            assert!(!ask(&mut ledger, number, by_hand), "an admin may {verb:?} {source}");
            number += 1;
            let decision = Box::new(proposal(number, source, verb));
            assert!(
                !ask(&mut ledger, number, Command::Propose { decision }),
                "a judge may {verb:?} {source}"
            );
            desired.put(Entry {
                decision: DecisionId(number.into()),
                verb,
                target: Target::Source(source.parse().unwrap()),
                expires_at: Timestamp::from_secs(1_000_060),
                trace: TraceParent::default(),
                revision: 1,
                rollout: None,
            });
        }
    }
    assert_eq!(ledger.decision_count(), 0);
    let layout = Layout::of(&desired, NOW, Scope::All);
    assert!(layout.elements().is_empty(), "{:?}", layout.elements());
    assert_eq!(layout.not_effective().len(), 2 * CUT_OFF.len(), "each is told to the operator");
}
