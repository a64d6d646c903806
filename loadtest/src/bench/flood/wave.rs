//! Packets under invented addresses, and what a table may be filled with besides.

use crate::{
    bench::engine::mix::{
        SERVERS,
        connection::Connection,
        frame::{self, ACK, End, PSH, SYN, Segment},
        server,
    },
    schedules::dice::Dice,
};
use std::net::{IpAddr, Ipv4Addr};

/// What fills tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wave {
    /// SYNs that nobody answers.
    Syn,
    /// SYNs that the service answers, to nobody.
    Answered,
    Datagram,
    /// Data out of nowhere, as if its connection were older than the capture.
    Data,
    Echo,
    /// SYNs whose five-tuples have all the same sum and the same exclusive or, piece by piece: one bucket for a weak hash.
    Alike,
    /// Connections that are opened and left, which takes real addresses.
    Opened,
}

impl Wave {
    /// Each with its part of all five-tuples, in percent.
    pub(super) const ALL: [(Self, u32); 7] = [
        (Self::Syn, 40),
        (Self::Answered, 15),
        (Self::Datagram, 15),
        (Self::Data, 10),
        (Self::Echo, 5),
        (Self::Alike, 10),
        (Self::Opened, 5),
    ];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Syn => "SYNs, unanswered",
            Self::Answered => "SYNs, answered by the service",
            Self::Datagram => "datagrams to random ports",
            Self::Data => "TCP data out of nowhere",
            Self::Echo => "echo requests",
            Self::Alike => "SYNs alike, against the hash",
            Self::Opened => "connections opened and left",
        }
    }

    /// The packets of five-tuple number `number`, one after the other.
    pub(super) fn packets(self, number: u32, dice: &mut Dice, each: &mut impl FnMut(&[u8])) {
        let random = dice.next().to_le_bytes();
        let [low, high, service, host, sequence @ ..] = random;
        let source = IpAddr::V4(source(number));
        let from = End { address: source, port: u16::from_le_bytes([low, high]).max(1_024) };
        let to = End { address: server(host % SERVERS, false), port: if service < 128 { 443 } else { 80 } };
        let sequence = u32::from_le_bytes(sequence);
        let mut bytes = Vec::with_capacity(128);
        let syn = Segment { flags: SYN, sequence, ..Segment::default() };
        match self {
            Self::Syn => frame::tcp(&mut bytes, from, to, &syn, &[]),
            Self::Datagram => {
                let port = u16::from_le_bytes([service, high]).max(1);
                frame::udp(&mut bytes, from, End { port, ..to }, &random);
            }
            Self::Data => {
                let data =
                    Segment { flags: PSH | ACK, sequence, acknowledgement: !sequence, ..Segment::default() };
                frame::tcp(&mut bytes, from, to, &data, &random);
            }
            Self::Echo => frame::echo(&mut bytes, source, to.address, from.port),
            Self::Alike => {
                let [a, b, c, d] = match source {
                    IpAddr::V4(address) => address.octets(),
                    IpAddr::V6(_) => return,
                };
                // Halves of the address and the port cancel each other out.
                let port = u16::from_be_bytes([a, b]) ^ u16::from_be_bytes([c, d]) ^ 0x5aa5;
                frame::tcp(&mut bytes, End { port, ..from }, End { port: 443, ..to }, &syn, &[]);
            }
            Self::Answered | Self::Opened => {
                let mut connection = Connection::new(from, to, [sequence, !sequence]);
                connection.send(true, SYN, &[], &[], &mut bytes);
                each(&bytes);
                connection.send(false, SYN | ACK, &[], &[], &mut bytes);
                if self == Self::Opened {
                    each(&bytes);
                    connection.send(true, ACK, &[], &[], &mut bytes);
                }
            }
        }
        each(&bytes);
    }
}

/// An address for each number, none twice: 11.0.0.0 to 95.255.255.255, all over.
fn source(number: u32) -> Ipv4Addr {
    // 85 × 2^24 addresses; a factor without 2, 5 and 17 in it visits each once.
    const ADDRESSES: u64 = 85 << 24;
    const FACTOR: u64 = 0x9e37_79b1;
    let at = u64::from(number) * FACTOR % ADDRESSES;
    Ipv4Addr::from((11 << 24) + u32::try_from(at).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use netguard_core::packet::{self, LinkType};
    use std::collections::HashSet;

    #[test]
    fn no_five_tuple_comes_twice() {
        let sources: HashSet<_> = (0..200_000).map(source).collect();
        assert_eq!(sources.len(), 200_000);
        assert!(sources.iter().all(|address| (11..96).contains(&address.octets()[0])));
    }

    #[test]
    fn every_packet_can_be_read() {
        let mut dice = Dice::new(3);
        for (wave, share) in Wave::ALL {
            let mut packets = 0;
            for number in 0..500 {
                wave.packets(number, &mut dice, &mut |bytes| {
                    packets += 1;
                    let decoded = packet::decode(bytes, LinkType::Ethernet).unwrap();
                    assert!(decoded.packet().is_some(), "{wave:?}");
                });
            }
            assert!(packets >= 500 && share > 0);
        }
        assert_eq!(Wave::ALL.iter().map(|(_, share)| share).sum::<u32>(), 100);
    }
}
