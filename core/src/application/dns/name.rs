use crate::application::{Anomaly, Text};

/// RFC 1035 section 2.3.4, with the lengths' bytes.
const MAX_NAME: usize = 255;
/// Each must point to an earlier place than the one before, so this many are only there for a reader to follow.
const MAX_POINTERS: usize = 16;

/// A domain name: its labels as sent, joined with dots. To be escaped where it is shown.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Name {
    pub text: Text,
    pub labels: u8,
    /// Bytes of the longest label.
    pub longest_label: u8,
    /// Shannon entropy of the whole name and of its first label, in thousandths of a bit per byte.
    pub entropy_millibits: u16,
    pub first_label_entropy_millibits: u16,
    pub first_label: u8,
}

/// Reads the name at `at`, and tells where it ends. Labels of a compressed name stand earlier in the message (RFC 1035
/// section 4.1.4): whatever points forward, or in a circle, is no name.
pub(super) fn name(message: &[u8], at: usize) -> Result<(Name, usize), Anomaly> {
    let mut wire = [0u8; MAX_NAME];
    let mut name = Name::default();
    let (mut length, mut place, mut pointers) = (0usize, at, 0);
    let mut end = None;
    let mut lowest = at;
    loop {
        let size = *message.get(place).ok_or(Anomaly::DnsMalformed)?;
        match size {
            0 => break,
            1..=63 => {
                let from = place + 1;
                let label = message.get(from..from + usize::from(size)).ok_or(Anomaly::DnsMalformed)?;
                let dot = usize::from(length > 0);
                // One byte for each label's length, and one for the root.
                if length + dot + label.len() + 2 > MAX_NAME {
                    return Err(Anomaly::DnsNameTooLong);
                }
                if let Some([separator, text @ ..]) = wire.get_mut(length..length + 1 + label.len())
                    && dot == 1
                {
                    *separator = b'.';
                    text.copy_from_slice(label);
                } else if let Some(text) = wire.get_mut(..label.len()) {
                    text.copy_from_slice(label);
                }
                length += dot + label.len();
                if name.labels == 0 {
                    (name.first_label, name.first_label_entropy_millibits) = (size, entropy(label));
                }
                name.labels = name.labels.saturating_add(1);
                name.longest_label = name.longest_label.max(size);
                place = from + label.len();
            }
            0xc0.. => {
                let low = *message.get(place + 1).ok_or(Anomaly::DnsMalformed)?;
                end.get_or_insert(place + 2);
                let target = usize::from(size & 0x3f) << 8 | usize::from(low);
                pointers += 1;
                if target >= lowest || pointers > MAX_POINTERS {
                    return Err(Anomaly::DnsPointerLoop);
                }
                (place, lowest) = (target, target);
            }
            _ => return Err(Anomaly::DnsLabelTooLong),
        }
    }
    let text = wire.get(..length).unwrap_or_default();
    name.text = Text::new(text, MAX_NAME);
    name.entropy_millibits = entropy(text);
    Ok((name, end.unwrap_or(place + 1)))
}

/// Shannon entropy in thousandths of a bit per byte: log2(n) - (sum of c log2 c) / n. In whole numbers, so that every
/// machine says the same.
fn entropy(bytes: &[u8]) -> u16 {
    let mut counts = [0u8; 256];
    for byte in bytes.iter().take(MAX_NAME) {
        if let Some(count) = counts.get_mut(usize::from(*byte)) {
            *count += 1;
        }
    }
    let logarithm = |number: usize| LOG2.get(number).copied().unwrap_or_default();
    let Some(length) = u32::try_from(bytes.len().min(MAX_NAME)).ok().filter(|length| *length > 0) else {
        return 0;
    };
    // At most 255 * 8 * 2^16.
    let sum: u32 = counts.iter().map(|count| u32::from(*count) * logarithm((*count).into())).sum();
    let bits = logarithm(bytes.len().min(MAX_NAME)).saturating_sub(sum / length);
    u16::try_from((bits * 1_000 + (1 << 15)) >> 16).unwrap_or(u16::MAX)
}

/// Binary logarithms of what a name can count, with 16 bits behind the point.
#[expect(clippy::cast_possible_truncation, reason = "at most 255")]
const LOG2: [u32; MAX_NAME + 1] = {
    let mut table = [0; MAX_NAME + 1];
    let mut number = 1;
    while number <= MAX_NAME {
        table[number] = log2(number as u32);
        number += 1;
    }
    table
};

/// By squaring; 0 for 0.
const fn log2(number: u32) -> u32 {
    let Some(whole) = number.checked_ilog2() else { return 0 };
    let mut result = whole << 16;
    // 1 <= mantissa < 2, with 31 bits behind the point.
    let mut mantissa = (number as u64) << (31 - whole);
    let mut bit = 1 << 15;
    while bit > 0 {
        mantissa = (mantissa * mantissa) >> 31;
        if mantissa >= 1 << 32 {
            result |= bit;
            mantissa >>= 1;
        }
        bit >>= 1;
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn entropy_is_that_of_the_formula() {
        for (text, expected) in
            [("", 0), ("aaaa", 0), ("ab", 1_000), ("abcd", 2_000), ("www", 0), ("google", 1_918)]
        {
            assert!(entropy(text.as_bytes()).abs_diff(expected) <= 1, "{text}: {}", entropy(text.as_bytes()));
        }
    }

    proptest! {
        #[test]
        fn the_logarithm_is_one(number in 1u32..100_000) {
            let exact = f64::from(number).log2() * 65_536.0;
            prop_assert!((f64::from(log2(number)) - exact).abs() < 2.0);
        }
    }
}
