//! The kernel's and the resolver's text files. Pure; what does not parse is left out.

mod servers;

use netguard_core::net::canonical;
pub(super) use servers::{Server, api_servers, assigned, dhclient_servers, server, time_daemon_servers};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A TCP connection as one end sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Connection {
    pub remote: IpAddr,
    pub remote_port: u16,
    pub local_port: u16,
}

/// Gateways of default routes in `/proc/net/route`: destination and mask zero. Addresses there are in host order of
/// the bytes as they lie in memory.
pub(super) fn gateways_ipv4(table: &str) -> Vec<IpAddr> {
    table
        .lines()
        .skip(1)
        .filter_map(|line| {
            let fields: Vec<_> = line.split_whitespace().collect();
            let word = |at: usize| fields.get(at).and_then(|hex| u32::from_str_radix(hex, 16).ok());
            let (destination, gateway, mask) = (word(1)?, word(2)?, word(7)?);
            (destination == 0 && mask == 0 && gateway != 0)
                .then(|| IpAddr::V4(Ipv4Addr::from(gateway.to_ne_bytes())))
        })
        .collect()
}

/// Gateways of default routes in `/proc/net/ipv6_route`.
pub(super) fn gateways_ipv6(table: &str) -> Vec<IpAddr> {
    table
        .lines()
        .filter_map(|line| {
            let fields: Vec<_> = line.split_whitespace().collect();
            let address = |at: usize| fields.get(at).and_then(|hex| u128::from_str_radix(hex, 16).ok());
            let (destination, length, gateway) = (address(0)?, *fields.get(1)?, address(4)?);
            (destination == 0 && length == "00" && gateway != 0)
                .then(|| canonical(IpAddr::V6(Ipv6Addr::from(gateway))))
        })
        .collect()
}

/// `nameserver` lines of a resolv.conf; a zone id is left out.
pub(super) fn nameservers(text: &str) -> Vec<IpAddr> {
    text.lines()
        .filter_map(|line| line.trim().strip_prefix("nameserver"))
        .filter_map(|rest| rest.split_whitespace().next()?.split('%').next()?.parse().ok())
        .map(canonical)
        .collect()
}

/// Established connections in `/proc/net/tcp` or `/proc/net/tcp6`.
pub(super) fn established(table: &str) -> Vec<Connection> {
    const ESTABLISHED: &str = "01";
    table
        .lines()
        .skip(1)
        .filter_map(|line| {
            let mut fields = line.split_whitespace().skip(1);
            let (local, remote, state) = (fields.next()?, fields.next()?, fields.next()?);
            let (_, local_port) = end(local)?;
            let (remote, remote_port) = end(remote)?;
            (state == ESTABLISHED).then_some(Connection { remote, remote_port, local_port })
        })
        .collect()
}

/// Whom connected sockets in `/proc/net/udp` or `/proc/net/udp6` talk to at this port. Sockets of daemons only: anybody
/// who has a login could connect one to wherever he attacks from.
pub(super) fn udp_servers(table: &str, port: u16) -> Vec<Server> {
    const CONNECTED: &str = "01";
    /// `SYS_UID_MAX` of login.defs, as it comes.
    const LAST_DAEMON: u32 = 999;
    table
        .lines()
        .skip(1)
        .filter_map(|line| {
            let fields: Vec<_> = line.split_whitespace().collect();
            let (remote, remote_port) = end(fields.get(2)?)?;
            let uid: u32 = fields.get(7)?.parse().ok()?;
            let counts = *fields.get(3)? == CONNECTED && remote_port == port && uid <= LAST_DAEMON;
            counts.then_some(Server::Address(remote))
        })
        .collect()
}

/// Everything that any of these finds in a file, with the addresses as text.
pub(crate) fn everything(bytes: &[u8]) -> Vec<String> {
    let text = &String::from_utf8_lossy(bytes);
    let addresses = [gateways_ipv4(text), gateways_ipv6(text), nameservers(text)].concat();
    let connections = established(text).into_iter().chain(ssh_connection(bytes)).map(|found| found.remote);
    let servers = [
        udp_servers(text, 123),
        time_daemon_servers(text),
        assigned(text, "NTP"),
        dhclient_servers(text),
        api_servers(text),
    ];
    let servers = servers.into_iter().flatten().map(|found| match found {
        Server::Address(address) => address.to_string(),
        Server::Name(name) => name,
    });
    addresses.into_iter().chain(connections).map(|address| address.to_string()).chain(servers).collect()
}

/// `0100007F:0016`: the address in 32-bit words of host order, the port in plain hexadecimal.
fn end(text: &str) -> Option<(IpAddr, u16)> {
    let (address, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let words: Vec<[u8; 4]> = (0..address.len())
        .step_by(8)
        .map(|at| {
            address.get(at..at + 8).and_then(|hex| u32::from_str_radix(hex, 16).ok()).map(u32::to_ne_bytes)
        })
        .collect::<Option<_>>()?;
    let address = match words.as_slice() {
        [word] => IpAddr::from(*word),
        words => IpAddr::from(<[u8; 16]>::try_from(words.concat()).ok()?),
    };
    Some((canonical(address), port))
}

/// `SSH_CONNECTION=<client> <client's port> <server> <server's port>` in an environment of NUL-ended strings.
pub(super) fn ssh_connection(environment: &[u8]) -> Option<Connection> {
    let value = environment
        .split(|byte| *byte == 0)
        .find_map(|variable| variable.strip_prefix(b"SSH_CONNECTION="))?;
    let mut parts = std::str::from_utf8(value).ok()?.split(' ');
    let remote = parts.next()?.split('%').next()?.parse().ok()?;
    let remote_port = parts.next()?.parse().ok()?;
    let local_port = parts.nth(1)?.parse().ok()?;
    Some(Connection { remote: canonical(remote), remote_port, local_port })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn the_kernels_tables_are_read() {
        let route = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\n\
            eth0\t00000000\t0100000A\t0003\t0\t0\t0\t00000000\t0\t0\t0\n\
            eth0\t0000000A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n\
            eth0\t0000000B\t0900000A\t0003\t0\t0\t0\t000000FF\t0\t0\t0\n\
            broken";
        assert_eq!(gateways_ipv4(route), [address("10.0.0.1")]);
        let zero = "0".repeat(32);
        let route = format!(
            "{zero} 00 {zero} 00 fe800000000000000000000000000001 00000400 00000001 00000000 00000003 eth0\n\
             20010db8000000000000000000000000 20 {zero} 00 {zero} 00000100 00000001 00000000 00000001 eth0\n"
        );
        assert_eq!(gateways_ipv6(&route), [address("fe80::1")]);
        assert_eq!(
            nameservers(
                "# nameserver 1.1.1.1\nnameserver 9.9.9.9\n nameserver fe80::1%eth0\nnameserver x\nsearch a"
            ),
            [address("9.9.9.9"), address("fe80::1")]
        );
    }

    #[test]
    fn only_an_open_ssh_session_counts() {
        let tcp = "  sl  local_address rem_address   st tx_queue\n\
            0: 0100000A:0016 0700000A:D431 01 00000000:00000000\n\
            1: 0100000A:0016 0800000A:D431 06 00000000:00000000\n\
            2: zz 0800000A:D431 01\n";
        let tcp6 = "  sl  local_address                         remote_address                        st\n\
            0: B80D0120000000000000000001000000:0016 B80D0120000000000000000002000000:1000 01 0:0\n\
            1: 0000000000000000FFFF00000100000A:0016 0000000000000000FFFF00000900000A:1001 01 0:0\n";
        assert_eq!(
            established(tcp),
            [Connection { remote: address("10.0.0.7"), remote_port: 54321, local_port: 22 }]
        );
        let six = established(tcp6);
        assert_eq!(six[0].remote, address("2001:db8::2"));
        assert_eq!(six[1], Connection { remote: address("10.0.0.9"), remote_port: 4097, local_port: 22 });
        let environment = b"HOME=/root\0SSH_CONNECTION=10.0.0.7 54321 10.0.0.1 22\0TERM=x\0";
        assert_eq!(ssh_connection(environment), established(tcp).first().copied());
        assert_eq!(ssh_connection(b"X_SSH_CONNECTION=10.0.0.7 54321 10.0.0.1 22\0"), None);
    }

    #[test]
    fn only_a_daemons_connected_socket_names_a_server() {
        let line = |remote: &str, state: &str, uid: u32| {
            format!(
                " 1: 0100000A:9C40 {remote} {state} 00000000:00000000 00:00000000 00000000 {uid} 0 1 2 0 0\n"
            )
        };
        let table = [
            "  sl  local_address rem_address   st tx_queue\n".to_owned(),
            line("0700000A:007B", "01", 101),
            line("0800000A:007B", "07", 101),
            line("0900000A:007B", "01", 1000),
            line("0A00000A:0043", "01", 0),
            " 2: 0100000A:9C40 0B00000A:007B 01".to_owned(),
        ]
        .concat();
        assert_eq!(udp_servers(&table, 123), [Server::Address(address("10.0.0.7"))]);
        assert_eq!(udp_servers(&table, 67), [Server::Address(address("10.0.0.10"))]);
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let text = String::from_utf8_lossy(&bytes);
            let with_header = format!("header\n{text}");
            let _ = (gateways_ipv4(&with_header), gateways_ipv6(&text), nameservers(&text));
            let _ = (established(&with_header), ssh_connection(&bytes), end(&text));
            let _ = udp_servers(&with_header, 123);
        }
    }
}
