//! YAML without its surprises: one document, no anchors, no aliases, no repeated keys at any depth.

use serde::de::DeserializeOwned;

/// Brackets inside brackets. The parser's time grows with the square of the depth.
const MAX_DEPTH: usize = 32;

/// What is wrong, and on which line (from 1) where that is known.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) line: Option<usize>,
    pub(super) problem: String,
}

pub(super) fn parse<T: DeserializeOwned>(text: &str) -> Result<T, Fault> {
    // Windows editors put a byte order mark in front; it carries no meaning in UTF-8.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if text.lines().all(|line| {
        let line = line.trim();
        line.is_empty() || line.starts_with('#') || line == "---"
    }) {
        return Err(Fault {
            line: None,
            problem: "is empty; write at least one setting, or leave the file out".to_owned(),
        });
    }
    scan(text)?;
    // Into `Value` first: its mappings refuse a repeated key at any depth, which `BTreeMap` would overwrite silently.
    serde_norway::from_str::<serde_norway::Value>(text).map_err(|error| fault(&error, text))?;
    serde_norway::from_str(text).map_err(|error| fault(&error, text))
}

fn fault(error: &serde_norway::Error, text: &str) -> Fault {
    let mut problem = error.to_string();
    let line = error.location().map(|location| location.line()).map(|line| {
        let repeated =
            problem.split_once("duplicate entry with key ").map(|(_, rest)| rest.split(" at ").next());
        repeated.flatten().and_then(|key| repetition(text, line, key.trim_matches('"'))).unwrap_or(line)
    });
    // The location is shown in front.
    if let Some(end) = problem.rfind(" at line ") {
        problem.truncate(end);
    }
    for (sign, advice) in [
        ("unknown field", "check the spelling and the indentation"),
        ("duplicate", "remove one of them"),
        ("missing field", "add it"),
        ("more than one document", "remove everything from the second `---`"),
    ] {
        if problem.contains(sign) {
            problem = format!("{problem}; {advice}");
            break;
        }
    }
    Fault { line, problem }
}

/// Where `key` stands for the second time in the mapping that starts on `line`, which is all the parser tells.
fn repetition(text: &str, line: usize, key: &str) -> Option<usize> {
    let indentations = text.lines().enumerate().skip(line.saturating_sub(1)).filter_map(|(index, line)| {
        let rest = line.trim_start_matches([' ', '-']);
        let after = rest.trim_start_matches(['"', '\'']).strip_prefix(key)?;
        let is_key = after.trim_start_matches(['"', '\'', ' ']).starts_with(':');
        is_key.then_some((index + 1, line.len() - rest.len()))
    });
    let mut seen = Vec::new();
    for (line, indentation) in indentations {
        if seen.contains(&indentation) {
            return Some(line);
        }
        seen.push(indentation);
    }
    None
}

/// Finds what the parser would accept and we do not: anchors, aliases, and tabs as indentation.
///
/// It knows quotes and comments but not block scalars, so a word starting with `&` or `*` there is refused too: rather
/// one text to reword than one bomb let through.
fn scan(text: &str) -> Result<(), Fault> {
    let mut quote: Option<char> = None;
    let mut depth = 0_usize;
    for (index, line) in text.lines().enumerate() {
        let fault = |problem: String| Err(Fault { line: Some(index + 1), problem });
        let indentation = line.len() - line.trim_start_matches([' ', '\t']).len();
        if quote.is_none()
            && line.get(..indentation).is_some_and(|indent| indent.contains('\t'))
            && !line.trim().is_empty()
        {
            return fault("is indented with a tab; YAML takes spaces only".to_owned());
        }
        let mut previous = ' ';
        let mut escaped = false;
        let mut characters = line.chars().peekable();
        while let Some(character) = characters.next() {
            let starts_token = matches!(previous, ' ' | '\t' | '[' | '{' | ',');
            match quote {
                Some('"') if escaped => escaped = false,
                Some('"') if character == '\\' => escaped = true,
                Some(open) if character == open => quote = None,
                Some(_) => {}
                None if character == '#' && matches!(previous, ' ' | '\t') => break,
                None if matches!(character, '"' | '\'') && (starts_token || previous == ':') => {
                    quote = Some(character)
                }
                None if matches!(character, '&' | '*')
                    && starts_token
                    && characters.peek().is_some_and(|next| !next.is_whitespace()) =>
                {
                    let word: String = std::iter::once(character)
                        .chain(characters.clone().take_while(|next| !next.is_whitespace()).take(32))
                        .collect();
                    return fault(format!(
                        "anchors and aliases are not taken (`{}`); write the value out, or put the text in quotes",
                        word.escape_debug()
                    ));
                }
                None if matches!(character, '[' | '{') => {
                    depth += 1;
                    if depth > MAX_DEPTH {
                        return fault(format!("is nested more than {MAX_DEPTH} deep"));
                    }
                }
                None if matches!(character, ']' | '}') => depth = depth.saturating_sub(1),
                None => {}
            }
            previous = character;
        }
    }
    Ok(())
}
