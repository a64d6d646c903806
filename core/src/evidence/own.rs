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
    /// Last bytes that an address of ours has: most others are told apart by them.
    last_bytes: [bool; 256],
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
        let mut last_bytes = [false; 256];
        for address in &own.addresses {
            last_bytes[last_byte(*address)] = true;
        }
        Self {
            any,
            last_bytes,
            addresses: own.addresses.into_iter().map(number).collect(),
            networks: own.networks,
        }
    }

    /// Whether trying this address is evidence.
    pub(super) fn is_target(&self, address: IpAddr) -> bool {
        self.any
            || self.holds(address)
            || self.networks.iter().any(|net| net.contains(address) && !is_broadcast(net, address))
    }

    /// Whether a service at this address is a service of ours.
    pub(super) fn is_service(&self, address: IpAddr) -> bool {
        self.any || self.holds(address)
    }

    /// Whether this address can be a source outside. What this host does itself is another matter.
    #[inline]
    pub(super) fn is_source(&self, address: IpAddr) -> bool {
        self.any || !self.holds(address)
    }

    #[inline]
    fn holds(&self, address: IpAddr) -> bool {
        self.last_bytes[last_byte(address)] && self.addresses.contains(&number(address))
    }
}

#[inline]
fn last_byte(address: IpAddr) -> usize {
    usize::from(match address {
        IpAddr::V4(address) => address.octets()[3],
        IpAddr::V6(address) => address.octets()[15],
    })
}

/// Both families without mixing them: an IPv4 address as the IPv6 address that stands for it.
#[inline]
pub(super) fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(address.to_ipv6_mapped()),
        IpAddr::V6(address) => u128::from(address),
    }
}

/// The last address of an IPv4 network with room for one (RFC 3021: /31 has none).
fn is_broadcast(network: &Prefix, address: IpAddr) -> bool {
    network.is_ipv4() && network.prefix_len() < 31 && network.last_address() == address
}
