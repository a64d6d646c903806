//! The one place where the flow of evidence asks what time it is.

use netguard_core::time::Timestamp;
use std::time::SystemTime;

/// Now, in microseconds since the Unix epoch; the epoch itself on a machine whose clock stands before it.
#[must_use]
pub(crate) fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_micros(u64::try_from(since.as_micros()).unwrap_or(u64::MAX)).min(Timestamp::MAX_SANE)
}
