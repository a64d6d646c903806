//! One TCP connection as a third party sees it.

use super::{
    conn_state::{ConnState, End, Ends},
    dialogue::Listener,
    history::History,
    observation::{Session, Traffic},
};
use crate::{
    packet::{Tcp, TcpFlags},
    time::Timestamp,
};

mod trace;

/// How far ahead of what was seen a sequence number may be and still belong to the connection: lost packets of a
/// capture, but no blind guess (RFC 9293 windows are below 2^30; receivers use some megabytes).
const MAX_AHEAD: u32 = 4 << 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    SynSent,
    SynReceived,
    Established,
    Closed,
    /// Begun before the capture, or with a part of the handshake unseen: never proven.
    PickedUp,
    /// Begun with what no TCP stack sends.
    Probed,
    /// No TCP at all.
    Datagrams,
}

/// What one side sent: one cache line, all that most packets of that side change.
#[derive(Debug, Clone, Copy, Default)]
#[repr(align(64))]
pub(super) struct Side {
    /// All packets; of TCP the payload by its sequence numbers.
    pub(super) traffic: Traffic,
    /// The next sequence number expected.
    next: u32,
    segments: u32,
    fin: bool,
    /// `next` is known: something was seen of it, or its number was acknowledged.
    begun: bool,
    /// Payload bytes jumped over and not seen since.
    missing: u32,
    /// The last S, H, F or R in the history, and its number.
    control: (u8, u32),
    /// How often a gap, data sent again and a closed window were seen.
    gaps: u16,
    again: u16,
    closed_windows: u16,
}

/// Both sides and what is between them. Of what is no TCP only the sides' traffic counts.
#[derive(Debug, Clone, Copy)]
pub(super) struct Connection {
    pub(super) client: Side,
    pub(super) server: Side,
    pub(super) phase: Phase,
    client_isn: u32,
    /// The server's; of one picked up what its source acknowledged by the only segment so far, see
    /// [`Self::picked_up_at_bare_ack`].
    server_isn: u32,
    ends: Ends,
    history: History,
    listener: Listener,
    established: Timestamp,
    client_closed_first: bool,
    /// The client acknowledged something before we saw an answer: we see one direction only, or it lies.
    pub(super) one_sided: bool,
    told: bool,
    /// Nothing but one bare ACK was seen.
    bare_ack: bool,
}

/// What a segment did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    Nothing,
    /// It does not belong here: bad numbers.
    Rejected,
    SynAck,
    Handshake,
    /// The handshake and the end in one segment.
    HandshakeAndEnd(Session),
    Refused,
    HalfOpen,
    /// Begun by nothing but a bare ACK or FIN, and answered by RST: a probe of what a firewall lets through.
    Probe,
    End(Session),
    /// Closed, nothing to tell.
    Close,
}

impl Side {
    pub(super) fn at_syn(syn: &Tcp) -> Self {
        Self { next: syn.sequence.wrapping_add(1), begun: true, ..Self::default() }
    }
}

impl Default for Connection {
    fn default() -> Self {
        Self::datagrams()
    }
}

impl Connection {
    pub(super) fn datagrams() -> Self {
        Self {
            client: Side::default(),
            server: Side::default(),
            phase: Phase::Datagrams,
            client_isn: 0,
            server_isn: 0,
            ends: Ends::default(),
            history: History::default(),
            listener: Listener::default(),
            established: Timestamp::default(),
            client_closed_first: false,
            one_sided: false,
            told: false,
            bare_ack: false,
        }
    }

    pub(super) fn opened(syn: &Tcp) -> Self {
        Self {
            phase: Phase::SynSent,
            client_isn: syn.sequence,
            client: Side::at_syn(syn),
            ..Self::datagrams()
        }
    }

    pub(super) fn picked_up(segment: &Tcp) -> Self {
        Self { phase: Phase::PickedUp, client_isn: segment.sequence, ..Self::datagrams() }
    }

    pub(super) fn probed(segment: &Tcp) -> Self {
        Self { phase: Phase::Probed, ..Self::picked_up(segment) }
    }

    /// Picked up at a segment of the source without payload: an RST with exactly the number it acknowledged would say
    /// that there never was a connection (RFC 9293 section 3.5.2).
    pub(super) fn picked_up_at_bare_ack(segment: &Tcp) -> Self {
        Self { bare_ack: true, server_isn: segment.acknowledgement, ..Self::picked_up(segment) }
    }

    /// Whether a SYN begins another connection than this one.
    pub(super) fn is_other_syn(&self, syn: &Tcp) -> bool {
        match self.phase {
            Phase::Closed | Phase::SynSent | Phase::SynReceived => syn.sequence != self.client_isn,
            Phase::PickedUp | Phase::Probed | Phase::Datagrams => true,
            // An established one answers with a challenge ACK (RFC 5961): the connection goes on.
            Phase::Established => false,
        }
    }

    pub(super) fn segment(&mut self, from_client: bool, tcp: &Tcp, now: Timestamp) -> Step {
        let before = self.side(from_client).expected();
        let step = if self.phase == Phase::Established {
            self.exchange(from_client, tcp, now)
        } else {
            self.step(from_client, tcp, now)
        };
        // What does not belong here tells nothing of how it went: anybody can send it.
        if step != Step::Rejected {
            self.trace(from_client, tcp, before);
        }
        step
    }

    #[inline]
    fn side(&mut self, client: bool) -> &mut Side {
        if client { &mut self.client } else { &mut self.server }
    }

    fn step(&mut self, from_client: bool, tcp: &Tcp, now: Timestamp) -> Step {
        match (self.phase, from_client) {
            (Phase::SynSent, true) => self.client_before_answer(tcp),
            (Phase::SynSent, false) => self.answer(tcp),
            (Phase::SynReceived, true) => self.client_after_answer(tcp, now),
            (Phase::SynReceived, false) => self.server_before_handshake(tcp),
            (Phase::Established, _) => self.exchange(from_client, tcp, now),
            (Phase::PickedUp, _) => self.unproven(from_client, tcp),
            (Phase::Closed | Phase::Probed | Phase::Datagrams, _) => Step::Nothing,
        }
    }

    fn client_before_answer(&mut self, tcp: &Tcp) -> Step {
        if tcp.flags.has(TcpFlags::RST) {
            self.phase = Phase::Closed;
            return Step::Close;
        }
        if tcp.flags.has(TcpFlags::ACK) && tcp.sequence == self.client.next {
            self.one_sided = true;
        }
        Step::Nothing
    }

    fn answer(&mut self, tcp: &Tcp) -> Step {
        // The first ACK of a server covers the SYN (RFC 9293 section 3.5), and with TCP Fast Open some data.
        let covers_syn = tcp.flags.has(TcpFlags::ACK)
            && tcp.acknowledgement.wrapping_sub(self.client.next) <= u32::from(u16::MAX);
        if !covers_syn {
            return Step::Rejected;
        }
        if tcp.flags.is_syn_ack() {
            self.phase = Phase::SynReceived;
            self.note_server_isn(tcp);
            return Step::SynAck;
        }
        if tcp.flags.has(TcpFlags::RST) {
            self.phase = Phase::Closed;
            return Step::Refused;
        }
        // Both directions carry data, the SYN-ACK was not seen.
        if self.one_sided {
            self.phase = Phase::PickedUp;
            return Step::Nothing;
        }
        Step::Rejected
    }

    fn note_server_isn(&mut self, tcp: &Tcp) {
        self.server_isn = tcp.sequence;
        self.server.next = tcp.sequence.wrapping_add(1);
        self.server.begun = true;
    }

    fn server_before_handshake(&mut self, tcp: &Tcp) -> Step {
        if tcp.flags.is_syn_ack() {
            // A SYN cookie made anew has another number.
            self.note_server_isn(tcp);
            return Step::Nothing;
        }
        if tcp.flags.has(TcpFlags::RST) && tcp.sequence == self.server.next {
            self.phase = Phase::Closed;
            return Step::Close;
        }
        Step::Nothing
    }

    fn client_after_answer(&mut self, tcp: &Tcp, now: Timestamp) -> Step {
        if tcp.flags.has(TcpFlags::RST) {
            if tcp.sequence != self.client.next {
                return Step::Rejected;
            }
            self.phase = Phase::Closed;
            return Step::HalfOpen;
        }
        if tcp.flags.is_bare_syn() {
            return Step::Nothing;
        }
        let right_numbers = tcp.flags.has(TcpFlags::ACK)
            && tcp.acknowledgement == self.server.next
            && tcp.sequence.wrapping_sub(self.client.next) <= u32::from(u16::MAX);
        if !right_numbers {
            return Step::Rejected;
        }
        self.phase = Phase::Established;
        self.established = now;
        match self.exchange(true, tcp, now) {
            Step::End(session) => Step::HandshakeAndEnd(session),
            _ => Step::Handshake,
        }
    }

    #[inline]
    fn exchange(&mut self, from_client: bool, tcp: &Tcp, now: Timestamp) -> Step {
        let isn = if from_client { self.client_isn } else { self.server_isn };
        let side = if from_client { &mut self.client } else { &mut self.server };
        if tcp.flags.has(TcpFlags::RST) {
            // Anything this side has said and the other may not have read. Nobody off the path knows these numbers;
            // past what was seen only where the capture may have missed data.
            let behind = side.next.wrapping_sub(tcp.sequence);
            let ahead = tcp.sequence.wrapping_sub(side.next);
            let said = side.next.wrapping_sub(isn).min(1 << 30);
            if !(behind < said || ahead == 0 || side.traffic.payload > 0 && ahead <= MAX_AHEAD) {
                return Step::Rejected;
            }
            let first = !(self.client.fin || self.server.fin);
            if first {
                self.client_closed_first = from_client;
            }
            self.phase = Phase::Closed;
            return self.end(true, now);
        }
        if tcp.flags.has(TcpFlags::SYN) {
            return Step::Nothing;
        }
        let end = tcp.sequence.wrapping_add(tcp.payload_length);
        let ahead = end.wrapping_sub(side.next);
        let is_new = ahead != 0 && ahead < 1 << 31;
        if is_new && ahead > MAX_AHEAD {
            return Step::Rejected;
        }
        if is_new && !side.fin {
            side.traffic.payload = side.traffic.payload.saturating_add(u64::from(ahead));
            side.segments = side.segments.saturating_add(1);
            side.next = end;
            if from_client {
                self.listener.client_said(tcp.payload_length);
            } else {
                self.listener.server_said(tcp.payload_length);
            }
        }
        if tcp.flags.has(TcpFlags::FIN) && !side.fin && end == side.next {
            side.fin = true;
            side.next = side.next.wrapping_add(1);
            let other = if from_client { self.server.fin } else { self.client.fin };
            if !other {
                self.client_closed_first = from_client;
                // A source that closes without a word can say nothing any more: no need to wait for the other side.
                return if from_client && self.client.traffic.payload == 0 {
                    self.end(false, now)
                } else {
                    Step::Nothing
                };
            }
            self.phase = Phase::Closed;
            return self.end(false, now);
        }
        Step::Nothing
    }

    fn end(&mut self, reset: bool, now: Timestamp) -> Step {
        if std::mem::replace(&mut self.told, true) {
            return Step::Close;
        }
        Step::End(Session {
            source_closed_first: self.client_closed_first,
            reset,
            source_bytes: self.client.traffic.payload,
            service_bytes: self.server.traffic.payload,
            source_segments: self.client.segments,
            service_segments: self.server.segments,
            duration: now.since(self.established),
            dialogue: self.listener.dialogue,
        })
    }

    fn unproven(&mut self, from_client: bool, tcp: &Tcp) -> Step {
        let bare_ack = std::mem::take(&mut self.bare_ack);
        if !from_client && tcp.flags.has(TcpFlags::RST) && bare_ack && self.server_isn == tcp.sequence {
            self.phase = Phase::Closed;
            return Step::Probe;
        }
        let side = self.side(from_client);
        side.follow(tcp);
        side.fin |= tcp.flags.has(TcpFlags::FIN);
        if tcp.flags.has(TcpFlags::RST) || self.client.fin && self.server.fin {
            self.phase = Phase::Closed;
            return Step::Close;
        }
        Step::Nothing
    }
}
