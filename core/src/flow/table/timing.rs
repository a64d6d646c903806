//! When a flow is due, and what becomes of it then.

use super::*;

/// How long is waited in an emergency: for an answer (within a second all but broken networks answer), for the end of a
/// handshake, and with what failed.
const HURRIED_ANSWER: Duration = Duration::from_secs(1);
const HURRIED_HANDSHAKE: Duration = Duration::from_secs(2);
const HURRIED_MEMORY: Duration = Duration::from_secs(10);
/// Who waits for so many answers is no spoofed source, of which each is seen once.
const FEW_WAITING: u16 = 3;
/// A two-way flow is moved to the end of its lane when this part of its timeout has passed since it last was, not at
/// every packet. It is timed out late by as much at most, and never late when a packet asks for it.
const LOOKS_A_TIMEOUT: u32 = 8;

impl FlowTable {
    pub(super) fn expire_due(&mut self, sink: &mut impl Sink) {
        for lane in 0..lane::COUNT {
            while let Some(due) = self.deadline(lane).filter(|due| *due <= self.now) {
                let Some(slot) = self.flows.oldest(lane) else { break };
                self.expire(slot, lane, due, sink);
            }
        }
        if self.emergency.look(self.embryonic(), self.limits.max_embryonic, self.now) {
            self.counts.emergencies_over += 1;
        }
        self.next_due = self.next_deadline().unwrap_or(NEVER);
    }

    /// How long a flow stays in a lane. In an emergency those that wait stay shorter: what has not been answered within
    /// a second hardly will be, and the room is needed.
    pub(super) fn timeout(&self, lane: usize) -> Duration {
        let hurry = |timeout: Duration, at_most: Duration| {
            if self.emergency.is_on() { timeout.min(at_most) } else { timeout }
        };
        match lane {
            lane::OPENING | lane::ONE_WAY => hurry(self.limits.answer_timeout, HURRIED_ANSWER),
            lane::HALF_OPEN => hurry(self.limits.handshake_timeout, HURRIED_HANDSHAKE),
            lane::SPENT => hurry(self.limits.spent_timeout, HURRIED_MEMORY),
            lane::DATAGRAMS => self.limits.datagram_idle_timeout,
            lane::CLOSED => self.limits.closed_timeout,
            _ => self.limits.idle_timeout,
        }
    }

    pub(super) fn deadline(&self, lane: usize) -> Option<Timestamp> {
        Some(self.due(self.flows.get(self.flows.oldest(lane)?)?))
    }

    /// When a flow times out, if nothing comes.
    pub(super) fn due(&self, flow: &Flow) -> Timestamp {
        // Opening flows stand by their first packet, which is when they began to wait.
        let opening = matches!(flow.lane(), lane::OPENING | lane::ONE_WAY);
        let since = if opening { flow.start } else { flow.last };
        since.saturating_add(self.timeout(flow.lane()))
    }

    /// A flow has come into its lane: it must not be forgotten there.
    pub(super) fn expect(&mut self, slot: Slot) {
        let Some(due) = self.flows.get(slot).map(|flow| self.due(flow)) else { return };
        self.next_due = self.next_due.min(due);
    }

    pub(super) fn expire(&mut self, slot: Slot, lane: usize, due: Timestamp, sink: &mut impl Sink) {
        match lane {
            // In an emergency nearly all that is not answered has an invented source, which is never seen again: only
            // who waits for several answers is told of.
            lane::OPENING | lane::ONE_WAY if self.emergency.is_on() && !self.waits_for_more(slot) => {
                self.counts.hurried += 1;
                self.remove(slot, EndReason::Forced, sink);
            }
            lane::OPENING | lane::ONE_WAY => self.fail(slot, What::Silent, due, sink),
            lane::HALF_OPEN => self.fail(slot, What::HalfOpen, due, sink),
            _ => self.remove(slot, EndReason::Timeout, sink),
        }
    }

    pub(super) fn waits_for_more(&self, slot: Slot) -> bool {
        self.flows.get(slot).is_some_and(|flow| self.quota.waiting(flow.quota) >= FEW_WAITING)
    }

    /// When a packet of a flow that now comes to a lane's end has to look again.
    pub(super) fn look_at(&self, lane: usize) -> Timestamp {
        // Those who wait stand in order of what they wait for, not of their last packet.
        if lane::is_pending(lane) {
            return self.now.saturating_add(self.limits.active_timeout);
        }
        self.now.saturating_add(self.timeout(lane) / LOOKS_A_TIMEOUT)
    }
}
