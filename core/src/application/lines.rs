/// Longer lines are read to here and passed over to their end. Web servers allow 8 KiB (Apache's `LimitRequestLine`,
/// nginx's `large_client_header_buffers`), mail far less.
pub(super) const MAX_LINE: usize = 8_192;

/// A direction that speaks in lines.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Lines {
    /// Bytes of what waits that have no end of line among them.
    scanned: usize,
    /// The rest of a line that was too long.
    passing: bool,
}

/// One line without its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Line<'a> {
    pub(super) text: &'a [u8],
    /// Bytes up to the next line.
    pub(super) consumed: usize,
    /// It goes on beyond what is given.
    pub(super) is_cut: bool,
    /// It ended with a line feed alone.
    pub(super) bare_feed: bool,
}

impl Lines {
    /// The next line, or none before more is there; `passed` says how many bytes belong to none.
    pub(super) fn next<'a>(&mut self, data: &'a [u8]) -> Result<Line<'a>, usize> {
        let mut start = 0;
        if self.passing {
            match memchr::memchr(b'\n', data) {
                Some(end) => (self.passing, start, self.scanned) = (false, end + 1, 0),
                None => return Err(data.len()),
            }
        }
        let rest = data.get(start..).unwrap_or_default();
        let unread = rest.get(self.scanned..).unwrap_or_default();
        match memchr::memchr(b'\n', unread).map(|end| end + self.scanned) {
            Some(end) if end <= MAX_LINE => {
                self.scanned = 0;
                let line = rest.get(..end).unwrap_or_default();
                let text = line.strip_suffix(b"\r").unwrap_or(line);
                let bare_feed = text.len() == line.len();
                Ok(Line { text, consumed: start + end + 1, is_cut: false, bare_feed })
            }
            None if rest.len() <= MAX_LINE => {
                self.scanned = rest.len();
                Err(start)
            }
            _ => {
                self.scanned = 0;
                self.passing = true;
                let text = rest.get(..MAX_LINE).unwrap_or_default();
                Ok(Line { text, consumed: start + MAX_LINE, is_cut: true, bare_feed: false })
            }
        }
    }

    /// After a gap: the rest of whatever line this is.
    pub(super) fn resume(&mut self) {
        *self = Self { scanned: 0, passing: true };
    }

    /// Forgets what was looked at: the bytes that wait were consumed otherwise.
    pub(super) fn restart(&mut self) {
        *self = Self::default();
    }
}

/// Splits at the first blank, and takes blanks off the rest.
pub(super) fn word(text: &[u8]) -> (&[u8], &[u8]) {
    let text = text.trim_ascii_start();
    let end = text.iter().position(|byte| matches!(byte, b' ' | b'\t')).unwrap_or(text.len());
    let (word, rest) = text.split_at_checked(end).unwrap_or_default();
    (word, rest.trim_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(lines: &mut Lines, parts: &[&[u8]]) -> Vec<(Vec<u8>, bool)> {
        let (mut found, mut waiting) = (Vec::new(), Vec::new());
        for part in parts {
            waiting.extend_from_slice(part);
            let mut at = 0;
            loop {
                match lines.next(&waiting[at..]) {
                    Ok(line) => {
                        found.push((line.text.to_vec(), line.is_cut));
                        at += line.consumed;
                    }
                    Err(passed) => break at += passed,
                }
            }
            waiting.drain(..at);
            assert!(waiting.len() <= MAX_LINE);
        }
        found
    }

    #[test]
    fn a_line_without_end_is_cut_and_the_next_is_found() {
        let mut lines = Lines::default();
        let long = vec![b'a'; 3 * MAX_LINE];
        let found = read(&mut lines, &[b"one\r\ntwo\n", &long, b"\nthree\r\n"]);
        let texts: Vec<_> = found.iter().map(|(text, cut)| (text.len(), *cut)).collect();
        assert_eq!(texts, [(3, false), (3, false), (MAX_LINE, true), (5, false)]);
        assert_eq!(word(b"  AUTH\tPLAIN x "), (&b"AUTH"[..], &b"PLAIN x"[..]));
    }

    proptest! {
        #[test]
        fn lines_do_not_depend_on_how_they_come(
            text in proptest::collection::vec(prop_oneof![Just(b'\n'), Just(b'\r'), any::<u8>()], 0..200),
            size in 1usize..20,
        ) {
            let parts: Vec<_> = text.chunks(size).collect();
            prop_assert_eq!(read(&mut Lines::default(), &parts), read(&mut Lines::default(), &[&text]));
        }
    }
}
