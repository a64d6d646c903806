/// Why a frame gave no header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    #[error("frame shorter than its link-layer header")]
    TooShort,
    #[error("no IP inside: another ethertype or address family")]
    NotIp,
    #[error("a link type that carries no frames we know")]
    LinkType,
    #[error("more than 8 layers of tags and extension headers")]
    TooDeep,
    #[error("IP version, header length or total length makes no sense")]
    BadIp,
    #[error("IP header cut off")]
    IpTruncated,
    #[error("transport header cut off by the capture")]
    TransportTruncated,
    #[error("transport header does not fit into its packet")]
    BadTransport,
    #[error("first fragment too small for its transport header")]
    TinyFragment,
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
        Self::TinyFragment,
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
            Self::TinyFragment => "decode.tiny_fragment",
        }
    }

    /// Whether it means sight was lost; traffic that is simply not IP is no loss.
    #[must_use]
    pub const fn is_loss(self) -> bool {
        !matches!(self, Self::NotIp)
    }
}
