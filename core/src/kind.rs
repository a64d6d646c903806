//! The canonical names of what is detected, everywhere the same.

use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

macro_rules! kinds {
    ($($variant:ident = $name:literal),* $(,)?) => {
        /// What was detected. Its numbers, threshold to technique, stand in [`crate::policy`]'s table.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum Kind { $($variant),* }

        impl Kind {
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),* }
            }
        }

        impl FromStr for Kind {
            type Err = UnknownKind;

            fn from_str(text: &str) -> Result<Self, UnknownKind> {
                match text { $($name => Ok(Self::$variant),)* _ => Err(UnknownKind(text.chars().take(64).collect())) }
            }
        }
    };
}

kinds! {
    SynFlood = "syn_flood", UdpFlood = "udp_flood", IcmpFlood = "icmp_flood", Amplification = "amplification",
    TcpReflection = "tcp_reflection", HttpFlood = "http_flood", SlowHttp = "slow_http", DhcpFlood = "dhcp_flood",
    PortScan = "port_scan", PortSweep = "port_sweep", HostSweep = "host_sweep", ArpScan = "arp_scan",
    ProtocolScan = "protocol_scan", ServiceProbe = "service_probe",
    BruteForce = "brute_force", PasswordSpray = "password_spray",
    WebSqli = "web_sqli", WebXss = "web_xss", WebPathTraversal = "web_path_traversal", WebRce = "web_rce",
    WebScan = "web_scan",
    Beacon = "beacon", DnsTunnel = "dns_tunnel", IcmpTunnel = "icmp_tunnel", Exfiltration = "exfiltration",
    ArpSpoof = "arp_spoof",
    Anomaly = "anomaly", Intel = "intel", Decoy = "decoy",
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A name that is no kind of detection.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown kind {0:?}: see docs/kinds.md for the names")]
pub struct UnknownKind(String);
