//! How a firewall was found to differ from what it should hold, in words.

use netguard_core::plan::{Action, Element};
use std::fmt::Write as _;

/// Elements named one by one; of the rest the number.
const MAX_NAMED: usize = 3;

/// What a look at the whole firewall found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verified {
    /// What somebody else did, in words; empty when all was as it should be.
    pub drift: Vec<String>,
    /// Whether the firewall holds it all again.
    pub held: bool,
}

/// One line for what was missing, one for what had another expiry, one for what was not ours.
pub(super) fn describe<'a>(wrong: impl Iterator<Item = &'a Action> + Clone) -> Vec<String> {
    let missing = wrong.clone().filter_map(|action| match action {
        Action::Add { element, .. } => Some(element),
        _ => None,
    });
    let altered = wrong.clone().filter_map(|action| match action {
        Action::Extend { element, .. } => Some(element),
        _ => None,
    });
    let foreign = wrong.clone().filter_map(|action| match action {
        Action::Remove { element } => Some(element),
        _ => None,
    });
    let mut lines: Vec<String> = [
        line(missing, "was missing", "were missing"),
        line(altered, "had another timeout", "had other timeouts"),
        line(foreign, "was put there by somebody else", "were put there by somebody else"),
    ]
    .into_iter()
    .flatten()
    .collect();
    if wrong.clone().any(|action| matches!(action, Action::SetThrottle { .. })) {
        lines.push("the throttle's rate was altered".to_owned());
    }
    lines
}

fn line<'a>(mut elements: impl Iterator<Item = &'a Element>, one: &str, many: &str) -> Option<String> {
    let first = elements.next()?;
    let mut named = first.to_string();
    let mut count = 1_usize;
    for element in elements {
        count += 1;
        if count <= MAX_NAMED {
            let _ = write!(named, ", {element}");
        }
    }
    Some(match count {
        1 => format!("{named} {one}"),
        _ if count <= MAX_NAMED => format!("{named} {many}"),
        _ => format!("{count} elements {many}: {named} …"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use netguard_core::time::Timestamp;

    #[test]
    fn what_differs_is_named_and_many_are_counted() {
        let block = |prefix: &str| Element::block(prefix.parse().unwrap());
        let expires_at = Timestamp::MAX_SANE;
        let mut wrong: Vec<Action> =
            (1..=5).map(|n| Action::Add { element: block(&format!("192.0.2.{n}")), expires_at }).collect();
        wrong.push(Action::Remove { element: block("198.51.100.1") });
        wrong.push(Action::Extend { element: block("203.0.113.0/24"), expires_at });
        wrong.push(Action::SetThrottle { per_minute: 20 });
        assert_eq!(
            describe(wrong.iter()),
            [
                "5 elements were missing: block 192.0.2.1, block 192.0.2.2, block 192.0.2.3 …",
                "block 203.0.113.0/24 had another timeout",
                "block 198.51.100.1 was put there by somebody else",
                "the throttle's rate was altered",
            ]
        );
        assert_eq!(describe([].iter()), [""; 0]);
    }
}
