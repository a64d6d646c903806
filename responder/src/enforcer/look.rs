//! Looking at the whole firewall: does it still hold what it should?

use super::{Enforcer, READ_ALL_FROM, Verified, drift};
use crate::backend::{Backend, BackendError};
use netguard_core::{
    plan::{Action, EXPIRY_TOLERANCE, Element, Layout, Scope},
    time::Timestamp,
};
use std::collections::BTreeSet;

impl<B: Backend> Enforcer<B> {
    /// Looks whether the firewall still holds what it should, and puts it right. `connected`: whether the cluster is
    /// there; without it nothing is extended.
    pub async fn verify(&mut self, connected: bool, clock: impl Fn() -> Timestamp) -> Verified {
        let mut drift = match self.open(clock()).await {
            Ok(repaired) => repaired,
            Err(error) => {
                tracing::error!(%error, "the firewall cannot be verified");
                return self.unverified(&error, clock());
            }
        };
        let Some(revision) = self.mirror.position().map(|position| position.revision) else {
            return Verified { drift, held: true };
        };
        // What was withheld may be tried again now.
        self.weigh(clock());
        self.tell_gate(clock());
        let now = clock();
        let layout = self.layout(now, Scope::All);
        if let Err(error) = self.ask_for_missing(&layout, now).await {
            tracing::error!(%error, "the firewall cannot be verified");
            return self.unverified(&error, now);
        }
        let soon = now.saturating_add(EXPIRY_TOLERANCE);
        let mut actions = layout.diff(&self.actual);
        if !connected {
            actions.retain(|action| !matches!(action, Action::Extend { .. }));
        }
        // What expires in this moment is no drift.
        let wrong = actions.iter().filter(|action| match action {
            Action::Add { expires_at, .. } => *expires_at > soon,
            Action::Extend { .. } | Action::SetThrottle { .. } => true,
            Action::Remove { element } => self.actual.elements.get(element).is_some_and(|held| *held > soon),
        });
        // Changes that wait anyway explain a difference, and so does a part of the firewall that was gone.
        if drift.is_empty() && !self.is_pending() {
            drift = drift::describe(wrong);
        }
        if !drift.is_empty() {
            self.metrics.drifted();
            tracing::warn!(what = drift.join("; "), "the firewall was changed by somebody else: put right");
        }
        let mut held = true;
        if connected && actions.is_empty() && !self.is_pending() {
            // All is as it should be: with a million elements, planning it once more would cost as much again.
            self.note_held(&layout, &[]).await;
            self.effective = Some((revision, now));
        } else if connected {
            drop((layout, actions));
            self.resync = true;
            held = self.enforce(clock).await;
        } else if !actions.is_empty() {
            // What was decided and has not expired is put back; nothing new is, since nothing new is known.
            let put = async {
                self.apply(&actions, clock()).await?;
                self.read_back(actions, clock()).await
            };
            if let Err(error) = put.await {
                tracing::warn!(%error, "the firewall did not take back what it had");
                self.metrics.failed();
                self.resync = true;
                held = false;
            }
        }
        Verified { drift, held }
    }

    /// A survey may miss some of a set that the kernel is enlarging in that moment, and does not tell so: what seems to
    /// be missing is asked for by name before it is believed.
    pub(super) async fn ask_for_missing(
        &mut self,
        layout: &Layout,
        now: Timestamp,
    ) -> Result<(), BackendError> {
        let missing: BTreeSet<Element> = layout.missing(&self.actual).take(READ_ALL_FROM).collect();
        // So many are not missed by chance.
        if !missing.is_empty() && missing.len() < READ_ALL_FROM {
            let held = self.backend.read(&missing, now).await?;
            self.actual.elements.extend(held);
        }
        Ok(())
    }

    fn unverified(&mut self, error: &BackendError, now: Timestamp) -> Verified {
        self.metrics.failed();
        self.resync = true;
        self.give_up(&error.to_string(), now);
        Verified { drift: vec![error.to_string()], held: false }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        backend::{Memory, Survey},
        conformance::{after, block, desired, now},
        metrics::ResponderMetrics,
    };
    use netguard_proto::convert::SnapshotPart;
    use std::collections::BTreeMap;

    /// A firewall whose surveys miss what they are told to.
    struct Hasty {
        holds: Memory,
        misses: Vec<Element>,
    }

    impl Backend for Hasty {
        fn name(&self) -> &'static str {
            "hasty"
        }

        async fn open(&mut self, now: Timestamp) -> Result<Survey, BackendError> {
            let mut survey = self.holds.open(now).await?;
            survey.actual.elements.retain(|element, _| !self.misses.contains(element));
            Ok(survey)
        }

        async fn apply(&mut self, actions: &[Action], now: Timestamp) -> Result<(), BackendError> {
            self.holds.apply(actions, now).await
        }

        async fn read(
            &mut self,
            elements: &BTreeSet<Element>,
            now: Timestamp,
        ) -> Result<BTreeMap<Element, Timestamp>, BackendError> {
            self.holds.read(elements, now).await
        }

        async fn without_effect(&mut self, _: &[Element]) -> Vec<(Element, String)> {
            Vec::new()
        }

        async fn changed_by_others(&mut self) -> bool {
            false
        }

        async fn flush(&mut self) -> Result<(), BackendError> {
            self.holds.flush().await
        }
    }

    #[tokio::test]
    async fn what_a_survey_misses_is_asked_for_before_it_is_called_drift() {
        let [kept, taken] = [block("192.0.2.1"), block("192.0.2.2")];
        let backend = Hasty { holds: Memory::default(), misses: vec![kept, taken] };
        let mut enforcer = Enforcer::new(backend, ResponderMetrics::default());
        let wanted = desired(&[(kept, after(60)), (taken, after(60))]);
        let entries = wanted.entries().collect();
        let part = SnapshotPart { ledger_id: "one".into(), entries, last: true, ..SnapshotPart::default() };
        enforcer.mirror.snapshot(part).unwrap();
        enforcer.touch_all();
        assert!(enforcer.enforce(now).await);
        assert_eq!(enforcer.verify(true, now).await, Verified { drift: Vec::new(), held: true });

        enforcer.backend_mut().holds.apply(&[Action::Remove { element: taken }], now()).await.unwrap();
        let verified = enforcer.verify(true, now).await;
        assert_eq!(verified, Verified { drift: vec!["block 192.0.2.2 was missing".into()], held: true });
    }
}
