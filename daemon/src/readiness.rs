//! Whether this process can do its work: ready once nothing blocks it any more.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::sync::watch;

/// Shared by all parts of a process. Whoever is not ready yet holds a [`Blocker`]; dropping it is being ready.
#[derive(Clone, Default)]
pub struct Readiness {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    blockers: Mutex<BTreeMap<&'static str, usize>>,
    changed: watch::Sender<()>,
}

impl Shared {
    fn blockers(&self) -> MutexGuard<'_, BTreeMap<&'static str, usize>> {
        // Counting cannot be left half done by a panic elsewhere.
        self.blockers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Readiness {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Not ready until the guard is dropped. `name` shows in `/readyz`.
    #[must_use = "dropping the blocker means ready"]
    pub fn block(&self, name: &'static str) -> Blocker {
        *self.shared.blockers().entry(name).or_default() += 1;
        self.shared.changed.send_replace(());
        Blocker { name, shared: self.shared.clone() }
    }

    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.shared.blockers().is_empty()
    }

    /// What is still waited for.
    #[must_use]
    pub fn waiting_for(&self) -> Vec<&'static str> {
        self.shared.blockers().keys().copied().collect()
    }

    /// Returns once nothing blocks.
    pub async fn ready(&self) {
        let mut changed = self.shared.changed.subscribe();
        while !self.is_ready() {
            // The sender lives in `self`, so this cannot fail.
            let _ = changed.changed().await;
        }
    }
}

impl fmt::Debug for Readiness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Readiness").field("waiting_for", &self.waiting_for()).finish()
    }
}

/// Something is not ready while this exists.
pub struct Blocker {
    name: &'static str,
    shared: Arc<Shared>,
}

impl Drop for Blocker {
    fn drop(&mut self) {
        let mut blockers = self.shared.blockers();
        if let Some(count) = blockers.get_mut(self.name) {
            *count -= 1;
            if *count == 0 {
                blockers.remove(self.name);
            }
        }
        drop(blockers);
        self.shared.changed.send_replace(());
    }
}

impl fmt::Debug for Blocker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Blocker").field(&self.name).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test]
    async fn ready_is_when_the_last_blocker_is_gone() {
        let readiness = Readiness::new();
        let (raft, first, second) =
            (readiness.block("raft"), readiness.block("push"), readiness.block("push"));
        assert_eq!(readiness.waiting_for(), ["push", "raft"]);
        let waiting = tokio::spawn({
            let readiness = readiness.clone();
            async move { readiness.ready().await }
        });
        drop(first);
        assert_eq!(readiness.waiting_for(), ["push", "raft"]);
        drop(second);
        drop(raft);
        assert!(readiness.is_ready());
        tokio::time::timeout(Duration::from_secs(5), waiting).await.unwrap().unwrap();
        let again = readiness.block("raft");
        assert!(!readiness.is_ready());
        drop(again);
    }
}
