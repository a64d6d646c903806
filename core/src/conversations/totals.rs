use crate::{
    flow::{ConnState, FlowSummary},
    net::Protocol,
    time::Timestamp,
};
use std::{cmp::Reverse, net::IpAddr};

/// Who talked to which service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Conversation {
    /// Who began.
    pub source: IpAddr,
    pub destination: IpAddr,
    /// The destination's; of ICMP the code.
    pub port: u16,
    pub protocol: Protocol,
    /// By what was spoken, in Zeek's words.
    pub service: Option<&'static str>,
}

/// How many flows ended in each of Zeek's states.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ConnStates([u32; ConnStates::ALL.len()]);

impl ConnStates {
    pub const ALL: [ConnState; 13] = [
        ConnState::S0,
        ConnState::S1,
        ConnState::Sf,
        ConnState::Rej,
        ConnState::S2,
        ConnState::S3,
        ConnState::Rsto,
        ConnState::Rstr,
        ConnState::RstoS0,
        ConnState::Rstrh,
        ConnState::Sh,
        ConnState::Shr,
        ConnState::Oth,
    ];

    pub fn add(&mut self, state: ConnState, count: u32) {
        let place = Self::ALL.iter().position(|known| *known == state);
        if let Some(own) = place.and_then(|place| self.0.get_mut(place)) {
            *own = own.saturating_add(count);
        }
    }

    /// Those there are.
    pub fn iter(&self) -> impl Iterator<Item = (ConnState, u32)> {
        Self::ALL.into_iter().zip(self.0).filter(|(_, count)| *count > 0)
    }
}

/// What flows added up to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// That ended.
    pub flows: u64,
    pub packets_to_server: u64,
    pub packets_to_client: u64,
    /// Of IP packets.
    pub bytes_to_server: u64,
    pub bytes_to_client: u64,
    pub first: Timestamp,
    pub last: Timestamp,
    pub states: ConnStates,
}

impl Totals {
    /// One flow as far as it went.
    pub(super) fn of(summary: &FlowSummary) -> Self {
        let mut states = ConnStates::default();
        states.add(summary.conn_state, 1);
        Self {
            flows: 1,
            packets_to_server: summary.to_server.packets,
            packets_to_client: summary.to_client.packets,
            bytes_to_server: summary.to_server.bytes,
            bytes_to_client: summary.to_client.bytes,
            first: summary.start,
            last: summary.end,
            states,
        }
    }

    /// Whether the service sent something.
    #[must_use]
    pub fn is_answered(&self) -> bool {
        self.packets_to_client > 0
    }

    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes_to_server.saturating_add(self.bytes_to_client)
    }

    pub(super) fn volumes(&self) -> [u64; 4] {
        [self.packets_to_server, self.packets_to_client, self.bytes_to_server, self.bytes_to_client]
    }

    /// Without what was told before.
    pub(super) fn less(&mut self, told: [u64; 4]) {
        let own = [
            &mut self.packets_to_server,
            &mut self.packets_to_client,
            &mut self.bytes_to_server,
            &mut self.bytes_to_client,
        ];
        for (own, told) in own.into_iter().zip(told) {
            *own = own.saturating_sub(told);
        }
    }

    pub(super) fn goes_on(&mut self) {
        self.flows = 0;
        self.states = ConnStates::default();
    }

    /// Adds another's.
    pub fn add(&mut self, other: &Self) {
        if other.flows == 0 && other.packets_to_server == 0 && other.packets_to_client == 0 {
            return;
        }
        let is_first = self.flows == 0 && self.packets_to_server == 0 && self.packets_to_client == 0;
        self.first = if is_first { other.first } else { self.first.min(other.first) };
        self.last = self.last.max(other.last);
        self.flows = self.flows.saturating_add(other.flows);
        self.packets_to_server = self.packets_to_server.saturating_add(other.packets_to_server);
        self.packets_to_client = self.packets_to_client.saturating_add(other.packets_to_client);
        self.bytes_to_server = self.bytes_to_server.saturating_add(other.bytes_to_server);
        self.bytes_to_client = self.bytes_to_client.saturating_add(other.bytes_to_client);
        for (state, count) in other.states.iter() {
            self.states.add(state, count);
        }
    }
}

/// What was seen from one time to another.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Window {
    pub start: Timestamp,
    pub end: Timestamp,
    /// Largest first.
    pub conversations: Vec<(Conversation, Totals)>,
    /// All others together.
    pub other: Totals,
}

impl Window {
    /// Puts another thread's window of the same time to it, and keeps the largest.
    pub fn merge(&mut self, other: Self, listed: usize) {
        self.start = if self.conversations.is_empty() && self.other.flows == 0 {
            other.start
        } else {
            self.start.min(other.start)
        };
        self.end = self.end.max(other.end);
        self.other.add(&other.other);
        self.conversations.extend(other.conversations);
        self.conversations.sort_unstable_by_key(|(conversation, _)| *conversation);
        self.conversations.dedup_by(|again, kept| {
            let is_same = again.0 == kept.0;
            if is_same {
                kept.1.add(&again.1);
            }
            is_same
        });
        keep_largest(&mut self.conversations, &mut self.other, listed);
    }

    /// Drops the smallest into `other`.
    pub fn keep(&mut self, listed: usize) {
        keep_largest(&mut self.conversations, &mut self.other, listed);
    }
}

/// Keeps `listed` entries: three quarters by bytes, the others those of the rest with most flows, which is where scans
/// are. What goes is added to `other`.
pub(super) fn keep_largest(entries: &mut Vec<(Conversation, Totals)>, other: &mut Totals, listed: usize) {
    entries.sort_unstable_by_key(|(conversation, totals)| (Reverse(totals.bytes()), *conversation));
    if entries.len() <= listed {
        return;
    }
    let by_bytes = listed - listed / 4;
    if let Some(rest) = entries.get_mut(by_bytes..) {
        rest.sort_unstable_by_key(|(conversation, totals)| (Reverse(totals.flows), *conversation));
    }
    for (_, totals) in entries.drain(listed..) {
        other.add(&totals);
    }
}
