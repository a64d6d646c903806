//! Which interfaces are watched: `[eth0, "veth*", "!veth-mgmt"]`.
//!
//! Invariants: what is left out is left out, whatever else names it; a pattern never takes the loopback interface, which
//! has to be named; matching costs at most pattern × name.

/// The longest name of an interface (IFNAMSIZ, with its NUL).
const MAX_NAME: usize = 15;

/// Why a list of interfaces cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SelectionError {
    #[error(
        "{0:?} is no name of an interface, nor a pattern of one: up to 15 characters, no spaces, no slashes"
    )]
    Name(String),
    #[error("{0:?} is named twice")]
    Twice(String),
    #[error("only exclusions: name what is to be watched, as in [\"*\", \"!docker0\"]")]
    Nothing,
}

/// Names and patterns of interfaces.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selection {
    names: Vec<String>,
    patterns: Vec<String>,
    excluded: Vec<String>,
}

impl Selection {
    /// Entries are names, patterns with `*` and `?`, and either of these left out by a `!` before it.
    ///
    /// Errors: [`SelectionError`].
    pub fn new(entries: &[String]) -> Result<Self, SelectionError> {
        let mut selection = Self::default();
        for (at, entry) in entries.iter().enumerate() {
            if entries.iter().take(at).any(|before| before == entry) {
                return Err(SelectionError::Twice(entry.clone()));
            }
            let (excluded, name) = match entry.strip_prefix('!') {
                Some(name) => (true, name),
                None => (false, entry.as_str()),
            };
            let fits = (1..=MAX_NAME).contains(&name.len()) && !name.contains(['/', '!']);
            if !fits || name.contains(char::is_whitespace) || name.contains(char::is_control) {
                return Err(SelectionError::Name(entry.clone()));
            }
            let list = match (excluded, name.contains(['*', '?'])) {
                (true, _) => &mut selection.excluded,
                (false, true) => &mut selection.patterns,
                (false, false) => &mut selection.names,
            };
            list.push(name.to_owned());
        }
        if selection.names.is_empty() && selection.patterns.is_empty() && !entries.is_empty() {
            return Err(SelectionError::Nothing);
        }
        Ok(selection)
    }

    /// Those named, which have to exist when the sensor starts.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(String::as_str).filter(|name| !self.excludes(name))
    }

    #[must_use]
    pub fn has_patterns(&self) -> bool {
        !self.patterns.is_empty()
    }

    /// Whether an interface is to be watched while it is up.
    #[must_use]
    pub fn takes(&self, name: &str, is_loopback: bool) -> bool {
        let named = self.names.iter().any(|known| known == name);
        let matched = !is_loopback && self.patterns.iter().any(|pattern| matches(pattern, name));
        (named || matched) && !self.excludes(name)
    }

    fn excludes(&self, name: &str) -> bool {
        self.excluded.iter().any(|pattern| matches(pattern, name))
    }
}

/// `*` is any characters, `?` any one.
fn matches(pattern: &str, name: &str) -> bool {
    let (mut pattern, mut name) = (pattern.chars(), name.chars());
    // Where to go on when a `*` has to take one character more.
    let mut again: Option<(std::str::Chars<'_>, std::str::Chars<'_>)> = None;
    loop {
        let rest = name.clone();
        match (pattern.next(), name.next()) {
            (None, None) => return true,
            (Some('*'), _) => {
                again = Some((pattern.clone(), rest.clone()));
                name = rest;
            }
            (Some('?'), Some(_)) => {}
            (Some(wanted), Some(found)) if wanted == found => {}
            _ => {
                let Some((after_star, mut taken)) = again.take() else { return false };
                if taken.next().is_none() {
                    return false;
                }
                (pattern, name) = (after_star.clone(), taken.clone());
                again = Some((after_star, taken));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn selection(entries: &[&str]) -> Result<Selection, SelectionError> {
        Selection::new(&entries.iter().map(|entry| (*entry).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn names_patterns_and_exclusions_select() {
        let some = selection(&["eth0", "veth*", "ens?", "!veth-mgmt", "!*-test"]).unwrap();
        for (name, taken) in [
            ("eth0", true),
            ("eth1", false),
            ("veth", true),
            ("veth12ab", true),
            ("veth-mgmt", false),
            ("veth7-test", false),
            ("ens5", true),
            ("ens", false),
            ("ens55", false),
            ("lo", false),
        ] {
            assert_eq!(some.takes(name, false), taken, "{name}");
        }
        let all = selection(&["*", "!docker0"]).unwrap();
        assert!(all.takes("wg0", false) && !all.takes("docker0", false));
        assert!(!all.takes("lo", true), "loopback has to be named");
        assert!(selection(&["lo", "*"]).unwrap().takes("lo", true));
        let named = selection(&["eth0", "eth1", "veth*", "!eth1"]).unwrap();
        assert_eq!(named.names().collect::<Vec<_>>(), ["eth0"]);
    }

    #[test]
    fn what_selects_nothing_is_refused() {
        assert_eq!(selection(&["!eth0"]), Err(SelectionError::Nothing));
        assert_eq!(selection(&["eth0", "eth0"]), Err(SelectionError::Twice("eth0".into())));
        for wrong in ["", "!", "a/b", "a b", "!!eth0", "sixteen-letters-", "a\0"] {
            assert_eq!(selection(&[wrong]), Err(SelectionError::Name(wrong.into())));
        }
    }

    /// The same by all ways to divide the name.
    fn slowly(pattern: &[char], name: &[char]) -> bool {
        match (pattern.split_first(), name.split_first()) {
            (None, None) => true,
            (Some(('*', rest)), None) => slowly(rest, name),
            (Some(('*', rest)), Some((_, shorter))) => slowly(rest, name) || slowly(pattern, shorter),
            (Some(('?', rest)), Some((_, shorter))) => slowly(rest, shorter),
            (Some((wanted, rest)), Some((found, shorter))) => wanted == found && slowly(rest, shorter),
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn a_pattern_matches_as_it_reads(pattern in "[ab*?]{0,8}", name in "[ab]{0,10}") {
            let (slow_pattern, slow_name): (Vec<_>, Vec<_>) = (pattern.chars().collect(), name.chars().collect());
            prop_assert_eq!(matches(&pattern, &name), slowly(&slow_pattern, &slow_name));
        }
    }
}
