//! Which coordinator owns a subject: rendezvous hashing.

use crate::subject::Subject;
use sha2::{Digest, Sha256};

/// A coordinator's id in the cluster, as Raft knows it.
pub type NodeId = u64;

/// The live coordinator that judges `subject`: highest random weight (Thaler and Ravishankar, 1998). When a node goes,
/// only its own subjects move; every node computes the same answer from the same list, in any order.
///
/// Sources are placed by their /24 or /64, so that one owner can add up a neighbourhood.
#[must_use]
pub fn owner(subject: &Subject, live: &[NodeId]) -> Option<NodeId> {
    let key = placement_key(subject);
    live.iter().copied().max_by_key(|node| (weight(&key, *node), *node))
}

fn weight(key: &[u8], node: NodeId) -> u64 {
    let digest = Sha256::new().chain_update(node.to_be_bytes()).chain_update(key).finalize();
    digest.iter().take(8).fold(0, |weight, byte| (weight << 8) | u64::from(*byte))
}

fn placement_key(subject: &Subject) -> Vec<u8> {
    use std::net::IpAddr;
    match subject {
        Subject::Source(IpAddr::V4(address)) => address.octets()[..3].to_vec(),
        Subject::Source(IpAddr::V6(address)) => address.octets()[..8].to_vec(),
        Subject::Service(service) => service.to_string().into_bytes(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{IpAddr, Ipv4Addr};

    #[test]
    fn only_the_subjects_of_a_dead_node_move() {
        let subjects: Vec<_> = (0..1000u32)
            .map(|i| Subject::Source(IpAddr::V4(Ipv4Addr::from(0x0a00_0000 + (i << 8)))))
            .collect();
        let mut counts = [0u32; 4];
        for subject in &subjects {
            let before = owner(subject, &[1, 2, 3]).unwrap();
            assert_eq!(owner(subject, &[3, 1, 2]), Some(before));
            counts[usize::try_from(before).unwrap()] += 1;
            if before != 2 {
                assert_eq!(owner(subject, &[1, 3]), Some(before));
            }
        }
        assert!(counts[1..].iter().all(|n| (250..=420).contains(n)), "{counts:?}");
        assert_eq!(owner(&subjects[0], &[]), None);
    }
}
