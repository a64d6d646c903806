//! A snapshot in messages of bounded size.

use netguard_core::ledger::{Entry, Ledger};
use netguard_core::net::NeverBlockEntry;
use netguard_core::rollout::Hold;
use netguard_proto::convert::SnapshotPart;

/// Entries in one part: at some 150 bytes each well below the largest message of 4 MiB.
pub(super) const PART_ENTRIES: usize = 5_000;

/// The parts of the ledger's set, made one at a time: never the whole set in memory twice.
pub(super) fn parts(ledger: &Ledger) -> impl Iterator<Item = SnapshotPart> + '_ {
    let mut entries = ledger.entries().peekable();
    let mut never_block = ledger.never_block().entries().iter().peekable();
    let mut over = false;
    // Before what they hold back, as in a delta.
    let mut holds: Vec<Hold> = ledger.holds().collect();
    std::iter::from_fn(move || {
        if over {
            return None;
        }
        let some_entries: Vec<Entry> = entries.by_ref().take(PART_ENTRIES).collect();
        let room = PART_ENTRIES - some_entries.len();
        let some_never_block: Vec<NeverBlockEntry> = never_block.by_ref().take(room).cloned().collect();
        over = entries.peek().is_none() && never_block.peek().is_none();
        Some(SnapshotPart {
            ledger_id: ledger.id().to_owned(),
            revision: ledger.revision(),
            entries: some_entries,
            never_block: some_never_block,
            last: over,
            throttle_per_minute: Some(ledger.policy().throttle_per_minute),
            holds: std::mem::take(&mut holds),
            breaker_resets: ledger.breaker().resets,
        })
    })
}
