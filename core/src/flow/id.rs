use std::fmt;

/// Names one flow of one table for as long as it is kept, and nothing after that: the slot it stands in (low half) and
/// how many flows the table had opened before it (high half), so that a slot used again has another id.
///
/// Unique within a table; 2^32 flows later, and in another table, the same number may come again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FlowId(u64);

impl FlowId {
    #[must_use]
    pub const fn new(slot: u32, generation: u32) -> Self {
        Self((generation as u64) << 32 | slot as u64)
    }

    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for FlowId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// Which flow a packet belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    pub flow: FlowId,
    /// Whether the flow's initiator sent the packet; of a flow picked up in its middle a guess, see
    /// [`super::FlowSummary::picked_up`].
    pub from_initiator: bool,
    /// The flow was made for this packet.
    pub is_new: bool,
}
