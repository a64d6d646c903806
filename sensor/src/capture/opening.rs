//! Opening and closing many rings: the kernel waits for a grace period with each (some 10 ms), and for one with many at
//! once.

use super::{
    live::{LiveError, LiveOptions, LiveSource},
    ring::Group,
    worker::Watched,
};
use std::{net::SocketAddr, thread};

/// Rings opened or closed at a time, each by a thread of its own that ends with it.
const AT_ONCE: usize = 16;

/// An interface to be opened.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) name: String,
    pub(super) id: u32,
    pub(super) index: u32,
    pub(super) is_named: bool,
    /// Of each of its rings.
    pub(super) ring_bytes: usize,
    pub(super) group: Option<Group>,
}

/// How all interfaces are opened.
#[derive(Debug, Clone, Copy)]
pub(super) struct Opener<'a> {
    pub(super) live: &'a LiveOptions,
    pub(super) uplinks: &'a [SocketAddr],
    /// Rings of each interface.
    pub(super) workers: usize,
}

impl Opener<'_> {
    /// One ring for each worker.
    ///
    /// Errors: the first that could not be opened; none is left open then.
    pub(super) fn open(self, plan: &Plan) -> Result<Vec<Watched>, LiveError> {
        let mut options = self.live.clone();
        options.ring.bytes = plan.ring_bytes;
        let one = || LiveSource::open(&plan.name, &options, self.uplinks, plan.group.as_ref());
        (0..self.workers).map(|_| Ok(Watched::new(plan.id, &plan.name, plan.is_named, one()?))).collect()
    }

    /// Opens them, and gives each to `done` soon after it is open.
    pub(super) fn open_all(
        self,
        plans: Vec<Plan>,
        mut done: impl FnMut(Plan, Result<Vec<Watched>, LiveError>),
    ) {
        for some in plans.chunks(AT_ONCE) {
            let opened: Vec<_> = thread::scope(|scope| {
                let threads: Vec<_> =
                    some.iter().map(|plan| (plan, scope.spawn(move || self.open(plan)))).collect();
                threads.into_iter().filter_map(|(plan, thread)| Some((plan, thread.join().ok()?))).collect()
            });
            for (plan, opened) in opened {
                done(plan.clone(), opened);
            }
        }
    }
}

/// Closes them.
pub(super) fn close_all(mut sources: Vec<LiveSource>) {
    while !sources.is_empty() {
        let some: Vec<_> = sources.drain(..sources.len().min(AT_ONCE)).collect();
        thread::scope(|scope| {
            for source in some {
                scope.spawn(move || drop(source));
            }
        });
    }
}
