//! What belongs to no conversation: SYNs under invented addresses, and a scan with its answers.

use super::frame::{self, ACK, End, RST, SCANNER_OPTIONS, SYN, Segment};
use crate::schedules::dice::Dice;
use std::net::{IpAddr, Ipv4Addr};

/// Services that are flooded.
const FLOODED: [u16; 3] = [80, 443, 22];
/// The scanner's address.
const SCANNER: IpAddr = IpAddr::V4(Ipv4Addr::new(185, 220, 101, 7));

/// A SYN from a random source: any address from 11.0.0.0 to 95.255.255.255, but those of hosts themselves.
pub(super) fn spoofed(out: &mut Vec<u8>, target: IpAddr, dice: &mut Dice) {
    let random = dice.next().to_le_bytes();
    let [first, second, third, fourth, port @ .., low, high] = random;
    let source = Ipv4Addr::new(11 + first % 85, second, third, fourth);
    let from = End { address: IpAddr::V4(source), port: u16::from_le_bytes(port).max(1_024) };
    let service = FLOODED.get(usize::from(low) % FLOODED.len()).copied().unwrap_or(80);
    let sequence = u32::from_le_bytes([second, high, fourth, low]);
    let segment = Segment { flags: SYN, sequence, ..Segment::default() };
    frame::tcp(out, from, End { address: target, port: service }, &segment, &[]);
}

/// A scanner that asks host after host for port after port. Every second host refuses what is closed, the others say
/// nothing.
#[derive(Debug)]
pub(super) struct Scan {
    probes: u32,
    /// A probe that is about to be refused.
    refused: Option<(End, u32)>,
}

impl Scan {
    #[must_use]
    pub(super) fn new() -> Self {
        Self { probes: 0, refused: None }
    }

    /// The next packet: a probe, or the answer to the last.
    pub(super) fn next(&mut self, out: &mut Vec<u8>, host: impl Fn(u8) -> IpAddr) {
        let scanner = End { address: SCANNER, port: 51_234 };
        if let Some((target, sequence)) = self.refused.take() {
            let acknowledgement = sequence.wrapping_add(1);
            let answer = Segment { flags: RST | ACK, acknowledgement, ..Segment::default() };
            frame::tcp(out, target, scanner, &answer, &[]);
            return;
        }
        // All hosts are asked for one port, then for the next. An odd factor visits every port once.
        let number = (self.probes % 64).to_le_bytes()[0];
        let [low, high, ..] = (self.probes / 64).wrapping_mul(40_503).to_le_bytes();
        let target = End { address: host(number), port: u16::from_le_bytes([low, high]).max(1) };
        let sequence = self.probes.wrapping_mul(0x9e37_79b9);
        let probe = Segment { flags: SYN, sequence, options: SCANNER_OPTIONS, ..Segment::default() };
        frame::tcp(out, scanner, target, &probe, &[]);
        if number.is_multiple_of(2) {
            self.refused = Some((target, sequence));
        }
        self.probes = self.probes.wrapping_add(1);
    }
}
