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

#[cfg(test)]
mod tests {
    use super::*;
    use netguard_core::identity::Role;
    use std::{future::Future, pin::Pin};

    /// Knows `revoked` as revoked and everybody else as enrolled.
    struct Fixed;

    impl Registry for Fixed {
        fn cluster(&self) -> String {
            "prod".into()
        }
        fn standing(&self, _: Role, id: &str) -> Standing {
            match id {
                "revoked" => Standing::Revoked,
                "gone" => Standing::Unknown,
                _ => Standing::Enrolled,
            }
        }
        fn catch_up(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
            Box::pin(async {})
        }
    }

    fn caller(id: &str, not_after: u64) -> Caller {
        Caller {
            spiffe: format!("spiffe://prod/sensor/{id}").parse().unwrap(),
            remote: "192.0.2.1:1".parse().unwrap(),
            not_after: Timestamp::from_secs(not_after),
            session: CancellationToken::new(),
        }
    }

    #[test]
    fn exactly_those_whose_right_ended_are_cut_and_told_so() {
        let sessions = Sessions::default();
        let callers =
            [caller("fine", 200), caller("expired", 100), caller("revoked", 200), caller("gone", 200)];
        let guards: Vec<_> = callers.iter().map(|caller| sessions.enter(caller.clone())).collect();
        assert_eq!(sessions.sweep(&Fixed, Timestamp::from_secs(99)), 2);
        assert_eq!(sessions.sweep(&Fixed, Timestamp::from_secs(100)), 1, "nobody is cut twice");
        assert_eq!(callers.each_ref().map(|caller| caller.session.is_cancelled()), [false, true, true, true]);
        assert_eq!(guards[1].why().code(), tonic::Code::Unauthenticated);
        drop(guards);
        assert_eq!(sessions.count(), 0);
    }

    #[test]
    fn a_stopping_coordinator_sends_everybody_elsewhere() {
        let sessions = Sessions::default();
        let (early, late) = (caller("early", 200), caller("late", 200));
        let guard = sessions.enter(early.clone());
        sessions.end_all();
        let _late = sessions.enter(late.clone());
        assert!(early.session.is_cancelled() && late.session.is_cancelled());
        assert_eq!(guard.why().code(), tonic::Code::Unavailable);
    }
}
