//! Our lines in a file of the operator's: between two marks, and nothing else is touched.
//!
//! Invariants: putting a block in twice is putting it in once; taking it out gives back, byte for byte, the text from
//! before; marks that do not pair are never guessed about.

/// Begins our lines. What follows on the line is told by [`put`]'s caller.
const BEGIN: &str = "# BEGIN netguard";
const END: &str = "# END netguard";

/// Where a block stands in a text, as byte offsets: from its first mark to behind the line end of its last.
fn find(text: &str) -> Result<Option<std::ops::Range<usize>>, String> {
    let mut begins = Vec::new();
    let mut ends = Vec::new();
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        let bare = line.trim_end_matches('\n');
        if bare == BEGIN || bare.strip_prefix(BEGIN).is_some_and(|rest| rest.starts_with(' ')) {
            begins.push(at);
        } else if bare == END {
            ends.push(at + line.len());
        }
        at += line.len();
    }
    match (&begins[..], &ends[..]) {
        ([], []) => Ok(None),
        (&[begin], &[end]) if begin < end => Ok(Some(begin..end)),
        _ => Err(format!(
            "`{BEGIN}` and `{END}` do not pair ({} and {} of them): remove these lines and what is between them by hand",
            begins.len(),
            ends.len()
        )),
    }
}

/// What stands on the mark's line behind the mark, if there is a block.
pub(crate) fn note(text: &str) -> Result<Option<&str>, String> {
    Ok(find(text)?.and_then(|block| text.get(block)).and_then(|block| {
        block.lines().next().and_then(|line| line.strip_prefix(BEGIN)).map(str::trim_start)
    }))
}

/// The text with `body` between our marks: in the place of a block that is there, else before the first line that
/// `before` is true of (at the end if it is of none).
///
/// Errors: in words, when the marks that are there do not pair.
pub(crate) fn put(
    text: &str,
    note: &str,
    body: &str,
    before: impl Fn(&str) -> bool,
) -> Result<String, String> {
    let range = match find(text)? {
        Some(range) => range,
        None => {
            let mut at = 0;
            for line in text.split_inclusive('\n') {
                if before(line.trim_end_matches('\n')) {
                    break;
                }
                at += line.len();
            }
            at..at
        }
    };
    let (head, tail) =
        (text.get(..range.start).unwrap_or_default(), text.get(range.end..).unwrap_or_default());
    let separator = if head.is_empty() || head.ends_with('\n') { "" } else { "\n" };
    let space = if note.is_empty() { "" } else { " " };
    Ok(format!("{head}{separator}{BEGIN}{space}{note}\n{body}{END}\n{tail}"))
}

/// The text without our block; `None` when it has none.
///
/// Errors: in words, when the marks that are there do not pair.
pub(crate) fn take(text: &str) -> Result<Option<String>, String> {
    let Some(range) = find(text)? else { return Ok(None) };
    let mut rest = text.to_owned();
    rest.replace_range(range, "");
    Ok(Some(rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SCRIPT: &str = "#!/bin/sh\n#\n# comment\nset -e\n\ncase \"$1\" in\nesac\n";

    fn code(line: &str) -> bool {
        !line.starts_with('#')
    }

    #[test]
    fn it_stands_before_the_first_line_of_code_and_goes_without_a_trace() {
        let with = put(SCRIPT, "mode 640", "a\nb\n", code).unwrap();
        assert_eq!(
            with,
            "#!/bin/sh\n#\n# comment\n# BEGIN netguard mode 640\na\nb\n# END netguard\nset -e\n\ncase \"$1\" in\nesac\n"
        );
        assert_eq!(note(&with), Ok(Some("mode 640")));
        assert_eq!(put(&with, "mode 640", "a\nb\n", code).as_ref(), Ok(&with));
        let other = put(&with, "", "c\n", code).unwrap();
        assert!(other.contains("# BEGIN netguard\nc\n# END netguard\nset -e"), "{other}");
        assert_eq!(take(&other).unwrap().as_deref(), Some(SCRIPT));
        assert_eq!(take(SCRIPT), Ok(None));
        assert_eq!(put("", "", "a\n", code).unwrap(), "# BEGIN netguard\na\n# END netguard\n");
    }

    #[test]
    fn marks_that_do_not_pair_are_never_guessed_about() {
        for broken in [
            "# BEGIN netguard\n",
            "# END netguard\n",
            "# END netguard\n# BEGIN netguard\n",
            "# BEGIN netguard\n# BEGIN netguard x\n# END netguard\n",
        ] {
            assert!(put(broken, "", "a\n", code).unwrap_err().contains("by hand"), "{broken}");
            assert!(take(broken).is_err() && note(broken).is_err(), "{broken}");
        }
        assert_eq!(take("# BEGIN netguardian\n"), Ok(None));
    }

    proptest! {
        #[test]
        fn what_is_put_in_comes_out_again(lines in prop::collection::vec("[#a-z \r]{0,9}", 0..20)) {
            let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
            let with = put(&text, "n", "x\n", code).unwrap();
            prop_assert_eq!(put(&with, "n", "x\n", code).unwrap(), with.clone());
            prop_assert_eq!(take(&with).unwrap(), Some(text));
        }
    }
}
