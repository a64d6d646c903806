use serde::{Deserialize, Serialize};
use std::fmt;

/// An IP protocol number (IANA "Assigned Internet Protocol Numbers").
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Protocol(pub u8);

impl Protocol {
    pub const ICMP: Self = Self(1);
    pub const TCP: Self = Self(6);
    pub const UDP: Self = Self(17);
    pub const ICMPV6: Self = Self(58);
    pub const SCTP: Self = Self(132);
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::ICMP => f.pad("icmp"),
            Self::TCP => f.pad("tcp"),
            Self::UDP => f.pad("udp"),
            Self::ICMPV6 => f.pad("icmpv6"),
            Self::SCTP => f.pad("sctp"),
            Self(number) => write!(f, "ip-{number}"),
        }
    }
}
