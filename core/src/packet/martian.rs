use super::Header;
use std::net::IpAddr;

/// Why the source of a packet cannot be a source of evidence: an address that names no single host (the built-in
/// never-block prefixes, see [`crate::net::builtin_never_block`]), or the destination's own (a LAND packet).
#[must_use]
pub fn martian(header: &Header) -> Option<&'static str> {
    if header.source == header.destination {
        return Some("martian.land");
    }
    match header.source {
        IpAddr::V4(address) => match address.octets() {
            [0, ..] => Some("martian.this_network"),
            [127, ..] => Some("martian.loopback"),
            [169, 254, ..] => Some("martian.link_local"),
            [224..=239, ..] => Some("martian.multicast"),
            [255, 255, 255, 255] => Some("martian.broadcast"),
            _ => None,
        },
        IpAddr::V6(address) => match address.segments() {
            [0, 0, 0, 0, 0, 0, 0, 0] => Some("martian.this_network"),
            [0, 0, 0, 0, 0, 0, 0, 1] => Some("martian.loopback"),
            [first, ..] if first & 0xffc0 == 0xfe80 => Some("martian.link_local"),
            [first, ..] if first & 0xff00 == 0xff00 => Some("martian.multicast"),
            _ => None,
        },
    }
}
