//! How much memory each ring has: few are large, many are small, all together have a bound.

/// The least of a ring: four blocks of 32 KiB, some 20 ms of 10,000 packets a second cut to 512 bytes. Containers that
/// talk more share a host with fewer others.
pub(super) const FLOOR: usize = 128 << 10;

/// Memory for rings.
#[derive(Debug, Clone, Copy)]
pub(super) struct Budget {
    /// All together.
    total: usize,
    /// The most of one.
    each: usize,
}

impl Budget {
    /// `named` rings, those of the interfaces that are named, always have room for `each`.
    pub(super) fn new(total: usize, each: usize, named: usize) -> Self {
        Self { total: total.max(each.saturating_mul(named)), each }
    }

    /// Bytes of each of `rings`. Halved each time their number doubles, so that a ring that stays is made anew seldom.
    pub(super) fn share(self, rings: usize) -> usize {
        let (mut share, rings) = (self.each, rings.max(1));
        while share > FLOOR && share.saturating_mul(rings) > self.total {
            share /= 2;
        }
        share.max(FLOOR.min(self.each))
    }

    /// Rings for which there is room at all.
    pub(super) fn most(self) -> usize {
        (self.total / FLOOR.min(self.each).max(1)).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rings_shrink_as_they_become_many_and_never_outgrow_the_total() {
        let budget = Budget::new(32 << 20, 4 << 20, 1);
        assert_eq!(
            [1, 8, 9, 16, 17, 200].map(|rings| budget.share(rings) >> 10),
            [4096, 4096, 2048, 2048, 1024, 128]
        );
        assert_eq!(budget.most(), 256);
        for rings in 1..=budget.most() {
            assert!(budget.share(rings) * rings <= 32 << 20, "{rings}");
        }
        assert_eq!(budget.share(10_000), FLOOR);
        // What is named keeps its size.
        assert_eq!(Budget::new(32 << 20, 64 << 20, 2).share(2), 64 << 20);
    }
}
