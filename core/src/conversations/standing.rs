use super::Totals;
use crate::flow::{FlowId, FlowSummary};
use std::collections::BTreeMap;

/// Bounds of [`super::Conversations`]. An entry has some 200 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConversationLimits {
    /// Conversations of a window in which the service sent something.
    pub max_answered: usize,
    /// And in which it did not: scans, floods of invented sources.
    pub max_unanswered: usize,
    /// Flows that go on for longer than the flow table's `active_timeout`, remembered so that nothing counts twice. One
    /// that has no place is counted whole when it ended.
    pub max_standing: usize,
}

impl Default for ConversationLimits {
    fn default() -> Self {
        Self { max_answered: 4_096, max_unanswered: 2_048, max_standing: 1_024 }
    }
}

/// What was told of flows that go on, of one flow table: its ids are unique there.
#[derive(Debug)]
pub(super) struct Standing {
    told: BTreeMap<FlowId, [u64; 4]>,
    most: usize,
}

impl Standing {
    pub(super) fn new(most: usize) -> Self {
        Self { told: BTreeMap::new(), most }
    }

    /// Leaves in `totals` what is new since the last time; whether the flow is remembered.
    pub(super) fn go_on(&mut self, summary: &FlowSummary, totals: &mut Totals) -> bool {
        let whole = totals.volumes();
        let has_room = self.told.len() < self.most;
        match self.told.get_mut(&summary.id) {
            Some(told) => totals.less(std::mem::replace(told, whole)),
            None if has_room => {
                self.told.insert(summary.id, whole);
            }
            None => return false,
        }
        // It counts as a flow when it ended.
        totals.goes_on();
        true
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.told.is_empty()
    }

    pub(super) fn end(&mut self, summary: &FlowSummary, totals: &mut Totals) {
        if !self.told.is_empty()
            && let Some(told) = self.told.remove(&summary.id)
        {
            totals.less(told);
        }
    }
}
