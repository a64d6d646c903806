use super::{Flow, lane};
use crate::{
    flow::key::FlowKey,
    lanes::{Lanes, Slot, Tag},
    net::Protocol,
};
use prefetch_index::prefetch_index;
use std::{hash::Hash, slice::from_ref};

/// The flows by their keys, in their lanes. Keys and lanes stand apart from what is known of the flows: finding one reads
/// one cache line, and moving others in their lanes reads none of them.
///
/// Invariant: a slot stands for the same place in both.
#[derive(Debug)]
pub(super) struct Store {
    keys: Lanes<FlowKey, (), { lane::COUNT }>,
    flows: Vec<Flow>,
}

impl Store {
    /// What a flow takes, with its place in the index.
    pub(super) const ENTRY_BYTES: usize =
        Lanes::<FlowKey, (), { lane::COUNT }>::ENTRY_BYTES + size_of::<Flow>();

    /// With address space for so many flows, so that none is ever moved; memory comes with the flows.
    pub(super) fn with_capacity(seed: u64, flows: usize) -> Self {
        Self { keys: Lanes::with_capacity(seed, flows), flows: Vec::with_capacity(flows) }
    }

    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }

    #[inline]
    pub(super) fn lane_len(&self, lane: usize) -> usize {
        self.keys.lane_len(lane)
    }

    #[inline]
    pub(super) fn hash<T: Hash + ?Sized>(&self, value: &T) -> u64 {
        self.keys.hash(value)
    }

    #[inline]
    pub(super) fn tag(&self, key: &FlowKey) -> Tag {
        self.keys.tag(key)
    }

    #[inline]
    pub(super) fn find(&self, tag: Tag, key: &FlowKey) -> Option<Slot> {
        self.keys.find_tagged(tag, key)
    }

    #[inline]
    pub(super) fn get(&self, slot: Slot) -> Option<&Flow> {
        self.flows.get(slot.number() as usize)
    }

    #[inline]
    pub(super) fn get_mut(&mut self, slot: Slot) -> Option<&mut Flow> {
        self.flows.get_mut(slot.number() as usize)
    }

    /// The flow with all that is known of it written.
    #[inline]
    pub(super) fn complete(&mut self, slot: Slot) -> Option<&mut Flow> {
        let Self { keys, flows } = self;
        let flow = flows.get_mut(slot.number() as usize)?;
        flow.complete(|| keys.key(slot).map_or(Protocol::TCP, FlowKey::protocol));
        Some(flow)
    }

    #[inline]
    pub(super) fn key(&self, slot: Slot) -> Option<&FlowKey> {
        self.keys.key(slot)
    }

    #[inline]
    pub(super) fn oldest(&self, lane: usize) -> Option<Slot> {
        self.keys.oldest(lane)
    }

    #[inline]
    /// A place for a new flow; what is in it is of one that is gone.
    pub(super) fn insert(&mut self, tag: Tag, key: FlowKey, lane: usize) -> Option<(Slot, &mut Flow)> {
        let slot = self.keys.insert_tagged(tag, key, (), lane);
        let at = slot.number() as usize;
        if at == self.flows.len() {
            self.flows.push(Flow::default());
        }
        self.flows.get_mut(at).map(|flow| (slot, flow))
    }

    pub(super) fn move_to(&mut self, slot: Slot, lane: usize) {
        self.keys.move_to(slot, lane);
    }

    pub(super) fn remove(&mut self, slot: Slot) {
        self.keys.discard(slot);
    }

    /// Asks the processor for the flow that is the oldest of a lane, which is often the next to go, and whose place is
    /// the next to be used again: its first line, no more is read and written of most.
    #[inline]
    pub(super) fn fetch_oldest(&self, lane: usize) {
        if let Some(flow) = self.oldest(lane).and_then(|slot| self.get(slot)) {
            prefetch_index(from_ref(&flow.look_at), 0);
        }
    }

    /// Asks the processor for the place where a key is looked for.
    #[inline]
    pub(super) fn fetch_place(&self, tag: Tag) {
        self.keys.fetch_place(tag);
    }

    /// Asks the processor for all of a flow, by the index alone.
    #[inline]
    pub(super) fn fetch_flow(&self, tag: Tag) {
        let Some(slot) = self.keys.guess(tag) else { return };
        self.keys.fetch(slot);
        if let Some(flow) = self.get(slot) {
            prefetch_index(from_ref(&flow.look_at), 0);
            flow.connection.fetch();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the figures of docs/benchmarks.md rest on: lines that a packet reads, and lines that a flood writes.
    #[test]
    fn a_flow_takes_four_cache_lines_and_its_key_one() {
        assert_eq!(size_of::<Flow>(), 4 * 64);
        assert_eq!(Store::ENTRY_BYTES, 5 * 64 + size_of::<u32>() + 2 * size_of::<u64>());
    }
}
