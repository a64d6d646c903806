//! A packet that passes two watched interfaces of one host, as a container's and the uplink, counts once.
//!
//! Told by what stands in it: everything that routers and bridges leave alone, to the 40th byte of what IP carries. The
//! interface that it was seen at first is the one at which it counts; the same bytes again at that interface are another
//! packet, as a retransmission is. So nothing has to be known of how interfaces hang together.
//!
//! Invariants: fixed memory, one look-up a packet; the hash is keyed, so that nobody can choose packets that hide others.
//! What address translation changed, or segmentation cut otherwise on the two interfaces, counts at both.

use super::Frame;
use foldhash::quality::FixedState;
use netguard_core::{packet::LinkType, time::Timestamp};
use std::{
    hash::{BuildHasher as _, Hasher as _},
    time::Duration,
};

/// Packets remembered: at 100,000 a second, 160 ms of them, and a packet needs some milliseconds from one interface to
/// the other.
const REMEMBERED: usize = 16_384;
/// Rings are read one after the other and blocks are held for up to 10 ms; a host under load takes some times that.
const WITHIN: Duration = Duration::from_millis(500);
/// Bytes compared of what IP carries: all of a TCP header, and what tells datagrams of the same size apart.
const CARRIED: usize = 40;
/// Bytes compared of what is not IP.
const OTHER: usize = 64;

#[derive(Debug, Clone, Copy, Default)]
struct Seen {
    tag: u32,
    interface: u32,
    at: Timestamp,
}

/// What was seen lately, and where.
#[derive(Debug)]
pub(super) struct Duplicates {
    seed: u64,
    seen: Vec<Seen>,
}

impl Duplicates {
    pub(super) fn new(seed: u64) -> Self {
        Self { seed, seen: vec![Seen::default(); REMEMBERED] }
    }

    /// Whether another interface showed this packet just now.
    pub(super) fn is_repeated(&mut self, frame: &Frame<'_>, interface: u32) -> bool {
        let mut hasher = FixedState::with_seed(self.seed).build_hasher();
        identify(frame, &mut hasher);
        let hash = hasher.finish();
        let (tag, slot) = (hash >> 32, hash & (REMEMBERED as u64 - 1));
        let tag = u32::try_from(tag).unwrap_or_default();
        let Some(seen) = usize::try_from(slot).ok().and_then(|slot| self.seen.get_mut(slot)) else {
            return false;
        };
        let apart = frame.at.since(seen.at).max(seen.at.since(frame.at));
        if seen.tag == tag && seen.interface != interface && apart <= WITHIN {
            return true;
        }
        *seen = Seen { tag, interface, at: frame.at };
        false
    }
}

/// What stays as it is from one interface to the next: not the link header, TTL and hop limit, header and transport
/// checksums (cards write these late).
fn identify(frame: &Frame<'_>, hasher: &mut impl std::hash::Hasher) {
    let mut put = |bytes: &[u8], range: std::ops::Range<usize>| {
        let end = range.end.min(bytes.len());
        hasher.write(bytes.get(range.start..end).unwrap_or_default());
    };
    let Some((version, packet)) = network(frame) else { return put(frame.bytes, 0..OTHER) };
    let (protocol, carried) = if version == 4 {
        put(packet, 0..8);
        put(packet, 9..10);
        put(packet, 12..20);
        let header = usize::from(packet.first().copied().unwrap_or(0) & 15) * 4;
        (packet.get(9), packet.get(header..))
    } else {
        put(packet, 0..7);
        put(packet, 8..40);
        (packet.get(6), packet.get(40..))
    };
    let carried = carried.unwrap_or_default();
    let checksum = match protocol {
        Some(6) => 16..18,
        Some(17) => 6..8,
        Some(1 | 58) => 2..4,
        _ => CARRIED..CARRIED,
    };
    put(carried, 0..checksum.start);
    put(carried, checksum.end..CARRIED);
}

/// The IP version and packet of a frame, behind up to two tags.
fn network<'a>(frame: &Frame<'a>) -> Option<(u8, &'a [u8])> {
    let mut bytes = frame.bytes;
    if frame.link == LinkType::Ethernet {
        bytes = bytes.get(12..)?;
        for _ in 0..3 {
            let (kind, rest) = bytes.split_at_checked(2)?;
            match kind {
                [0x81, 0x00] | [0x88, 0xa8] => bytes = rest.get(2..)?,
                [0x08, 0x00] | [0x86, 0xdd] => {
                    bytes = rest;
                    break;
                }
                _ => return None,
            }
        }
    }
    match bytes.first()? >> 4 {
        4 => Some((4, bytes)),
        6 => Some((6, bytes)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(id: u8, ttl: u8, checksum: u8) -> Vec<u8> {
        let mut packet = vec![0x45, 0, 0, 40, 0, id, 0, 0, ttl, 6, checksum, 0, 10, 0, 0, 1, 10, 0, 0, 2];
        packet.extend([0, 80, 0, 90, 0, 0, 0, 1, 0, 0, 0, 2, 0x50, 0x10, 0, 0, checksum, checksum, 0, 0]);
        packet
    }

    fn ethernet(packet: &[u8], mac: u8, tags: usize) -> Vec<u8> {
        let mut frame = vec![mac; 12];
        for _ in 0..tags {
            frame.extend([0x81, 0, 0, 5]);
        }
        frame.extend([8, 0]);
        frame.extend(packet);
        frame
    }

    #[test]
    fn packets_remembered_are_so_many_and_no_more() {
        let mut duplicates = Duplicates::new(7);
        let at = Timestamp::from_secs(1_000);
        let numbered = |number: u32| {
            let mut packet = packet(1, 64, 3);
            packet.truncate(24);
            packet.extend(number.to_be_bytes());
            packet
        };
        let many = 4 * u32::try_from(REMEMBERED).unwrap();
        for number in 0..many {
            duplicates.is_repeated(&Frame::new(at, LinkType::RawIp, &numbered(number), 40), 1);
        }
        assert_eq!((duplicates.seen.len(), duplicates.seen.capacity()), (REMEMBERED, REMEMBERED));
        let told = (0..many)
            .filter(|number| {
                duplicates.is_repeated(&Frame::new(at, LinkType::RawIp, &numbered(*number), 40), 2)
            })
            .count();
        assert!((1..=REMEMBERED).contains(&told), "{told}");
    }

    #[test]
    fn a_packet_counts_at_the_interface_that_showed_it_first_and_again_when_it_is_sent_again() {
        let mut duplicates = Duplicates::new(7);
        let mut seen = |at: u64, bytes: &[u8], link, interface| {
            let at = Timestamp::from_micros(1_000_000_000 + at);
            duplicates.is_repeated(&Frame::new(at, link, bytes, 60), interface)
        };
        use LinkType::{Ethernet, RawIp};
        let uplink = ethernet(&packet(1, 64, 3), 1, 0);
        assert!(!seen(0, &uplink, Ethernet, 1));
        assert!(
            seen(900, &ethernet(&packet(1, 63, 9), 2, 0), Ethernet, 2),
            "routed, its checksum not yet written"
        );
        assert!(seen(900, &ethernet(&packet(1, 63, 9), 2, 1), Ethernet, 3), "tagged");
        assert!(seen(900, &packet(1, 63, 9), RawIp, 4), "without a link header");
        assert!(!seen(1_000, &uplink, Ethernet, 1), "sent again");
        assert!(seen(1_100, &ethernet(&packet(1, 63, 3), 2, 0), Ethernet, 2));
        assert!(!seen(1_200, &ethernet(&packet(2, 64, 3), 2, 0), Ethernet, 2), "the next packet");
        assert!(!seen(2_000_000, &packet(1, 63, 9), RawIp, 4), "long after");
        let arp = [0xff; 42];
        assert!(!seen(2_000_000, &arp, Ethernet, 1));
        assert!(seen(2_000_000, &arp, Ethernet, 2));
        for length in 0..60 {
            // Whatever is cut, nothing is read outside of it.
            let _ = seen(3_000_000, uplink.get(..length).unwrap_or_default(), Ethernet, 1);
        }
    }
}
