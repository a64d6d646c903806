//! Where a frame's flow probably stands, found before the frame is taken in.
//!
//! A frame is looked at in steps, some frames apart: its headers, its place in the index, its flow. Each step asks for
//! the memory that the next one needs, so that the processor fetches it while it deals with other frames. Invariant: a
//! hint changes nothing; none costs time only.

use super::{key::FlowKey, table::FlowTable};
use crate::{lanes::Tag, packet::Plain};

/// Which flow a packet belongs to, if there is one.
#[derive(Debug, Clone, Copy)]
pub struct Hint {
    pub(super) key: FlowKey,
    pub(super) tag: Tag,
    pub(super) source_is_low: bool,
}

impl FlowTable {
    /// The first step: who talks to whom. The place in the index is asked for.
    #[must_use]
    #[inline]
    pub fn hint(&self, packet: &Plain<'_>) -> Hint {
        let (key, source_is_low) = FlowKey::of_plain(packet);
        let tag = self.tag(&key);
        self.fetch_place(tag);
        Hint { key, tag, source_is_low }
    }

    /// The second step: where the flow probably stands. It is asked for.
    #[inline]
    pub fn follow(&self, hint: &Hint) {
        self.fetch_flow(hint.tag);
    }
}
