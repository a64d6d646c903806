//! Lists of addresses as other programs keep them: read into entries, written from entries.
//!
//! Invariants: reading never panics and never guesses: a line that is not understood is told with its number and changes
//! nothing for the others; a document (JSON) that is not understood is refused whole. What is an address is decided by
//! the coordinator alone, strictly; here a text is only cut out. Input, entries and complaints are bounded.

mod csv;
mod detect;
mod ipset;
mod json;
mod nft;
mod range;
mod text;
mod write;

pub use write::{Row, write};

use clap::ValueEnum;

/// Largest input in bytes: four million addresses, one a line.
pub const MAX_INPUT: usize = 64 << 20;
/// Most entries read of one input.
pub const MAX_ENTRIES: usize = 1_000_000;
/// Most complaints kept; the rest is counted.
pub const MAX_COMPLAINTS: usize = 10_000;
/// Levels of brackets in a document; what `nft` and `cscli` print has a dozen.
const MAX_DEPTH: usize = 64;
/// Longest line, in bytes, where lines count.
const MAX_LINE: usize = 4_096;

/// How a list is written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ListFormat {
    /// Whatever it looks like
    Auto,
    /// One address or prefix a line, `#` and `;` begin comments
    Text,
    /// With a header naming `address`, and perhaps `duration` and `reason`
    Csv,
    /// As `export --format json` and `-o json blocklist` write it
    Json,
    /// A `FireHOL` netset or ipset file
    Netset,
    /// What `ipset save` prints
    Ipset,
    /// What `nft list set` prints, with or without `-j`
    Nft,
    /// What `cscli decisions list -o json` prints
    Crowdsec,
}

/// One thing to enforce.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its line, from 1; in a document its place.
    pub line: u32,
    /// As it stands there, not checked yet.
    pub prefix: String,
    pub ttl_seconds: Option<u64>,
    pub reason: Option<String>,
}

/// A line that is not understood, or that is nothing to enforce.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Complaint {
    pub line: u32,
    pub why: String,
}

/// What was read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct List {
    pub entries: Vec<Entry>,
    pub complaints: Vec<Complaint>,
    /// Complaints past [`MAX_COMPLAINTS`].
    pub more_complaints: usize,
}

/// Why a whole input is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ListError {
    #[error("the list is larger than {} MiB: split it", MAX_INPUT >> 20)]
    TooLarge,
    #[error("the list has more than {MAX_ENTRIES} entries: split it")]
    TooMany,
    #[error("the list is not UTF-8")]
    NotUtf8,
    #[error("the list is UTF-16: save it as UTF-8 (iconv -f UTF-16 -t UTF-8)")]
    Utf16,
    #[error("the list is no such JSON: {0}")]
    Json(String),
    #[error("the first line must name the columns, `address` among them")]
    Header,
}

impl List {
    fn add(
        &mut self,
        line: u32,
        prefix: &str,
        ttl_seconds: Option<u64>,
        reason: Option<&str>,
    ) -> Result<(), ListError> {
        if self.entries.len() >= MAX_ENTRIES {
            return Err(ListError::TooMany);
        }
        let reason = reason.map(str::trim).filter(|reason| !reason.is_empty()).map(str::to_owned);
        self.entries.push(Entry { line, prefix: prefix.to_owned(), ttl_seconds, reason });
        Ok(())
    }

    fn complain(&mut self, line: u32, why: impl Into<String>) {
        if self.complaints.len() < MAX_COMPLAINTS {
            self.complaints.push(Complaint { line, why: why.into() });
        } else {
            self.more_complaints += 1;
        }
    }
}

/// Reads a list.
///
/// Errors: [`ListError`] when nothing of it can be used.
pub fn read(format: ListFormat, input: &[u8]) -> Result<List, ListError> {
    if input.len() > MAX_INPUT {
        return Err(ListError::TooLarge);
    }
    // Windows' editors begin a file with a byte order mark.
    let input = input.strip_prefix(b"\xef\xbb\xbf").unwrap_or(input);
    if input.starts_with(b"\xff\xfe") || input.starts_with(b"\xfe\xff") {
        return Err(ListError::Utf16);
    }
    let whole = || std::str::from_utf8(input).map_err(|_| ListError::NotUtf8);
    match format {
        ListFormat::Auto => read(detect::format_of(input), input),
        ListFormat::Text | ListFormat::Netset => text::read(input),
        ListFormat::Csv => csv::read(input),
        ListFormat::Json | ListFormat::Crowdsec => json::read(whole()?),
        ListFormat::Ipset => ipset::read(input),
        ListFormat::Nft => {
            let whole = whole()?;
            if whole.trim_start().starts_with('{') { nft::read_json(whole) } else { nft::read(whole) }
        }
    }
}

/// Reads a JSON document (RFC 8259) of at most [`MAX_DEPTH`] levels. Duplicate keys we know, numbers out of range, lone
/// surrogates and text after the end are errors of the parser, and refuse the whole document.
fn document<'a, T: serde::Deserialize<'a>>(text: &'a str) -> Result<T, ListError> {
    // The parser passes over values nobody asked for however deep they are.
    if depth(text) > MAX_DEPTH {
        return Err(ListError::Json(format!("it is nested deeper than {MAX_DEPTH} levels")));
    }
    serde_json::from_str(text).map_err(|error| ListError::Json(error.to_string()))
}

/// The deepest nesting of brackets outside strings.
fn depth(text: &str) -> usize {
    let (mut now, mut deepest, mut quoted, mut escaped) = (0_usize, 0, false, false);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'[' | b'{' if !quoted => {
                now += 1;
                deepest = deepest.max(now);
            }
            b']' | b'}' if !quoted => now = now.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

/// Calls `take` for each line that can be read, with its number from 1.
fn each_line(
    input: &[u8],
    list: &mut List,
    mut take: impl FnMut(&mut List, u32, &str) -> Result<(), ListError>,
) -> Result<(), ListError> {
    for (number, line) in (1_u32..).zip(input.split(|byte| *byte == b'\n')) {
        if line.len() > MAX_LINE {
            list.complain(number, format!("longer than {MAX_LINE} bytes"));
            continue;
        }
        match std::str::from_utf8(line) {
            Ok(line) => take(list, number, line.trim())?,
            Err(_) => list.complain(number, "not UTF-8"),
        }
    }
    Ok(())
}

/// A time span in whole seconds: `4h`, `1h30m`, Go's `3h59m49.57s`, or a bare number of seconds. None: not one, or less
/// than a second.
fn seconds(text: &str) -> Option<u64> {
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return text.parse().ok().filter(|seconds| *seconds > 0);
    }
    // Fractions are only ever those of the last part, and are left out.
    let whole = match text.split_once('.') {
        None => text.to_owned(),
        Some((whole, fraction)) => {
            let unit = fraction.trim_start_matches(|c: char| c.is_ascii_digit());
            if fraction.len() == unit.len() {
                return None;
            };
            match unit {
                "s" => format!("{whole}s"),
                _ => return None,
            }
        }
    };
    // `nft` shows milliseconds too.
    let whole = match whole.strip_suffix("ms") {
        Some(rest) => rest.trim_end_matches(|c: char| c.is_ascii_digit()).to_owned(),
        None => whole,
    };
    crate::moment::parse_seconds(&whole).ok()
}

#[cfg(test)]
mod tests;
