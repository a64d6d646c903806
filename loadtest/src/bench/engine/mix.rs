//! The traffic that engines are measured with, drawn from a seed.
//!
//! Two-way conversations of a few heavy talkers and many small ones; in the adversarial mix spoofed SYNs and a scan
//! between them. Invariant: a seed gives the same bytes on every machine.

pub(in crate::bench) mod connection;
mod content;
pub(in crate::bench) mod frame;
mod hostile;
mod talk;

use super::image::Image;
use crate::schedules::dice::Dice;
use content::{Datagrams, Spoken, Writer};
use frame::End;
use hostile::{Scan, spoofed};
use netguard_core::{
    evidence::{Own, OwnNetworks},
    net::Prefix,
    packet::LinkType,
    time::Timestamp,
};
use netguard_sensor::capture::Frame;
use serde::Serialize;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use talk::{SHORTEST_CONNECTION, SHORTEST_EXCHANGE, Speech, Talk};

/// What the traffic is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Of a hundred packets 70 belong to conversations, 25 are spoofed SYNs, 5 a scan and its answers.
    Adversarial,
    /// Conversations only.
    Ordinary,
}

/// A mix to be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mix {
    pub kind: Kind,
    pub packets: u32,
    pub seed: u64,
}

/// Conversations in a mix of full size, and packets each has on average; a smaller mix has fewer.
const CONVERSATIONS: u32 = 20_000;
const PACKETS_EACH: u32 = 70;
/// How fast the packets follow each other: somewhat more than a gigabit of them.
const PACKETS_PER_SECOND: u32 = 300_000;
/// 2023-11-14T22:13:20Z; when the packets begin.
pub(in crate::bench) const BEGIN: Timestamp = Timestamp::from_secs(1_700_000_000);
/// The servers: as many with IPv4, 10.20.0.0/16, as with IPv6, fd00:20::/64. All of them are ours.
pub(in crate::bench) const SERVERS: u8 = 64;
const CLIENTS: usize = 6_000;
/// Bytes of the average frame, somewhat more: what is set aside before the frames are made.
const FRAME_BYTES: usize = 900;
/// Who is next instead of a conversation.
const SPOOFED: u32 = u32::MAX;
const SCAN: u32 = u32::MAX - 1;

impl Mix {
    /// What a sensor that sees this traffic has to look after.
    #[must_use]
    pub fn own() -> OwnNetworks {
        let servers = (0..SERVERS).flat_map(|number| [server(number, false), server(number, true)]);
        let networks =
            vec![Prefix::containing(server(0, false), 16), Prefix::containing(server(0, true), 64)];
        OwnNetworks::Known(Own { addresses: servers.collect(), networks })
    }

    /// Packets of conversations, spoofed SYNs, packets of the scan.
    #[must_use]
    pub fn shares(&self) -> (u32, u32, u32) {
        match self.kind {
            Kind::Adversarial => {
                let (spoofed, scan) = (self.packets / 4, self.packets / 20);
                (self.packets - spoofed - scan, spoofed, scan)
            }
            Kind::Ordinary => (self.packets, 0, 0),
        }
    }

    /// Makes it. Some seconds and 0.7 KB of memory a packet.
    #[must_use]
    pub fn generate(&self) -> Image {
        let mut dice = Dice::new(self.seed);
        let writer = Writer::new(&mut dice);
        let (in_talks, spoofed_syns, scanning) = self.shares();
        let span = u64::from(self.packets) * 1_000_000 / u64::from(PACKETS_PER_SECOND);
        let (mut talks, mut turns) = conversations(in_talks, span, &mut dice);
        turns.extend((0..spoofed_syns).map(|_| turn(below(&mut dice, span), SPOOFED)));
        turns.extend((0..scanning).map(|_| turn(below(&mut dice, span), SCAN)));
        turns.sort_unstable();
        let mut scan = Scan::new();
        let count = turns.len();
        let mut image = Image::with_capacity(count, count * FRAME_BYTES);
        let (mut bytes, mut payload) = (Vec::with_capacity(2_048), Vec::with_capacity(2_048));
        for turn in turns {
            let (micros, who) = (turn >> 32, u32::try_from(turn & u64::from(u32::MAX)).unwrap_or(0));
            match who {
                SPOOFED => spoofed(&mut bytes, server(dice_u8(&mut dice, SERVERS), false), &mut dice),
                SCAN => scan.next(&mut bytes, |number| server(number % SERVERS, false)),
                who => {
                    if let Some(talk) = usize::try_from(who).ok().and_then(|who| talks.get_mut(who)) {
                        talk.say(&mut bytes, &mut payload, &writer, &mut dice);
                    }
                }
            }
            let at = Timestamp::from_micros(BEGIN.as_micros() + micros);
            let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
            image.push(&Frame::new(at, LinkType::Ethernet, &bytes, length));
        }
        image
    }
}

/// Somebody's turn at a time: in order of time when sorted as numbers.
fn turn(micros: u64, who: u32) -> u64 {
    micros << 32 | u64::from(who)
}

fn below(dice: &mut Dice, bound: u64) -> u64 {
    dice.next() % bound.max(1)
}

fn dice_u8(dice: &mut Dice, bound: u8) -> u8 {
    u8::try_from(dice.below(usize::from(bound))).unwrap_or(0)
}

/// The conversations, and whose turn it is when. The heaviest has a tenth of the packets, its share falls with the
/// rank (Zipf's law), and most have but a few.
fn conversations(packets: u32, span: u64, dice: &mut Dice) -> (Vec<Talk>, Vec<u64>) {
    let count = CONVERSATIONS.min(packets / PACKETS_EACH).max(1);
    let clients: Vec<(IpAddr, bool)> = (0..CLIENTS).map(|number| client(number, dice)).collect();
    let speeches: Vec<Speech> = (0..count).map(|rank| speech(rank, count, dice)).collect();
    let shortest = |speech: &Speech| match speech {
        Speech::Connection(_) => SHORTEST_CONNECTION,
        Speech::Exchange(_) => SHORTEST_EXCHANGE,
    };
    let spare = packets.saturating_sub(speeches.iter().map(shortest).sum());
    let harmonic: f64 = (1..=count).map(|rank| 1.0 / f64::from(rank)).sum();
    let mut missing = spare;
    let mut talks = Vec::with_capacity(speeches.len());
    let mut turns = Vec::new();
    // From the smallest to the largest, which takes what rounding left over.
    for (rank, speech) in (1..=count).rev().zip(speeches.iter().rev()) {
        let share = share(spare, f64::from(rank) * harmonic).min(missing);
        let more = if rank == 1 { missing } else { share };
        missing -= more;
        let length = shortest(speech) + more;
        let (address, is_v6) = clients.get(skewed(dice, CLIENTS)).copied().unwrap_or(client(0, dice));
        let port = 10_000 + u16::try_from(rank % 50_000).unwrap_or(0);
        let service =
            End { address: server(dice_u8(dice, SERVERS), is_v6), port: service_port(*speech, dice) };
        let who = u32::try_from(talks.len()).unwrap_or(0);
        talks.push(Talk::new(*speech, End { address, port }, service, length, dice));
        schedule(&mut turns, who, length, span, dice);
    }
    (talks, turns)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a share is smaller than the whole"
)]
fn share(of: u32, parts: f64) -> u32 {
    (f64::from(of) / parts) as u32
}

/// Three packets a round trip apart, the others whenever there is something to say.
fn schedule(turns: &mut Vec<u64>, who: u32, length: u32, span: u64, dice: &mut Dice) {
    let pace = 1_000 + below(dice, 9_000);
    let duration = (u64::from(length) * pace).min(span * 19 / 20).max(1_000);
    let begin = below(dice, span.saturating_sub(duration));
    let half_trip = (100 + below(dice, 15_000)).min(duration / 16);
    for number in 0..u64::from(length) {
        let after = match number {
            0..3 => number * half_trip,
            _ => 2 * half_trip + 1 + below(dice, duration - 2 * half_trip),
        };
        turns.push(turn(begin + after, who));
    }
}

fn speech(rank: u32, count: u32, dice: &mut Dice) -> Speech {
    use {Datagrams as D, Speech as S, Spoken as C};
    let heavy: &[(usize, Speech)] = &[
        (50, S::Connection(C::Tls)),
        (20, S::Connection(C::Http)),
        (5, S::Connection(C::Ssh)),
        (8, S::Connection(C::Unknown)),
        (10, S::Exchange(D::Quic)),
        (7, S::Exchange(D::Media)),
    ];
    let light: &[(usize, Speech)] = &[
        (34, S::Connection(C::Tls)),
        (22, S::Connection(C::Http)),
        (3, S::Connection(C::Ssh)),
        (4, S::Connection(C::Smtp)),
        (4, S::Connection(C::Unknown)),
        (26, S::Exchange(D::Dns)),
        (5, S::Exchange(D::Quic)),
        (2, S::Exchange(D::Ntp)),
    ];
    dice.weighted(if rank < count / 10 { heavy } else { light }).unwrap_or(S::Connection(C::Unknown))
}

fn service_port(speech: Speech, dice: &mut Dice) -> u16 {
    match speech {
        Speech::Connection(Spoken::Http) => [80, 80, 80, 8_080].get(dice.below(4)).copied().unwrap_or(80),
        Speech::Connection(Spoken::Tls) | Speech::Exchange(Datagrams::Quic) => 443,
        // One in four does not stand where it is looked for.
        Speech::Connection(Spoken::Ssh) => [22, 22, 22, 902].get(dice.below(4)).copied().unwrap_or(22),
        Speech::Connection(Spoken::Smtp) => 25,
        Speech::Connection(Spoken::Unknown) => 9_000,
        Speech::Exchange(Datagrams::Dns) => 53,
        Speech::Exchange(Datagrams::Ntp) => 123,
        Speech::Exchange(Datagrams::Media) => 5_004,
    }
}

/// Some numbers far more often than others.
fn skewed(dice: &mut Dice, bound: usize) -> usize {
    let first = dice.below(bound);
    dice.below(first + 1)
}

/// One client in ten speaks IPv6. None of them is in a spoofer's reach: those have addresses below 96.0.0.0.
fn client(number: usize, dice: &mut Dice) -> (IpAddr, bool) {
    let number = u16::try_from(number).unwrap_or(0);
    if number.is_multiple_of(10) {
        let site = u16::try_from(dice.below(1 << 16)).unwrap_or(0);
        (IpAddr::V6(Ipv6Addr::new(0x2a02, 0x908, site, number, 0x1c2d, 0x3e4f, 0x5a6b, number)), true)
    } else {
        let [high, low] = number.to_be_bytes();
        (IpAddr::V4(Ipv4Addr::new(100 + dice_u8(dice, 20), high, low, 1 + dice_u8(dice, 250))), false)
    }
}

/// One of the servers.
pub(in crate::bench) fn server(number: u8, is_v6: bool) -> IpAddr {
    if is_v6 {
        IpAddr::V6(Ipv6Addr::new(0xfd00, 0x20, 0, 0, 0, 0, 0, 1 + u16::from(number)))
    } else {
        IpAddr::V4(Ipv4Addr::new(10, 20, 0, 1 + number))
    }
}

#[cfg(test)]
mod tests;
