//! Which open connections manage this host: nothing of ours may cut them, whatever is decided.
//!
//! People logged in by SSH (`sshd` told so after authentication), the coordinators, and what the configuration names. A
//! connection that is open to a port is no proof: whoever guesses passwords has one too, and a block has to end it.

use super::parse::Connection;
use netguard_core::net::Prefix;
use serde::{Deserialize, Deserializer, de::Error as _};
use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
};

/// What manages this host besides SSH sessions and coordinators, from the configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Management {
    /// From where.
    #[serde(deserialize_with = "prefixes")]
    pub networks: Vec<Prefix>,
    /// To which TCP ports of this host; none: to any.
    pub ports: BTreeSet<u16>,
}

impl Management {
    fn covers(&self, connection: &Connection) -> bool {
        (self.ports.is_empty() || self.ports.contains(&connection.local_port))
            && self.networks.iter().any(|network| network.contains(connection.remote))
    }
}

/// The ends of others of those of the `open` connections that manage this host, at most `limit`: SSH sessions first.
pub(super) fn kept(
    open: &BTreeSet<Connection>,
    sessions: &BTreeSet<Connection>,
    coordinators: &BTreeSet<IpAddr>,
    coordinator_ports: &BTreeSet<u16>,
    management: &Management,
    limit: usize,
) -> BTreeSet<SocketAddr> {
    let others = open.iter().filter(|connection| {
        let to_coordinator =
            coordinators.contains(&connection.remote) && coordinator_ports.contains(&connection.remote_port);
        to_coordinator || management.covers(connection)
    });
    sessions
        .iter()
        .chain(others)
        .map(|connection| SocketAddr::new(connection.remote, connection.remote_port))
        .filter(|end| !end.ip().is_loopback())
        .take(limit)
        .collect()
}

fn prefixes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Prefix>, D::Error> {
    Vec::<String>::deserialize(deserializer)?
        .into_iter()
        .map(|text| {
            text.parse().map_err(|error| D::Error::custom(format!("management: `{text}` is {error}")))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connection(remote: &str, local_port: u16) -> Connection {
        let remote: SocketAddr = remote.parse().unwrap();
        Connection { remote: remote.ip(), remote_port: remote.port(), local_port }
    }

    #[test]
    fn who_only_has_a_connection_to_the_port_is_not_kept() {
        let session = connection("10.0.0.7:54321", 22);
        let guessing = connection("10.0.0.8:40000", 22);
        let coordinator = connection("10.0.0.9:7443", 41000);
        let web_of_coordinator = connection("10.0.0.9:443", 41001);
        let console = connection("10.9.0.1:50000", 9090);
        let elsewhere = connection("10.9.0.1:50001", 80);
        let open = BTreeSet::from([session, guessing, coordinator, web_of_coordinator, console, elsewhere]);
        let management =
            Management { networks: vec!["10.9.0.0/24".parse().unwrap()], ports: BTreeSet::from([9090]) };
        let keep = |limit| {
            kept(
                &open,
                &BTreeSet::from([session]),
                &BTreeSet::from(["10.0.0.9".parse().unwrap()]),
                &BTreeSet::from([7443]),
                &management,
                limit,
            )
        };
        let ends = ["10.0.0.7:54321", "10.0.0.9:7443", "10.9.0.1:50000"];
        assert_eq!(keep(9), ends.map(|end| end.parse().unwrap()).into());
        assert_eq!(keep(1), BTreeSet::from(["10.0.0.7:54321".parse().unwrap()]));
    }
}
