//! One conversation, packet by packet: from the handshake, over questions and answers, to the end.
//!
//! Invariant: sequence and acknowledgement numbers are those of an undisturbed connection; the last packets of every
//! connection end it.

use super::{
    connection::Connection,
    content::{Datagrams, MAX_PAYLOAD, Spoken, Writer},
    frame::{self, ACK, End, FIN, LINUX_OPTIONS, PSH, RST, SYN},
};
use crate::schedules::dice::Dice;

/// Packets of the shortest connection: three, a question and its answer, three.
pub(super) const SHORTEST_CONNECTION: u32 = 8;
/// A question and its answer.
pub(super) const SHORTEST_EXCHANGE: u32 = 2;
/// TLS records hold no more (RFC 8446 section 5.1); longer answers come in several.
const MAX_ANSWER: usize = 16_384;
/// Segments that a receiver acknowledges at once (RFC 9293 section 3.8.6.3).
const DELAYED: u8 = 2;

/// What a conversation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Speech {
    Connection(Spoken),
    Exchange(Datagrams),
}

/// A conversation that goes on.
#[derive(Debug)]
pub(super) struct Talk {
    speech: Speech,
    connection: Connection,
    /// Packets said and to come.
    said: u32,
    left: u32,
    /// Questions asked, and what is still to come of the answer to the last.
    turn: u32,
    to_answer: usize,
    begun: bool,
    unacknowledged: u8,
    mss: usize,
    ends_by_reset: bool,
}

impl Talk {
    /// A conversation of so many packets.
    #[must_use]
    pub(super) fn new(speech: Speech, client: End, server: End, packets: u32, dice: &mut Dice) -> Self {
        let numbers = [(); 2].map(|()| u32::try_from(dice.next() >> 32).unwrap_or(0));
        Self {
            speech,
            connection: Connection::new(client, server, numbers),
            said: 0,
            left: packets,
            turn: 0,
            to_answer: 0,
            begun: false,
            unacknowledged: 0,
            mss: if dice.below(3) == 0 { 536 + dice.below(MAX_PAYLOAD - 536) } else { MAX_PAYLOAD },
            ends_by_reset: dice.below(10) == 0,
        }
    }

    /// Puts the next packet in place of what is in `out`; `payload` is room to write in.
    pub(super) fn say(&mut self, out: &mut Vec<u8>, payload: &mut Vec<u8>, writer: &Writer, dice: &mut Dice) {
        payload.clear();
        match self.speech {
            Speech::Connection(spoken) => self.segment(spoken, out, payload, writer, dice),
            Speech::Exchange(spoken) => {
                let from_client = match spoken {
                    Datagrams::Dns | Datagrams::Ntp => self.said.is_multiple_of(2),
                    Datagrams::Quic => self.said.is_multiple_of(3),
                    Datagrams::Media => self.said % 16 != 1,
                };
                writer.datagram(payload, spoken, from_client, self.said, dice);
                let (from, to) = self.connection.ends(from_client);
                frame::udp(out, from, to, payload);
            }
        }
        self.said += 1;
        self.left = self.left.saturating_sub(1);
    }

    fn segment(
        &mut self,
        spoken: Spoken,
        out: &mut Vec<u8>,
        payload: &mut Vec<u8>,
        writer: &Writer,
        dice: &mut Dice,
    ) {
        match (self.said, self.left) {
            (0, _) => self.connection.send(true, SYN, LINUX_OPTIONS, &[], out),
            (1, _) => self.connection.send(false, SYN | ACK, LINUX_OPTIONS, &[], out),
            (2, _) => self.connection.send(true, ACK, &[], &[], out),
            (_, 3) if !self.ends_by_reset => self.connection.send(true, FIN | ACK, &[], &[], out),
            (_, 2) if !self.ends_by_reset => self.connection.send(false, FIN | ACK, &[], &[], out),
            (_, 1) if self.ends_by_reset => self.connection.send(true, RST | ACK, &[], &[], out),
            (_, 1) => self.connection.send(true, ACK, &[], &[], out),
            (3, _) if spoken == Spoken::Smtp => {
                payload.extend_from_slice(b"220 mail.example.com ESMTP Postfix\r\n");
                self.connection.send(false, PSH | ACK, &[], payload, out);
            }
            _ if self.unacknowledged == DELAYED => {
                self.unacknowledged = 0;
                self.connection.send(true, ACK, &[], &[], out);
            }
            _ if self.to_answer == 0 => {
                writer.ask(payload, spoken, self.turn, dice);
                payload.truncate(MAX_PAYLOAD);
                self.to_answer = 1 + dice.below(if self.left > 40 { MAX_ANSWER } else { 2_000 });
                self.begun = false;
                self.unacknowledged = 0;
                self.connection.send(true, PSH | ACK, &[], payload, out);
            }
            _ => {
                if !std::mem::replace(&mut self.begun, true) {
                    writer.answer(payload, spoken, self.turn, self.to_answer, dice);
                    self.turn += 1;
                }
                let room = self.mss.saturating_sub(payload.len()).min(self.to_answer);
                writer.fill(payload, room, dice);
                payload.truncate(MAX_PAYLOAD);
                self.to_answer -= room;
                self.unacknowledged += 1;
                let push = if self.to_answer == 0 { PSH } else { 0 };
                self.connection.send(false, push | ACK, &[], payload, out);
            }
        }
    }
}
