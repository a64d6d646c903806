/// What no honest stack sends. EVE calls the event `anomaly`, Zeek `weird`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Anomaly {
    /// The same place in a stream sent twice with different bytes: one reader sees one thing, another the other.
    OverlapConflict,
    DnsMalformed,
    DnsPointerLoop,
    DnsLabelTooLong,
    DnsNameTooLong,
    HttpMalformed,
    TlsMalformed,
    /// A ClientHello longer than any.
    TlsHelloTooLong,
    DhcpMalformed,
}

impl Anomaly {
    /// The stable name, `stage.reason`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::OverlapConflict => "stream.overlap_conflict",
            Self::DnsMalformed => "dns.malformed",
            Self::DnsPointerLoop => "dns.pointer_loop",
            Self::DnsLabelTooLong => "dns.label_too_long",
            Self::DnsNameTooLong => "dns.name_too_long",
            Self::HttpMalformed => "http.malformed",
            Self::TlsMalformed => "tls.malformed",
            Self::TlsHelloTooLong => "tls.hello_too_long",
            Self::DhcpMalformed => "dhcp.malformed",
        }
    }
}
