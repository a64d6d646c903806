use serde::{Deserialize, Deserializer, de};
use std::{fmt, str::FromStr};

/// Bytes as people write them: `64KiB`, `100MiB`, `1GiB`. A bare number has no unit, so it is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HumanSize(pub u64);

impl FromStr for HumanSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at(digits);
        let shift = match unit {
            "KiB" => 10,
            "MiB" => 20,
            "GiB" => 30,
            _ => return Err(format!("`{text}` is not a size: write it like 64KiB, 100MiB or 1GiB")),
        };
        let number: u64 =
            number.parse().map_err(|_| format!("`{text}` is not a size: write it like 100MiB"))?;
        number.checked_mul(1 << shift).map(Self).ok_or_else(|| format!("`{text}` is too large"))
    }
}

impl<'de> Deserialize<'de> for HumanSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl de::Visitor<'_> for Text {
            type Value = HumanSize;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a size with its unit, like 64KiB, 100MiB or 1GiB")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<HumanSize, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_any(Text)
    }
}
