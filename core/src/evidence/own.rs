use crate::net::Prefix;
use foldhash::quality::FixedState;
use hashbrown::HashSet;
use std::{collections::BTreeSet, net::IpAddr};

/// What a sensor stands for: evidence is about what comes to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OwnNetworks {
    /// A capture file: every address is looked at as if it were ours.
    Any,
    /// A live sensor.
    Known(Own),
}

impl OwnNetworks {
    /// Whether an address lies on our networks.
    #[must_use]
    pub fn holds(&self, address: IpAddr) -> bool {
        match self {
            Self::Any => true,
            Self::Known(own) => {
                own.addresses.contains(&address)
                    || own.networks.iter().any(|network| network.contains(address))
            }
        }
    }
}

/// The addresses of the captured interfaces, and the networks attached to them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Own {
    pub addresses: BTreeSet<IpAddr>,
    pub networks: Vec<Prefix>,
}

/// The same, made for being asked at every packet.
#[derive(Debug)]
pub(super) struct OwnIndex {
    any: bool,
    addresses: HashSet<u128, FixedState>,
    networks: Vec<Prefix>,
}

impl OwnIndex {
    /// The addresses are the host's own: nobody chooses them so that their hashes meet.
    pub(super) fn new(own: &OwnNetworks) -> Self {
        let (any, own) = match own {
            OwnNetworks::Any => (true, Own::default()),
            OwnNetworks::Known(own) => (false, own.clone()),
        };
        Self { any, addresses: own.addresses.into_iter().map(number).collect(), networks: own.networks }
    }

    /// Whether trying this address is evidence.
    pub(super) fn is_target(&self, address: IpAddr) -> bool {
        self.any
            || self.addresses.contains(&number(address))
            || self.networks.iter().any(|net| net.contains(address) && !is_broadcast(net, address))
    }

    /// Whether a service at this address is a service of ours.
    pub(super) fn is_service(&self, address: IpAddr) -> bool {
        self.any || self.addresses.contains(&number(address))
    }

    /// Whether this address can be a source outside. What this host does itself is another matter.
    pub(super) fn is_source(&self, address: IpAddr) -> bool {
        self.any || !self.addresses.contains(&number(address))
    }
}

/// Both families without mixing them: an IPv4 address as the IPv6 address that stands for it.
fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(address.to_ipv6_mapped()),
        IpAddr::V6(address) => u128::from(address),
    }
}

/// The last address of an IPv4 network with room for one (RFC 3021: /31 has none).
fn is_broadcast(network: &Prefix, address: IpAddr) -> bool {
    network.is_ipv4() && network.prefix_len() < 31 && network.last_address() == address
}
