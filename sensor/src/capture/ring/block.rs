//! What stands in a block that the kernel handed over: TPACKET_V3 (linux/if_packet.h, Documentation/networking/
//! packet_mmap.rst), in the machine's own byte order.
//!
//! Pure reading of bytes: whatever they are, nothing outside of the block is named.

use prefetch_index::prefetch_index;
use std::ops::Range;

/// Bytes the processor fetches at a time.
const LINE: usize = 64;

/// `TP_STATUS_VLAN_VALID`: the interface took a VLAN tag off, and it stands in the header.
const VLAN_VALID: u32 = 1 << 4;
/// `TP_STATUS_CSUMNOTREADY`: sent by this host or one of its guests, and the card is to write the checksum.
const CHECKSUM_NOT_READY: u32 = 1 << 3;
/// `TP_STATUS_CSUM_VALID`: verified on the way in.
const CHECKSUM_VALID: u32 = 1 << 7;
/// Size of `struct tpacket3_hdr`, after which a `sockaddr_ll` follows.
const HEADER: usize = 48;
/// Offset of `sll_pkttype`, and its value for a packet that this host sent.
const PACKET_TYPE: usize = HEADER + 10;
const OUTGOING: u8 = 4;

/// Where the packets of a block are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Packets {
    /// Offset of the next one.
    at: usize,
    left: u32,
}

impl Packets {
    /// Those of a whole block; none when it is too short to say.
    pub(super) fn of(block: &[u8]) -> Self {
        let (left, at) = (u32_at(block, 12).unwrap_or(0), u32_at(block, 16).unwrap_or(0));
        Self { at: usize::try_from(at).unwrap_or(usize::MAX), left }
    }

    /// The next packet of the block they were made of.
    ///
    /// Errors: the block says something that does not fit into it; the rest of it is given up.
    pub(super) fn next(&mut self, block: &[u8]) -> Option<Result<Packet, Broken>> {
        if self.left == 0 {
            return None;
        }
        let Some(packet) = Packet::at(block, self.at) else {
            let lost = std::mem::take(&mut self.left);
            return Some(Err(Broken { lost }));
        };
        self.left -= 1;
        self.at = self.at.saturating_add(packet.next);
        // The next header, and the beginning of its frame behind it, come while this one is read.
        for line in 0..3 {
            prefetch_index(block, self.at.saturating_add(line * LINE));
        }
        Some(Ok(packet))
    }
}

/// So many packets of a block could not be found in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Broken {
    pub(super) lost: u32,
}

/// One packet in a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Packet {
    /// Bytes from this packet's header to the next one's.
    next: usize,
    /// Microseconds since 1970 by the host's wall clock.
    pub(super) wall_micros: u64,
    /// The frame's place in the block.
    pub(super) bytes: Range<usize>,
    /// Its length on the wire; more than is there when it was cut.
    pub(super) wire_length: u32,
    /// The id of the tag that the interface took off.
    pub(super) vlan: Option<u16>,
    /// The kernel knows the transport checksum to be right, or it is not written yet.
    pub(super) checksum_known: bool,
    /// This host sent it.
    pub(super) outgoing: bool,
}

impl Packet {
    fn at(block: &[u8], at: usize) -> Option<Self> {
        let packet = block.get(at..)?;
        let header = packet.get(..PACKET_TYPE + 1)?;
        let [next, seconds, nanoseconds, captured, wire_length, status] =
            [0, 4, 8, 12, 16, 20].map(|offset| u32_at(header, offset));
        let start = at.checked_add(usize::from(u16_at(header, 24)?))?;
        let end = start.checked_add(usize::try_from(captured?).ok()?)?;
        block.get(start..end)?;
        Some(Self {
            next: usize::try_from(next?).ok()?,
            wall_micros: u64::from(seconds?) * 1_000_000 + u64::from(nanoseconds?) / 1_000,
            bytes: start..end,
            wire_length: wire_length?,
            vlan: (status? & VLAN_VALID != 0).then(|| u32_at(header, 32)).flatten().map(id),
            checksum_known: status? & (CHECKSUM_NOT_READY | CHECKSUM_VALID) != 0,
            outgoing: header.get(PACKET_TYPE) == Some(&OUTGOING),
        })
    }
}

/// The VLAN's id: the lower 12 bits of a tag, behind priority and drop eligibility (IEEE 802.1Q, 9.6).
fn id(tci: u32) -> u16 {
    let [low, high, ..] = tci.to_le_bytes();
    u16::from_le_bytes([low, high & 0x0f])
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.try_into().ok().map(u32::from_ne_bytes)
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..at + 2)?.try_into().ok().map(u16::from_ne_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A block as the kernel fills it: 48 bytes of its own header, then each packet at a multiple of 16.
    fn block(frames: &[(&[u8], u32)]) -> Vec<u8> {
        let mut block = vec![0_u8; 48];
        let put = |block: &mut Vec<u8>, at: usize, value: u32| {
            block[at..at + 4].copy_from_slice(&value.to_ne_bytes());
        };
        put(&mut block, 12, u32::try_from(frames.len()).unwrap());
        put(&mut block, 16, 48);
        for (frame, status) in frames {
            let start = block.len();
            let mac = 80;
            block.resize(start + (mac + frame.len()).next_multiple_of(16), 0);
            let length = u32::try_from(frame.len()).unwrap();
            let next = u32::try_from(block.len() - start).unwrap();
            for (offset, value) in
                [(0, next), (4, 7), (8, 5_999), (12, length), (16, length + 1), (20, *status), (32, 0x2064)]
            {
                put(&mut block, start + offset, value);
            }
            block[start + 24..start + 26].copy_from_slice(&80_u16.to_ne_bytes());
            block[start + mac..start + mac + frame.len()].copy_from_slice(frame);
        }
        block
    }

    fn all(block: &[u8]) -> Vec<Result<Packet, Broken>> {
        let mut packets = Packets::of(block);
        std::iter::from_fn(|| packets.next(block)).collect()
    }

    #[test]
    fn packets_are_found_in_their_order_with_what_the_kernel_knows_of_them() {
        let mut block = block(&[(b"first", 0), (b"the second one, longer", VLAN_VALID | CHECKSUM_VALID)]);
        block[48 + PACKET_TYPE] = OUTGOING;
        let packets: Vec<_> = all(&block).into_iter().map(Result::unwrap).collect();
        assert_eq!(packets.len(), 2);
        assert_eq!(&block[packets[0].bytes.clone()], b"first");
        assert_eq!(&block[packets[1].bytes.clone()], b"the second one, longer");
        assert_eq!(packets[0].wall_micros, 7_000_005);
        assert_eq!(packets[0].wire_length, 6);
        assert_eq!((packets[0].vlan, packets[1].vlan), (None, Some(0x64)));
        assert_eq!((packets[0].checksum_known, packets[1].checksum_known), (false, true));
        assert_eq!((packets[0].outgoing, packets[1].outgoing), (true, false));
    }

    #[test]
    fn an_empty_block_has_no_packets() {
        assert_eq!(all(&block(&[])), []);
        assert_eq!(all(&[]), []);
    }

    #[test]
    fn a_block_cut_short_gives_up_what_is_not_there() {
        let whole = block(&[(b"first", 0), (b"second", 0), (b"third", 0)]);
        let found = all(&whole[..whole.len() - 100]);
        assert_eq!(found.len(), 3);
        assert_eq!(found[2], Err(Broken { lost: 1 }));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_within_their_bounds(mut bytes in proptest::collection::vec(any::<u8>(), 0..512), packets in 0..8_u32, first in 0..600_u32) {
            for (at, value) in [(12, packets), (16, first)] {
                if let Some(place) = bytes.get_mut(at..at + 4) {
                    place.copy_from_slice(&value.to_ne_bytes());
                }
            }
            let found = all(&bytes);
            prop_assert!(found.len() <= 8);
            for packet in found.into_iter().flatten() {
                prop_assert!(bytes.get(packet.bytes).is_some());
            }
        }
    }
}
