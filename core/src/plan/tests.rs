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
    collections::BTreeSet,
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
        rollout: None,
    }
}

fn desired(elements: &[(Element, Timestamp)]) -> Desired {
    let mut desired = Desired::default();
    for &(element, expires_at) in elements {
        desired.put(entry(element, expires_at));
    }
    desired
}

/// As a firewall that carries actions out one by one, and knows what it holds: what it holds after each of them.
fn steps(actual: &Actual, actions: &[Action]) -> Result<Vec<Actual>, String> {
    let mut next = actual.clone();
    let mut steps = Vec::new();
    for action in actions {
        match *action {
            Action::SetThrottle { per_minute } => next.throttle_per_minute = Some(per_minute),
            Action::Add { element, expires_at } => {
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
        steps.push(next.clone());
    }
    Ok(steps)
}

fn transact(actual: &Actual, actions: &[Action]) -> Result<Actual, String> {
    Ok(steps(actual, actions)?.pop().unwrap_or_else(|| actual.clone()))
}

fn held(layout: &Layout) -> Vec<String> {
    layout.elements().keys().map(ToString::to_string).collect()
}

#[test]
fn what_a_wider_prefix_covers_is_left_out() {
    let mut wanted = desired(&[
        (Element::block(prefix("10.0.0.0/24")), at(60)),
        (Element::block(prefix("10.0.0.128/26")), at(600)),
        (Element::block(prefix("10.0.0.130/31")), at(500)),
        (Element::block(prefix("10.0.0.192/26")), at(30)),
        (Element::block(prefix("10.0.0.1")), at(600)),
        (Element::block(prefix("10.0.0.2")), at(60)),
        (Element::throttle(prefix("10.0.0.0/25")), at(600)),
    ]);
    let everywhere = Layout::of(&wanted, NOW, Scope::All);
    assert_eq!(
        held(&everywhere),
        ["throttle 10.0.0.0/25", "block 10.0.0.0/24", "block 10.0.0.1", "block 10.0.0.128/26"]
    );
    assert!(everywhere.not_effective().is_empty());
    let served: Vec<_> = wanted
        .served_by(&Element::block(prefix("10.0.0.0/24")))
        .map(|entry| entry.target.to_string())
        .collect();
    assert_eq!(served, ["10.0.0.0/24", "10.0.0.2", "10.0.0.192/26"]);

    // Shortened and then taken back: what it covered comes back with the same plan, and is alone in it.
    let wide = Element::block(prefix("10.0.0.0/24"));
    let firewall = transact(&Actual::default(), &everywhere.diff(&Actual::default())).unwrap();
    wanted.put(entry(wide, at(40)));
    let shorter = Layout::of(&wanted, NOW, Scope::Touched(&[wide].into()));
    let back = Element::block(prefix("10.0.0.2"));
    let add = Action::Add { element: back, expires_at: at(60) };
    assert_eq!(shorter.diff(&firewall), [add, Action::Extend { element: wide, expires_at: at(40) }]);
    wanted.remove(wide.verb, wide.target);
    let gone = Layout::of(&wanted, NOW, Scope::Touched(&[wide].into()));
    assert_eq!(
        gone.diff(&firewall),
        [
            add,
            Action::Add { element: Element::block(prefix("10.0.0.192/26")), expires_at: at(30) },
            Action::Remove { element: wide }
        ]
    );
}

#[test]
fn a_wide_prefix_that_may_not_be_blocked_covers_nothing() {
    let mut wanted = desired(&[
        (Element::block(prefix("10.0.0.0/8")), at(60)),
        (Element::block(prefix("10.0.0.1")), at(60)),
        (Element::block(prefix("10.9.0.0/16")), at(60)),
        (Element::block(prefix("10.9.1.0/24")), at(60)),
    ]);
    wanted.set_host_never_block(vec![NeverBlockEntry { prefix: prefix("10.1.1.1"), why: "gateway".into() }]);
    let cannot = |element: &Element| {
        (element.wide_prefix() == Some(prefix("10.9.0.0/16"))).then(|| "there is no room".to_owned())
    };
    let layout = Layout::within(&wanted, NOW, Scope::All, cannot);
    assert_eq!(held(&layout), ["block 10.0.0.1", "block 10.9.1.0/24"]);
    assert_eq!(layout.not_effective().len(), 2);
    for touched in ["10.0.0.1", "10.9.1.0/24"] {
        let touched = [Element::block(prefix(touched))].into();
        let layout = Layout::within(&wanted, NOW, Scope::Touched(&touched), cannot);
        assert_eq!(layout.elements().len(), 1);
    }
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
    assert_eq!(held(&layout), ["shield tcp/127.0.0.1:80", "block 198.51.100.1"]);
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

/// What a firewall may hold: whatever came before.
fn any_actual() -> impl Strategy<Value = Actual> {
    (any_entries(), prop::option::of(1u32..100)).prop_map(|(entries, throttle_per_minute)| Actual {
        elements: entries.into_iter().filter(|(_, expires_at)| *expires_at > NOW).collect(),
        throttle_per_minute,
    })
}

fn every_source() -> impl Iterator<Item = (Verb, Prefix)> {
    (0..32u8).flat_map(|host| {
        let address = Prefix::host(IpAddr::V4(Ipv4Addr::new(192, 0, 2, host)));
        [Verb::Block, Verb::Throttle].map(|verb| (verb, address))
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

#[test]
fn what_expired_since_it_was_listed_is_not_held() {
    let (gone, back) = (Element::block(prefix("192.0.2.1")), Element::block(prefix("192.0.2.2")));
    let actual = Actual { elements: [(gone, NOW), (back, NOW)].into(), throttle_per_minute: Some(20) };
    for touched in [None, Some([gone, back].into())] {
        let scope = touched.as_ref().map_or(Scope::All, Scope::Touched);
        let layout = Layout::of(&desired(&[(back, at(60))]), NOW, scope);
        assert_eq!(layout.diff(&actual), [Action::Add { element: back, expires_at: at(60) }]);
        assert_eq!(layout.missing(&actual).collect::<Vec<_>>(), [back]);
    }
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
        let steps = steps(&actual, &actions).map_err(TestCaseError::fail)?;
        let after = steps.last().unwrap_or(&actual);

        prop_assert_eq!(layout.diff(after), Vec::new());
        prop_assert_eq!(layout.missing(after).count(), 0);
        prop_assert_eq!(after.throttle_per_minute, Some(desired.throttle_per_minute()));
        for (verb, address) in every_source() {
            // Every address is held exactly as long as the longest entry around it says, by no superfluous element.
            let until = held_until(after, verb, address);
            prop_assert_eq!(until, wanted_until(&desired, verb, address));
            // And never shorter in between, also when the actions are carried out one by one.
            let before_and_after = held_until(&actual, verb, address).min(until);
            for step in &steps {
                prop_assert!(held_until(step, verb, address) >= before_and_after);
            }
        }
        for (element, expires_at) in &after.elements {
            let others = after.elements.iter().filter(|(other, _)| *other != element && other.contains(element));
            prop_assert!(others.clone().all(|(_, longest)| longest < expires_at), "{} is superfluous", element);
        }
        // Nothing is touched twice, and nothing that is neither wanted nor held.
        let mut seen = BTreeSet::new();
        for action in &actions {
            if let Action::Add { element, .. } | Action::Extend { element, .. } | Action::Remove { element } = action {
                prop_assert!(seen.insert(*element));
                prop_assert!(layout.elements().contains_key(element) || actual.elements.contains_key(element));
            }
        }
    }

    #[test]
    fn planning_only_what_was_touched_is_enough(
        entries in any_entries(), changes in prop::collection::vec((any_element(), prop::option::of(0u64..8)), 0..6),
        never in prop::option::of(any_prefix()),
    ) {
        let mut desired = desired(&entries);
        desired.set_host_never_block(
            never.map(|prefix| NeverBlockEntry { prefix, why: "gateway".into() }).into_iter().collect(),
        );
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
        let actions = part.diff(&held);
        let after = transact(&held, &actions).map_err(TestCaseError::fail)?;
        for action in &actions {
            if let Action::Add { element, .. } | Action::Extend { element, .. } | Action::Remove { element } = action {
                prop_assert!(part.covers(element) && touched.iter().any(|touched| touched.contains(element)));
            }
        }
        prop_assert_eq!(Layout::of(&desired, NOW, Scope::All).diff(&after), Vec::new());
        prop_assert_eq!(part.missing(&after).count(), 0);
    }
}

#[test]
fn nothing_is_held_past_the_horizon() {
    let wanted = [("192.0.2.0/24", 100), ("192.0.2.1", 9_000), ("198.51.100.1", 50)];
    let wanted = wanted.map(|(source, seconds)| (Element::block(prefix(source)), at(seconds)));
    let mut desired = desired(&wanted);
    assert!(desired.set_horizon(at(60)));
    assert!(!desired.set_horizon(at(60)));
    let held = |now| Layout::of(&desired, now, Scope::All).elements().clone();
    // The address inside the prefix holds no longer than it, until the horizon moves on.
    assert_eq!(held(NOW), [(wanted[0].0, at(60)), (wanted[2].0, at(50))].into());
    assert!(held(at(60)).is_empty());
}

#[test]
fn what_a_slow_firewall_holds_too_long_is_left_and_what_it_holds_too_short_is_not() {
    let [late, early] = ["192.0.2.1", "192.0.2.2"].map(|source| Element::block(prefix(source)));
    let desired = desired(&[(late, at(100)), (early, at(100))]);
    let rate = desired.throttle_per_minute();
    let held = |seconds: [u64; 2]| Actual {
        elements: [(late, at(seconds[0])), (early, at(seconds[1]))].into(),
        throttle_per_minute: Some(rate),
    };
    let layout = Layout::of(&desired, NOW, Scope::All).begun_late(std::time::Duration::from_secs(10));
    assert_eq!(layout.diff(&held([112, 98])), []);
    assert_eq!(layout.diff(&held([112, 97])), [Action::Extend { element: early, expires_at: at(100) }]);
    assert_eq!(layout.missing(&held([112, 97])).collect::<Vec<_>>(), [early]);
    assert_eq!(layout.diff(&held([113, 100])), [Action::Extend { element: late, expires_at: at(100) }]);
    let punctual = Layout::of(&desired, NOW, Scope::All);
    assert_eq!(punctual.diff(&held([103, 100])), [Action::Extend { element: late, expires_at: at(100) }]);
}
