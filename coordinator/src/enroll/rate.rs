use netguard_core::net::canonical;
use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Mutex, PoisonError},
    time::Instant,
};

/// Attempts a source may make at once, and how many a second it regains. A rack of hosts behind one NAT still gets in.
const SOURCE_BURST: f64 = 40.0;
const SOURCE_PER_SECOND: f64 = 2.0;
/// The same for all sources together: what an enrolment costs (a signature, a Raft entry) must not fill the leader.
const GLOBAL_BURST: f64 = 400.0;
const GLOBAL_PER_SECOND: f64 = 50.0;
/// Sources remembered. Past it, those that have regained all are forgotten, and a newcomer shares what is left.
const MAX_SOURCES: usize = 4_096;

/// Limits attempts to enrol, which anybody can make, per source (an IPv6 source is its /64) and over all.
#[derive(Debug)]
pub(crate) struct EnrolLimit {
    buckets: Mutex<Buckets>,
}

#[derive(Debug)]
struct Buckets {
    global: Bucket,
    sources: HashMap<IpAddr, Bucket>,
}

#[derive(Debug, Clone, Copy)]
struct Bucket {
    tokens: f64,
    at: Instant,
}

impl Bucket {
    const fn full(burst: f64, at: Instant) -> Self {
        Self { tokens: burst, at }
    }

    fn refill(&mut self, burst: f64, per_second: f64, now: Instant) {
        let elapsed = now.saturating_duration_since(self.at).as_secs_f64();
        self.tokens = elapsed.mul_add(per_second, self.tokens).min(burst);
        self.at = now;
    }
}

impl EnrolLimit {
    pub(crate) fn new(now: Instant) -> Self {
        let buckets =
            Buckets { global: Bucket::full(GLOBAL_BURST, now), sources: HashMap::with_capacity(64) };
        Self { buckets: Mutex::new(buckets) }
    }

    /// Whether `source` may try now.
    pub(crate) fn allow(&self, source: IpAddr, now: Instant) -> bool {
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let Buckets { global, sources } = &mut *buckets;
        let source = neighbourhood(source);
        if sources.len() >= MAX_SOURCES && !sources.contains_key(&source) {
            sources.retain(|_, bucket| {
                bucket.refill(SOURCE_BURST, SOURCE_PER_SECOND, now);
                bucket.tokens < SOURCE_BURST
            });
            if sources.len() >= MAX_SOURCES {
                return false;
            }
        }
        let own = sources.entry(source).or_insert(Bucket::full(SOURCE_BURST, now));
        own.refill(SOURCE_BURST, SOURCE_PER_SECOND, now);
        global.refill(GLOBAL_BURST, GLOBAL_PER_SECOND, now);
        if own.tokens < 1.0 || global.tokens < 1.0 {
            return false;
        }
        own.tokens -= 1.0;
        global.tokens -= 1.0;
        true
    }
}

/// Who is one source: an IPv4 address, or an IPv6 /64.
pub(super) fn neighbourhood(source: IpAddr) -> IpAddr {
    match canonical(source) {
        IpAddr::V6(address) => {
            IpAddr::V6(std::net::Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64)))
        }
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_source_is_held_back_while_others_get_in() {
        let start = Instant::now();
        let limit = EnrolLimit::new(start);
        let (attacker, honest): (IpAddr, IpAddr) =
            ("2001:db8::1".parse().unwrap(), "192.0.2.1".parse().unwrap());
        assert_eq!((0..1000).filter(|_| limit.allow(attacker, start)).count(), 40);
        assert!(!limit.allow("2001:db8::2".parse().unwrap(), start), "the same /64");
        assert!(limit.allow(honest, start));
        assert!(limit.allow(attacker, start + Duration::from_secs(1)));
    }

    #[test]
    fn all_sources_together_are_bounded_in_work_and_memory() {
        let start = Instant::now();
        let limit = EnrolLimit::new(start);
        let allowed =
            (0..20_000u32).filter(|i| limit.allow(IpAddr::V4((*i + 0x0a00_0000).into()), start)).count();
        assert_eq!(allowed, 400);
        assert!(limit.buckets.lock().unwrap().sources.len() <= MAX_SOURCES);
        assert!(limit.allow("192.0.2.1".parse().unwrap(), start + Duration::from_secs(60)));
    }
}
