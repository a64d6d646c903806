//! Stopping in order: one signal, everybody finishes what they hold, and nobody is waited for too long.

use std::{fmt, future::Future, time::Duration};
use tokio::{
    signal::unix::{SignalKind, signal},
    task::JoinHandle,
};
use tokio_util::{
    sync::{CancellationToken, WaitForCancellationFutureOwned},
    task::TaskTracker,
};

/// Shared by all parts of a process. Tasks spawned through it are waited for when the process stops.
#[derive(Clone, Default)]
pub struct Drain {
    token: CancellationToken,
    tasks: TaskTracker,
}

impl Drain {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Starts draining on SIGTERM or SIGINT. A second signal ends the process at once.
    pub fn on_signals(&self) -> std::io::Result<()> {
        let (mut terminate, mut interrupt) =
            (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let token = self.token.clone();
        tokio::spawn(async move {
            tokio::select! { _ = terminate.recv() => {} _ = interrupt.recv() => {} }
            tracing::info!("stopping: finishing what is under way; a second signal ends at once");
            token.cancel();
            tokio::select! { _ = terminate.recv() => {} _ = interrupt.recv() => {} }
            std::process::exit(130);
        });
        Ok(())
    }

    /// Stops everything that listens to this drain.
    pub fn start(&self) {
        self.token.cancel();
    }

    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.token.is_cancelled()
    }

    /// Returns when draining starts.
    pub async fn started(&self) {
        self.token.cancelled().await;
    }

    /// The same as an owned future, for `serve_with_shutdown` and the like.
    pub fn signal(&self) -> WaitForCancellationFutureOwned {
        self.token.clone().cancelled_owned()
    }

    #[must_use]
    pub fn token(&self) -> CancellationToken {
        self.token.clone()
    }

    /// A drain that starts with this one, or on its own without touching this one. Its tasks count here too.
    #[must_use]
    pub fn child(&self) -> Self {
        Self { token: self.token.child_token(), tasks: self.tasks.clone() }
    }

    /// Runs a task that has to finish before the process ends. It must watch [`started`](Self::started) itself.
    pub fn spawn<F>(&self, task: F) -> JoinHandle<F::Output>
    where
        F: Future<Output: Send + 'static> + Send + 'static,
    {
        self.tasks.spawn(task)
    }

    /// Runs a task that is dropped where it stands when draining starts.
    pub fn spawn_until_drain<F>(&self, task: F) -> JoinHandle<Option<F::Output>>
    where
        F: Future<Output: Send + 'static> + Send + 'static,
    {
        let token = self.token.clone();
        self.tasks.spawn(async move { token.run_until_cancelled(task).await })
    }

    /// Waits until draining starts and then until all tasks are done, at most `deadline`. The error is how many were
    /// not.
    pub async fn finish(&self, deadline: Duration) -> Result<(), usize> {
        self.started().await;
        self.tasks.close();
        tokio::time::timeout(deadline, self.tasks.wait()).await.map_err(|_| self.tasks.len())
    }
}

impl fmt::Debug for Drain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Drain")
            .field("draining", &self.is_draining())
            .field("tasks", &self.tasks.len())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn draining_waits_for_its_tasks() {
        let drain = Drain::new();
        let task = drain.spawn({
            let drain = drain.clone();
            async move {
                drain.started().await;
                tokio::task::yield_now().await;
                "done"
            }
        });
        let endless = drain.spawn_until_drain(std::future::pending::<()>());
        assert!(!drain.is_draining());
        drain.start();
        assert_eq!(drain.finish(Duration::from_secs(5)).await, Ok(()));
        assert_eq!(task.await.unwrap(), "done");
        assert_eq!(endless.await.unwrap(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_does_not_stop_is_given_up_and_counted() {
        let drain = Drain::new();
        let stuck = drain.spawn(std::future::pending::<()>());
        drain.start();
        assert_eq!(drain.finish(Duration::from_secs(10)).await, Err(1));
        stuck.abort();
    }

    #[test]
    fn a_child_stops_alone_and_with_its_parent() {
        let parent = Drain::new();
        let (one, other) = (parent.child(), parent.child());
        one.start();
        assert!(one.is_draining() && !parent.is_draining() && !other.is_draining());
        parent.start();
        assert!(other.is_draining());
    }
}
