use super::*;
use crate::{
    ledger::Entry,
    plan::{Desired, Scope},
    trace::TraceParent,
};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

const NOW: Timestamp = Timestamp::from_secs(1_000);

fn at(seconds: u64) -> Timestamp {
    Timestamp::from_secs(seconds)
}

fn held(decision: u128, until: u64) -> Held {
    Held::new(DecisionId(decision), at(until))
}

/// The same by looking at everything.
fn scan(all: &BTreeMap<Element, Held>, address: IpAddr, now: Timestamp) -> Option<(Verb, Timestamp)> {
    let around = all.iter().filter(|(element, held)| {
        held.expires_at > now && source(element).is_some_and(|prefix| prefix.contains(address))
    });
    around.map(|(element, held)| (element.verb, held.expires_at)).max()
}

/// Few bits that vary, so that prefixes lie in one another and part everywhere.
fn prefix() -> impl Strategy<Value = Prefix> {
    let v4 = (any::<[bool; 4]>(), 0_u8..=32).prop_map(|(bits, len)| {
        let [a, b, c, d] = bits.map(u32::from);
        let address = (a << 31) | (b << 20) | (c << 7) | d | 0x0b00_0000;
        Prefix::containing(IpAddr::V4(address.into()), len)
    });
    let v6 = (any::<[bool; 4]>(), 0_u8..=128).prop_map(|(bits, len)| {
        let [a, b, c, d] = bits.map(u128::from);
        let address = (a << 127) | (b << 90) | (c << 63) | d | (0x2001_u128 << 112);
        Prefix::containing(IpAddr::V6(address.into()), len)
    });
    prop_oneof![v4, v6]
}

fn element() -> impl Strategy<Value = Element> {
    (prefix(), any::<bool>()).prop_map(
        |(prefix, block)| {
            if block { Element::block(prefix) } else { Element::throttle(prefix) }
        },
    )
}

proptest! {
    #[test]
    fn the_trie_answers_as_a_scan_of_everything_would(
        steps in proptest::collection::vec((element(), proptest::option::weighted(0.7, 900_u64..1_100)), 1..80),
        asked in proptest::collection::vec(prefix(), 1..40),
    ) {
        let (mut sources, mut all) = (Sources::default(), BTreeMap::new());
        for (number, (element, until)) in steps.into_iter().enumerate() {
            match until {
                Some(until) => {
                    let held = held(number as u128, until);
                    sources.put(&element, held);
                    all.insert(element, held);
                }
                None => {
                    sources.remove(&element);
                    all.remove(&element);
                }
            }
            prop_assert_eq!(sources.len(), all.len());
        }
        for (element, held) in &all {
            prop_assert_eq!(sources.get(element), Some(*held));
        }
        for asked in asked.iter().chain(all.keys().filter_map(|element| match &element.target {
            Target::Source(prefix) => Some(prefix),
            Target::Service(_) => None,
        })) {
            for address in [asked.address(), asked.last_address()] {
                let answer = sources.decided(address, NOW).map(|(verb, held)| (verb, held.expires_at));
                prop_assert_eq!(answer, scan(&all, address, NOW), "{}", address);
            }
        }
        for families in [&sources.blocked, &sources.throttled] {
            prop_assert!(families.v4.nodes() <= (2 * families.v4.len()).saturating_sub(1));
            prop_assert!(families.v6.nodes() <= (2 * families.v6.len()).saturating_sub(1));
        }
        for element in all.keys() {
            sources.remove(element);
        }
        prop_assert_eq!((sources.len(), sources.blocked.v4.nodes(), sources.throttled.v6.nodes()), (0, 0, 0));
    }

    /// Following what was touched gives what following everything gives, whatever is wanted meanwhile.
    #[test]
    fn following_changes_is_following_everything(
        batches in proptest::collection::vec(
            proptest::collection::vec((element(), proptest::option::weighted(0.6, 1_001_u64..1_100)), 1..8),
            1..12,
        ),
    ) {
        let (mut desired, mut sources) = (Desired::default(), Sources::default());
        for batch in batches {
            let mut touched = BTreeSet::new();
            for (element, until) in batch {
                touched.insert(element);
                match until {
                    Some(until) => drop(desired.put(Entry {
                        decision: DecisionId(u128::from(until)),
                        verb: element.verb,
                        target: element.target,
                        expires_at: at(until),
                        trace: TraceParent::default(),
                        revision: 1,
                        rollout: None,
                    })),
                    None => drop(desired.remove(element.verb, element.target)),
                }
            }
            let layout = Layout::of(&desired, NOW, Scope::Touched(&touched));
            for (element, expires_at) in layout.elements().iter() {
                sources.put(element, Held::new(desired.entry(element).unwrap().decision, *expires_at));
            }
            for element in sources.stale(&layout) {
                sources.remove(&element);
            }
            let all = Layout::of(&desired, NOW, Scope::All);
            prop_assert_eq!(sources.stale(&all), vec![]);
            prop_assert_eq!(sources.len(), all.elements().len());
            for (element, expires_at) in all.elements().iter() {
                prop_assert_eq!(sources.get(element).map(|held| held.expires_at), Some(*expires_at));
            }
        }
    }
}

#[test]
fn a_block_outweighs_a_throttle_and_what_is_over_says_nothing() {
    let mut sources = Sources::default();
    let put = |sources: &mut Sources, element: Element, decision, until| {
        sources.put(&element, held(decision, until));
    };
    put(&mut sources, Element::throttle("203.0.113.0/24".parse().unwrap()), 1, 3_000);
    put(&mut sources, Element::block("203.0.113.7".parse().unwrap()), 2, 2_000);
    put(&mut sources, Element::block("203.0.0.0/16".parse().unwrap()), 3, 1_500);
    let asked = |sources: &Sources, address: &str, now| {
        sources.decided(address.parse().unwrap(), at(now)).map(|(verb, held)| (verb, held.decision().0))
    };
    assert_eq!(asked(&sources, "203.0.113.7", 1_000), Some((Verb::Block, 2)));
    assert_eq!(asked(&sources, "::ffff:203.0.113.7", 1_000), Some((Verb::Block, 2)));
    assert_eq!(asked(&sources, "203.0.113.8", 1_000), Some((Verb::Block, 3)));
    assert_eq!(asked(&sources, "203.0.113.8", 1_500), Some((Verb::Throttle, 1)));
    assert_eq!(asked(&sources, "203.0.113.7", 2_500), Some((Verb::Throttle, 1)));
    assert_eq!(asked(&sources, "203.0.113.7", 3_000), None);
    assert_eq!(asked(&sources, "203.1.0.1", 1_000), None);
    assert_eq!(asked(&sources, "2001:db8::1", 1_000), None);
    sources.put(&Element::block("::/0".parse().unwrap()), held(4, 2_000));
    assert_eq!(asked(&sources, "2001:db8::1", 1_000), Some((Verb::Block, 4)));
    assert_eq!(asked(&sources, "203.1.0.1", 1_000), None);
}
