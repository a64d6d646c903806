//! The floor that memory sets: a loop that only walks the packets and hashes their five-tuples.
//!
//! Whatever looks at every packet has to do this much. Invariant: it keeps no state and follows no header but Ethernet,
//! one VLAN tag, IP and the ports.

use super::image::Walk;
use foldhash::quality::FixedState;
use netguard_core::packet::LinkType;
use std::hash::BuildHasher;

/// Hashes every five-tuple with a keyed hash; what comes out depends on all of them, so that nothing is left out.
#[must_use]
pub fn hash_all(walk: Walk<'_>, key: u64) -> u64 {
    let state = FixedState::with_seed(key);
    walk.fold(0, |sum: u64, frame| sum.wrapping_add(hash(&state, frame.bytes, frame.link).unwrap_or(1)))
}

fn hash(state: &FixedState, frame: &[u8], link: LinkType) -> Option<u64> {
    let packet = match link {
        LinkType::Ethernet => match frame.get(12..14)? {
            [0x81, 0x00] => frame.get(18..)?,
            _ => frame.get(14..)?,
        },
        LinkType::RawIp => frame,
        LinkType::LinuxSll => frame.get(16..)?,
        LinkType::LinuxSll2 => frame.get(20..)?,
        _ => frame.get(4..)?,
    };
    let first = packet.first()?;
    match first >> 4 {
        4 => {
            let header = usize::from(first & 0x0f) * 4;
            let addresses: &[u8; 8] = packet.get(12..20)?.try_into().ok()?;
            let ports = packet.get(header..)?.first_chunk::<4>()?;
            Some(state.hash_one((
                u64::from_le_bytes(*addresses),
                u32::from_le_bytes(*ports),
                *packet.get(9)?,
            )))
        }
        6 => {
            let (source, rest) = packet.get(8..)?.split_first_chunk::<16>()?;
            let (destination, rest) = rest.split_first_chunk::<16>()?;
            let ports = rest.first_chunk::<4>()?;
            let addresses = (u128::from_le_bytes(*source), u128::from_le_bytes(*destination));
            Some(state.hash_one((addresses, u32::from_le_bytes(*ports), *packet.get(6)?)))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::engine::mix::{Kind, Mix};
    use std::{collections::HashSet, time::Duration};

    #[test]
    fn every_five_tuple_has_a_hash_of_its_own() {
        let image = Mix { kind: Kind::Adversarial, packets: 20_000, seed: 5 }.generate();
        let state = FixedState::with_seed(9);
        let hashes: HashSet<_> =
            image.walk(Duration::ZERO).map(|frame| hash(&state, frame.bytes, frame.link).unwrap()).collect();
        // 5,000 spoofed sources alone.
        assert!(hashes.len() > 5_900, "{}", hashes.len());
        let walk = || image.walk(Duration::ZERO);
        assert_eq!(hash_all(walk(), 9), hash_all(walk(), 9));
        assert_ne!(hash_all(walk(), 9), hash_all(walk(), 10));
    }
}
