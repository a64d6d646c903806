//! What the probes saw of a schedule, and what it is held against. Pure: times are counted from the schedule's start.

use super::probe::Arrivals;
use std::{net::IpAddr, time::Duration};

/// How long a change of the firewall by somebody else may leave it open: as long as a responder that was told of nothing
/// takes to compare everything. What is promised is far less, and is a figure: a busy machine must fail no schedule.
pub(crate) const REPAIR: Duration = Duration::from_secs(30);
/// How long a responder may take to enforce again after `resume`; likewise.
pub(crate) const RESUMED: Duration = Duration::from_secs(30);
/// How long a rule may outlive its decision.
pub(crate) const OUTLIVES: Duration = Duration::from_secs(5);
/// How long the host may be out of reach.
pub(crate) const OUT_OF_REACH: Duration = Duration::from_secs(15);

/// A stretch of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Window {
    pub(crate) from: Duration,
    pub(crate) to: Duration,
}

impl Window {
    fn holds(&self, at: Duration) -> bool {
        (self.from..self.to).contains(&at)
    }
}

/// What was seen.
#[derive(Debug, Default)]
pub(crate) struct Record {
    /// When datagrams that arrived were sent, by source.
    pub(crate) arrivals: Arrivals,
    /// When somebody connected to the host from the admin's.
    pub(crate) managed: Vec<Duration>,
    /// When the host connected to a coordinator.
    pub(crate) reached: Vec<Duration>,
    pub(crate) length: Duration,
}

/// What was to hold.
#[derive(Debug, Default)]
pub(crate) struct Expected {
    /// A source, and when its decision was in force.
    pub(crate) blocked: Vec<(IpAddr, Window)>,
    /// When somebody had just taken our rules away; a running responder has [`REPAIR`] to put them back.
    pub(crate) tampered: Vec<Window>,
    /// Enforcement was switched off by hand.
    pub(crate) off: Vec<Window>,
    /// The host could reach no coordinator, whatever its firewall says.
    pub(crate) isolated: Vec<Window>,
    /// A source, and when its decision ended.
    pub(crate) ended: Vec<(IpAddr, Duration)>,
    /// Sources that nobody blocked.
    pub(crate) innocent: Vec<IpAddr>,
}

/// What came of it.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Verdict {
    /// Packets that got through while their source was to be blocked.
    pub(crate) gaps: usize,
    /// What was broken, in words.
    pub(crate) broken: Vec<String>,
    /// The longest time in which the host could not be managed, or did not reach a coordinator that was there.
    pub(crate) outage: Duration,
    /// The longest time from a change by somebody else until nothing got through any more.
    pub(crate) repair: Option<Duration>,
}

impl Record {
    /// Holds what was seen against what was to hold.
    pub(crate) fn judge(&self, expected: &Expected) -> Verdict {
        let mut verdict = Verdict::default();
        for (source, window) in &expected.blocked {
            self.look_for_gaps(*source, *window, expected, &mut verdict);
        }
        for (source, ended) in &expected.ended {
            let in_time = Window { from: *ended, to: *ended + OUTLIVES };
            if in_time.to < self.length && !self.of(*source).any(|sent| in_time.holds(sent)) {
                let over = ended.as_secs_f64();
                verdict.broken.push(format!(
                    "{source}: its decision ended at {over:.1} s and it is still blocked {} s later",
                    OUTLIVES.as_secs()
                ));
            }
        }
        for innocent in &expected.innocent {
            if self.of(*innocent).next().is_none() {
                verdict.broken.push(format!("nothing arrived from {innocent}, which nobody blocked"));
            }
        }
        for (what, successes, excused) in [
            ("connecting from the admin's host", &self.managed, &[][..]),
            ("reaching a coordinator", &self.reached, &expected.isolated[..]),
        ] {
            let outage = longest_outage(successes, excused, self.length);
            if outage > OUT_OF_REACH {
                verdict.broken.push(format!("{what} failed for {:.1} s", outage.as_secs_f64()));
            }
            verdict.outage = verdict.outage.max(outage);
        }
        verdict
    }

    fn of(&self, source: IpAddr) -> impl Iterator<Item = Duration> {
        self.arrivals.get(&source).into_iter().flatten().copied()
    }

    fn look_for_gaps(&self, source: IpAddr, window: Window, expected: &Expected, verdict: &mut Verdict) {
        let mut first = None;
        let mut count = 0;
        for sent in self.of(source).filter(|sent| window.holds(*sent)) {
            if expected.off.iter().any(|off| off.holds(sent)) {
                continue;
            }
            let excuse = expected.tampered.iter().rev().find(|tampered| tampered.from <= sent);
            if let Some(tampered) = excuse
                && sent < tampered.to + REPAIR
            {
                let took = sent.saturating_sub(tampered.to);
                verdict.repair = Some(verdict.repair.map_or(took, |repair| repair.max(took)));
                continue;
            }
            first.get_or_insert(sent);
            count += 1;
        }
        if let Some(first) = first {
            let at = first.as_secs_f64();
            verdict.broken.push(format!("{count} packets from {source} got through, the first at {at:.3} s"));
        }
        verdict.gaps += count;
    }
}

/// The longest stretch without a success. What lies in an excused window does not count: from its end on, it does.
fn longest_outage(successes: &[Duration], excused: &[Window], length: Duration) -> Duration {
    let mut longest = Duration::ZERO;
    let mut since = Duration::ZERO;
    for at in successes.iter().copied().chain([length]) {
        let pardoned: Duration =
            excused.iter().map(|window| window.to.min(at).saturating_sub(window.from.max(since))).sum();
        longest = longest.max(at.saturating_sub(since).saturating_sub(pardoned));
        since = at;
    }
    longest
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn window(from: u64, to: u64) -> Window {
        Window { from: s(from), to: s(to) }
    }

    fn record(source: IpAddr, sent: &[u64], length: u64) -> Record {
        let every_second: Vec<_> = (0..length).map(s).collect();
        Record {
            arrivals: [(source, sent.iter().copied().map(s).collect())].into(),
            managed: every_second.clone(),
            reached: every_second,
            length: s(length),
        }
    }

    #[test]
    fn a_packet_of_a_blocked_source_is_a_gap_unless_somebody_opened_by_hand() {
        let source: IpAddr = "10.77.0.101".parse().unwrap();
        let record = record(source, &[1, 50, 52, 95, 130], 150);
        let mut expected = Expected {
            blocked: vec![(source, window(40, 120))],
            innocent: vec![source],
            ..Expected::default()
        };
        let verdict = record.judge(&expected);
        assert_eq!(verdict.gaps, 3);
        assert_eq!(verdict.broken, ["3 packets from 10.77.0.101 got through, the first at 50.000 s"]);
        expected.tampered = vec![window(49, 50)];
        expected.off = vec![window(90, 100)];
        let verdict = record.judge(&expected);
        assert_eq!((verdict.gaps, verdict.repair, verdict.broken.len()), (0, Some(s(2)), 0));
        // A change long before explains nothing.
        expected.tampered = vec![window(2, 3)];
        assert_eq!(record.judge(&expected).gaps, 2);
    }

    #[test]
    fn a_block_ends_with_its_decision() {
        let source: IpAddr = "10.77.0.101".parse().unwrap();
        let expected = Expected { ended: vec![(source, s(10))], ..Expected::default() };
        assert!(record(source, &[14], 20).judge(&expected).broken.is_empty());
        let late = record(source, &[16], 20).judge(&expected);
        assert!(late.broken[0].contains("still blocked 5 s later"), "{late:?}");
    }

    #[test]
    fn an_outage_is_counted_from_the_end_of_its_excuse() {
        let seen: Vec<_> = [0, 1, 2, 30, 31].map(s).to_vec();
        assert_eq!(longest_outage(&seen, &[], s(32)), s(28));
        assert_eq!(longest_outage(&seen, &[window(3, 25)], s(32)), s(6));
        assert_eq!(longest_outage(&[], &[], s(7)), s(7));
        let silent = Record { length: s(40), ..Record::default() };
        let innocent = "10.77.0.50".parse().unwrap();
        let verdict = silent.judge(&Expected { innocent: vec![innocent], ..Expected::default() });
        assert_eq!((verdict.outage, verdict.broken.len()), (s(40), 3));
    }
}
