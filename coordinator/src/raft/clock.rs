use netguard_core::time::Timestamp;
use std::time::SystemTime;

/// The wall clock, in the ledger's unit. A clock before 1970 counts as 1970: the ledger never goes back in time.
pub(super) fn wall_clock() -> Timestamp {
    let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Timestamp::default().saturating_add(since_epoch)
}
