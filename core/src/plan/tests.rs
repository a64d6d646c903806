use super::*;
use crate::{
    decision::DecisionId,
    ledger::Entry,
    net::{NeverBlockEntry, Protocol},
    time::Timestamp,
    trace::TraceParent,
};
use proptest::prelude::*;
use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr},
};

const NOW: Timestamp = Timestamp::from_secs(1_000_000);

fn at(secs: u64) -> Timestamp {
    Timestamp::from_secs(1_000_000 + secs)
}

fn prefix(text: &str) -> Prefix {
    text.parse().unwrap()
}

fn entry(element: Element, expires_at: Timestamp) -> Entry {
    Entry {
        decision: DecisionId(7),
        verb: element.verb,
        target: element.target,
        expires_at,
        trace: TraceParent::default(),
        revision: 1,
    }
}

fn desired(elements: &[(Element, Timestamp)]) -> Desired {
    let mut desired = Desired::default();
    for &(element, expires_at) in elements {
        desired.put(entry(element, expires_at));
    }
    desired
}

/// As the kernel: takes a whole transaction or nothing, refuses overlapping prefixes, and knows what it deletes.
fn transact(actual: &Actual, actions: &[Action]) -> Result<Actual, String> {
    let mut next = actual.clone();
    for action in actions {
        match *action {
            Action::SetThrottle { per_minute } => next.throttle_per_minute = Some(per_minute),
            Action::Add { element, expires_at } => {
                let overlap = element.wide_prefix().and_then(|_| {
                    next.elements.keys().find(|e| e.wide_prefix().is_some() && e.overlaps(&element))
                });
                if let Some(overlap) = overlap {
                    return Err(format!("{element} overlaps {overlap}"));
                }
                if next.elements.insert(element, expires_at).is_some() {
                    return Err(format!("{element} is held already"));
                }
            }
            Action::Extend { element, expires_at } => {
                if next.elements.insert(element, expires_at).is_none() {
                    return Err(format!("{element} is not held"));
                }
            }
            Action::Remove { element } => {
                if next.elements.remove(&element).is_none() {
                    return Err(format!("{element} is not held"));
                }
            }
        }
    }
    Ok(next)
}

#[test]
fn a_longer_prefix_inside_cuts_the_wider_one_into_pieces() {
    let wanted = desired(&[
        (Element::block(prefix("10.0.0.0/24")), at(60)),
        (Element::block(prefix("10.0.0.128/26")), at(600)),
        (Element::block(prefix("10.0.0.192/26")), at(30)),
        (Element::block(prefix("10.0.0.1")), at(600)),
        (Element::throttle(prefix("10.0.0.0/25")), at(600)),
    ]);
    let layout = Layout::of(&wanted, NOW, Scope::All);
    let elements: BTreeMap<_, _> = [
        (Element::throttle(prefix("10.0.0.0/25")), at(600)),
        (Element::block(prefix("10.0.0.0/25")), at(60)),
        (Element::block(prefix("10.0.0.1")), at(600)),
        (Element::block(prefix("10.0.0.128/26")), at(600)),
        (Element::block(prefix("10.0.0.192/26")), at(60)),
    ]
    .into();
    assert_eq!(layout.elements(), &elements);
    assert!(layout.not_effective().is_empty());
    let served: Vec<_> = wanted
        .served_by(&Element::block(prefix("10.0.0.192/26")))
        .map(|entry| entry.target.to_string())
        .collect();
    assert_eq!(served, ["10.0.0.0/24", "10.0.0.192/26"]);
}

#[test]
fn never_block_and_nonsense_are_reported_not_planned() {
    let service = Service { address: "127.0.0.1".parse().unwrap(), protocol: Protocol::TCP, port: 80 };
    let mut wanted = desired(&[
        (Element::block(prefix("192.0.2.0/24")), at(60)),
        (Element::throttle(prefix("64:ff9b::c000:201")), at(60)),
        (Element::block(prefix("198.51.100.1")), at(60)),
        (Element { verb: Verb::Shield, target: Target::Source(prefix("203.0.113.1")) }, at(60)),
        (Element::block(prefix("203.0.113.9")), NOW),
        (Element::shield(service), at(60)),
    ]);
    let gateway = NeverBlockEntry { prefix: prefix("192.0.2.1"), why: "default gateway".into() };
    assert!(wanted.set_host_never_block(vec![gateway.clone()]));
    assert!(!wanted.set_host_never_block(vec![gateway]));

    let layout = Layout::of(&wanted, NOW, Scope::All);
    let held: Vec<_> = layout.elements().keys().map(ToString::to_string).collect();
    assert_eq!(held, ["shield tcp/127.0.0.1:80", "block 198.51.100.1"]);
    let why: Vec<_> = layout.not_effective().iter().map(|one| one.why.as_str()).collect();
    assert_eq!(
        why,
        [
            "a shield cannot be put on 203.0.113.1",
            "64:ff9b::c000:201 overlaps 192.0.2.1, which this host never blocks: default gateway",
            "192.0.2.0/24 overlaps 192.0.2.1, which this host never blocks: default gateway",
        ]
    );
}

#[test]
fn small_differences_of_expiry_are_left_alone() {
    let source = Element::block(prefix("192.0.2.1"));
    let layout = Layout::of(&desired(&[(source, at(60))]), NOW, Scope::All);
    for (held, changes) in [(58, 0), (60, 0), (62, 0), (57, 1), (63, 1)] {
        let actual = Actual { elements: [(source, at(held))].into(), throttle_per_minute: Some(20) };
        assert_eq!(layout.diff(&actual).len(), changes, "{held}");
        assert_eq!(layout.missing(&actual).count(), changes, "{held}");
    }
    assert_eq!(
        layout.diff(&Actual::default()),
        [Action::SetThrottle { per_minute: 20 }, Action::Add { element: source, expires_at: at(60) }]
    );
}

#[test]
fn a_halved_ipv6_prefix_covers_the_whole() {
    let wanted = desired(&[
        (Element::block(prefix("2001:db8::/32")), at(10)),
        (Element::block(prefix("2001:db8:ffff:ffff:ffff:ffff:ffff:fffe/127")), at(20)),
    ]);
    let layout = Layout::of(&wanted, NOW, Scope::All);
    assert_eq!(layout.elements().len(), 127 - 32 + 1);
    let last = Element::block(prefix("2001:db8:ffff:ffff:ffff:ffff:ffff:fffe/127"));
    assert_eq!(layout.elements().get(&last), Some(&at(20)));
}

// Few addresses and lengths, so that nesting and equal keys are the rule.
fn any_prefix() -> impl Strategy<Value = Prefix> {
    (0u8..32, prop::sample::select(vec![27u8, 28, 29, 30, 31, 32]))
        .prop_map(|(host, len)| Prefix::containing(IpAddr::V4(Ipv4Addr::new(192, 0, 2, host)), len))
}

fn any_element() -> impl Strategy<Value = Element> {
    prop_oneof![
        4 => any_prefix().prop_map(Element::block),
        2 => any_prefix().prop_map(Element::throttle),
        1 => (1u16..4).prop_map(|port| Element::shield(Service {
            address: IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)), protocol: Protocol::TCP, port
        })),
    ]
}

fn any_entries() -> impl Strategy<Value = Vec<(Element, Timestamp)>> {
    prop::collection::vec((any_element(), (0u64..8).prop_map(|n| at(n * 10))), 0..12)
}

/// What a firewall may hold: whatever came before, disjoint as an interval set guarantees.
fn any_actual() -> impl Strategy<Value = Actual> {
    (any_entries(), prop::option::of(1u32..100)).prop_map(|(entries, throttle_per_minute)| {
        let mut actual = Actual { throttle_per_minute, ..Actual::default() };
        for (element, expires_at) in entries {
            let clash = |other: &Element| other.wide_prefix().is_some() && other.overlaps(&element);
            if element.wide_prefix().is_none() || !actual.elements.keys().any(clash) {
                actual.elements.insert(element, expires_at);
            }
        }
        actual
    })
}

fn wanted_until(desired: &Desired, verb: Verb, address: Prefix) -> Option<Timestamp> {
    desired
        .entries()
        .filter(|entry| entry.verb == verb && entry.expires_at > NOW)
        .filter(|entry| {
            matches!(entry.target, Target::Source(p)
            if p.overlaps(&address) && desired.never_block().overlap(&p).is_none())
        })
        .map(|entry| entry.expires_at)
        .max()
}

fn held_until(actual: &Actual, verb: Verb, address: Prefix) -> Option<Timestamp> {
    actual
        .elements
        .iter()
        .filter(|(element, _)| element.overlaps(&Element { verb, target: Target::Source(address) }))
        .map(|(_, &expires_at)| expires_at)
        .max()
}

proptest! {
    #[test]
    fn a_plan_turns_any_actual_into_the_desired(
        entries in any_entries(), actual in any_actual(), never in prop::option::of(any_prefix()),
    ) {
        let mut desired = desired(&entries);
        desired.set_host_never_block(
            never.map(|prefix| NeverBlockEntry { prefix, why: "gateway".into() }).into_iter().collect(),
        );
        let layout = Layout::of(&desired, NOW, Scope::All);
        let actions = layout.diff(&actual);
        let after = transact(&actual, &actions).map_err(TestCaseError::fail)?;

        prop_assert_eq!(layout.diff(&after), Vec::new());
        prop_assert_eq!(layout.missing(&after).count(), 0);
        prop_assert_eq!(after.throttle_per_minute, Some(desired.throttle_per_minute()));
        // Every address is held exactly as long as the longest entry around it says.
        for host in 0..32u8 {
            let address = Prefix::host(IpAddr::V4(Ipv4Addr::new(192, 0, 2, host)));
            for verb in [Verb::Block, Verb::Throttle] {
                prop_assert_eq!(held_until(&after, verb, address), wanted_until(&desired, verb, address));
            }
        }
        // Nothing is touched twice, and nothing that is neither wanted nor held.
        let mut seen = BTreeSet::new();
        for action in &actions {
            if let Action::Add { element, .. } | Action::Extend { element, .. } | Action::Remove { element } = action {
                prop_assert!(seen.insert(*element));
                prop_assert!(layout.elements().contains_key(element) || actual.elements.contains_key(element));
            }
        }
        // Additions come first, but for prefixes that stand in the way of others.
        let first_remove = actions.iter().position(|a| matches!(a, Action::Remove { .. })).unwrap_or(actions.len());
        for action in &actions[first_remove..] {
            let in_the_way = match action {
                Action::Add { element, .. } | Action::Extend { element, .. } => element.wide_prefix().is_some(),
                Action::Remove { .. } => true,
                Action::SetThrottle { .. } => false,
            };
            prop_assert!(in_the_way);
        }
    }

    #[test]
    fn planning_only_what_was_touched_is_enough(
        entries in any_entries(), changes in prop::collection::vec((any_element(), prop::option::of(0u64..8)), 0..6),
    ) {
        let mut desired = desired(&entries);
        let before = Layout::of(&desired, NOW, Scope::All);
        let held = transact(&Actual::default(), &before.diff(&Actual::default())).map_err(TestCaseError::fail)?;

        let mut touched = BTreeSet::new();
        for (element, expires) in changes {
            match expires {
                Some(n) => desired.put(entry(element, at(n * 10))),
                None => desired.remove(element.verb, element.target),
            };
            touched.insert(element);
        }
        let part = Layout::of(&desired, NOW, Scope::Touched(&touched));
        let after = transact(&held, &part.diff(&held)).map_err(TestCaseError::fail)?;
        prop_assert_eq!(Layout::of(&desired, NOW, Scope::All).diff(&after), Vec::new());
        prop_assert_eq!(part.missing(&after).count(), 0);
    }
}
