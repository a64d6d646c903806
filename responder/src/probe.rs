//! Packets that the responder sends itself through this host's firewall, to see our rules stop them.
//!
//! Two datagrams go over loopback to a socket of our own: first one from an address that nobody has and that is blocked
//! for the moment, then one from loopback itself, the control. When the control came alone and the counter moved, our
//! hook stands, sees packets before anybody drops them, and finds sources in the very sets that hold decisions.
//!
//! Invariants: no packet leaves the host (loopback only, and what is stopped is never answered); the sources are in
//! nobody's decisions: IPv4's lies in 127/8, which the kernel takes from no other interface, and which nobody's filter
//! against forged sources stops on loopback; IPv6's lies in the discard-only block (RFC 6666).

use netguard_core::{
    decision::Target,
    net::Prefix,
    plan::{Action, Element},
};
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt::set_ipv6_freebind};
use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};
use tokio::{net::UdpSocket, time::timeout};

/// 127.78.103.1: "Ng" in its middle.
pub(crate) const SOURCE4: Ipv4Addr = Ipv4Addr::new(127, 78, 103, 1);
/// 100::6e67.
pub(crate) const SOURCE6: Ipv6Addr = Ipv6Addr::new(0x100, 0, 0, 0, 0, 0, 0, 0x6e67);

/// The control is there at once, unless it was dropped.
const PATIENCE: Duration = Duration::from_millis(300);
const CONTROL: &[u8] = b"netguard control";
const PROBE: &[u8] = b"netguard probe";

/// What came of the two datagrams.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Arrived {
    pub(crate) probe: bool,
    pub(crate) control: bool,
}

/// IPv4 first.
pub(crate) const SOURCES: [IpAddr; 2] = [IpAddr::V4(SOURCE4), IpAddr::V6(SOURCE6)];

/// The block of a probe's source.
pub(crate) fn element(source: IpAddr) -> Element {
    Element::block(Prefix::host(source))
}

/// Whether an action is about a probe's source: for a moment, and nobody's decision.
pub(crate) fn is_of_probe(action: &Action) -> bool {
    match action {
        Action::Add { element, .. } | Action::Extend { element, .. } | Action::Remove { element } => {
            is_probe(element)
        }
        Action::SetThrottle { .. } => false,
    }
}

pub(crate) fn is_probe(element: &Element) -> bool {
    matches!(element.target, Target::Source(prefix)
        if prefix.is_host() && SOURCES.contains(&prefix.address()))
}

/// Sends a probe and its control.
///
/// Errors: this host has no loopback of that IP version, or does not let us.
pub(crate) async fn send(source: IpAddr) -> io::Result<Arrived> {
    let loopback: IpAddr =
        if source.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() };
    let receiver = UdpSocket::bind((loopback, 0)).await?;
    let to = receiver.local_addr()?;
    from(source)?.send_to(PROBE, to).await?;
    from(loopback)?.send_to(CONTROL, to).await?;
    let mut arrived = Arrived::default();
    let mut buffer = [0; 64];
    // Loopback keeps the order: what did not come before the control does not come.
    while !arrived.control {
        let Ok(heard) = timeout(PATIENCE, receiver.recv(&mut buffer)).await else { break };
        match buffer.get(..heard?) {
            Some(PROBE) => arrived.probe = true,
            Some(CONTROL) => arrived.control = true,
            _ => {}
        }
    }
    Ok(arrived)
}

/// A socket that sends from an address, whether this host has it or not.
fn from(source: IpAddr) -> io::Result<UdpSocket> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let family = if source.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = rustix::net::socket_with(family, SocketType::DGRAM, flags, None)?;
    if source.is_ipv6() {
        set_ipv6_freebind(&socket, true)?;
    }
    rustix::net::bind(&socket, &SocketAddr::new(source, 0))?;
    UdpSocket::from_std(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use netguard_core::time::Timestamp;

    #[tokio::test]
    async fn both_arrive_where_nobody_stops_them() {
        let arrived = send(SOURCE4.into()).await.unwrap();
        assert_eq!(arrived, Arrived { probe: true, control: true });
    }

    #[test]
    fn only_the_probes_own_sources_are_theirs() {
        let expires_at = Timestamp::from_secs(1);
        let add = |text: &str| Action::Add { element: Element::block(text.parse().unwrap()), expires_at };
        assert!(is_of_probe(&add("127.78.103.1")) && is_of_probe(&add("100::6e67")));
        assert!(!is_of_probe(&add("127.78.103.0/24")) && !is_of_probe(&add("192.0.2.1")));
        assert!(!is_of_probe(&Action::SetThrottle { per_minute: 1 }));
    }
}
