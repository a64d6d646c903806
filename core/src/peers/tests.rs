use super::*;
use crate::{decision::DecisionId, plan::Element};
use proptest::prelude::*;

fn at(seconds: u64) -> Timestamp {
    Timestamp::from_secs(1_000_000 + seconds)
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn talk(cookie: u64, peer: IpAddr, sent: u64, received: u64) -> Sampled {
    Sampled { cookie, peer, sent, received }
}

/// Everybody talks both ways all the time, for ten minutes.
fn acquainted(peers: &[IpAddr]) -> PeerTable {
    let mut table = PeerTable::default();
    for step in 0..=20 {
        let sample = peers.iter().zip(0..).map(|(peer, cookie)| talk(cookie, *peer, step, step));
        table.observe(at(step * 30), sample, |_| false);
    }
    table
}

fn fresh(source: &str) -> Fresh {
    let source: Prefix = source.parse().unwrap();
    Fresh { element: Element::block(source), source, decision: DecisionId(1) }
}

#[test]
fn only_a_long_conversation_makes_a_good_peer() {
    type Shape = fn(u64) -> Option<(u64, u64)>;
    let cases: [(&str, bool, Shape); 6] = [
        ("talks both ways", true, |s| Some((s, s))),
        ("guesses passwords and is cut off after two minutes", false, |s| (s < 120).then_some((s, s))),
        ("holds a connection open and says nothing", false, |_| Some((9, 9))),
        ("sends and is never answered", false, |s| Some((0, s))),
        ("said something in the first minutes alone", false, |s| Some((s.min(100), s.min(100)))),
        ("came four minutes ago", false, |s| (s > 360).then_some((s, s))),
    ];
    for (what, good, shape) in cases {
        let mut table = PeerTable::default();
        for second in 0..600 {
            let sample = shape(second).map(|(sent, received)| talk(1, address("192.0.2.1"), sent, received));
            table.observe(at(second), sample, |_| false);
        }
        assert_eq!(table.known() == 1, good, "{what}");
    }
}

#[test]
fn many_short_connections_are_no_acquaintance() {
    let mut table = PeerTable::default();
    for second in 0..7_200 {
        let sample = [talk(second / 100, address("192.0.2.1"), second, second)];
        table.observe(at(second), sample, |_| false);
    }
    assert_eq!(table.known(), 0, "two hours of guessing");
}

#[test]
fn who_is_decided_upon_is_not_learned_and_who_is_silent_forgotten() {
    let mut table = PeerTable::default();
    let peer = address("192.0.2.1");
    for second in 0..600 {
        table.observe(at(second), [talk(1, peer, second, second)], |suspect| suspect == peer);
    }
    assert_eq!(table.known(), 0);
    table.observe(at(600), [talk(1, peer, 600, 600)], |_| false);
    assert_eq!((table.known(), table.active_since(at(599))), (1, 1));
    table.observe(at(700), [talk(1, peer, 601, 600)], |_| false);
    assert_eq!((table.known(), table.active_since(at(650))), (1, 0), "nothing comes from it any more");
    table.observe(at(600 + 24 * 3600), [], |_| false);
    assert_eq!(table.known(), 0);
}

#[test]
fn memory_is_bounded_and_keeps_the_latest() {
    let peers: Vec<IpAddr> =
        (0..u32::try_from(MAX_GOOD).unwrap() + 5).map(|n| IpAddr::from(n.to_be_bytes())).collect();
    let mut table = acquainted(&peers);
    assert_eq!(table.known(), MAX_GOOD);
    let last = *peers.last().unwrap();
    table.observe(at(1_000), peers.iter().zip(0..).map(|(p, c)| talk(c, *p, 400, 400)), |_| false);
    assert!(table.known() == MAX_GOOD && table.within(&Prefix::host(last)).count() <= 1);
    let flood = (0..100_000_u64).map(|cookie| talk(cookie, last, 1, 1));
    table.observe(at(1_001), flood, |_| false);
    assert!(table.connections.len() <= MAX_CONNECTIONS);
}

/// Ten good peers in networks of their own, ten more in one network.
fn twenty() -> PeerTable {
    let apart = (0..10).map(|n| address(&format!("198.51.{n}.7")));
    let together = (0..10).map(|n| address(&format!("203.0.113.{n}")));
    acquainted(&apart.chain(together).collect::<Vec<_>>())
}

#[test]
fn the_third_good_peer_within_a_minute_trips_it_and_all_three_are_released() {
    let (mut peers, mut breaker) = (twenty(), Breaker::default());
    assert_eq!(breaker.review(at(700), &[fresh("198.51.1.7"), fresh("192.0.2.1")], &mut peers), []);
    assert_eq!(breaker.review(at(720), &[fresh("198.51.2.7")], &mut peers), []);
    let released = breaker.review(at(750), &[fresh("198.51.3.7")], &mut peers);
    assert_eq!(released.len(), 3);
    assert_eq!(breaker.tripped(), Some("3 of 20 good peers within 60 s"));
    assert!(breaker.withholds(&fresh("198.51.1.7").element).unwrap().contains("breaker reset"));
    assert_eq!(breaker.withholds(&fresh("192.0.2.1").element), None, "nobody knows it");
    breaker.review(at(760), &[fresh("198.51.4.7"), fresh("192.0.2.9")], &mut peers);
    assert_eq!(breaker.withheld().count(), 4, "from now on every one counts");

    let source = |element: &Element| match element.target {
        crate::decision::Target::Source(source) => Some(source),
        crate::decision::Target::Service(_) => None,
    };
    assert_eq!(breaker.follow(0, &mut peers, source), []);
    assert_eq!(breaker.follow(1, &mut peers, source).len(), 4);
    assert_eq!((breaker.tripped(), breaker.resets(), peers.known()), (None, 1, 16));
}

#[test]
fn one_network_is_no_shield_and_a_slow_pace_is_none_either() {
    let (mut peers, mut breaker) = (twenty(), Breaker::default());
    let attackers: Vec<Fresh> = (0..10).map(|n| fresh(&format!("203.0.113.{n}"))).collect();
    assert_eq!(breaker.review(at(700), &attackers, &mut peers), []);
    assert_eq!(breaker.tripped(), None, "ten addresses of one network are one peer");
    breaker.review(at(760), &[fresh("198.51.1.7"), fresh("198.51.2.7")], &mut peers);
    assert_eq!(
        (breaker.tripped(), peers.known()),
        (None, 10),
        "those of the minute before are stopped for good"
    );
    breaker.review(at(820), &[fresh("198.51.3.7")], &mut peers);
    assert_eq!(breaker.tripped(), None);
}

#[test]
fn a_wide_prefix_counts_everybody_in_it_and_one_in_a_hundred_is_none() {
    let (mut peers, mut breaker) = (twenty(), Breaker::default());
    breaker.review(at(700), &[fresh("203.0.113.0/24")], &mut peers);
    assert_eq!(breaker.tripped(), Some("10 of 20 good peers within 60 s"));

    let crowd: Vec<IpAddr> =
        (0..400_u32).map(|n| IpAddr::from((0x0a00_0000 + n * 256).to_be_bytes())).collect();
    let (mut peers, mut breaker) = (acquainted(&crowd), Breaker::default());
    let some = |n: usize| Fresh { source: Prefix::host(crowd[n]), ..fresh(&crowd[n].to_string()) };
    breaker.review(at(700), &[some(1), some(2), some(3), some(4)], &mut peers);
    assert_eq!(breaker.tripped(), None, "4 of 400 is not more than 1 %");
    breaker.review(at(701), &[some(5)], &mut peers);
    assert_eq!(breaker.tripped(), Some("5 of 400 good peers within 60 s"));
}

#[test]
fn what_is_wanted_no_longer_is_withheld_no_longer() {
    let (mut peers, mut breaker) = (twenty(), Breaker::default());
    breaker.review(at(700), &[fresh("203.0.113.0/24")], &mut peers);
    breaker.retain(|_| Some(DecisionId(1)));
    assert_eq!(breaker.withheld().count(), 1);
    breaker.retain(|_| Some(DecisionId(2)));
    assert_eq!(breaker.withheld().count(), 0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Whoever is stopped by single decisions, it trips if and only if they are of three networks and more than 1 %.
    #[test]
    fn it_trips_at_its_threshold(hosts in proptest::collection::btree_set((0..30_u8, 0..4_u8), 1..40), crowd in 1..600_u32) {
        let good: Vec<IpAddr> = hosts.iter().map(|(net, host)| address(&format!("198.51.{net}.{host}"))).collect();
        let crowd = (0..crowd).map(|n| IpAddr::from((0x0a00_0000 + n * 256).to_be_bytes()));
        let mut peers = acquainted(&good.iter().copied().chain(crowd).collect::<Vec<_>>());
        let (known, mut breaker) = (peers.known(), Breaker::default());
        for peer in &good {
            breaker.review(at(700), &[fresh(&peer.to_string())], &mut peers);
        }
        let networks = hosts.iter().map(|(net, _)| net).collect::<BTreeSet<_>>().len();
        prop_assert_eq!(breaker.tripped().is_some(), networks >= MIN_HIT && networks * 100 > known);
    }
}
