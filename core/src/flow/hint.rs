//! Where a frame's flow probably is, guessed before the frame is decoded.
//!
//! A frame is looked at in steps, some frames apart: its bytes, the place in the index, the flow. Each step asks for
//! memory that the next one needs, so that the processor fetches it while it deals with other frames. Invariant: a hint
//! changes nothing; a wrong one, or none, costs time only.

use super::{key::FlowKey, table::FlowTable};
use crate::{
    lanes::{Slot, Tag},
    net::Protocol,
    packet::{LinkType, Tuple},
};
use std::net::Ipv4Addr;

/// Ethernet type and the beginning of an IPv4 header without options; a VLAN tag stands before them.
const IPV4: [u8; 3] = [0x08, 0x00, 0x45];
const VLAN: [u8; 2] = [0x81, 0x00];
const ETHERNET: usize = 14;
const TAG: usize = 4;

/// How far a frame has been looked at.
#[derive(Debug, Clone, Copy, Default)]
pub struct Hint(State);

#[derive(Debug, Clone, Copy, Default)]
enum State {
    #[default]
    Unknown,
    Hashed(Tag),
    Placed(Slot),
}

impl FlowTable {
    /// The first step: reads the frame's addresses. Only what most frames are is understood.
    #[must_use]
    #[inline]
    pub fn hint(&self, frame: &[u8], link: LinkType) -> Hint {
        let tag = tuple(frame, link).map(|tuple| self.tag(&FlowKey::of(&tuple, 0).0));
        Hint(tag.map_or(State::Unknown, State::Hashed))
    }

    /// The second step: reads the index.
    #[must_use]
    #[inline]
    pub fn follow(&self, hint: Hint) -> Hint {
        let State::Hashed(tag) = hint.0 else { return hint };
        Hint(self.guess(tag).map_or(State::Unknown, State::Placed))
    }

    /// The third step: reads the flow. The number means nothing but that it was read.
    #[must_use]
    #[inline]
    pub fn warm(&self, hint: Hint) -> u64 {
        if let State::Placed(slot) = hint.0 { self.read(slot) } else { 0 }
    }
}

#[inline]
fn tuple(frame: &[u8], link: LinkType) -> Option<Tuple> {
    if link != LinkType::Ethernet {
        return None;
    }
    let tagged = frame.get(12..14)? == VLAN;
    let begin = if tagged { ETHERNET + TAG } else { ETHERNET };
    let ip: &[u8; 24] = frame.get(begin..)?.first_chunk()?;
    let protocol = Protocol(ip[9]);
    if frame.get(begin - 2..=begin)? != IPV4 || !matches!(protocol, Protocol::TCP | Protocol::UDP) {
        return None;
    }
    Some(Tuple {
        source: Ipv4Addr::new(ip[12], ip[13], ip[14], ip[15]).into(),
        destination: Ipv4Addr::new(ip[16], ip[17], ip[18], ip[19]).into(),
        protocol,
        source_port: u16::from_be_bytes([ip[20], ip[21]]),
        destination_port: u16::from_be_bytes([ip[22], ip[23]]),
    })
}
