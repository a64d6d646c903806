//! What every backend has to do: the in-memory one and the kernel's run the very same suite, in the tests and in
//! `netguard-lab responders`.
//!
//! Only with the feature `conformance`: nothing of it is part of a responder.

#![allow(clippy::unwrap_used, clippy::missing_panics_doc, reason = "a panic is the report")]

pub mod keepers;
mod packets;

use crate::backend::Backend;
use netguard_core::{
    decision::{DecisionId, Target, Verb},
    ledger::Entry,
    net::{Prefix, Protocol},
    plan::{Action, Actual, Desired, Element, Layout, Scope},
    subject::Service,
    time::Timestamp,
    trace::TraceParent,
};
use std::{
    collections::BTreeSet,
    time::{Duration, Instant, SystemTime},
};

pub fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    Timestamp::from_micros(u64::try_from(since.as_micros()).unwrap())
}

pub fn after(seconds: u64) -> Timestamp {
    now().saturating_add(Duration::from_secs(seconds))
}

pub fn prefix(text: &str) -> Prefix {
    text.parse().unwrap()
}

pub fn block(text: &str) -> Element {
    Element::block(prefix(text))
}

pub fn throttle(text: &str) -> Element {
    Element::throttle(prefix(text))
}

pub fn shield(address: &str, port: u16) -> Element {
    Element::shield(Service { address: address.parse().unwrap(), protocol: Protocol::TCP, port })
}

pub fn desired(wanted: &[(Element, Timestamp)]) -> Desired {
    let mut desired = Desired::default();
    for &(element, expires_at) in wanted {
        desired.put(Entry {
            decision: DecisionId(1),
            verb: element.verb,
            target: element.target,
            expires_at,
            trace: TraceParent::default(),
            revision: 1,
            rollout: None,
        });
    }
    desired
}

/// Brings the backend to hold `desired`, and proves by a fresh survey that it does.
pub async fn bring(backend: &mut impl Backend, desired: &Desired) -> Actual {
    let actual = backend.open(now()).await.unwrap().actual;
    let layout = Layout::of(desired, now(), Scope::All);
    let actions = layout.diff(&actual);
    backend.apply(&actions, now()).await.unwrap();

    let wanted: BTreeSet<_> = layout.elements().keys().copied().collect();
    let read = backend.read(&wanted, now()).await.unwrap();
    let held = Actual { elements: read, throttle_per_minute: Some(desired.throttle_per_minute()) };
    assert_eq!(layout.missing(&held).collect::<Vec<_>>(), [], "what was applied is not read back");
    let survey = backend.open(now()).await.unwrap();
    assert_eq!(survey.repaired, [""; 0]);
    assert_eq!(layout.diff(&survey.actual), [], "a fresh survey differs");
    survey.actual
}

pub async fn suite(backend: &mut impl Backend) {
    holds_everything_there_is(backend).await;
    extends_and_shortens(backend).await;
    holds_prefixes_in_one_another(backend).await;
    takes_all_or_nothing(backend).await;
    forgets_in_time(backend).await;
    follows_any_sequence(backend).await;
    packets::stops_probes(backend).await;
    packets::keeps_open_what_manages(backend).await;
    flushes(backend).await;
}

async fn holds_everything_there_is(backend: &mut impl Backend) {
    let everything = [
        (block("192.0.2.1"), after(60)),
        (block("192.0.2.128/25"), after(70)),
        (block("2001:db8::1"), after(80)),
        (block("2001:db8:1::/48"), after(90)),
        (block("255.0.0.0/8"), after(90)),
        (block("ffff::/16"), after(366 * 24 * 3600)),
        (throttle("198.51.100.7"), after(60)),
        (throttle("198.51.100.0/24"), after(50)),
        (throttle("2001:db8::7"), after(60)),
        (throttle("2001:db8::/64"), after(50)),
        (shield("203.0.113.1", 80), after(60)),
        (shield("203.0.113.1", 443), after(60)),
        (shield("2001:db8::5", 80), after(60)),
    ];
    // 255/8 and ff../16 overlap broadcast and multicast: only the never-block list of a real host refuses those.
    let mut wanted = desired(&everything);
    let held = bring(backend, &wanted).await;
    assert_eq!(held.elements.len(), everything.len() - 2);
    assert!(!backend.changed_by_others().await);

    wanted.change(netguard_core::ledger::Change::ThrottlePerMinute(7));
    assert_eq!(bring(backend, &wanted).await.throttle_per_minute, Some(7));
    // Addresses up to the last one of each family.
    let edges = [
        Action::Add { element: block("255.0.0.0/8"), expires_at: after(60) },
        Action::Add { element: block("ffff::/16"), expires_at: after(60) },
        Action::Add { element: block("ffff::1"), expires_at: after(60) },
    ];
    backend.apply(&edges, now()).await.unwrap();
    let elements = edges.map(|action| match action {
        Action::Add { element, .. } => element,
        _ => unreachable!(),
    });
    let read = backend.read(&elements.into(), now()).await.unwrap();
    assert_eq!(read.into_keys().collect::<BTreeSet<_>>(), elements.into());

    let nothing = bring(backend, &Desired::default()).await;
    assert!(nothing.elements.is_empty(), "{nothing:?}");
}

async fn extends_and_shortens(backend: &mut impl Backend) {
    for seconds in [60, 3600, 30, 100] {
        let held = bring(
            backend,
            &desired(&[
                (block("192.0.2.1"), after(seconds)),
                (throttle("2001:db8::/48"), after(seconds)),
                (shield("203.0.113.1", 80), after(seconds)),
            ]),
        )
        .await;
        for (element, expires_at) in held.elements {
            let off = expires_at.since(after(seconds)).max(after(seconds).since(expires_at));
            assert!(off <= Duration::from_secs(2), "{element} is off by {off:?}");
        }
    }
}

async fn holds_prefixes_in_one_another(backend: &mut impl Backend) {
    let wide = (block("192.0.2.0/24"), after(100));
    let longer = (block("192.0.2.64/28"), after(200));
    let as_long = (block("192.0.2.128/25"), wide.1);
    let address = (block("192.0.2.7"), after(90));
    for (wanted, held) in [
        (&[wide][..], &[wide.0][..]),
        (&[wide, longer, as_long, address], &[wide.0, longer.0]),
        // What the wide one covered comes back when it goes or ends earlier, and leaves when it comes.
        (&[longer, as_long, address], &[address.0, longer.0, as_long.0]),
        (&[wide, longer, as_long, address], &[wide.0, longer.0]),
        (&[(wide.0, after(80)), longer, address], &[wide.0, address.0, longer.0]),
        (&[(wide.0, after(300)), longer, address], &[wide.0]),
    ] {
        assert_eq!(bring(backend, &desired(wanted)).await.elements.into_keys().collect::<Vec<_>>(), held);
    }
    // Every length, in both families.
    let every: Vec<_> = (8..=32)
        .map(|len| {
            (
                Element::block(Prefix::containing([11, 255, 255, len].into(), len)),
                after(1000 + u64::from(len)),
            )
        })
        .chain((8..=128).step_by(12).map(|len| {
            let address = std::net::Ipv6Addr::new(0x2400, 1, 2, 3, 4, 5, 6, u16::from(len));
            (Element::throttle(Prefix::containing(address.into(), len)), after(1000 + u64::from(len)))
        }))
        .collect();
    assert_eq!(bring(backend, &desired(&every)).await.elements.len(), every.len());
}

async fn takes_all_or_nothing(backend: &mut impl Backend) {
    let before = bring(backend, &desired(&[(block("192.0.2.0/24"), after(100))])).await;
    let nonsense = Element { verb: Verb::Shield, target: Target::Source(prefix("192.0.2.0/25")) };
    let refused = backend
        .apply(
            &[
                Action::Add { element: block("198.51.100.1"), expires_at: after(60) },
                Action::Add { element: nonsense, expires_at: after(60) },
                Action::Remove { element: block("192.0.2.0/24") },
            ],
            now(),
        )
        .await;
    assert!(refused.is_err());
    let held = backend.open(now()).await.unwrap().actual;
    assert_eq!(held.elements.keys().collect::<Vec<_>>(), before.elements.keys().collect::<Vec<_>>());
    // Removing what is gone already is no error: it may have expired a moment ago.
    for gone in [block("198.51.100.1"), block("203.0.112.0/20"), shield("203.0.113.1", 80)] {
        backend.apply(&[Action::Remove { element: gone }], now()).await.unwrap();
    }
}

async fn forgets_in_time(backend: &mut impl Backend) {
    let soon = [
        (block("192.0.2.9"), after(2)),
        (block("198.51.100.0/24"), after(2)),
        (shield("203.0.113.9", 80), after(2)),
    ];
    bring(backend, &desired(&soon)).await;
    let deadline = Instant::now() + Duration::from_secs(6);
    while !backend.open(now()).await.unwrap().actual.elements.is_empty() {
        assert!(Instant::now() < deadline, "still held: {:?}", backend.open(now()).await);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// From one seed, the same on every run: whatever follows whatever, the plan leads there.
async fn follows_any_sequence(backend: &mut impl Backend) {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut random = move |below: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % below
    };
    for _ in 0..25 {
        let mut wanted = Vec::new();
        for _ in 0..random(12) {
            let len = [26, 27, 28, 29, 30, 31, 32][usize::try_from(random(7)).unwrap()];
            let address = std::net::Ipv4Addr::new(192, 0, 2, u8::try_from(random(64)).unwrap());
            let source = Prefix::containing(address.into(), len);
            let element = if random(3) == 0 { Element::throttle(source) } else { Element::block(source) };
            wanted.push((element, after(60 + 60 * random(5))));
        }
        bring(backend, &desired(&wanted)).await;
    }
}

async fn flushes(backend: &mut impl Backend) {
    bring(backend, &desired(&[(block("192.0.2.1"), after(100))])).await;
    backend.flush().await.unwrap();
    backend.flush().await.unwrap();
    assert!(backend.open(now()).await.unwrap().actual.elements.is_empty());
}
