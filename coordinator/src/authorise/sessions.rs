use super::{Caller, Registry, Standing};
use netguard_core::time::Timestamp;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio_util::sync::CancellationToken;
use tonic::Status;

/// How often running streams are held against the registry and the clock. The promise is 5 s.
pub const SWEEP: Duration = Duration::from_secs(1);

/// The streams that run, so that each can be cut when its caller's right ends. Bounded by the listener's limit of
/// streams: an entry lives exactly as long as its stream.
#[derive(Debug, Clone, Default)]
pub struct Sessions {
    running: Arc<Mutex<Running>>,
}

#[derive(Debug, Default)]
struct Running {
    next: u64,
    stopping: bool,
    callers: HashMap<u64, Caller>,
}

/// Takes the stream off the list when it ends.
#[derive(Debug)]
pub(super) struct SessionGuard {
    sessions: Sessions,
    number: u64,
}

impl SessionGuard {
    /// What a caller is told whose stream is cut.
    pub(super) fn why(&self) -> Status {
        if self.sessions.lock().stopping {
            Status::unavailable("this coordinator stops: go on at another")
        } else {
            Status::unauthenticated("the certificate behind this stream is no longer valid")
        }
    }
}

impl Drop for SessionGuard {
    fn drop(&mut self) {
        self.sessions.lock().callers.remove(&self.number);
    }
}

impl Sessions {
    fn lock(&self) -> std::sync::MutexGuard<'_, Running> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn enter(&self, caller: Caller) -> SessionGuard {
        let mut running = self.lock();
        if running.stopping {
            caller.session.cancel();
        }
        let number = running.next;
        running.next = running.next.wrapping_add(1);
        running.callers.insert(number, caller);
        SessionGuard { sessions: self.clone(), number }
    }

    /// Ends every stream, and every later one at once: the coordinator stops.
    pub fn end_all(&self) {
        let mut running = self.lock();
        running.stopping = true;
        for caller in running.callers.values() {
            caller.session.cancel();
        }
    }

    /// How many streams run.
    #[must_use]
    pub fn count(&self) -> usize {
        self.lock().callers.len()
    }

    /// Cuts every stream whose caller is revoked, unknown by now, or past its certificate's end. Returns how many.
    pub fn sweep(&self, registry: &dyn Registry, now: Timestamp) -> usize {
        let mut cut = 0;
        for caller in self.lock().callers.values() {
            let standing = registry.standing(caller.spiffe.role, &caller.spiffe.id);
            let expired = caller.not_after <= now;
            if (expired || !standing.may_act(caller.spiffe.role)) && !caller.session.is_cancelled() {
                let why = match (expired, standing) {
                    (true, _) => "its certificate expired",
                    (false, Standing::Revoked) => "it was revoked",
                    _ => "it is no longer enrolled",
                };
                tracing::info!(caller = %caller.spiffe, remote = %caller.remote, why, "cutting a stream");
                caller.session.cancel();
                cut += 1;
            }
        }
        cut
    }

    /// Sweeps until `stop`.
    pub async fn watch(self, registry: Arc<dyn Registry>, clock: fn() -> Timestamp, stop: CancellationToken) {
        let mut tick = tokio::time::interval(SWEEP);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = tick.tick() => { self.sweep(registry.as_ref(), clock()); }
            }
        }
    }
}
