/// Why a frame gave no header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    #[error("frame shorter than its link-layer header")]
    TooShort,
    #[error("neither IP nor ARP inside: another ethertype or address family")]
    NotIp,
    #[error("a link type that carries no frames we know")]
    LinkType,
    #[error("more than 8 layers of tags, labels, extension headers and tunnels")]
    TooDeep,
    #[error("IP version, header length or total length makes no sense")]
    BadIp,
    #[error("IP header cut off")]
    IpTruncated,
    #[error("transport header cut off by the capture")]
    TransportTruncated,
    #[error("transport header does not fit into its packet")]
    BadTransport,
    #[error("ARP packet cut off")]
    ArpTruncated,
    #[error("tunnel header cut off")]
    TunnelTruncated,
    #[error("a tunnel's header of another version, or one that no receiver takes")]
    BadTunnel,
}

impl DecodeError {
    pub const ALL: &'static [Self] = &[
        Self::TooShort,
        Self::NotIp,
        Self::LinkType,
        Self::TooDeep,
        Self::BadIp,
        Self::IpTruncated,
        Self::TransportTruncated,
        Self::BadTransport,
        Self::ArpTruncated,
        Self::TunnelTruncated,
        Self::BadTunnel,
    ];

    /// The name under which it is counted; stable.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::TooShort => "decode.too_short",
            Self::NotIp => "decode.not_ip",
            Self::LinkType => "decode.link_type",
            Self::TooDeep => "decode.too_deep",
            Self::BadIp => "decode.bad_ip",
            Self::IpTruncated => "decode.ip_truncated",
            Self::TransportTruncated => "decode.transport_truncated",
            Self::BadTransport => "decode.bad_transport",
            Self::ArpTruncated => "decode.arp_truncated",
            Self::TunnelTruncated => "decode.tunnel_truncated",
            Self::BadTunnel => "decode.bad_tunnel",
        }
    }

    /// Whether it means sight was lost; traffic that is simply not IP is no loss.
    #[must_use]
    pub const fn is_loss(self) -> bool {
        !matches!(self, Self::NotIp)
    }
}
