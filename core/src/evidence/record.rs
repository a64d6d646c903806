use super::Distinct;
use crate::{
    decision::{MAX_SAMPLE_FLOWS, Proof},
    subject::Subject,
    time::Timestamp,
};
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

macro_rules! facts {
    ($($(#[$doc:meta])* $variant:ident = $name:literal),* $(,)?) => {
        /// What a sensor counts about a subject in a window. On the wire a fact is known by its name.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum Fact { $($(#[$doc])* $variant),* }

        impl Fact {
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),* }
            }

            #[must_use]
            pub fn from_name(name: &str) -> Option<Self> {
                match name { $($name => Some(Self::$variant),)* _ => None }
            }
        }
    };
}

facts! {
    /// Connections tried: a first SYN, a first UDP datagram, an ICMP echo request.
    Attempt = "attempt",
    /// TCP handshakes completed in both directions with the right numbers.
    Handshake = "handshake",
    /// SYN-ACK sent, no right ACK until the timeout or the source's RST (a SYN scan of an open port).
    HalfOpen = "half_open",
    /// Tries answered with RST or ICMP unreachable: nothing listens there.
    Refused = "refused",
    /// Tries not answered at all until the timeout.
    Silent = "silent",
    /// Completed connections that ended, or were reset, by RST of either side.
    Reset = "reset",
    /// Completed connections that ended before the source sent a single byte (a connect scan of an open port).
    EmptySession = "empty_session",
    /// Completed connections in which both sides sent payload.
    PayloadSession = "payload_session",
    /// Probes that no TCP stack sends: NULL, FIN without connection, XMAS, SYN+FIN.
    StealthProbe = "stealth_probe",
    /// UDP first datagrams.
    UdpAttempt = "udp_attempt",
    /// ICMP echo requests.
    IcmpEcho = "icmp_echo",
    /// Packets and bytes (IP length) from the source, or to the service.
    Packet = "packet",
    Byte = "byte",
    /// For a service: bare SYNs to it, SYN-ACKs from it, handshakes completed with it.
    ServiceSyn = "service_syn",
    ServiceSynAck = "service_syn_ack",
    ServiceHandshake = "service_handshake",
}

/// One number per [`Fact`]; adding saturates.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters([u64; Fact::ALL.len()]);

impl Counters {
    #[must_use]
    pub fn get(&self, fact: Fact) -> u64 {
        self.0.get(fact as usize).copied().unwrap_or(0)
    }

    pub fn add(&mut self, fact: Fact, count: u64) {
        if let Some(slot) = self.0.get_mut(fact as usize) {
            *slot = slot.saturating_add(count);
        }
    }

    /// Whether nothing was counted.
    #[must_use]
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.0.iter().fold(0, |any, count| any | count) == 0
    }

    pub fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.0.iter_mut().zip(other.0) {
            *mine = mine.saturating_add(theirs);
        }
    }

    /// The facts that were counted at all, in the order of [`Fact::ALL`].
    pub fn iter(&self) -> impl Iterator<Item = (Fact, u64)> + '_ {
        Fact::ALL.iter().map(|fact| (*fact, self.get(*fact))).filter(|(_, count)| *count > 0)
    }
}

/// How connections of a source to one login service looked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortShape {
    /// The service's port: 21, 22, 23, 3306 …
    pub port: u16,
    /// Completed connections that ended.
    pub sessions: u64,
    /// Those that look like a refused login: payload both ways, few bytes, short. An SSH session in which more passwords
    /// are refused than a person mistypes counts once more, here and above, for each.
    pub short_sessions: u64,
    /// Those that look like a login that held: long or many bytes.
    pub long_sessions: u64,
}

/// What one sensor saw of one subject in one window.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EvidenceRecord {
    pub subject: Subject,
    /// The window, half open, in the sensor's time (a replay's: in the file's).
    pub start: Timestamp,
    pub end: Timestamp,
    pub counters: Counters,
    /// Distinct destination ports tried without success (refused, silent, half-open, stealth).
    pub failed_ports: Distinct,
    /// Distinct own addresses tried without success.
    pub failed_hosts: Distinct,
    /// Distinct (own address, port) with an [`Fact::EmptySession`]: scanned, and proven by a handshake of the scan itself.
    pub touched: Distinct,
    /// At most [`Self::MAX_SHAPES`] login services.
    pub shapes: Vec<PortShape>,
    /// For a service: distinct sources of its SYNs.
    pub sources: Distinct,
    pub first_packet: Timestamp,
    pub last_packet: Timestamp,
    /// Community ids of at most [`MAX_SAMPLE_FLOWS`] flows.
    pub flows: Vec<String>,
    /// The strongest proof among the facts counted here.
    pub proof: Proof,
    /// For a source: own addresses it was seen against, so that a sensor can be held to its networks. In order, and of
    /// many the smallest [`Self::MAX_DESTINATIONS`]: which those are does not depend on the order of arrival.
    pub destinations: Vec<IpAddr>,
}

impl EvidenceRecord {
    /// Login services a record tells apart; what comes later is not counted as a shape.
    pub const MAX_SHAPES: usize = 8;
    /// Own addresses a record about a source names.
    pub const MAX_DESTINATIONS: usize = 8;

    #[must_use]
    pub fn new(subject: Subject, start: Timestamp, end: Timestamp) -> Self {
        Self {
            subject,
            start,
            end,
            counters: Counters::default(),
            failed_ports: Distinct::default(),
            failed_hosts: Distinct::default(),
            touched: Distinct::default(),
            shapes: Vec::new(),
            sources: Distinct::default(),
            first_packet: start,
            last_packet: start,
            flows: Vec::new(),
            proof: Proof::None,
            destinations: Vec::new(),
        }
    }

    /// Begins anew, in the same memory.
    pub(super) fn restart(&mut self, subject: Subject, start: Timestamp) {
        (self.subject, self.start, self.end) = (subject, start, start);
        (self.first_packet, self.last_packet) = (start, start);
        self.counters = Counters::default();
        for distinct in [&mut self.failed_ports, &mut self.failed_hosts, &mut self.touched, &mut self.sources]
        {
            distinct.clear();
        }
        self.shapes.clear();
        self.flows.clear();
        self.proof = Proof::None;
        self.destinations.clear();
    }

    /// Adds what `other` saw. Both must be about the same subject; the subject of `self` stays.
    pub fn merge(&mut self, other: &Self) {
        self.start = self.start.min(other.start);
        self.end = self.end.max(other.end);
        self.counters.merge(&other.counters);
        self.failed_ports.merge(&other.failed_ports);
        self.failed_hosts.merge(&other.failed_hosts);
        self.touched.merge(&other.touched);
        self.sources.merge(&other.sources);
        for shape in &other.shapes {
            self.add_shape(*shape);
        }
        self.first_packet = self.first_packet.min(other.first_packet);
        self.last_packet = self.last_packet.max(other.last_packet);
        self.flows.extend(other.flows.iter().cloned());
        // Sorted before it is cut, so that the order of merging does not show.
        self.flows.sort();
        self.flows.dedup();
        self.flows.truncate(MAX_SAMPLE_FLOWS);
        self.proof = self.proof.max(other.proof);
        for destination in &other.destinations {
            self.seen_against(*destination);
        }
    }

    /// Names an own address the source was seen against.
    pub fn seen_against(&mut self, destination: IpAddr) {
        if let Err(at) = self.destinations.binary_search(&destination)
            && at < Self::MAX_DESTINATIONS
        {
            self.destinations.insert(at, destination);
            self.destinations.truncate(Self::MAX_DESTINATIONS);
        }
    }

    pub fn add_shape(&mut self, shape: PortShape) {
        match self.shapes.binary_search_by_key(&shape.port, |s| s.port) {
            Ok(at) => {
                if let Some(mine) = self.shapes.get_mut(at) {
                    mine.sessions = mine.sessions.saturating_add(shape.sessions);
                    mine.short_sessions = mine.short_sessions.saturating_add(shape.short_sessions);
                    mine.long_sessions = mine.long_sessions.saturating_add(shape.long_sessions);
                }
            }
            Err(at) => {
                self.shapes.insert(at, shape);
                self.shapes.truncate(Self::MAX_SHAPES);
            }
        }
    }
}
