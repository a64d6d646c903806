use crate::net::Prefix;
use std::{collections::BTreeSet, net::IpAddr};

/// What a sensor stands for: evidence is about what comes to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OwnNetworks {
    /// A capture file: every address is looked at as if it were ours.
    Any,
    /// A live sensor.
    Known(Own),
}

/// The addresses of the captured interfaces, and the networks attached to them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Own {
    pub addresses: BTreeSet<IpAddr>,
    pub networks: Vec<Prefix>,
}

impl OwnNetworks {
    /// Whether trying this address is evidence.
    #[must_use]
    pub fn is_target(&self, address: IpAddr) -> bool {
        match self {
            Self::Any => true,
            Self::Known(own) => {
                own.addresses.contains(&address)
                    || own.networks.iter().any(|net| net.contains(address) && !is_broadcast(net, address))
            }
        }
    }

    /// Whether a service at this address is a service of ours.
    #[must_use]
    pub fn is_service(&self, address: IpAddr) -> bool {
        match self {
            Self::Any => true,
            Self::Known(own) => own.addresses.contains(&address),
        }
    }

    /// Whether this address can be a source outside. What this host does itself is another matter.
    #[must_use]
    pub fn is_source(&self, address: IpAddr) -> bool {
        match self {
            Self::Any => true,
            Self::Known(own) => !own.addresses.contains(&address),
        }
    }
}

/// The last address of an IPv4 network with room for one (RFC 3021: /31 has none).
fn is_broadcast(network: &Prefix, address: IpAddr) -> bool {
    network.is_ipv4() && network.prefix_len() < 31 && network.last_address() == address
}
