//! Conversations as the parsers see them: said, cut, shuffled and read.

#![allow(clippy::cast_possible_truncation, reason = "lengths that a test chose")]

use super::*;
use crate::{
    flow::FlowId,
    net::Protocol,
    packet::{Header, Tcp, TcpFlags, Transport, Udp},
    time::Timestamp,
};
use std::net::{IpAddr, Ipv4Addr};

mod bounds;
mod logins;
mod segments;
mod services;

pub(super) const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
pub(super) const SERVER: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 51, 100, 1));
const CLIENT_START: u32 = u32::MAX - 20;
const SERVER_START: u32 = 5_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum From {
    Client,
    Server,
}

/// One flow, and everything that was told of it.
#[derive(Debug)]
pub(super) struct Conversation {
    pub(super) applications: Applications,
    flow: FlowId,
    port: u16,
    client: u32,
    server: u32,
    at: Timestamp,
    /// Bytes in a segment.
    segment: usize,
    told: Vec<Transaction>,
}

/// What came of it.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) application: Application,
    pub(super) told: Vec<Transaction>,
    pub(super) counts: ApplicationCounts,
}

impl Found {
    pub(super) fn service(&self) -> &'static str {
        self.application.service.map_or("-", Service::name)
    }

    pub(super) fn fields(&self) -> Vec<Fields> {
        self.told.iter().map(|transaction| transaction.fields.clone()).collect()
    }

    /// `user ok` or `user no` for each login.
    pub(super) fn logins(&self) -> Vec<String> {
        let logins = self.told.iter().filter_map(|transaction| match &transaction.fields {
            Fields::Login(login) => {
                Some(format!("{} {}", login.user, if login.success { "ok" } else { "no" }))
            }
            _ => None,
        });
        logins.collect()
    }

    pub(super) fn anomalies(&self) -> Vec<Anomaly> {
        let anomalies = self.told.iter().filter_map(|transaction| match transaction.fields {
            Fields::Anomaly(anomaly) => Some(anomaly),
            _ => None,
        });
        anomalies.collect()
    }
}

impl Conversation {
    /// With its handshake seen.
    pub(super) fn on_port(port: u16) -> Self {
        let mut conversation = Self::picked_up(port, Applications::new(ApplicationLimits::default(), 7));
        conversation.handshake();
        conversation
    }

    pub(super) fn picked_up(port: u16, applications: Applications) -> Self {
        Self {
            applications,
            flow: FlowId::new(3, 9),
            port,
            client: CLIENT_START,
            server: SERVER_START,
            at: Timestamp::from_secs(1_700_000_000),
            segment: 1_400,
            told: Vec::new(),
        }
    }

    pub(super) fn in_segments_of(mut self, bytes: usize) -> Self {
        self.segment = bytes;
        self
    }

    fn handshake(&mut self) {
        let flags = TcpFlags::SYN | TcpFlags::ACK;
        self.packet(From::Server, SERVER_START.wrapping_sub(1), b"", 0, flags);
    }

    /// In order, in segments.
    pub(super) fn say(mut self, from: From, bytes: &[u8]) -> Self {
        for part in bytes.chunks(self.segment) {
            let sequence = self.reserve(from, part.len());
            self.segment(from, sequence, part);
        }
        self
    }

    /// Captured only up to `captured` of its bytes.
    pub(super) fn say_cut(mut self, from: From, bytes: &[u8], captured: usize) -> Self {
        let sequence = self.reserve(from, bytes.len());
        self.packet(from, sequence, &bytes[..captured.min(bytes.len())], bytes.len(), TcpFlags::ACK);
        self
    }

    /// Not captured at all.
    pub(super) fn miss(mut self, from: From, length: usize) -> Self {
        self.reserve(from, length);
        self
    }

    /// Numbers for so many bytes: where the first of them stands.
    pub(super) fn reserve(&mut self, from: From, length: usize) -> u32 {
        let next = if from == From::Client { &mut self.client } else { &mut self.server };
        let sequence = *next;
        *next = next.wrapping_add(length as u32);
        sequence
    }

    pub(super) fn segment(&mut self, from: From, sequence: u32, bytes: &[u8]) {
        self.packet(from, sequence, bytes, bytes.len(), TcpFlags::ACK);
    }

    fn packet(&mut self, from: From, sequence: u32, bytes: &[u8], length: usize, flags: TcpFlags) {
        self.at = self.at.saturating_add(std::time::Duration::from_millis(1));
        let from_initiator = from == From::Client;
        let ports = if from_initiator { (40_000, self.port) } else { (self.port, 40_000) };
        let tcp = Tcp {
            source_port: ports.0,
            destination_port: ports.1,
            sequence,
            // Of a SYN-ACK: the client's first byte.
            acknowledgement: if flags.is_syn_ack() { CLIENT_START } else { 0 },
            flags,
            window: 64_000,
            payload_length: length as u32,
        };
        self.push(from_initiator, Protocol::TCP, Transport::Tcp(tcp), bytes);
    }

    pub(super) fn datagram(mut self, from: From, client_port: u16, bytes: &[u8]) -> Self {
        let from_initiator = from == From::Client;
        let (source_port, destination_port) =
            if from_initiator { (client_port, self.port) } else { (self.port, client_port) };
        let udp = Udp { source_port, destination_port, payload_length: bytes.len() as u32 };
        self.push(from_initiator, Protocol::UDP, Transport::Udp(udp), bytes);
        self
    }

    fn push(&mut self, from_initiator: bool, protocol: Protocol, transport: Transport, payload: &[u8]) {
        let (source, destination) = if from_initiator { (CLIENT, SERVER) } else { (SERVER, CLIENT) };
        let header = Header {
            source,
            destination,
            protocol,
            ttl: 64,
            ip_length: 40 + payload.len() as u32,
            vlan: None,
            tunnel: None,
            transport,
        };
        let said = Said { flow: self.flow, from_initiator, header: &header, payload, at: self.at };
        let told = &mut self.told;
        self.applications.push(&said, &mut |transaction| told.push(transaction));
    }

    pub(super) fn close(mut self) -> Found {
        let told = &mut self.told;
        let application =
            self.applications.close(self.flow, self.at, &mut |transaction| told.push(transaction));
        assert_eq!(self.applications.dissected(), 0);
        Found {
            application: application.unwrap_or_default(),
            told: self.told,
            counts: self.applications.counts(),
        }
    }
}
