//! Whether somebody else changed something, at little cost.

use super::{Iptables, rules::Table, tables::Variant, unread};
use crate::backend::BackendError;
use std::time::{Duration, Instant};

/// Counting goes through all elements: it takes at most this part of the time.
const COUNT_PART: u32 = 20;
/// What counting a few elements costs at most.
const LEAST_COST: Duration = Duration::from_millis(1);

impl Iptables {
    /// Whether rules or elements are not as they were left.
    pub(super) async fn was_changed(&mut self) -> Result<bool, BackendError> {
        let tables = self.tables().await?;
        let rules_differ = match tables.variant {
            Variant::Nft => {
                let now = self.generation(tables)?;
                self.generation != now
            }
            // x_tables tells nobody of changes: the rules themselves are looked at. Reading one table only costs less.
            Variant::Legacy => {
                let only = (!self.shape.synproxy).then_some(Table::Filter);
                !self.faults(&tables.read_all(only).await?).is_empty()
            }
        };
        Ok(rules_differ || self.counts_differ()?)
    }

    /// Whether the sets hold another number of elements than they should. Asked seldom enough to cost little.
    fn counts_differ(&mut self) -> Result<bool, BackendError> {
        let due = self.counted.is_none_or(|(at, took)| at.elapsed() >= took * COUNT_PART);
        if !due {
            return Ok(false);
        }
        let begin = Instant::now();
        let differs = self.content()?.differs(crate::service::now()).map_err(unread)?;
        // A count that once had to wait for a busy machine says nothing of what counting costs.
        let usual = self.counted.map_or(Duration::MAX, |(_, took)| took.max(LEAST_COST) * 2);
        self.counted = Some((Instant::now(), begin.elapsed().min(usual)));
        Ok(differs)
    }
}
