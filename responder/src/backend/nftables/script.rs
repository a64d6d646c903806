//! Actions as one transaction's text: for what goes together with rules, and where netlink does not take it.

use super::{
    places::{Place, Split},
    ruleset::TABLE,
    sets::{Set, Written},
};
use netguard_core::{
    plan::{Action, Element},
    time::Timestamp,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    time::Duration,
};

/// Longest timeout given to the kernel. Policies end at one year; a longer one comes from a broken clock.
const LONGEST_TIMEOUT: Duration = Duration::from_secs(366 * 24 * 3600);
/// Elements named in one line: keeps lines readable in an error, and nft's memory flat.
const ELEMENTS_PER_LINE: usize = 1000;

/// The transaction. Throttle rates are not elements: the caller writes those.
///
/// An extension is a deletion and an addition, since kernels before 6.12 keep the old timeout when an existing element
/// is added again; within one transaction no packet sees the gap. The element is added before it is deleted: one that
/// expired a moment ago would otherwise fail the whole transaction.
pub(super) fn of<'a>(
    actions: impl Iterator<Item = &'a Action> + Clone,
    now: Timestamp,
    (split, emptied): (&Split, &BTreeSet<Set>),
) -> String {
    // By phases, so that a line holds many elements: what goes or is put anew, out; then all that stays, in.
    let mut script = Script { split: split.clone(), ..Script::default() };
    for set in emptied {
        let _ = writeln!(script.text, "flush set inet {TABLE} {}", set.name());
    }
    let going = || {
        actions.clone().filter_map(|action| match action {
            Action::Extend { element, .. } | Action::Remove { element } => Some(element),
            Action::Add { .. } | Action::SetThrottle { .. } => None,
        })
    };
    for command in ["add", "delete"] {
        for element in going() {
            script.push(command, element, None);
        }
        script.end_lines();
    }
    for action in actions {
        if let Action::Add { element, expires_at } | Action::Extend { element, expires_at } = action {
            script.push("add", element, Some(timeout(*expires_at, now)));
        }
    }
    script.finish()
}

/// From a clock to a timeout: milliseconds, rounded up, so that the kernel never forgets early.
pub(super) fn timeout(expires_at: Timestamp, now: Timestamp) -> u64 {
    let left = expires_at.since(now).min(LONGEST_TIMEOUT);
    left.as_micros().div_ceil(1000).try_into().unwrap_or(u64::MAX).max(1)
}

/// Commands of one kind on one set become one line.
#[derive(Debug, Default)]
struct Script {
    text: String,
    split: Split,
    /// Lines that have room for more.
    lines: BTreeMap<Place, (&'static str, Vec<String>)>,
}

impl Script {
    fn push(&mut self, command: &'static str, element: &Element, timeout: Option<u64>) {
        let Some(place) = self.split.place(element) else { return };
        let mut written = Written(element).to_string();
        if let Some(milliseconds) = timeout {
            let _ = write!(written, " timeout {milliseconds}ms");
        }
        let (_, elements) = self.lines.entry(place).or_insert((command, Vec::new()));
        elements.push(written);
        if elements.len() == ELEMENTS_PER_LINE
            && let Some((command, elements)) = self.lines.remove(&place)
        {
            self.line(place, command, &elements);
        }
    }

    fn line(&mut self, place: Place, command: &str, elements: &[String]) {
        let _ = writeln!(self.text, "{command} element inet {TABLE} {place} {{ {} }}", elements.join(", "));
    }

    /// Whatever follows comes after all that was pushed so far.
    fn end_lines(&mut self) {
        for (place, (command, elements)) in std::mem::take(&mut self.lines) {
            self.line(place, command, &elements);
        }
    }

    fn finish(mut self) -> String {
        self.end_lines();
        self.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(prefix: &str) -> Element {
        Element::block(prefix.parse().unwrap())
    }

    #[test]
    fn one_transaction_adds_extends_and_removes() {
        let now = Timestamp::from_secs(1000);
        let until = |secs| Timestamp::from_secs(1000 + secs);
        let script = of(
            [
                Action::SetThrottle { per_minute: 3 },
                Action::Add { element: block("192.0.2.1"), expires_at: until(60) },
                Action::Add { element: block("192.0.2.2"), expires_at: until(61) },
                Action::Extend { element: block("2001:db8::1"), expires_at: now },
                Action::Remove { element: block("10.0.0.0/8") },
                Action::Add { element: block("10.0.0.0/9"), expires_at: until(u64::from(u32::MAX)) },
                Action::Remove { element: block("192.0.2.3") },
            ]
            .iter(),
            now,
            (&Split::default(), &BTreeSet::new()),
        );
        let expected = "\
            add element inet netguard block6 { 2001:db8::1 }\n\
            add element inet netguard block4_8 { 10.0.0.0 }\n\
            add element inet netguard block4 { 192.0.2.3 }\n\
            delete element inet netguard block6 { 2001:db8::1 }\n\
            delete element inet netguard block4_8 { 10.0.0.0 }\n\
            delete element inet netguard block4 { 192.0.2.3 }\n\
            add element inet netguard block6 { 2001:db8::1 timeout 1ms }\n\
            add element inet netguard block4_9 { 10.0.0.0 timeout 31622400000ms }\n\
            add element inet netguard block4 { 192.0.2.1 timeout 60000ms, 192.0.2.2 timeout 61000ms }\n";
        assert_eq!(script, expected);
    }

    #[test]
    fn timeouts_are_rounded_up() {
        let now = Timestamp::from_secs(1000);
        assert_eq!(timeout(Timestamp::from_micros(1_000_000_001), now), 1);
        assert_eq!(timeout(Timestamp::from_micros(1_000_001_001), now), 2);
        assert_eq!(timeout(Timestamp::from_secs(1), now), 1);
    }
}
