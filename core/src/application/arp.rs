use crate::{
    lanes::Lanes,
    packet::{self, ArpOperation},
};
use std::net::Ipv4Addr;

/// "This address is mine", as somebody said by ARP (RFC 826). Anybody on the segment can say it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arp {
    pub address: Ipv4Addr,
    pub hardware: [u8; 6],
    /// An answer; a question claims its sender's address as well.
    pub is_reply: bool,
    /// About its own address, to everybody (RFC 5227): honest after a change, and how a claim is forced on others.
    pub gratuitous: bool,
    /// Who had claimed the address before.
    pub changed_from: Option<[u8; 6]>,
    /// Whom it was said to; none of a gratuitous one.
    pub target: Ipv4Addr,
}

/// Who claimed what last. The oldest claims are forgotten first; one that is heard again is new again.
#[derive(Debug)]
pub(super) struct Neighbours {
    claims: Lanes<Ipv4Addr, [u8; 6], 1>,
    most: usize,
}

impl Neighbours {
    pub(super) fn new(most: usize, seed: u64) -> Self {
        Self { claims: Lanes::new(seed), most }
    }

    /// The claim, if it is new, changed or unasked for; and whether another had to be forgotten.
    pub(super) fn hear(&mut self, packet: &packet::Arp) -> (Option<Arp>, bool) {
        // A probe claims nothing (RFC 5227 section 1.1).
        if packet.sender.is_unspecified() || self.most == 0 {
            return (None, false);
        }
        let gratuitous = packet.sender == packet.target;
        let mut arp = Arp {
            address: packet.sender,
            hardware: packet.sender_hardware,
            is_reply: packet.operation == ArpOperation::Reply,
            gratuitous,
            changed_from: None,
            target: packet.target,
        };
        if let Some(slot) = self.claims.find(&packet.sender) {
            self.claims.move_to(slot, 0);
            let Some(known) = self.claims.get_mut(slot) else { return (None, false) };
            let before = std::mem::replace(known, packet.sender_hardware);
            arp.changed_from = Some(before).filter(|before| *before != packet.sender_hardware);
            return ((gratuitous || arp.changed_from.is_some()).then_some(arp), false);
        }
        let forgotten = self.claims.len() >= self.most;
        if forgotten {
            self.claims.pop_oldest(0);
        }
        self.claims.insert(packet.sender, packet.sender_hardware, 0);
        (Some(arp), forgotten)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(sender: u8, hardware: u8, target: u8) -> packet::Arp {
        packet::Arp {
            operation: ArpOperation::Reply,
            sender_hardware: [hardware; 6],
            sender: Ipv4Addr::new(10, 0, 0, sender),
            target_hardware: [0; 6],
            target: Ipv4Addr::new(10, 0, 0, target),
            frame_source: None,
            vlan: None,
            tunnel: None,
        }
    }

    #[test]
    fn new_changed_and_unasked_claims_are_told_and_no_more_kept_than_fit() {
        let mut neighbours = Neighbours::new(2, 1);
        assert!(neighbours.hear(&packet(1, 1, 9)).0.is_some_and(|arp| arp.changed_from.is_none()));
        assert_eq!(neighbours.hear(&packet(1, 1, 9)).0, None);
        let changed = neighbours.hear(&packet(1, 2, 9)).0.unwrap();
        assert_eq!((changed.changed_from, changed.hardware), (Some([1; 6]), [2; 6]));
        assert!(neighbours.hear(&packet(1, 2, 1)).0.is_some_and(|arp| arp.gratuitous));
        // A question before an address is taken claims nothing.
        let probe = packet::Arp { sender: Ipv4Addr::UNSPECIFIED, ..packet(1, 3, 7) };
        assert_eq!(neighbours.hear(&probe), (None, false));
        assert!(!neighbours.hear(&packet(2, 2, 9)).1);
        assert!(neighbours.hear(&packet(3, 3, 9)).1, "one is forgotten");
        assert!(neighbours.hear(&packet(1, 2, 9)).0.is_some(), "so it is new again");
    }
}
