//! What holds at a sensor, and what of it is told.
//!
//! Invariants: what a reader of events was told of last is what holds, but for a sensor that changes its mind faster
//! than [`CHANGES`] an [`EVERY`]: of that one, the next batch after a pause tells the difference.

use netguard_core::time::Timestamp;
use std::{collections::BTreeSet, time::Duration};

/// Changes told at once, and over [`EVERY`] on: hysteresis at the sensor makes a change rarer than one in ten seconds.
const CHANGES: u32 = 16;
const EVERY: Duration = Duration::from_secs(60);

/// A condition, and whether it `begins`, `holds` since before, or `ends`.
pub(super) type News = (String, &'static str);

/// One stream's conditions.
#[derive(Debug, Default)]
pub(super) struct Conditions {
    told: BTreeSet<String>,
    first: Vec<News>,
    left: u32,
    since: Timestamp,
}

impl Conditions {
    /// From the hello: what holds, and what held when the sensor was here before.
    pub(super) fn at_hello(now: &BTreeSet<String>, before: &BTreeSet<String>) -> Self {
        let first = changes(before, now, "holds");
        Self { told: now.clone(), first, left: CHANGES, since: Timestamp::default() }
    }

    /// What the hello said that was not known here.
    pub(super) fn news(&self) -> &[News] {
        &self.first
    }

    /// Takes what a batch says holds; gives what is to be told.
    pub(super) fn take(&mut self, holds: &BTreeSet<String>, at: Timestamp) -> Vec<News> {
        if *holds == self.told {
            return Vec::new();
        }
        if at.since(self.since) >= EVERY {
            (self.left, self.since) = (CHANGES, at);
        }
        let news = changes(&self.told, holds, "begins");
        let Some(left) = u32::try_from(news.len()).ok().and_then(|count| self.left.checked_sub(count)) else {
            return Vec::new();
        };
        self.left = left;
        self.told.clone_from(holds);
        news
    }
}

fn changes(before: &BTreeSet<String>, now: &BTreeSet<String>, action: &'static str) -> Vec<News> {
    let ended = before.difference(now).map(|name| (name.clone(), "ends"));
    ended.chain(now.difference(before).map(|name| (name.clone(), action))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn news(list: &[(&str, &'static str)]) -> Vec<News> {
        list.iter().map(|(name, action)| ((*name).to_owned(), *action)).collect()
    }

    #[test]
    fn each_beginning_and_end_is_told_once_and_a_reconnect_tells_only_what_is_new() {
        let at = Timestamp::from_secs;
        let mut stream = Conditions::at_hello(&set(&["flow.emergency"]), &set(&["capture.blind"]));
        assert_eq!(stream.news(), news(&[("capture.blind", "ends"), ("flow.emergency", "holds")]));
        assert_eq!(stream.take(&set(&["flow.emergency"]), at(100)), []);
        let both = set(&["capture.blind", "flow.emergency"]);
        assert_eq!(stream.take(&both, at(101)), news(&[("capture.blind", "begins")]));
        assert_eq!(stream.take(&both, at(102)), []);
        assert_eq!(stream.take(&set(&["capture.blind"]), at(103)), news(&[("flow.emergency", "ends")]));
        assert_eq!(Conditions::at_hello(&both, &both).news(), []);
    }

    #[test]
    fn a_sensor_that_flaps_is_told_of_at_a_bounded_rate_and_right_in_the_end() {
        let mut stream = Conditions::at_hello(&set(&[]), &set(&[]));
        let at = |millis: u64| Timestamp::from_micros(1_000_000_000 + millis * 1_000);
        let told: usize = (0..1_001_u64)
            .map(|n| stream.take(&if n % 2 == 0 { set(&["a.b"]) } else { set(&[]) }, at(n)).len())
            .sum();
        assert_eq!(told, 16);
        assert_eq!(stream.take(&set(&["a.b"]), at(61_000)), news(&[("a.b", "begins")]));
    }
}
