//! Durations as people write them: `90s`, `1h30m`, `250ms`. A bare number has no unit, so it is refused.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::{fmt, str::FromStr, time::Duration};

/// A duration in a configuration file: digits and a unit (`ms`, `s`, `m`, `h`, `d`), several in a row from large to
/// small.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct HumanDuration(pub Duration);

/// Longest duration taken: ten years, beyond any setting that makes sense, far from overflow.
const LONGEST: Duration = Duration::from_secs(10 * 365 * 86_400);

/// Units from large to small, in milliseconds.
const UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// Parses `1h30m`; the error says what is wrong and how to write it.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let mut rest = text;
    let mut milliseconds = 0_u64;
    let mut units = UNITS.iter();
    if rest.is_empty() {
        return Err("empty duration: write it like 90s, 4h or 1h30m".to_owned());
    }
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, tail) = rest.split_at(digits);
        let letters = tail.bytes().take_while(u8::is_ascii_alphabetic).count();
        let (unit, tail) = tail.split_at(letters);
        if number.is_empty() {
            return Err(format!("`{text}` is not a duration: write it like 90s, 4h or 1h30m"));
        }
        if unit.is_empty() {
            return Err(format!("`{text}` has no unit: write it like {number}s, {number}m or {number}h"));
        }
        let Some((_, factor)) = units.find(|(name, _)| *name == unit) else {
            return Err(format!(
                "`{text}`: `{unit}` is no unit here: use d, h, m, s, ms, each once, large to small"
            ));
        };
        let part = number.parse::<u64>().ok().and_then(|number| number.checked_mul(*factor));
        milliseconds = part
            .and_then(|part| milliseconds.checked_add(part))
            .filter(|sum| Duration::from_millis(*sum) <= LONGEST)
            .ok_or_else(|| format!("`{text}` is too long: at most 3650d"))?;
        rest = tail;
    }
    Ok(Duration::from_millis(milliseconds))
}

impl FromStr for HumanDuration {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        parse_duration(text).map(Self)
    }
}

impl fmt::Display for HumanDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0.as_millis();
        if rest == 0 {
            return f.write_str("0s");
        }
        for (unit, factor) in UNITS {
            let count = rest / u128::from(factor);
            rest %= u128::from(factor);
            if count > 0 {
                write!(f, "{count}{unit}")?;
            }
        }
        Ok(())
    }
}

impl From<HumanDuration> for Duration {
    fn from(duration: HumanDuration) -> Self {
        duration.0
    }
}

impl Serialize for HumanDuration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for HumanDuration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl de::Visitor<'_> for Text {
            type Value = HumanDuration;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a duration with its unit, like 90s, 4h or 1h30m")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<HumanDuration, E> {
                text.parse().map_err(E::custom)
            }
        }
        // `any`, not `str`: a bare number must reach the visitor as a number to be refused as one.
        deserializer.deserialize_any(Text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn durations_read_as_people_write_them() {
        assert_eq!(parse_duration("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(parse_duration("1h30m"), Ok(Duration::from_secs(5_400)));
        assert_eq!(parse_duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(parse_duration("30d"), Ok(Duration::from_secs(30 * 86_400)));
    }

    #[test]
    fn what_has_no_clear_meaning_is_refused() {
        for bad in [
            "",
            "10",
            "s",
            "-1s",
            "1 h",
            "1h 30m",
            "1m1h",
            "1s1s",
            "1y",
            "1.5h",
            "99999999999999999999s",
            "4000d",
            "1H",
        ] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
        assert!(parse_duration("10").unwrap_err().contains("10s"));
    }

    proptest! {
        #[test]
        fn a_duration_reads_back_as_written(milliseconds in 0_u64..=315_360_000_000) {
            let duration = HumanDuration(Duration::from_millis(milliseconds));
            prop_assert_eq!(duration.to_string().parse::<HumanDuration>(), Ok(duration));
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in ".{0,40}") {
            let _ = parse_duration(&text);
        }
    }
}
