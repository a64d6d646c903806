//! Room for flows: who is let in, and who has to go for it.

use super::*;

/// A flow about to be made.
pub(super) struct Opening {
    pub(super) lane: usize,
    /// The packet comes from the presumed service.
    pub(super) reversed: bool,
    pub(super) picked_up: bool,
    pub(super) begin: Begin,
}

impl Opening {
    pub(super) fn spent() -> Self {
        Self { lane: lane::SPENT, reversed: false, picked_up: false, begin: Begin::Datagram }
    }
}

impl FlowTable {
    /// Flows that are one-way, half-open or failed.
    pub(super) fn embryonic(&self) -> usize {
        lane::EMBRYONIC.iter().map(|lane| self.flows.lane_len(*lane)).sum()
    }

    /// A place for a new flow, or none because its source or its source's network has too many already.
    pub(super) fn admit(&mut self, source: Counters, lane: usize, sink: &mut impl Sink) -> bool {
        if lane::is_pending(lane) && self.quota.is_spent(source, &self.limits) {
            self.counts.source_quota += 1;
            return false;
        }
        if self.embryonic() >= self.limits.max_embryonic.max(1) {
            // The spent first, then the longest lane: a flood of one sort pays with its own.
            let victim = if self.flows.lane_len(lane::SPENT) > 0 {
                lane::SPENT
            } else {
                lane::PENDING
                    .into_iter()
                    .max_by_key(|lane| self.flows.lane_len(*lane))
                    .unwrap_or(lane::OPENING)
            };
            if victim != lane::SPENT {
                self.counts.evicted_embryonic += 1;
                if self.emergency.overrun() {
                    self.counts.emergencies += 1;
                    // Everybody waits shorter from now on.
                    self.next_due = self.now;
                }
            }
            if let Some(slot) = self.flows.oldest(victim) {
                self.remove(slot, EndReason::Forced, sink);
            }
        }
        true
    }

    /// Before a flow becomes two-way.
    pub(super) fn make_room_for_two_way(&mut self, sink: &mut impl Sink) {
        let two_way = [lane::DATAGRAMS, lane::CONNECTED, lane::CLOSED];
        let held: usize = two_way.iter().map(|lane| self.flows.lane_len(*lane)).sum();
        if held < self.limits.max_flows.max(1) {
            return;
        }
        let victim = if self.flows.lane_len(lane::CLOSED) > 0 {
            lane::CLOSED
        } else if self.flows.lane_len(lane::DATAGRAMS) > self.flows.lane_len(lane::CONNECTED) {
            lane::DATAGRAMS
        } else {
            lane::CONNECTED
        };
        if victim != lane::CLOSED {
            self.counts.evicted_two_way += 1;
        }
        if let Some(slot) = self.flows.oldest(victim) {
            self.remove(slot, EndReason::Forced, sink);
        }
    }

    pub(super) fn open(
        &mut self,
        opening: Opening,
        ticket: &Hint,
        header: &Header,
        flags: TcpFlags,
        sink: &mut impl Sink,
    ) -> Option<Slot> {
        let counters = |source| Quota::of(source, |number| self.flows.hash(number));
        let source = counters(header.source);
        let initiator = if opening.reversed { counters(header.destination) } else { source };
        if !self.admit(source, opening.lane, sink) {
            return None;
        }
        let beginning = Beginning {
            generation: self.opened,
            lane: opening.lane,
            initiator_is_low: ticket.source_is_low != opening.reversed,
            picked_up: opening.picked_up,
            is_evidence: self.is_evidence(header),
            reversed: opening.reversed,
            quota: initiator,
            at: self.now,
            look_at: self.look_at(opening.lane),
            begin: opening.begin,
        };
        let (slot, flow) = self.flows.insert(ticket.tag, ticket.key, opening.lane)?;
        flow.begin(&beginning, header, flags);
        self.opened = self.opened.wrapping_add(1);
        if lane::is_pending(opening.lane) {
            self.quota.add(initiator);
        }
        self.expect(slot);
        Some(slot)
    }
}
