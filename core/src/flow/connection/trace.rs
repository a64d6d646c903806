//! What a segment adds to a connection's history and to Zeek's word for how it went.

use super::*;
use prefetch_index::prefetch_index;
use std::slice::from_ref;

impl Connection {
    /// The segment the flow began with; `flipped` when its sender is taken for the service.
    pub(in crate::flow) fn trace_first(&mut self, tcp: &Tcp, flipped: bool) {
        if flipped {
            self.history.add(History::FLIPPED, true);
        }
        let before = self.side(!flipped).expected();
        if self.phase != Phase::SynSent {
            self.side(!flipped).follow(tcp);
        }
        self.trace(!flipped, tcp, before);
    }

    /// Notes a segment; `before` is what its sender's side expected before it came.
    #[inline]
    pub(super) fn trace(&mut self, from_client: bool, tcp: &Tcp, before: Option<u32>) {
        self.note_flags(from_client, tcp);
        let Self { client, server, history, ends, .. } = self;
        let (own, peer) = if from_client { (client, server) } else { (server, client) };
        if tcp.window == 0 {
            note_closed_window(*ends, history, own, from_client, tcp.flags);
        }
        if tcp.payload_length > 0 && before != Some(tcp.sequence) && !ends.of(from_client).is_reset() {
            note_out_of_order(history, own, from_client, tcp, before);
        }
        ends.segment(from_client, tcp.flags, tcp.payload_length);
        if peer.missing > 0 {
            note_gap(history, peer, from_client, tcp);
        }
    }

    /// A segment that no TCP stack sends, in a flow that is no live connection.
    pub(in crate::flow) fn trace_probe(&mut self, from_client: bool, tcp: &Tcp) {
        let before = self.side(from_client).expected();
        self.trace(from_client, tcp, before);
    }

    #[inline]
    fn note_flags(&mut self, from_client: bool, tcp: &Tcp) {
        let acknowledges = tcp.flags.has(TcpFlags::ACK);
        if tcp.flags.has_none(TcpFlags::SYN | TcpFlags::FIN | TcpFlags::RST) {
            match tcp.payload_length {
                1.. => self.history.add_once(b'D', from_client),
                0 if acknowledges => self.history.add_once(b'A', from_client),
                0 => {}
            }
        } else {
            self.note_control(from_client, tcp, acknowledges);
        }
    }

    fn note_control(&mut self, from_client: bool, tcp: &Tcp, acknowledges: bool) {
        let (syn, fin, rst) =
            (tcp.flags.has(TcpFlags::SYN), tcp.flags.has(TcpFlags::FIN), tcp.flags.has(TcpFlags::RST));
        let Self { client, server, history, .. } = self;
        let side = if from_client { client } else { server };
        let (letter, number) = match (syn, fin, rst) {
            (false, false, false) => return,
            (true, false, false) => (if acknowledges { b'H' } else { b'S' }, tcp.sequence),
            // A FIN's number comes at the end of its data.
            (false, true, false) => (b'F', tcp.sequence.wrapping_add(tcp.payload_length)),
            (false, false, true) => (b'R', tcp.sequence),
            (_, true, true) => return history.add_once(b'I', from_client),
            (true, ..) => return history.add_once(b'Q', from_client),
        };
        // The same sent again is no news.
        if !history.has(letter, from_client) || side.control.0 == letter && side.control.1 != number {
            history.add(letter, from_client);
        }
        side.control = (letter, number);
    }

    pub(in crate::flow) fn history(&self) -> History {
        self.history
    }

    pub(in crate::flow) fn conn_state(&self) -> ConnState {
        self.ends.conn_state(self.client.traffic.payload == 0 && self.server.traffic.payload == 0)
    }

    /// Asks the processor for all of it.
    #[inline]
    pub(in crate::flow) fn fetch(&self) {
        prefetch_index(from_ref(&self.client), 0);
        prefetch_index(from_ref(&self.server), 0);
        prefetch_index(from_ref(&self.history), 0);
    }
}

impl Side {
    /// The next sequence number, once anything was seen.
    #[inline]
    pub(super) fn expected(&self) -> Option<u32> {
        self.begun.then_some(self.next)
    }

    /// Follows the numbers of a side that proves nothing.
    pub(super) fn follow(&mut self, tcp: &Tcp) {
        let control = u32::from(tcp.flags.has(TcpFlags::SYN)) + u32::from(tcp.flags.has(TcpFlags::FIN));
        if tcp.flags.has(TcpFlags::RST) {
            return;
        }
        let end = tcp.sequence.wrapping_add(tcp.payload_length).wrapping_add(control);
        let ahead = end.wrapping_sub(self.next);
        if !self.begun {
            (self.begun, self.next) = (true, end);
            self.traffic.payload = u64::from(tcp.payload_length);
            self.segments = u32::from(tcp.payload_length > 0);
        } else if ahead != 0 && ahead < 1 << 31 {
            // Numbers far away begin anew: what lies between was hardly sent.
            let sent = if ahead <= MAX_AHEAD { ahead.saturating_sub(control) } else { tcp.payload_length };
            self.traffic.payload = self.traffic.payload.saturating_add(u64::from(sent));
            self.segments = self.segments.saturating_add(u32::from(tcp.payload_length > 0));
            self.next = end;
        }
    }
}

fn note_closed_window(ends: Ends, history: &mut History, own: &mut Side, from_client: bool, flags: TcpFlags) {
    let open = !ends.of(from_client).is_reset() && ends.of(!from_client) != End::Closed;
    if open && !flags.has(TcpFlags::RST) {
        history.tally(b'W', from_client, &mut own.closed_windows);
    }
}

/// Payload that does not begin where the side's last one ended.
fn note_out_of_order(
    history: &mut History,
    own: &mut Side,
    from_client: bool,
    tcp: &Tcp,
    before: Option<u32>,
) {
    let Some(expected) = before else { return };
    let end = tcp.sequence.wrapping_add(tcp.payload_length);
    if expected.wrapping_sub(end) < 1 << 31 {
        own.missing = own.missing.saturating_sub(tcp.payload_length);
        history.tally(b'T', from_client, &mut own.again);
    } else {
        let jumped = tcp.sequence.wrapping_sub(expected);
        if jumped <= MAX_AHEAD {
            own.missing = own.missing.saturating_add(jumped);
        }
    }
}

/// What the other side says it has, and nobody saw: the capture missed it. Not so at the end (RFC 9293 lets an RST
/// acknowledge anything).
fn note_gap(history: &mut History, peer: &mut Side, from_client: bool, tcp: &Tcp) {
    let ends_it = tcp.flags.has(TcpFlags::FIN) || tcp.flags.has(TcpFlags::RST);
    let covered = tcp.acknowledgement.wrapping_sub(peer.next) <= MAX_AHEAD;
    if covered && tcp.flags.has(TcpFlags::ACK) && !ends_it {
        peer.missing = 0;
        history.tally(b'G', !from_client, &mut peer.gaps);
    }
}
