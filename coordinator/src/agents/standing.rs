//! Whether a sensor's word counts here.
//!
//! Invariants: what a sensor says of others' networks, or what cannot be read, raises its score; the score halves in
//! [`HALF_LIFE`]; at [`QUARANTINE_AT`] the sensor is quarantined: nothing it says is judged until it has behaved for
//! [`BEHAVES_FOR`], and then it starts anew. The standing outlives its streams, so that connecting again changes nothing.

use netguard_core::time::Timestamp;
use std::time::Duration;

/// An honest sensor has a score near zero: it names only its own networks and encodes what it can decode. What a network
/// change makes foreign in the moments until the next hello stays far below.
const QUARANTINE_AT: f64 = 100.0;
const HALF_LIFE: Duration = Duration::from_secs(600);
/// How long a quarantined sensor must send nothing wrong.
const BEHAVES_FOR: Duration = Duration::from_secs(900);

/// What a sensor's behaviour came to.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Standing {
    score: f64,
    at: Timestamp,
    quarantine: Option<Quarantine>,
}

#[derive(Debug, Clone, PartialEq)]
struct Quarantine {
    until: Timestamp,
    /// Foreign and malformed records since it began, and those that led to it.
    foreign: u64,
    malformed: u64,
}

/// What changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StandingNews {
    Quarantined,
    Released,
}

impl Default for Standing {
    fn default() -> Self {
        Self { score: 0.0, at: Timestamp::default(), quarantine: None }
    }
}

impl Standing {
    /// Takes what a batch had wrong, at `now`.
    pub(super) fn take(&mut self, foreign: u64, malformed: u64, now: Timestamp) -> Option<StandingNews> {
        let elapsed = now.since(self.at).as_secs_f64();
        self.at = self.at.max(now);
        let wrong = u32::try_from(foreign.saturating_add(malformed)).unwrap_or(u32::MAX);
        self.score = self.score * 0.5_f64.powf(elapsed / HALF_LIFE.as_secs_f64()) + f64::from(wrong);
        let until = now.saturating_add(BEHAVES_FOR);
        match &mut self.quarantine {
            Some(quarantine) if wrong > 0 && now < quarantine.until => {
                quarantine.until = until;
                quarantine.foreign = quarantine.foreign.saturating_add(foreign);
                quarantine.malformed = quarantine.malformed.saturating_add(malformed);
                None
            }
            Some(quarantine) if now < quarantine.until => None,
            Some(_) => {
                *self = Self { score: f64::from(wrong), at: now, quarantine: None };
                Some(StandingNews::Released)
            }
            None if self.score >= QUARANTINE_AT => {
                self.quarantine = Some(Quarantine { until, foreign, malformed });
                Some(StandingNews::Quarantined)
            }
            None => None,
        }
    }

    pub(super) const fn is_quarantined(&self) -> bool {
        self.quarantine.is_some()
    }

    /// Until when, and why, for people.
    pub(super) fn describe(&self, now: Timestamp) -> Option<(Timestamp, String)> {
        let Quarantine { until, foreign, malformed } = self.quarantine.as_ref().filter(|q| now < q.until)?;
        let why = format!("{foreign} records outside its networks and {malformed} malformed ones");
        Some((*until, why))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);

    fn later(seconds: u64) -> Timestamp {
        NOW.saturating_add(Duration::from_secs(seconds))
    }

    #[test]
    fn who_says_much_that_is_not_its_to_say_is_not_heard_until_it_behaves() {
        let mut standing = Standing::default();
        assert_eq!(standing.take(60, 0, NOW), None);
        assert_eq!(standing.take(30, 15, later(1)), Some(StandingNews::Quarantined));
        assert_eq!(
            standing.describe(later(2)),
            Some((later(901), "30 records outside its networks and 15 malformed ones".to_owned()))
        );
        assert_eq!(standing.take(1, 0, later(800)), None, "it goes on, and so does the quarantine");
        assert_eq!(standing.take(0, 0, later(1_699)), None);
        assert!(standing.is_quarantined());
        assert_eq!(standing.take(0, 0, later(1_700)), Some(StandingNews::Released));
        assert!(!standing.is_quarantined());
        assert_eq!(standing.take(99, 0, later(1_701)), None, "it starts anew");
        assert_eq!(standing.take(1, 0, later(1_701)), Some(StandingNews::Quarantined));
    }

    #[test]
    fn a_slip_now_and_then_is_forgotten() {
        let mut standing = Standing::default();
        assert!((0..1_000).all(|slip| standing.take(4, 0, later(slip * 60)).is_none()));
        assert_eq!(standing.take(20, 0, NOW), None, "also when the clock goes back");
        assert_eq!(standing.describe(NOW), None);
    }
}
