//! Times and durations as people and programs read them. On the wire a time is microseconds since the Unix epoch, 0 for
//! "not known".

use std::time::{Duration, SystemTime};
use time::{OffsetDateTime, format_description::BorrowedFormatItem, macros::format_description};

/// ISO 8601 in UTC with microseconds, always 27 characters, so that texts sort as times do.
const ISO: &[BorrowedFormatItem<'_>] =
    format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:6]Z");

/// `None` for 0 and for what no calendar has.
pub(crate) fn iso(micros: u64) -> Option<String> {
    if micros == 0 {
        return None;
    }
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(micros) * 1_000).ok()?.format(ISO).ok()
}

/// The clock of this machine, for relative times only.
pub(crate) fn now() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

/// "3h59m left", "over", or "-".
pub(crate) fn left(micros: u64, now: u64) -> String {
    match micros {
        0 => "-".to_owned(),
        end if end <= now => "over".to_owned(),
        end => short(Duration::from_micros(end - now)),
    }
}

/// "2m5s ago", or "-".
pub(crate) fn ago(micros: u64, now: u64) -> String {
    match micros {
        0 => "-".to_owned(),
        then => format!("{} ago", short(Duration::from_micros(now.saturating_sub(then)))),
    }
}

/// The two largest units of a duration.
pub(crate) fn short(duration: Duration) -> String {
    let seconds = duration.as_secs();
    if seconds == 0 {
        return format!("{}ms", duration.as_millis());
    }
    let units = [(86_400, "d"), (3_600, "h"), (60, "m"), (1, "s")];
    let mut rest = seconds;
    let parts = units.iter().filter_map(|(size, name)| {
        let count = rest / size;
        rest %= size;
        (count > 0).then(|| format!("{count}{name}"))
    });
    parts.take(2).collect()
}

/// `4h`, `30d`, `90s`, `1h30m` as whole seconds, at least one.
pub(crate) fn parse_seconds(text: &str) -> Result<u64, String> {
    let example = "write it like 90s, 4h, 30d or 1h30m";
    let fits = |byte: u8| byte.is_ascii_digit() || matches!(byte, b's' | b'm' | b'h' | b'd' | b'w');
    // humantime also knows years, months (`M`, one key from `m`) and milliseconds.
    if text.is_empty() || !text.bytes().all(fits) || text.contains("ms") {
        return Err(format!("not a duration; {example}"));
    }
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(format!("no unit; {example}"));
    }
    let seconds = humantime::parse_duration(text).map_err(|error| format!("{error}; {example}"))?.as_secs();
    if seconds == 0 { Err("must be longer than zero".to_owned()) } else { Ok(seconds) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_with_their_unit_only() {
        assert_eq!(parse_seconds("4h"), Ok(14_400));
        assert_eq!(parse_seconds("30d"), Ok(2_592_000));
        assert_eq!(parse_seconds("90s"), Ok(90));
        assert_eq!(parse_seconds("1h30m"), Ok(5_400));
        for bad in
            ["", "10", "0s", "-1s", "1 h", "1y", "5M", "10ms", "h", "99999999999999999999d", "4h\u{1b}"]
        {
            assert!(parse_seconds(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn times_are_shown_absolute_and_relative() {
        assert_eq!(iso(1_700_000_000_123_456).as_deref(), Some("2023-11-14T22:13:20.123456Z"));
        assert_eq!((iso(0), iso(u64::MAX)), (None, None));
        let now = 1_700_000_000_000_000;
        assert_eq!(left(now + 14_399_000_000, now), "3h59m");
        assert_eq!((left(now, now).as_str(), left(0, now).as_str()), ("over", "-"));
        assert_eq!(ago(now - 125_000_000, now), "2m5s ago");
        assert_eq!(ago(now + 1, now), "0ms ago");
        assert_eq!(short(Duration::from_millis(12)), "12ms");
    }
}
