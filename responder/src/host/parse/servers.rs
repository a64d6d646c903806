//! Servers in the files of daemons. Pure; what is no address and no name of a host is left out.

use netguard_core::net::canonical;
use std::{collections::BTreeMap, net::IpAddr};

/// Most servers taken from one file.
const MAX_SERVERS: usize = 32;
/// Longest name of a host (RFC 1035, section 2.3.4).
const MAX_NAME: usize = 253;

/// Where something is that this host needs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::host) enum Server {
    Address(IpAddr),
    /// To be looked up.
    Name(String),
}

/// An address, with or without its zone, or a name.
pub(in crate::host) fn server(text: &str) -> Option<Server> {
    let host = text.split('%').next()?;
    if let Ok(address) = host.parse() {
        return Some(Server::Address(canonical(address)));
    }
    let is_name = host.len() <= MAX_NAME
        && host.starts_with(|first: char| first.is_ascii_alphanumeric())
        // Numbers alone are a broken address, which resolvers would take for another one.
        && host.contains(|letter: char| letter.is_ascii_alphabetic())
        && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_'));
    is_name.then(|| Server::Name(host.to_ascii_lowercase()))
}

/// `server`, `pool` and `peer` lines of chrony, ntpd, ntpsec and OpenNTPD (`servers`).
pub(in crate::host) fn time_daemon_servers(text: &str) -> Vec<Server> {
    text.lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            let directive = words.next()?.to_ascii_lowercase();
            matches!(directive.as_str(), "server" | "servers" | "pool" | "peer")
                // `-4` and `-6` may stand before the name.
                .then(|| words.find(|word| !word.starts_with('-')).and_then(server))?
        })
        .take(MAX_SERVERS)
        .collect()
}

/// What `KEY=` lines name: systemd's configuration and leases.
pub(in crate::host) fn assigned(text: &str, key: &str) -> Vec<Server> {
    text.lines()
        .filter_map(|line| line.trim().strip_prefix(key)?.trim_start().strip_prefix('='))
        .flat_map(str::split_whitespace)
        .filter_map(server)
        .take(MAX_SERVERS)
        .collect()
}

/// `option dhcp-server-identifier` of each interface's latest lease: dhclient adds new ones at the end.
pub(in crate::host) fn dhclient_servers(text: &str) -> Vec<Server> {
    let (mut latest, mut interface) = (BTreeMap::new(), "");
    for line in text.lines().map(str::trim) {
        // The last line of a file that is being written may be torn.
        let Some(line) = line.strip_suffix(';') else { continue };
        if let Some(name) = line.strip_prefix("interface ") {
            interface = name;
        } else if let Some(server) = line.strip_prefix("option dhcp-server-identifier ").and_then(address) {
            latest.insert(interface, server);
        }
    }
    latest.into_values().take(MAX_SERVERS).collect()
}

fn address(text: &str) -> Option<Server> {
    Some(Server::Address(canonical(text.trim().parse().ok()?)))
}

/// `server: https://host:port` of a kubeconfig.
pub(in crate::host) fn api_servers(text: &str) -> Vec<Server> {
    text.lines()
        .filter_map(|line| {
            let url = line.trim().trim_start_matches("- ").strip_prefix("server:")?.trim();
            let url = url.trim_matches(|quote| matches!(quote, '"' | '\''));
            let authority = url.split_once("://")?.1.split(['/', '?', '#']).next()?;
            let host = match authority.strip_prefix('[') {
                Some(six) => six.split_once(']')?.0,
                None => authority.split(':').next()?,
            };
            server(host)
        })
        .take(MAX_SERVERS)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// As one would write them: `10.0.0.1 ntp.example`.
    fn words(servers: &[Server]) -> String {
        let words: Vec<_> = servers
            .iter()
            .map(|server| match server {
                Server::Address(address) => address.to_string(),
                Server::Name(name) => name.clone(),
            })
            .collect();
        words.join(" ")
    }

    #[test]
    fn servers_of_time_are_read() {
        for (text, found) in [
            ("server 192.0.2.1 iburst\n  Pool NTP.example iburst maxsources 4\n", "192.0.2.1 ntp.example"),
            ("# server a.example\n! pool b.example\n;peer c.example\nserverx d.example\nserver\n", ""),
            (
                "peer -6 2001:db8::1\nserver fe80::1%eth0\nserver ::ffff:192.0.2.9",
                "2001:db8::1 fe80::1 192.0.2.9",
            ),
            ("servers pool.example\nserver 127.127.1.0\n", "pool.example 127.127.1.0"),
            ("server 192.0.2\nserver 1234\nserver 192.0.2.1.2\nserver -x\nserver a/b\nserver a;b\n", ""),
        ] {
            assert_eq!(words(&time_daemon_servers(text)), found, "{text}");
        }
        let timesyncd = "[Time]\n#NTP=no.example\nNTP = a.example 192.0.2.1\nNTPX=x\nFallbackNTP=b.example\n";
        assert_eq!(words(&assigned(timesyncd, "NTP")), "a.example 192.0.2.1");
        assert_eq!(words(&assigned(timesyncd, "FallbackNTP")), "b.example");
        let many = "server a.example\n".repeat(1000);
        assert_eq!(time_daemon_servers(&many).len(), MAX_SERVERS);
        assert_eq!(server(&"a".repeat(MAX_NAME + 1)), None);
    }

    #[test]
    fn the_latest_lease_of_each_interface_counts() {
        let lease = |interface: &str, server: &str| {
            format!(
                "lease {{\n  interface \"{interface}\";\n  fixed-address 10.0.0.9;\n  option dhcp-server-identifier {server};\n}}\n"
            )
        };
        let leases =
            [lease("eth0", "10.0.0.1"), lease("eth1", "10.1.0.1"), lease("eth0", "10.0.0.2")].concat();
        assert_eq!(words(&dhclient_servers(&leases)), "10.0.0.2 10.1.0.1");
        // Cut anywhere, nobody else's address comes out of it.
        for end in 0..leases.len() {
            let found = words(&dhclient_servers(&leases[..end]));
            assert!(
                ["", "10.0.0.1", "10.0.0.1 10.1.0.1", "10.0.0.2 10.1.0.1"].contains(&found.as_str()),
                "{found}"
            );
        }
        assert_eq!(words(&dhclient_servers("option dhcp-server-identifier dhcp.example;\n")), "");
        assert_eq!(
            words(&assigned("ADDRESS=10.0.0.9\nSERVER_ADDRESS=10.0.0.1\n", "SERVER_ADDRESS")),
            "10.0.0.1"
        );
    }

    #[test]
    fn a_kubelets_api_server_is_read() {
        for (text, found) in [
            ("clusters:\n- cluster:\n    server: https://10.0.0.1:6443\n  name: x\n", "10.0.0.1"),
            ("- server: \"https://[2001:db8::1]:6443/path\"", "2001:db8::1"),
            ("server: 'https://api.example'", "api.example"),
            ("server: api.example\nserver: https://\nserver: https://[::1\n# server: https://x.example", ""),
        ] {
            assert_eq!(words(&api_servers(text)), found, "{text}");
        }
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic_and_only_hosts_come_out(
            before in prop::sample::select(vec!["", "server ", "NTP=", "option dhcp-server-identifier ", "server: x://["]),
            text in "\\PC{0,80}",
            after in prop::sample::select(vec!["", ";", "]"]),
        ) {
            let text = format!("{before}{text}{after}");
            let all = [
                time_daemon_servers(&text),
                assigned(&text, "NTP"),
                dhclient_servers(&text),
                api_servers(&text),
                server(&text).into_iter().collect(),
            ];
            for found in all.concat() {
                if let Server::Name(name) = found {
                    prop_assert!(name.len() <= MAX_NAME && !name.contains([':', '/', ' ', '%']), "{name}");
                }
            }
        }
    }
}
