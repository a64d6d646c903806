//! Which batches of a sensor's stream came, and which did not.

/// Follows the sequence numbers of one (sensor, epoch) stream. Repetition is allowed: the judge is idempotent.
#[derive(Debug, Default)]
pub(crate) struct Sequence {
    highest: u64,
}

/// What a sequence number tells.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Arrived {
    Next,
    /// Sent before, or out of order.
    Again,
    /// So many batches before it never came.
    Gap(u64),
}

impl Sequence {
    /// Takes the sequence number of a batch. A stream may begin anywhere: a sensor that reconnects goes on.
    pub(crate) fn arrive(&mut self, sequence: u64) -> Arrived {
        let before = self.highest;
        self.highest = before.max(sequence);
        if sequence <= before {
            Arrived::Again
        } else if before == 0 || sequence - before == 1 {
            Arrived::Next
        } else {
            Arrived::Gap(sequence - before - 1)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_are_counted_and_repetition_is_not_one() {
        let mut sequence = Sequence::default();
        assert_eq!(sequence.arrive(7), Arrived::Next);
        assert_eq!(sequence.arrive(8), Arrived::Next);
        assert_eq!(sequence.arrive(7), Arrived::Again);
        assert_eq!(sequence.arrive(12), Arrived::Gap(3));
        assert_eq!(sequence.arrive(1 << 63), Arrived::Gap((1 << 63) - 13));
        assert_eq!(sequence.arrive(u64::MAX), Arrived::Gap(u64::MAX - (1 << 63) - 1));
        assert_eq!(sequence.arrive(9), Arrived::Again);
    }
}
