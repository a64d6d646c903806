use crate::{net::Protocol, packet::Tuple};
use std::net::IpAddr;

/// A five-tuple without direction: both directions of a flow have the same key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct FlowKey {
    low: (IpAddr, u16),
    high: (IpAddr, u16),
    protocol: Protocol,
}

impl FlowKey {
    /// The key, and whether the tuple's source is its low end.
    pub(super) fn of(tuple: &Tuple) -> (Self, bool) {
        let source = (tuple.source, tuple.source_port);
        let destination = (tuple.destination, tuple.destination_port);
        let source_is_low = source <= destination;
        let (low, high) = if source_is_low { (source, destination) } else { (destination, source) };
        (Self { low, high, protocol: tuple.protocol }, source_is_low)
    }

    pub(super) fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// The tuple as seen from one end.
    pub(super) fn seen_from(&self, low: bool) -> Tuple {
        let (source, destination) = if low { (self.low, self.high) } else { (self.high, self.low) };
        Tuple {
            source: source.0,
            destination: destination.0,
            protocol: self.protocol,
            source_port: source.1,
            destination_port: destination.1,
        }
    }
}
