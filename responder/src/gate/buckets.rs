//! How much each throttled source used of its rate.
//!
//! Invariants: the table never grows and nothing in it is ever waited for; its hash is keyed, so that nobody can choose
//! to share a bucket with a victim. When more sources are throttled than there are buckets, some share one: together they
//! get the rate of one, never more.

use netguard_core::{gate::admit, net::canonical, time::Timestamp};
use std::{
    fmt,
    hash::{BuildHasher, RandomState},
    net::IpAddr,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// 512 KiB; two of a thousand sources that are active at once share a bucket with a chance of less than 1 %.
const BUCKETS: usize = 1 << 16;

pub(super) struct Buckets {
    hash: RandomState,
    /// When each will have used nothing, see [`admit`].
    empty_at: Box<[AtomicU64]>,
}

impl Default for Buckets {
    fn default() -> Self {
        Self { hash: RandomState::new(), empty_at: (0..BUCKETS).map(|_| AtomicU64::new(0)).collect() }
    }
}

impl fmt::Debug for Buckets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Buckets").field("buckets", &self.empty_at.len()).finish_non_exhaustive()
    }
}

impl Buckets {
    /// One request of this source.
    ///
    /// Errors: it is over its rate, for so long.
    pub(super) fn take(&self, source: IpAddr, now: Timestamp, per_minute: u32) -> Result<(), Duration> {
        let hash = usize::try_from(self.hash.hash_one(owner(source)) & u64::from(u32::MAX)).unwrap_or(0);
        let Some(bucket) = self.empty_at.get(hash % BUCKETS) else { return Ok(()) };
        let mut wait = Duration::ZERO;
        let used = bucket.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |empty_at| {
            admit(empty_at, now, per_minute).map_err(|left| wait = left).ok()
        });
        used.map(drop).map_err(|_| wait)
    }
}

/// One IPv6 customer has a whole /64.
fn owner(source: IpAddr) -> u128 {
    match canonical(source) {
        IpAddr::V4(address) => address.to_bits().into(),
        IpAddr::V6(address) => address.to_bits() & !u128::from(u64::MAX),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_source_has_its_rate_and_a_64_has_one() {
        let (buckets, now) = (Buckets::default(), Timestamp::from_secs(1_000));
        let passed =
            |source: &str| (0..50).filter(|_| buckets.take(source.parse().unwrap(), now, 20).is_ok()).count();
        assert_eq!(passed("203.0.113.7"), 20);
        assert_eq!(passed("::ffff:203.0.113.7"), 0);
        assert_eq!(passed("2001:db8::1"), 20);
        assert_eq!(passed("2001:db8::ffff:2"), 0);
        let later = now.saturating_add(Duration::from_secs(3));
        assert!(buckets.take("203.0.113.7".parse().unwrap(), later, 20).is_ok());
        assert_eq!(buckets.take("203.0.113.7".parse().unwrap(), later, 20), Err(Duration::from_secs(3)));
    }

    #[test]
    fn more_sources_than_buckets_get_no_more_than_the_buckets_give() {
        let (buckets, now) = (Buckets::default(), Timestamp::from_secs(1_000));
        let passed =
            (0..400_000_u32).filter(|n| buckets.take(IpAddr::V4((*n).into()), now, 1).is_ok()).count();
        assert!(passed <= BUCKETS && passed > BUCKETS / 2, "{passed}");
    }
}
