//! Readings → points → a verb.
//!
//! `points = min(measured / threshold, 10) * weight * agreement`, in thousandths.
//!
//! * *Agreement of sensors*: every further sensor that saw it adds a tenth, five at most. Not for sweeps, whose hosts
//!   are their sensors already, nor for floods, which one sensor sees.
//! * *Agreement of kinds*: the strongest part counts in full, the strongest of every other family by half. Kinds of one
//!   family look at the same packets, so that their agreement says nothing.
//! * *Decay*: a family's points fade with the policy's half-life once its window has passed. Faded points only support
//!   another family; by themselves they propose nothing.
//! * *Proof*: a block needs its points from proven parts alone; what is not proven can only throttle.

use super::{measure::Reading, subject::Carried};
use crate::{
    decision::{Score, ScorePart, Verb},
    policy::Measure,
    time::Timestamp,
};
use std::time::Duration;

/// Families of measures, see [`family`].
pub(super) const FAMILIES: usize = 3;
/// More than ten times the threshold is no worse: it keeps decay bounded to a few half-lives.
const MAX_RATIO_MILLI: u128 = 10_000;
const AGREEMENT_STEP_MILLI: u64 = 100;
const MAX_AGREEING: u64 = 5;

/// Measures that look at the same packets.
fn family(measure: Measure) -> usize {
    match measure {
        Measure::FailedPorts | Measure::FailedHosts => 0,
        Measure::ShortLoginSessions => 1,
        Measure::EmptySessions | Measure::UnansweredSyns => 2,
    }
}

/// What one reading is worth, in thousandths of a point.
pub(super) fn points_milli(reading: &Reading) -> u64 {
    let threshold = u128::from(reading.threshold.max(1));
    let ratio = (u128::from(reading.measured) * 1000 / threshold).min(MAX_RATIO_MILLI);
    let agreeing =
        u64::try_from(reading.sensors.len()).unwrap_or(u64::MAX).saturating_sub(1).min(MAX_AGREEING);
    let agreement = match reading.rule.row.measure {
        Measure::FailedPorts | Measure::ShortLoginSessions => 1000 + AGREEMENT_STEP_MILLI * agreeing,
        Measure::FailedHosts | Measure::EmptySessions | Measure::UnansweredSyns => 1000,
    };
    let points = ratio * u128::from(reading.rule.weight) * u128::from(agreement) / 1000;
    u64::try_from(points).unwrap_or(u64::MAX)
}

/// What is left of points after `age`: half after every half-life, in a straight line between, so that every machine
/// comes to the same number.
pub(super) fn decayed(carried: Carried, now: Timestamp, half_life: Duration) -> u64 {
    let age = now.since(carried.at).as_micros();
    let half_life = half_life.as_micros().max(1);
    let halvings = u32::try_from(age / half_life).unwrap_or(u32::MAX);
    let whole = carried.points_milli.checked_shr(halvings).unwrap_or(0);
    let part = u128::from(whole) * (age % half_life) / half_life / 2;
    whole.saturating_sub(u64::try_from(part).unwrap_or(u64::MAX))
}

/// The readings of one verb with their score.
#[derive(Debug)]
pub(super) struct Verdict<'a> {
    pub(super) verb: Verb,
    pub(super) score: Score,
    /// Those that count, the strongest first.
    pub(super) readings: Vec<&'a Reading>,
}

/// The severest verb that its own evidence carries to `act_milli`, or `None`. `faded` are the families' decayed points.
pub(super) fn verdict<'a>(
    readings: &'a [Reading],
    faded: &[u64; FAMILIES],
    act_milli: u64,
) -> Option<Verdict<'a>> {
    [Verb::Block, Verb::Throttle, Verb::Shield].into_iter().find_map(|verb| {
        let eligible: Vec<_> = readings.iter().filter(|reading| carries(reading, verb)).collect();
        let faded = if verb == Verb::Block { &[0; FAMILIES] } else { faded };
        let verdict = add_up(verb, eligible, faded);
        (verdict.score.total_milli >= act_milli).then_some(verdict)
    })
}

/// Whether a reading may lead to `verb`. What would be enough for a block supports a throttle too.
fn carries(reading: &Reading, verb: Verb) -> bool {
    let row = reading.rule.row;
    let own = if reading.proven { Some(row.verb_proven) } else { row.verb_unproven };
    own == Some(verb) || (own == Some(Verb::Block) && verb == Verb::Throttle)
}

pub(super) fn add_up<'a>(verb: Verb, mut readings: Vec<&'a Reading>, faded: &[u64; FAMILIES]) -> Verdict<'a> {
    readings.sort_by_key(|reading| std::cmp::Reverse((points_milli(reading), reading.rule.row.kind)));
    let mut score = Score::default();
    let mut counted = [false; FAMILIES];
    let mut counting = Vec::new();
    for reading in readings {
        let family = family(reading.rule.row.measure);
        if std::mem::replace(counted.get_mut(family).unwrap_or(&mut false), true) {
            continue;
        }
        let fresh = points_milli(reading);
        let points_milli =
            if counting.is_empty() { fresh } else { fresh.max(faded.get(family).copied().unwrap_or(0)) / 2 };
        score.total_milli = score.total_milli.saturating_add(points_milli);
        score.parts.push(ScorePart {
            kind: reading.rule.row.kind,
            measured: reading.measured,
            threshold: reading.threshold,
            weight: reading.rule.weight,
            sensors: u32::try_from(reading.sensors.len()).unwrap_or(u32::MAX),
            points_milli,
        });
        counting.push(reading);
    }
    if !counting.is_empty() {
        // Families that are silent by now still support the one that speaks.
        let silent = faded.iter().zip(counted).filter(|(_, counted)| !counted).map(|(points, _)| points / 2);
        score.total_milli = silent.fold(score.total_milli, u64::saturating_add);
    }
    Verdict { verb, score, readings: counting }
}

/// Keeps the higher of a family's fresh and faded points.
pub(super) fn carry(
    carried: &mut [Carried; FAMILIES],
    readings: &[Reading],
    now: Timestamp,
    half_life: Duration,
) {
    for reading in readings {
        let points_milli = points_milli(reading);
        if let Some(carried) = carried.get_mut(family(reading.rule.row.measure))
            && points_milli >= decayed(*carried, now, half_life)
        {
            *carried = Carried { points_milli, at: now };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_halve_with_every_half_life() {
        let carried = Carried { points_milli: 100_000, at: Timestamp::from_secs(1_000) };
        let after =
            |seconds| decayed(carried, Timestamp::from_secs(1_000 + seconds), Duration::from_secs(300));
        assert_eq!(after(0), 100_000);
        assert_eq!(after(150), 75_000);
        assert_eq!(after(300), 50_000);
        assert_eq!(after(600), 25_000);
        assert_eq!(after(300 * 64), 0);
        assert_eq!(after(u64::from(u32::MAX)), 0);
    }
}
