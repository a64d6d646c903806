//! Sets that packets fill by themselves: what is remembered of connections and datagrams.

/// Room in each set that packets fill by themselves. A full one costs a throttled source its connections and a
/// returning client its way past `synproxy`, never anybody else anything.
const DYNAMIC_SET_SIZE: u32 = 65_536;

/// Datagrams from sources never seen before that can be remembered at a time. One takes about 100 bytes of the kernel's
/// memory, and only while a UDP service is under attack.
const GREETED_SIZE: u32 = 1 << 20;

/// Sets that packets fill: name and declaration.
const DYNAMIC_SETS: &[(&str, &str)] = &[
    // Sources that a handshake of was completed lately: they were sent data over an open connection.
    ("proven4", "type ipv4_addr; flags dynamic, timeout; timeout 1h;"),
    ("proven6", "type ipv6_addr; flags dynamic, timeout; timeout 1h;"),
    // The services they were sent that data from.
    ("served4", "type ipv4_addr . inet_service; flags dynamic, timeout; timeout 1h;"),
    ("served6", "type ipv6_addr . inet_service; flags dynamic, timeout; timeout 1h;"),
    ("served_rate4", "type ipv4_addr; flags dynamic, timeout; timeout 10m;"),
    ("served_rate6", "type ipv6_addr; flags dynamic, timeout; timeout 10m;"),
    // Connection attempts of throttled sources that were dropped: a TCP stack sends the very same again after 1, 3 and
    // 7 s (RFC 6298 5), a scanner hardly ever does.
    ("asked4", "type ipv4_addr . inet_service . inet_service; flags dynamic, timeout; timeout 10s;"),
    ("asked6", "type ipv6_addr . inet_service . inet_service; flags dynamic, timeout; timeout 10s;"),
    ("again_rate4", "type ipv4_addr; flags dynamic, timeout; timeout 10m;"),
    ("again_rate6", "type ipv6_addr; flags dynamic, timeout; timeout 10m;"),
    // Rates of throttled sources, IPv6 per /64: whoever has one address there has them all.
    ("rate4", "type ipv4_addr; flags dynamic, timeout; timeout 10m;"),
    ("rate6", "type ipv6_addr; flags dynamic, timeout; timeout 10m;"),
    // What was sent to throttled sources lately: their answers belong to existing exchanges.
    (
        "sent4",
        "type ipv4_addr . inet_proto . inet_service . inet_service; flags dynamic, timeout; timeout 3m;",
    ),
    (
        "sent6",
        "type ipv6_addr . inet_proto . inet_service . inet_service; flags dynamic, timeout; timeout 3m;",
    ),
    // Sources that repeated a datagram that was held back, to a shielded service.
    ("known4", "type ipv4_addr; flags dynamic, timeout; timeout 1h;"),
    ("known6", "type ipv6_addr; flags dynamic, timeout; timeout 1h;"),
    ("datagrams4", "type ipv4_addr; flags dynamic, timeout; timeout 10s;"),
    ("datagrams6", "type ipv6_addr; flags dynamic, timeout; timeout 10s;"),
    ("sent4_other", "type ipv4_addr . inet_proto; flags dynamic, timeout; timeout 3m;"),
    ("sent6_other", "type ipv6_addr . inet_proto; flags dynamic, timeout; timeout 3m;"),
];

/// Sources whose first datagram to a shielded service was held back just now: longer than any usual client waits before
/// it sends again (resolv.conf(5): 5 s; QUIC, RFC 9002 6.2: 1 s; SIP, RFC 3261 17.1: 0.5 s).
const GREETED_SETS: &[(&str, &str)] = &[
    ("greeted4", "type ipv4_addr; flags dynamic, timeout; timeout 6s;"),
    ("greeted6", "type ipv6_addr; flags dynamic, timeout; timeout 6s;"),
];

/// Each with its declaration.
pub(super) fn filled_sets() -> impl Iterator<Item = (&'static str, String)> {
    let sized = |sets: &'static [(&'static str, &'static str)], size: u32| {
        sets.iter().map(move |(name, declaration)| (*name, format!("{declaration} size {size};")))
    };
    sized(DYNAMIC_SETS, DYNAMIC_SET_SIZE).chain(sized(GREETED_SETS, GREETED_SIZE))
}
