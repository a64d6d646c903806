use std::fmt;

/// Letters kept: Zeek's histories of real traffic stay below, and a flow that goes on cannot make its record grow.
const MAX_LETTERS: usize = 23;
/// What is told once a side.
const ONCE: [u8; 4] = *b"DAIQ";

/// What a connection went through, in Zeek's letters (`history` of `conn.log`): upper case for what the initiator
/// sent, lower case for the other side. S a SYN, H a SYN-ACK, A a pure ACK, D data, F a FIN, R an RST, C a bad checksum,
/// G a gap in what was captured, T data sent again, W a window of zero, I FIN with RST, Q SYN with FIN or RST; `^` that
/// the table turned the direction round.
///
/// A, D, I and Q come once a side, S, H, F and R again when their number differs, C, G, T and W at the 1st, 10th, 100th …
/// time. At most 23 letters are kept.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct History {
    letters: [u8; MAX_LETTERS],
    length: u8,
    /// Which of [`ONCE`] were added, for either side.
    once: u8,
}

impl History {
    pub(super) const FLIPPED: u8 = b'^';

    /// Adds a letter, given in upper case.
    pub(super) fn add(&mut self, letter: u8, from_initiator: bool) {
        let letter = if from_initiator { letter } else { letter.to_ascii_lowercase() };
        if let Some(place) = self.letters.get_mut(usize::from(self.length)) {
            *place = letter;
            self.length += 1;
        }
    }

    pub(super) fn has(&self, letter: u8, from_initiator: bool) -> bool {
        let letter = if from_initiator { letter } else { letter.to_ascii_lowercase() };
        self.as_bytes().contains(&letter)
    }

    /// Adds one of [`ONCE`], unless it was added before.
    #[inline]
    pub(super) fn add_once(&mut self, letter: u8, from_initiator: bool) {
        let place = ONCE.iter().position(|once| *once == letter).unwrap_or(ONCE.len());
        let bit = 1_u8.unbounded_shl(2 * u32::try_from(place).unwrap_or(0) + u32::from(from_initiator));
        if self.once & bit == 0 {
            self.once |= bit;
            self.add(letter, from_initiator);
        }
    }

    /// Counts what may come often, and adds its letter at the 1st, 10th, 100th … time.
    pub(super) fn tally(&mut self, letter: u8, from_initiator: bool, times: &mut u16) {
        *times = times.saturating_add(1);
        // At the counter's end it would say so for ever.
        if matches!(*times, 1 | 10 | 100 | 1_000 | 10_000) {
            self.add(letter, from_initiator);
        }
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        // Only letters were put in.
        std::str::from_utf8(self.as_bytes()).unwrap_or_default()
    }

    fn as_bytes(&self) -> &[u8] {
        self.letters.get(..usize::from(self.length)).unwrap_or_default()
    }
}

impl fmt::Display for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "History({})", self.as_str())
    }
}
