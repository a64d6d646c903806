use super::{Anomaly, Arp, Dhcp, Dns, Http, Login, Service, Ssh, Tls};
use crate::{flow::FlowId, packet::Tuple, time::Timestamp};

/// Something that was said, complete, in fields. Nothing of the payload is in it but these.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transaction {
    /// When it was complete.
    pub at: Timestamp,
    /// The flow it was said in, from the initiator to the service; ARP has none.
    pub flow: Option<(FlowId, Tuple)>,
    pub fields: Fields,
}

/// One row of the log that its protocol has in Zeek and Suricata.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fields {
    /// A request with its answer, or one of them without the other.
    Http(Http),
    /// One message.
    Dns(Dns),
    /// A handshake as far as it is in clear.
    Tls(Tls),
    /// The banners of both ends.
    Ssh(Ssh),
    /// How one login went.
    Login(Login),
    /// One message.
    Dhcp(Dhcp),
    /// A claim that is new, changed or unasked for.
    Arp(Arp),
    /// What no honest stack sends, once a flow and kind.
    Anomaly(Anomaly),
}

/// What is known about a flow when it ends.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Application {
    pub service: Option<Service>,
    /// TLS spoken inside, or begun by STARTTLS in, the service.
    pub encrypted: bool,
    pub transactions: u32,
    pub login_failures: u16,
    pub login_successes: u16,
    /// Two versions of the same bytes were sent.
    pub overlap_conflict: bool,
    /// Bytes were missing while it was being read.
    pub gap: bool,
    /// Not read to where it could have been, for want of room or sense.
    pub given_up: bool,
}
