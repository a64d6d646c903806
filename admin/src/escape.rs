//! What came from elsewhere is shown as text and never obeyed by a terminal.

use std::{borrow::Cow, fmt::Write as _};

/// Control characters (C0, DEL, C1), and the invisible ones that reorder or hide text.
const fn is_dangerous(character: char) -> bool {
    matches!(character,
        '\0'..='\u{1f}' | '\u{7f}'..='\u{9f}'
        | '\u{ad}' | '\u{61c}' | '\u{180e}'
        | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
        | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// `text` on one line, with everything dangerous written out as `\u{1b}`.
pub(crate) fn plain(text: &str) -> Cow<'_, str> {
    if !text.contains(is_dangerous) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 8);
    for character in text.chars() {
        match character {
            '\n' => shown.push_str("\\n"),
            '\t' => shown.push_str("\\t"),
            '\r' => shown.push_str("\\r"),
            other if is_dangerous(other) => {
                // Writing to a string cannot fail.
                let _ = write!(shown, "\\u{{{:x}}}", u32::from(other));
            }
            other => shown.push(other),
        }
    }
    Cow::Owned(shown)
}

/// The same for several lines: line ends and tabs stay.
pub(crate) fn lines(text: &str) -> String {
    text.split('\n')
        .map(|line| line.split('\t').map(plain).collect::<Vec<_>>().join("\t"))
        .collect::<Vec<_>>()
        .join("\n")
}

/// JSON text with everything dangerous as `\uXXXX`: the same value, and harmless on a terminal. serde_json escapes only
/// what JSON demands.
pub(crate) fn json(text: &str) -> Cow<'_, str> {
    let strange = |character: char| is_dangerous(character) && character != '\n';
    if !text.contains(strange) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 8);
    for character in text.chars() {
        if strange(character) {
            for unit in character.encode_utf16(&mut [0; 2]) {
                let _ = write!(shown, "\\u{unit:04x}");
            }
        } else {
            shown.push(character);
        }
    }
    Cow::Owned(shown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_reaches_the_terminal_as_a_command() {
        assert_eq!(plain("web-1 ok"), "web-1 ok");
        assert_eq!(plain("\u{1b}[2J\u{9b}31m\u{7f}"), "\\u{1b}[2J\\u{9b}31m\\u{7f}");
        assert_eq!(plain("a\nb\tc\r"), "a\\nb\\tc\\r");
        assert_eq!(plain("evil\u{202e}txt.exe\u{200b}"), "evil\\u{202e}txt.exe\\u{200b}");
        assert_eq!(plain("größe ✓ 東京"), "größe ✓ 東京");
        assert_eq!(lines("a\n\tb\u{1b}c\n"), "a\n\tb\\u{1b}c\n");
    }

    #[test]
    fn escaped_json_is_the_same_value() {
        let value = serde_json::json!({ "a": "\u{9b}\u{202e}\u{e0001}x\u{1b}" });
        let text = serde_json::to_string_pretty(&value).unwrap();
        let shown = json(&text);
        assert!(!shown.contains(|character: char| is_dangerous(character) && character != '\n'));
        assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).unwrap(), value);
    }
}
