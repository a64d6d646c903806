use super::*;
use proptest::prelude::*;

const SNAP: u32 = 512;

fn mistake(text: &str) -> String {
    text.parse::<Filter>().unwrap_err().to_string()
}

#[test]
fn what_is_not_understood_is_refused_with_its_place_and_what_to_write() {
    for (text, said) in [
        (
            "port htttp",
            "at character 6: `htttp` is no port; write ports as numbers from 0 to 65535, ranges as 20-25",
        ),
        (
            "port 65536",
            "at character 6: `65536` is no port; write ports as numbers from 0 to 65535, ranges as 20-25",
        ),
        (
            "host example.com",
            "at character 6: `example.com` is no address; names are not looked up; `net` takes networks, `port` takes ports",
        ),
        (
            "net 10.0.0.1/8",
            "at character 5: `10.0.0.1/8` has bits set behind its length; write a network as 192.0.2.0/24 or 2001:db8::/32",
        ),
        ("tcp port 80 443", "at character 13: `and` or `or` is missing before `443`"),
        (
            "tcp host 192.0.2.1",
            "at character 10: a transport protocol has no address such as `192.0.2.1`; write `tcp and host …`",
        ),
        ("ip6 host 192.0.2.1", "at character 10: `192.0.2.1` is an address of another protocol"),
        ("icmp port 7", "at character 11: only `tcp`, `udp` and `sctp` have ports such as `7`"),
        ("(tcp or udp", "at character 12: `)` is missing at the end"),
        ("tcp and", "at character 8: a condition is missing at the end"),
        ("", ""),
        (
            "tcp[13] & 2 != 0",
            "at character 4: `[` is not understood; a program printed by `tcpdump -ddd` is taken instead",
        ),
        (
            "broadcast",
            "at character 1: a value is missing before `broadcast`; a program printed by `tcpdump -ddd` is taken instead",
        ),
        ("vlan 5000", "at character 6: `5000` is not a tag's id: a number up to 4095"),
    ] {
        match text.parse::<Filter>() {
            Ok(_) => assert_eq!(said, "", "{text}"),
            Err(error) => assert_eq!(error.to_string(), said, "{text}"),
        }
    }
    assert!(mistake(&"(".repeat(100)).contains("too deeply nested"));
    assert!(mistake(&"not ".repeat(100)).contains("too deeply nested"));
    assert!(mistake(&"a".repeat(5_000)).contains("longer than 4096"));
    let deep = "127.0.0.1 and ".repeat(10) + &"127.0.0.1 or 127.0.0.2 and ".repeat(140) + "127.0.0.1";
    assert!(deep.parse::<Filter>().is_ok(), "long is not deep");
}

#[test]
fn a_program_is_checked_as_the_kernel_does_and_told_by_the_place() {
    for (text, said) in [
        ("1\n6 0 0 262144\n", ""),
        ("4\n40 0 0 12\n21 0 1 2048\n6 0 0 262144\n6 0 0 0\n", ""),
        ("2\n6 0 0 262144\n", "it says 2 instructions and has 1"),
        ("1\n6 0 0\n", "line 2: an instruction is four numbers, as `tcpdump -ddd` prints them"),
        ("2\n21 0 1 2048\n6 0 0 0\n", "instruction 0: it jumps past the end"),
        ("1\n40 0 0 12\n", "instruction 0: the last one has to return"),
        ("2\n52 0 0 0\n6 0 0 0\n", "instruction 0: it divides by zero"),
        ("2\n96 0 0 16\n6 0 0 0\n", "instruction 0: there are 16 places in memory"),
        ("2\n255 0 0 16\n6 0 0 0\n", "instruction 0: no such instruction"),
    ] {
        match text.parse::<Filter>() {
            Ok(_) => assert_eq!(said, "", "{text}"),
            Err(error) => assert_eq!(error.to_string(), said, "{text}"),
        }
    }
}

/// An Ethernet frame with tags in it and a UDP datagram from 10.0.0.1:1000 to 10.0.0.2:53.
fn datagram(tags: &[u16]) -> Vec<u8> {
    let mut frame = vec![0; 12];
    for tag in tags {
        frame.extend([0x81, 0x00]);
        frame.extend(tag.to_be_bytes());
    }
    frame.extend([0x08, 0x00, 0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
    frame.extend([0x03, 0xe8, 0, 53, 0, 8, 0, 0]);
    frame
}

#[test]
fn a_tag_counts_the_same_in_the_frame_and_taken_off() {
    let takes = |expression: &str, bytes: &[u8], vlan| {
        let filter: Filter = expression.parse().unwrap();
        let frame = Frame { vlan, ..Frame::new(Default::default(), LinkType::Ethernet, bytes, 60) };
        Matcher::new(&filter, LinkType::Ethernet, &[]).unwrap().takes(&frame)
    };
    for (expression, untagged, tagged, twice) in [
        ("udp port 53", true, false, false),
        ("vlan", false, true, true),
        ("vlan 5", false, true, true),
        ("vlan 6", false, false, false),
        ("vlan and udp port 53", false, true, false),
        ("vlan 5 and host 10.0.0.2", false, true, false),
        ("vlan 5 and vlan 6 and udp", false, false, true),
        ("vlan 5 and vlan 7", false, false, false),
        ("udp or (vlan and udp)", true, true, false),
    ] {
        assert_eq!(takes(expression, &datagram(&[]), None), untagged, "{expression}, untagged");
        assert_eq!(takes(expression, &datagram(&[5]), None), tagged, "{expression}, tagged");
        assert_eq!(takes(expression, &datagram(&[5, 6]), None), twice, "{expression}, twice");
        assert_eq!(takes(expression, &datagram(&[6]), Some(5)), twice, "{expression}, one of two taken off");
        if expression != "udp port 53" {
            // Once the card has taken it off nothing in the frame tells, and only `vlan` asks.
            assert_eq!(takes(expression, &datagram(&[]), Some(5)), tagged, "{expression}, taken off");
        }
    }
}

#[test]
fn what_is_wanted_and_the_own_talk_become_one_program() {
    let coordinator: SocketAddr = "10.0.0.2:7443".parse().unwrap();
    let ready = "4\n40 0 0 12\n21 0 1 2048\n6 0 0 262144\n6 0 0 0\n";
    for text in ["ip", ready] {
        let filter: Filter = text.parse().unwrap();
        let program = filter.program(LinkType::Ethernet, &[coordinator], SNAP).unwrap();
        let run = |frame: &[u8]| machine::run(&program, frame, 60, None);
        let mut segment = datagram(&[]);
        assert_eq!(run(&segment), SNAP);
        segment[23] = 6;
        assert_eq!(run(&segment), SNAP, "TCP, another port");
        segment[36..38].copy_from_slice(&7443_u16.to_be_bytes());
        assert_eq!(run(&segment), 0, "TCP with the coordinator");
        segment[12..14].copy_from_slice(&[0x86, 0xdd]);
        assert_eq!(run(&segment), 0, "not wanted");
    }
    let long: Vec<_> = (0..450).map(|port| port.to_string()).collect();
    let filter: Filter = format!("port {}", long.join(" or ")).parse().unwrap();
    assert!(matches!(
        filter.program(LinkType::Ethernet, &[], SNAP),
        Err(FilterError::TooLong { instructions: 4_097.. })
    ));
}

proptest! {
    #[test]
    fn whatever_is_written_is_refused_or_ends_for_every_frame(
        words in proptest::collection::vec(
            proptest::sample::select(vec![
                "and", "or", "not", "(", ")", "src", "dst", "host", "net", "port", "portrange", "tcp", "udp", "ip",
                "ip6", "arp", "vlan", "proto", "less", "greater", "mask", "10.0.0.1", "10.0.0.0/8", "2001:db8::/32",
                "53", "20-30", "255.0.0.0", "icmp", "&&", "!", "5",
            ]),
            0..12,
        ),
        frame in proptest::collection::vec(any::<u8>(), 0..80),
        link in proptest::sample::select(vec![LinkType::Ethernet, LinkType::RawIp, LinkType::LinuxSll, LinkType::Loopback]),
    ) {
        if let Ok(filter) = words.join(" ").parse::<Filter>() {
            let program = filter.program(link, &[], SNAP).unwrap();
            prop_assert!([0, SNAP].contains(&machine::run(&program, &frame, 80, None)));
            // What we make is what we would take from somebody else.
            let printed = program.iter().fold(program.len().to_string(), |text, instruction| {
                let Instruction { code, jt, jf, k } = instruction;
                format!("{text}\n{code} {jt} {jf} {k}")
            });
            prop_assert_eq!(printed.parse::<Filter>(), Ok(Filter(Wanted::Program(program))));
        }
    }

    #[test]
    fn any_text_is_refused_or_understood(text in ".{0,200}", numbers in "[0-9 \n]{0,200}") {
        let _ = text.parse::<Filter>();
        let _ = numbers.parse::<Filter>();
    }

    #[test]
    fn any_program_that_is_taken_ends(
        instructions in proptest::collection::vec((any::<u8>(), 0..4_u8, 0..4_u8, 0..20_u32), 1..20),
        frame in proptest::collection::vec(any::<u8>(), 0..40),
    ) {
        let mut program: Vec<_> = instructions
            .into_iter()
            .map(|(code, jt, jf, k)| Instruction { code: u16::from(code), jt, jf, k })
            .collect();
        program.push(step(op::RETURN, SNAP));
        let _ = machine::run(&program, &frame, 80, Some(7));
    }
}
