use super::*;
use crate::{
    evidence::Own,
    flow::{ConnState, FlowId, FlowState, History, IcmpErrors, Traffic},
    net::Protocol,
    packet::Tuple,
};
use proptest::prelude::*;
use std::net::IpAddr;

fn flow(number: u32, source: [u8; 4], port: u16, packets: (u64, u64), reason: EndReason) -> FlowSummary {
    let traffic = |packets| Traffic { packets, bytes: packets * 100, ..Traffic::default() };
    FlowSummary {
        id: FlowId::new(number, number),
        flow: Tuple {
            source: source.into(),
            destination: [10, 0, 0, 1].into(),
            protocol: Protocol::TCP,
            source_port: 40_000,
            destination_port: port,
        },
        start: Timestamp::from_secs(100 + u64::from(number)),
        end: Timestamp::from_secs(110 + u64::from(number)),
        to_server: traffic(packets.0),
        to_client: traffic(packets.1),
        state: FlowState::Closed,
        reason,
        picked_up: false,
        conn_state: if packets.1 > 0 { ConnState::Sf } else { ConnState::S0 },
        history: History::default(),
        icmp_errors: IcmpErrors::default(),
        application: None,
        tunnel: None,
        vlan: None,
    }
}

fn ended(number: u32, source: [u8; 4], port: u16, packets: (u64, u64)) -> FlowSummary {
    flow(number, source, port, packets, EndReason::Timeout)
}

fn all(limits: ConversationLimits, flows: &[FlowSummary]) -> Conversations {
    let mut conversations = Conversations::new(limits, 7);
    flows.iter().for_each(|flow| conversations.add(flow, None, &OwnNetworks::Any));
    conversations
}

#[test]
fn flows_to_one_service_are_one_conversation() {
    let flows = [
        ended(1, [192, 0, 2, 1], 443, (3, 4)),
        ended(2, [192, 0, 2, 1], 443, (1, 0)),
        ended(3, [192, 0, 2, 1], 22, (1, 0)),
    ];
    let mut conversations = all(ConversationLimits::default(), &flows);
    let window = conversations.take(Timestamp::from_secs(200), 10);
    assert_eq!((window.start, window.end), (Timestamp::from_secs(111), Timestamp::from_secs(200)));
    let [(web, totals), (ssh, _)] = window.conversations.as_slice() else { panic!("{window:?}") };
    assert_eq!((web.port, ssh.port), (443, 22));
    assert_eq!((totals.flows, totals.packets_to_server, totals.bytes_to_client), (2, 4, 400));
    assert_eq!((totals.first, totals.last), (Timestamp::from_secs(101), Timestamp::from_secs(112)));
    assert_eq!(totals.states.iter().collect::<Vec<_>>(), [(ConnState::S0, 1), (ConnState::Sf, 1)]);
    assert_eq!(window.other, Totals::default());
    assert!(conversations.is_empty());
}

#[test]
fn a_flow_that_goes_on_counts_its_bytes_once_and_itself_when_it_ended() {
    let source = [192, 0, 2, 1];
    let mut conversations = Conversations::new(ConversationLimits::default(), 7);
    let mut window = |packets, reason| {
        conversations.add(&flow(1, source, 22, packets, reason), None, &OwnNetworks::Any);
        let window = conversations.take(Timestamp::from_secs(300), 10);
        let totals = window.conversations[0].1;
        (totals.flows, totals.packets_to_server, totals.packets_to_client)
    };
    assert_eq!(window((10, 8), EndReason::Active), (0, 10, 8));
    assert_eq!(window((15, 8), EndReason::Active), (0, 5, 0));
    assert_eq!(window((20, 9), EndReason::Timeout), (1, 5, 1));
    assert!(conversations.standing.is_empty());
}

#[test]
fn a_flood_of_invented_sources_takes_no_place_of_those_that_are_answered() {
    let limits = ConversationLimits { max_answered: 64, max_unanswered: 32, max_standing: 1 };
    let mut flows: Vec<_> = (0..100_000_u32)
        .map(|n| ended(n, [198, 51, (n >> 8 & 255) as u8, (n & 255) as u8], (n % 60_000) as u16, (1, 0)))
        .collect();
    flows.extend((0..50_u8).map(|n| ended(n.into(), [192, 0, 2, n], 443, (5, 5))));
    let mut conversations = all(limits, &flows);
    let window = conversations.take(Timestamp::from_secs(300), 64);
    let served = window.conversations.iter().filter(|(key, _)| key.port == 443 && key.source.is_ipv4());
    let served = served.filter(|(_, totals)| totals.is_answered()).count();
    assert_eq!(
        (served, window.conversations.len()),
        (48 + 2, 64),
        "the flood has only what nobody else takes"
    );
    let listed: u64 = window.conversations.iter().map(|(_, totals)| totals.flows).sum();
    assert_eq!(listed + window.other.flows, 100_050, "nothing is forgotten");
}

#[test]
fn a_window_filled_to_the_last_entry_adds_up_the_rest_without_addresses() {
    let limits = ConversationLimits::default();
    let ConversationLimits { max_answered, max_unanswered, max_standing } = limits;
    let beyond = 1_000;
    let source = |n: u32| [192, 0, (n >> 8 & 255) as u8, (n & 255) as u8];
    let count = |room: usize| u32::try_from(room + beyond).unwrap();
    let answered = (0..count(max_answered)).map(|n| ended(n, source(n), 443, (3, 4)));
    let unanswered = (0..count(max_unanswered)).map(|n| ended(n, source(n), 22, (1, 0)));
    let flows: Vec<_> = answered.chain(unanswered).collect();
    let mut conversations = all(limits, &flows);
    assert_eq!(
        (conversations.entries.len(), conversations.answered),
        (max_answered + max_unanswered, max_answered)
    );
    let window = conversations.take(Timestamp::from_secs(300), usize::MAX);
    assert_eq!(window.conversations.len(), max_answered + max_unanswered);
    assert_eq!((window.other.flows, window.other.packets_to_client), (2 * beyond as u64, 4 * beyond as u64));

    // Of those that go on, whoever has no place is counted whole when it ended.
    for (told, packets) in [(EndReason::Active, 10), (EndReason::Timeout, 25)] {
        for n in 0..count(max_standing) {
            conversations.add(&flow(n, source(n), 443, (packets, 1), told), None, &OwnNetworks::Any);
        }
        let window = conversations.take(Timestamp::from_secs(300), usize::MAX);
        let packets: Vec<_> =
            window.conversations.iter().map(|(_, totals)| totals.packets_to_server).collect();
        let of = |packets_of: u64| packets.iter().filter(|packets| **packets == packets_of).count();
        match told {
            EndReason::Active => assert_eq!((of(10), packets.len()), (max_standing, max_standing)),
            _ => assert_eq!((of(15), of(25), packets.len()), (max_standing, beyond, max_standing + beyond)),
        }
    }
    assert!(conversations.standing.is_empty());
}

#[test]
fn flows_between_others_are_nobodys_business() {
    let own = Own { networks: vec!["10.9.0.0/16".parse().unwrap()], ..Own::default() };
    let mut conversations = Conversations::new(ConversationLimits::default(), 7);
    let mut add = |source: [u8; 4], destination: IpAddr| {
        let mut summary = ended(1, source, 80, (1, 1));
        summary.flow.destination = destination;
        conversations.add(&summary, None, &OwnNetworks::Known(own.clone()));
        !conversations.take(Timestamp::from_secs(300), 9).conversations.is_empty()
    };
    assert!(!add([192, 0, 2, 1], [10, 0, 0, 1].into()));
    assert!(add([192, 0, 2, 1], [10, 9, 0, 1].into()));
    assert!(add([10, 9, 0, 7], [192, 0, 2, 1].into()));
}

proptest! {
    #[test]
    fn whatever_comes_everything_is_counted_once_and_bounds_hold(
        flows in proptest::collection::vec((0..40_u8, 0..6_u16, 0..9_u64, 0..9_u64), 0..300), listed in 0..50_usize,
    ) {
        let flows: Vec<_> = (0..).zip(flows).map(|(n, (host, port, there, back))| {
            ended(n, [192, 0, 2, host], port, (there, back))
        }).collect();
        let limits = ConversationLimits { max_answered: 20, max_unanswered: 10, max_standing: 4 };
        let mut conversations = all(limits, &flows);
        prop_assert!(conversations.entries.len() <= 20 + 10);
        let window = conversations.take(Timestamp::from_secs(10_000), listed);
        prop_assert!(window.conversations.len() <= listed);
        let mut sum = window.other;
        window.conversations.iter().for_each(|(_, totals)| sum.add(totals));
        let count = |of: fn(&FlowSummary) -> u64| flows.iter().map(of).sum::<u64>();
        prop_assert_eq!(sum.flows, flows.len() as u64);
        prop_assert_eq!(sum.bytes_to_server, count(|flow| flow.to_server.bytes));
        prop_assert_eq!(sum.packets_to_client, count(|flow| flow.to_client.packets));
        // Two halves merged are the whole.
        let (one, two) = flows.split_at(flows.len() / 2);
        let plenty = ConversationLimits { max_answered: 999, max_unanswered: 999, max_standing: 4 };
        let at = Timestamp::from_secs(10_000);
        let mut merged = all(plenty, one).take(at, 999);
        merged.merge(all(plenty, two).take(at, 999), 999);
        let whole = all(plenty, &flows).take(at, 999);
        prop_assert_eq!(merged.conversations, whole.conversations);
    }
}
