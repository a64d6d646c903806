//! Text from the wire, made harmless for a JSON line: control characters of both sets, DEL, and what turns the writing
//! direction or cannot be seen (CVE-2021-42574) leave as `\uXXXX`, so that neither `tail -f` nor a page shows something
//! else than was said. A reader of the JSON gets the very characters.

use serde::Serialize;
use serde_json::ser::{CompactFormatter, Formatter, Serializer};
use std::io::{self, Write};

/// Characters that deceive or command a terminal.
pub(super) fn is_deceptive(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

/// One line of JSON to the end of `to`.
pub(super) fn write_line(value: &impl Serialize, to: &mut Vec<u8>) {
    let begun = to.len();
    let mut serializer = Serializer::with_formatter(&mut *to, Escaping(CompactFormatter));
    match value.serialize(&mut serializer) {
        Ok(()) => to.push(b'\n'),
        // Into memory, of types whose keys are text: it cannot fail. Half a line would be worse than none.
        Err(_) => to.truncate(begun),
    }
}

struct Escaping(CompactFormatter);

impl Formatter for Escaping {
    fn write_string_fragment<W: ?Sized + Write>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        let mut rest = fragment;
        while let Some((at, found)) = rest.char_indices().find(|(_, character)| is_deceptive(*character)) {
            let (before, behind) = rest.split_at(at);
            writer.write_all(before.as_bytes())?;
            let mut units = [0; 2];
            for unit in found.encode_utf16(&mut units) {
                write!(writer, "\\u{unit:04x}")?;
            }
            rest = behind.get(found.len_utf8()..).unwrap_or_default();
        }
        self.0.write_string_fragment(writer, rest)
    }
}
