use std::fmt;

/// Bytes held without an allocation: most hosts, users and targets.
const INLINE: usize = 38;

/// A bounded piece of what somebody sent, as sent: any bytes, to be escaped where it is shown.
#[derive(Clone, Default)]
pub struct Text {
    held: Held,
    /// How long it was, which may be more than what is held.
    whole: u32,
}

#[derive(Clone)]
enum Held {
    Inline(u8, [u8; INLINE]),
    Heap(Box<[u8]>),
}

impl Default for Held {
    fn default() -> Self {
        Self::Inline(0, [0; INLINE])
    }
}

impl Text {
    /// The first `most` of `bytes`.
    #[must_use]
    pub fn new(bytes: &[u8], most: usize) -> Self {
        let kept = bytes.get(..most).unwrap_or(bytes);
        let whole = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let mut inline = [0; INLINE];
        let held = match (inline.get_mut(..kept.len()), u8::try_from(kept.len())) {
            (Some(place), Ok(length)) => {
                place.copy_from_slice(kept);
                Held::Inline(length, inline)
            }
            _ => Held::Heap(kept.into()),
        };
        Self { held, whole }
    }

    /// The same, of which more had been seen than is given here.
    #[must_use]
    pub(super) fn of_whole(self, whole: usize) -> Self {
        Self { whole: u32::try_from(whole).unwrap_or(u32::MAX).max(self.whole), ..self }
    }

    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        match &self.held {
            Held::Inline(length, bytes) => bytes.get(..usize::from(*length)).unwrap_or_default(),
            Held::Heap(bytes) => bytes,
        }
    }

    /// Bytes it had when it was sent.
    #[must_use]
    pub fn whole_length(&self) -> u32 {
        self.whole
    }

    #[must_use]
    pub fn is_cut(&self) -> bool {
        u32::try_from(self.bytes().len()).is_ok_and(|held| held < self.whole)
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes().is_empty()
    }

    /// As text for a sink that escapes what it must: what is no UTF-8 stands as `\xNN`.
    #[must_use]
    pub fn to_text(&self) -> String {
        self.to_string()
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.bytes().utf8_chunks() {
            f.write_str(chunk.valid())?;
            for byte in chunk.invalid() {
                write!(f, "\\x{byte:02x}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.bytes().escape_ascii())?;
        if self.is_cut() { write!(f, " of {}", self.whole) } else { Ok(()) }
    }
}

impl PartialEq for Text {
    fn eq(&self, other: &Self) -> bool {
        self.bytes() == other.bytes() && self.whole == other.whole
    }
}
impl Eq for Text {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_long_is_cut_and_says_so() {
        for length in [0, 1, INLINE, INLINE + 1, 300] {
            let text = Text::new(&vec![b'a'; length], 256);
            assert_eq!(text.bytes().len(), length.min(256));
            assert_eq!(text.whole_length() as usize, length);
            assert_eq!(text.is_cut(), length > 256);
        }
        assert_eq!(Text::new(b"a\xffb\0", 9).to_text(), "a\\xffb\0");
        assert_eq!(format!("{:?}", Text::new(b"a\nb", 2)), "\"a\\n\" of 3");
    }
}
