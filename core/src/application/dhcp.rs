use super::{Anomaly, Text, reader::Reader};
use std::net::Ipv4Addr;

const MAGIC: [u8; 4] = [99, 130, 83, 99];
/// Up to the magic number (RFC 2131 section 2).
const FIXED: usize = 236;
/// Options looked at; a datagram has room for 750 empty ones.
const MAX_OPTIONS: usize = 128;

/// One message of DHCP for IPv4 (RFC 2131, options of RFC 2132).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Dhcp {
    pub transaction: u32,
    /// By its operation code; else a request.
    pub is_reply: bool,
    /// Option 53: 1 DISCOVER, 2 OFFER, 3 REQUEST, 4 DECLINE, 5 ACK, 6 NAK, 7 RELEASE, 8 INFORM.
    pub kind: u8,
    pub client: [u8; 6],
    /// The address that the client has, or gets.
    pub client_address: Option<Ipv4Addr>,
    pub assigned: Option<Ipv4Addr>,
    pub requested: Option<Ipv4Addr>,
    /// Which server the message is from or for (option 54).
    pub server: Option<Ipv4Addr>,
    /// Where the client finds what it boots next (`siaddr`): often another host than the server.
    pub next_server: Option<Ipv4Addr>,
    pub relay: Option<Ipv4Addr>,
    /// What clients are told to use; a rogue server says itself.
    pub router: Option<Ipv4Addr>,
    pub resolver: Option<Ipv4Addr>,
    pub lease_seconds: Option<u32>,
    pub host_name: Text,
    pub vendor_class: Text,
}

impl Dhcp {
    /// EVE's and Zeek's name of the kind.
    #[must_use]
    pub const fn kind_name(&self) -> &'static str {
        match self.kind {
            1 => "discover",
            2 => "offer",
            3 => "request",
            4 => "decline",
            5 => "ack",
            6 => "nak",
            7 => "release",
            8 => "inform",
            _ => "unknown",
        }
    }
}

pub(super) fn looks_like_dhcp(bytes: &[u8]) -> bool {
    matches!(bytes.first(), Some(1 | 2)) && bytes.get(FIXED..FIXED + 4) == Some(&MAGIC)
}

pub(super) fn message(bytes: &[u8]) -> Result<Dhcp, Anomaly> {
    read(bytes).ok_or(Anomaly::DhcpMalformed)
}

fn read(bytes: &[u8]) -> Option<Dhcp> {
    let mut reader = Reader::new(bytes);
    // Operation, hardware type and address length, hops.
    let [operation @ (1 | 2), 1, 6, _] = reader.array()? else { return None };
    let mut dhcp = Dhcp { transaction: reader.u32()?, is_reply: operation == 2, ..Dhcp::default() };
    reader.u32()?;
    let known = |address: [u8; 4]| Some(Ipv4Addr::from(address)).filter(|address| !address.is_unspecified());
    dhcp.client_address = known(reader.array()?);
    dhcp.assigned = known(reader.array()?);
    dhcp.next_server = known(reader.array()?);
    dhcp.relay = known(reader.array()?);
    dhcp.client = reader.array()?;
    reader.take(10 + 64 + 128)?;
    if reader.array()? != MAGIC {
        return None;
    }
    for _ in 0..MAX_OPTIONS {
        let content = match reader.u8() {
            Some(0) => continue,
            // The end; what was captured may lack it.
            Some(255) | None => break,
            Some(code) => (code, reader.vector8()?),
        };
        let address = |content: &[u8]| content.first_chunk().copied().and_then(known);
        match content {
            (3, content) => dhcp.router = address(content),
            (6, content) => dhcp.resolver = address(content),
            (12, content) => dhcp.host_name = Text::new(content, 255),
            (50, content) => dhcp.requested = address(content),
            (51, content) => dhcp.lease_seconds = content.try_into().ok().map(u32::from_be_bytes),
            (53, content) => dhcp.kind = *content.first()?,
            (54, content) => dhcp.server = address(content),
            (60, content) => dhcp.vendor_class = Text::new(content, 64),
            _ => {}
        }
    }
    (dhcp.kind != 0).then_some(dhcp)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    pub(crate) fn request() -> Vec<u8> {
        let mut bytes = vec![1, 1, 6, 0, 0, 0, 0x3d, 0x1e];
        bytes.resize(20, 0);
        bytes.extend([192, 168, 0, 2]);
        bytes.resize(28, 0);
        bytes.extend([0, 11, 0x82, 1, 0xfc, 0x42]);
        bytes.resize(FIXED, 0);
        bytes.extend(MAGIC);
        bytes.extend([53, 1, 3, 50, 4, 192, 168, 0, 10, 0, 54, 4, 192, 168, 0, 1, 12, 4]);
        bytes.extend(b"a\xffb\n\xff");
        bytes
    }

    #[test]
    fn a_request_is_read() {
        let dhcp = message(&request()).unwrap();
        assert_eq!(
            (dhcp.kind_name(), dhcp.transaction, dhcp.client),
            ("request", 0x3d1e, [0, 11, 0x82, 1, 0xfc, 0x42])
        );
        assert_eq!(dhcp.requested, Some(Ipv4Addr::new(192, 168, 0, 10)));
        assert_eq!(dhcp.server, Some(Ipv4Addr::new(192, 168, 0, 1)));
        assert_eq!((dhcp.next_server, dhcp.is_reply), (Some(Ipv4Addr::new(192, 168, 0, 2)), false));
        assert_eq!((dhcp.assigned, dhcp.host_name.bytes()), (None, &b"a\xffb\n"[..]));
        assert!(looks_like_dhcp(&request()));
    }

    #[test]
    fn an_option_that_says_it_is_longer_than_the_message_is_refused() {
        let mut bytes = request();
        let last = bytes.len() - 6;
        bytes[last] = 200;
        assert_eq!(message(&bytes), Err(Anomaly::DhcpMalformed));
    }

    proptest! {
        #[test]
        fn no_bytes_break_it(at in any::<prop::sample::Index>(), byte: u8, length in 0usize..300) {
            let mut bytes = request();
            let at = at.index(bytes.len());
            bytes[at] = byte;
            bytes.truncate(length);
            let _ = message(&bytes);
        }
    }
}
