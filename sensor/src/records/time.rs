//! Times as the formats write them.

use netguard_core::time::Timestamp;
use std::fmt::Write as _;
use time::{OffsetDateTime, macros::format_description};

/// EVE's time: ISO 8601 with microseconds and the offset.
#[must_use]
pub fn eve_time(at: Timestamp) -> String {
    let format = format_description!(
        "[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:6][offset_hour sign:mandatory][offset_minute]"
    );
    of(at).and_then(|time| time.format(format).ok()).unwrap_or_default()
}

/// As in Zeek's `#open` and `#close`.
pub(super) fn zeek_stamp(at: Timestamp) -> String {
    let format = format_description!("[year]-[month]-[day]-[hour]-[minute]-[second]");
    of(at).and_then(|time| time.format(format).ok()).unwrap_or_default()
}

/// Seconds with six places, as Zeek writes `time` and `interval`.
pub(super) fn write_seconds(micros: u64, to: &mut String) {
    // Writing to a String cannot fail.
    let _ = write!(to, "{}.{:06}", micros / 1_000_000, micros % 1_000_000);
}

fn of(at: Timestamp) -> Option<OffsetDateTime> {
    let nanos = i128::from(at.min(Timestamp::MAX_SANE).as_micros()) * 1_000;
    OffsetDateTime::from_unix_timestamp_nanos(nanos).ok()
}
