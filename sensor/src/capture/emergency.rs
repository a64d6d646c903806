//! Whether the flow table of any worker is being overrun, as one gauge of the sensor.

use netguard_daemon::metrics::prometheus_client::metrics::gauge::{Atomic, Gauge};
use std::sync::atomic::{AtomicI64, Ordering};

/// 1 while at least one worker holds it, 0 otherwise.
pub(super) type AnyWorker = Gauge<i64, Holders>;

/// How many hold it; read as whether any does. Workers share no lock, and one that lets go while another takes hold must
/// not set what the other set.
#[derive(Debug, Default)]
pub(super) struct Holders(AtomicI64);

impl Atomic<i64> for Holders {
    fn inc(&self) -> i64 {
        self.inc_by(1)
    }

    fn inc_by(&self, by: i64) -> i64 {
        self.0.fetch_add(by, Ordering::Relaxed)
    }

    fn dec(&self) -> i64 {
        self.dec_by(1)
    }

    fn dec_by(&self, by: i64) -> i64 {
        self.0.fetch_sub(by, Ordering::Relaxed)
    }

    fn set(&self, holders: i64) -> i64 {
        self.0.swap(holders, Ordering::Relaxed)
    }

    fn get(&self) -> i64 {
        i64::from(self.0.load(Ordering::Relaxed) > 0)
    }
}

/// One worker's hold of the gauge; a worker that ends lets go.
#[derive(Debug)]
pub(super) struct Emergency {
    gauge: AnyWorker,
    is_held: bool,
}

impl Emergency {
    pub(super) fn new(gauge: AnyWorker) -> Self {
        Self { gauge, is_held: false }
    }

    pub(super) fn note(&mut self, holds: bool) {
        match (std::mem::replace(&mut self.is_held, holds), holds) {
            (false, true) => self.gauge.inc(),
            (true, false) => self.gauge.dec(),
            _ => return,
        };
    }
}

impl Drop for Emergency {
    fn drop(&mut self) {
        self.note(false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_holds_while_any_worker_says_so_and_ends_with_the_last() {
        let gauge = AnyWorker::default();
        let (mut one, mut other) = (Emergency::new(gauge.clone()), Emergency::new(gauge.clone()));
        assert_eq!(gauge.get(), 0);
        one.note(true);
        one.note(true);
        other.note(true);
        assert_eq!(gauge.get(), 1);
        one.note(false);
        one.note(false);
        assert_eq!(gauge.get(), 1, "the other's table is still overrun");
        drop(other);
        assert_eq!(gauge.get(), 0);
    }
}
