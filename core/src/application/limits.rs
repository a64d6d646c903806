/// How much is remembered about what flows say. What does not fit is given up for dissection and counted; the flow
/// itself is not touched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApplicationLimits {
    /// Flows dissected at a time, up to 768 bytes each, and 1.5 KiB more where it is HTTP: those whose service is not known
    /// yet, and those of which more is read than the beginning (HTTP, logins). The oldest unidentified is given up first.
    pub max_dissected: usize,
    /// Flows whose service is remembered until they end, 56 bytes each: as many as the flow table holds.
    pub max_flows: usize,
    /// Bytes of incomplete messages and of segments that came too early, of all flows.
    pub max_buffered: usize,
    /// Bytes of one direction that wait for an earlier segment: what is dissected stands at the beginning, where a peer
    /// sends ten segments unasked (RFC 6928). More behind a hole than this means that it was lost.
    pub max_window: usize,
    /// Hardware addresses remembered, 64 bytes each.
    pub max_neighbours: usize,
}

impl Default for ApplicationLimits {
    fn default() -> Self {
        Self {
            max_dissected: 16_384,
            max_flows: 196_608,
            max_buffered: 8 << 20,
            max_window: 16 << 10,
            max_neighbours: 4_096,
        }
    }
}

macro_rules! counts {
    ($($(#[$doc:meta])* $field:ident = $name:literal, $loss:literal;)*) => {
        /// What was set aside or found wrong, since the start.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
        pub struct ApplicationCounts {
            $($(#[$doc])* pub $field: u64,)*
        }

        impl ApplicationCounts {
            /// Every counter under its stable name, with whether it means sight was lost.
            #[must_use]
            pub fn named(&self) -> Vec<(&'static str, u64, bool)> {
                vec![$(($name, self.$field, $loss),)*]
            }
        }
    };
}

counts! {
    /// Given up because too many flows were being dissected.
    no_room = "application.no_room", true;
    /// Given up because too much was buffered.
    no_buffer = "application.no_buffer", true;
    /// Flows beyond what is remembered.
    no_record = "application.no_record", true;
    /// A parser could make nothing of a flow that it was given by its first bytes.
    given_up = "application.given_up", false;
    /// Bytes missing: lost in the capture or cut off by the snap length.
    gap = "stream.gap", false;
    /// The same place in a stream sent with different bytes: what came first counts.
    overlap_conflict = "stream.overlap_conflict", false;
    /// So far ahead of what was seen that it belongs to no window.
    out_of_window = "stream.out_of_window", false;
    /// DNS messages that break the format.
    dns_malformed = "dns.malformed", false;
    dns_pointer_loop = "dns.pointer_loop", false;
    dns_label_too_long = "dns.label_too_long", false;
    dns_name_too_long = "dns.name_too_long", false;
    dns_truncated = "dns.cut", false;
    http_malformed = "http.malformed", false;
    tls_malformed = "tls.malformed", false;
    dhcp_malformed = "dhcp.malformed", false;
    /// Hardware addresses forgotten for room.
    neighbour_forgotten = "arp.neighbour_forgotten", false;
}
