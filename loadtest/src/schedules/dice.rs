//! Randomness that is the same for the same seed, on every machine and in every version.

use std::time::Duration;

/// SplitMix64 (Steele, Lea, Flood: "Fast Splittable Pseudorandom Number Generators", 2014).
#[derive(Debug, Clone)]
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Below `bound`; 0 when there is nothing below it. The bias of the remainder does not matter for bounds this
    /// small.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        let bound = u64::try_from(bound).unwrap_or(u64::MAX).max(1);
        usize::try_from(self.next() % bound).unwrap_or(0)
    }

    /// One of them, as often as its weight says; `None` of nothing.
    pub(crate) fn weighted<T: Copy>(&mut self, choices: &[(usize, T)]) -> Option<T> {
        let mut at = self.below(choices.iter().map(|(weight, _)| weight).sum());
        for (weight, choice) in choices {
            if at < *weight {
                return Some(*choice);
            }
            at -= weight;
        }
        None
    }

    /// Whole milliseconds, at least `from`, less than `to`.
    pub(crate) fn pause(&mut self, from: Duration, to: Duration) -> Duration {
        let span = to.saturating_sub(from).as_millis();
        let more = self.below(usize::try_from(span).unwrap_or(usize::MAX));
        from + Duration::from_millis(u64::try_from(more).unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_throws_the_same_forever() {
        // The reference implementation's first numbers for this seed (Vigna, splitmix64.c).
        let mut dice = Dice::new(1_234_567);
        let thrown = [dice.next(), dice.next(), dice.next()];
        assert_eq!(thrown, [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]);
        assert_eq!(Dice::new(9).below(0), 0);
        assert_eq!(dice.weighted::<u8>(&[]), None);
        assert_eq!(dice.weighted(&[(0, 'a'), (3, 'b')]), Some('b'));
        let pause = dice.pause(Duration::from_millis(5), Duration::from_millis(6));
        assert_eq!(pause, Duration::from_millis(5));
    }
}
