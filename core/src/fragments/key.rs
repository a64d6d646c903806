use crate::{
    net::Protocol,
    packet::{Fragment, Header, Tunnel},
};
use std::net::IpAddr;

/// Which datagram a fragment is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Key {
    source: IpAddr,
    destination: IpAddr,
    /// IPv4 numbers datagrams for each protocol (RFC 791 section 3.2); of IPv6 only the first fragment counts (RFC 8200
    /// section 4.5).
    protocol: Option<Protocol>,
    identification: u32,
    /// The same addresses may mean other hosts elsewhere.
    vlan: Option<u16>,
    tunnel: Option<Tunnel>,
}

impl Key {
    pub(super) fn of(header: &Header, fragment: &Fragment) -> Self {
        Self {
            source: header.source,
            destination: header.destination,
            protocol: (!fragment.ipv6).then_some(header.protocol),
            identification: fragment.identification,
            vlan: header.vlan,
            tunnel: header.tunnel,
        }
    }
}
