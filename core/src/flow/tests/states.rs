//! Zeek's `conn_state` and `history`, each state by a sequence made for it (the meanings are those of the documentation
//! of `conn.log`; the pairs of history and state were compared with logs that Zeek wrote).

use super::*;

const C: bool = true;
const S: bool = false;

/// A segment: who sent it, flags, own number, number acknowledged, payload.
type Segment = (bool, TcpFlags, u32, u32, u32);

fn header((from_client, flags, sequence, acknowledgement, payload): Segment) -> Header {
    let (from, to) = if from_client { (CLIENT, SERVER) } else { (SERVER, CLIENT) };
    tcp(from, to, flags, (sequence, acknowledgement), payload)
}

/// The one flow that these segments are, a millisecond apart.
fn told(segments: &[Segment]) -> FlowSummary {
    let packets: Vec<_> = segments.iter().zip(0..).map(|(segment, at)| (at, header(*segment))).collect();
    told_of(&packets)
}

fn told_of(packets: &[(u64, Header)]) -> FlowSummary {
    let (mut table, mut seen) = run(packets);
    table.finish(&mut seen);
    let [flow] = &seen.flows[..] else { panic!("{:?}", seen.flows) };
    flow.clone()
}

fn in_words(flow: &FlowSummary) -> String {
    format!("{} {}", flow.conn_state, flow.history)
}

const OPEN: [Segment; 3] = [(C, SYN, 100, 0, 0), (S, TcpFlags(0x12), 500, 101, 0), (C, ACK, 101, 501, 0)];
const FIN_ACK: TcpFlags = TcpFlags(0x11);
const RST_ACK: TcpFlags = TcpFlags(0x14);

/// A handshake, and this after it.
fn opened(more: &[Segment]) -> String {
    in_words(&told(&[&OPEN[..], more].concat()))
}

#[test]
fn every_state_of_a_connection_has_zeeks_name() {
    let words = |segments: &[Segment]| in_words(&told(segments));
    assert_eq!(words(&[(C, SYN, 100, 0, 0)]), "S0 S");
    assert_eq!(words(&[(C, SYN, 100, 0, 0), (C, SYN, 100, 0, 0)]), "S0 S", "sent again");
    assert_eq!(words(&[(C, SYN, 100, 0, 0), (S, RST_ACK, 0, 101, 0)]), "REJ Sr");
    assert_eq!(words(&[(C, SYN, 100, 0, 0), (C, RST, 101, 0, 0)]), "RSTOS0 SR");
    assert_eq!(words(&[(C, SYN, 100, 0, 0), (C, FIN_ACK, 101, 0, 0)]), "SH SF");
    assert_eq!(words(&OPEN), "S1 ShA");
    assert_eq!(words(&OPEN[..2]), "S1 Sh");
    assert_eq!(words(&[OPEN[0], OPEN[1], (C, RST, 101, 0, 0)]), "RSTO ShR", "a scan of an open port");
    assert_eq!(opened(&[(C, ACK, 101, 501, 5), (S, ACK, 501, 106, 7)]), "S1 ShADd");
    assert_eq!(opened(&[(C, FIN_ACK, 101, 501, 0), (S, ACK, 501, 102, 0)]), "S2 ShAFa");
    assert_eq!(opened(&[(S, FIN_ACK, 501, 101, 0), (C, ACK, 101, 502, 0)]), "S3 ShAf");
    assert_eq!(opened(&[(C, FIN_ACK, 101, 501, 0), (S, FIN_ACK, 501, 102, 0)]), "SF ShAFf");
    assert_eq!(opened(&[(C, RST, 101, 0, 0)]), "RSTO ShAR");
    assert_eq!(opened(&[(S, RST, 501, 0, 0)]), "RSTR ShAr");
    let syn_ack = (S, TcpFlags(0x12), 500, 101, 0);
    assert_eq!(words(&[syn_ack, (S, RST, 501, 0, 0)]), "RSTRH ^hr");
    assert_eq!(words(&[syn_ack, (S, FIN_ACK, 501, 101, 0)]), "SHR ^hf");
    assert_eq!(words(&[syn_ack]), "OTH ^h");
    assert_eq!(words(&[syn_ack, (C, ACK, 101, 501, 0)]), "S1 ^hA", "only the SYN was missed");
    assert_eq!(words(&[(C, ACK, 101, 501, 3), (S, ACK, 501, 104, 4)]), "OTH Dd");
    assert_eq!(words(&[(S, ACK, 501, 104, 4), (C, ACK, 104, 505, 0)]), "OTH ^dA");
    assert_eq!(words(&[(C, FIN_ACK, 101, 501, 0), (S, FIN_ACK, 501, 102, 0)]), "SF Ff", "its end was seen");
}

#[test]
fn an_rst_after_both_have_closed_changes_nothing() {
    let both = [(C, FIN_ACK, 101, 501, 0), (S, FIN_ACK, 501, 102, 0)];
    assert_eq!(opened(&[both[0], both[1], (C, RST, 102, 0, 0)]), "SF ShAFfR");
    assert_eq!(opened(&[both[0], (C, RST, 102, 0, 0)]), "RSTO ShAFR");
    // The other side's FIN came all the same.
    assert_eq!(opened(&[both[0], (C, RST, 102, 0, 0), both[1]]), "SF ShAFRf");
}

#[test]
fn what_anybody_could_have_sent_leaves_no_trace() {
    let blind = (C, RST, 4_711_000, 0, 0);
    assert_eq!(opened(&[blind]), "S1 ShA");
    assert_eq!(opened(&[(S, FIN_ACK, 99_000_000, 101, 0)]), "S1 ShA");
}

#[test]
fn probes_have_their_letters() {
    let words = |flags| in_words(&told(&[(C, flags, 7, 0, 0), (S, RST_ACK, 0, 8, 0)]));
    assert_eq!(words(SYN | FIN), "RSTR Qr");
    assert_eq!(words(FIN), "RSTR Fr");
    assert_eq!(words(TcpFlags(0)), "RSTRH r");
    assert_eq!(opened(&[(C, FIN | RST, 101, 0, 0)]), "RSTO ShAI");
}

#[test]
fn letters_come_again_with_new_numbers_and_in_powers_of_ten() {
    // Two RSTs with the same number, one with another.
    let two = [(C, ACK, 101, 501, 9), (C, RST, 110, 0, 0), (C, RST, 110, 0, 0), (C, RST, 111, 0, 0)];
    assert_eq!(opened(&two), "RSTO ShADRR");
    let again = |times: usize| {
        let data = (C, ACK, 101, 501, 9);
        opened(&[vec![data], vec![data; times]].concat())
    };
    assert_eq!(again(0), "S1 ShAD");
    assert_eq!(again(1), "S1 ShADT");
    assert_eq!(again(9), "S1 ShADT");
    assert_eq!(again(10), "S1 ShADTT");
    assert_eq!(again(120), "S1 ShADTTT");
    // Mid-stream too.
    let data = (C, ACK, 101, 501, 9);
    assert_eq!(in_words(&told(&[data, data])), "OTH DT");
}

#[test]
fn gaps_and_closed_windows_show() {
    // Ten bytes that the capture missed, and the other side acknowledges.
    let missed = [(C, ACK, 101, 501, 10), (C, ACK, 121, 501, 10), (S, ACK, 501, 131, 0)];
    assert_eq!(opened(&missed), "S1 ShADaG");
    // Two segments that changed places: nothing is missing.
    let reordered = [(C, ACK, 111, 501, 10), (C, ACK, 101, 501, 10), (S, ACK, 501, 121, 0)];
    assert_eq!(opened(&reordered), "S1 ShADTa");
    let mut closed = header((S, ACK, 501, 101, 0));
    if let Transport::Tcp(tcp) = &mut closed.transport {
        tcp.window = 0;
    }
    let packets = with(handshake(), &[(3, closed)]);
    assert_eq!(in_words(&told_of(&packets)), "S1 ShAaw");
}

#[test]
fn datagrams_have_states_too() {
    let question = (0, udp(CLIENT, (2, 53)));
    let answer = (1, udp((2, 53), CLIENT));
    for (packets, expected) in [
        (vec![question], "S0 D"),
        (vec![question, answer], "SF Dd"),
        (vec![answer], "SHR ^d"),
        (vec![answer, (2, question.1)], "SF ^dD"),
    ] {
        let flow = told_of(&packets);
        assert_eq!(in_words(&flow), expected);
        assert_eq!(flow.to_server.payload + flow.to_client.payload, 10 * packets.len() as u64);
    }
}

#[test]
fn payload_is_counted_once_each_way_and_mid_stream_too() {
    let flow = told(
        &[
            &OPEN[..],
            &[
                (C, ACK, 101, 501, 30),
                (C, ACK, 101, 501, 30),
                (S, ACK, 501, 131, 700),
                (C, ACK, 131, 1201, 5),
            ],
        ]
        .concat(),
    );
    assert_eq!((flow.to_server.payload, flow.to_client.payload), (35, 700));
    let flow = told(&[(C, ACK, 101, 501, 30), (S, ACK, 501, 131, 700), (S, ACK, 1201, 131, 100)]);
    assert_eq!((flow.to_server.payload, flow.to_client.payload, flow.picked_up), (30, 800, true));
}

#[test]
fn a_history_has_an_end() {
    let resets: Vec<_> =
        [(C, ACK, 101, 501, 60)].into_iter().chain((0..60).map(|n| (C, RST, 110 + n, 0, 0))).collect();
    let flow = told(&[&OPEN[..], &resets].concat());
    assert_eq!(flow.history.as_str().len(), 23);
}

proptest! {
    /// Whatever the segments: a state, and a history of Zeek's letters.
    #[test]
    fn any_segments_have_a_state_and_a_history(segments in proptest::collection::vec(any_packet(), 0..200)) {
        let (mut table, mut seen) = run(&segments);
        table.finish(&mut seen);
        for flow in &seen.flows {
            let letters = flow.history.as_str();
            prop_assert!(letters.bytes().all(|letter| b"SHADFRCGTWIQ^".contains(&letter.to_ascii_uppercase())));
            for letter in "ADIQadiq".chars() {
                prop_assert!(letters.matches(letter).count() <= 1, "{letters}");
            }
            let flipped = letters.starts_with('^');
            prop_assert_eq!(letters.matches('^').count(), usize::from(flipped));
            prop_assert!(!flipped || flow.picked_up);
        }
    }
}
