mod gate;
mod goodwill;

use super::*;
use crate::backend::{Counters, Memory, Stopped, Survey};
use netguard_core::{
    decision::{DecisionId, Target},
    ledger::{Change, Entry},
    net::NeverBlockEntry,
    plan::{Action, Actual, Element},
    trace::TraceParent,
};
use netguard_daemon::readiness::Readiness;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};
use tokio::sync::Mutex;

mod care;

/// A firewall that a test can look into, break and slow down.
#[derive(Clone, Default)]
struct Glass(Arc<Mutex<Inside>>);

#[derive(Default)]
struct Inside {
    memory: Memory,
    broken: bool,
    takes: Duration,
    transactions: usize,
    surveys: usize,
    stopped: Vec<(Element, Stopped)>,
    /// Closed with the next transaction.
    cuts_off: Option<tokio::net::TcpListener>,
}

impl Glass {
    async fn held(&self) -> Vec<String> {
        self.0.lock().await.memory.held().elements.keys().map(ToString::to_string).collect()
    }

    async fn tamper(&self, change: impl FnOnce(&mut Actual)) {
        self.0.lock().await.memory.tamper(change);
    }
}

impl Backend for Glass {
    fn name(&self) -> &'static str {
        "glass"
    }

    async fn open(&mut self, now: Timestamp) -> Result<Survey, BackendError> {
        let mut inside = self.0.lock().await;
        inside.surveys += 1;
        inside.memory.open(now).await
    }

    async fn apply(&mut self, actions: &[Action], now: Timestamp) -> Result<(), BackendError> {
        let takes = self.0.lock().await.takes;
        tokio::time::sleep(takes).await;
        let mut inside = self.0.lock().await;
        if inside.broken {
            return Err(BackendError::Refused { program: "nft", why: "broken".into() });
        }
        inside.transactions += 1;
        inside.cuts_off = None;
        inside.memory.apply(actions, now).await
    }

    async fn read(
        &mut self,
        elements: &BTreeSet<Element>,
        now: Timestamp,
    ) -> Result<BTreeMap<Element, Timestamp>, BackendError> {
        self.0.lock().await.memory.read(elements, now).await
    }

    async fn without_effect(&mut self, elements: &[Element]) -> Vec<(Element, String)> {
        let shields = elements.iter().filter(|element| matches!(element.target, Target::Service(_)));
        shields.map(|element| (*element, "no cookies".to_owned())).collect()
    }

    async fn changed_by_others(&mut self) -> bool {
        self.0.lock().await.memory.changed_by_others().await
    }

    async fn flush(&mut self) -> Result<(), BackendError> {
        self.0.lock().await.memory.flush().await
    }

    fn counters(&self) -> Counters {
        Counters::default()
    }

    async fn stopped(&mut self, _: usize) -> Result<Vec<(Element, Stopped)>, BackendError> {
        Ok(self.0.lock().await.stopped.clone())
    }
}

/// A service with a test in the cluster's place.
struct Rig {
    firewall: Glass,
    to: mpsc::Sender<FromCluster>,
    reports: mpsc::Receiver<v1::EnforcementReport>,
    resume: watch::Receiver<Resume>,
    host: watch::Sender<HostView>,
    ready: Readiness,
    status: watch::Receiver<Status>,
    drain: Drain,
    samples: mpsc::Sender<Sample>,
    gate: crate::gate::Gate,
}

impl Rig {
    async fn start() -> Self {
        Self::with(Care::default()).await
    }

    async fn with(care: Care) -> Self {
        let firewall = Glass::default();
        let gate = crate::gate::Gate::new();
        let enforcer = Enforcer::new(firewall.clone(), ResponderMetrics::default());
        let mut enforcer = enforcer.with_gate(gate.clone());
        enforcer.mirror.set_own_name("web-1");
        enforcer.open(now()).await.unwrap();
        let (to, from_cluster) = mpsc::channel(PUSHES);
        let (resume_sender, resume) = watch::channel(Resume::default());
        let (host, view) = watch::channel(HostView::default());
        let (samples, taken) = mpsc::channel(1);
        let ready = Readiness::new();
        let service = Service::new(
            enforcer,
            Inputs { host: view, from_cluster, samples: taken },
            resume_sender,
            ResponderMetrics::default(),
            Dropped::unregistered(),
            ready.block("first snapshot"),
        )
        .with(care);
        let status = service.status.subscribe();
        let drain = Drain::new();
        drain.spawn(service.run(drain.clone()));
        let mut rig = Self {
            firewall,
            to,
            reports: mpsc::channel(1).1,
            resume,
            host,
            ready,
            status,
            drain,
            samples,
            gate,
        };
        rig.connect(1).await;
        rig
    }

    async fn connect(&mut self, number: u64) {
        let (reports, receiver) = mpsc::channel(16);
        self.reports = receiver;
        self.to.send(FromCluster::Connected { number, reports }).await.unwrap();
    }

    async fn push(&self, number: u64, of: push::Of) {
        self.to.send(FromCluster::Push { number, push: v1::Push { of: Some(of) } }).await.unwrap();
    }

    async fn snapshot(&self, number: u64, revision: u64, entries: &[Entry]) {
        let part = SnapshotPart {
            ledger_id: "ledger".into(),
            revision,
            entries: entries.to_vec(),
            last: true,
            ..SnapshotPart::default()
        };
        self.push(number, push::Of::Snapshot(part.into())).await;
    }

    async fn delta(&self, number: u64, previous: u64, revision: u64, changes: Vec<Change>) {
        let delta = Delta { previous, revision, changes, ..Delta::default() };
        self.push(number, push::Of::Delta(delta.into())).await;
    }

    async fn digest(&self, revision: u64, entries: &[Entry]) {
        let SetDigest { count, hash } = SetDigest::of(entries);
        self.push(1, push::Of::Digest(v1::Digest { revision, count, hash: hash.to_vec() })).await;
    }

    async fn report(&mut self) -> v1::EnforcementReport {
        tokio::time::timeout(Duration::from_secs(120), self.reports.recv()).await.unwrap().unwrap()
    }

    /// Waits until the firewall holds exactly this.
    async fn holds(&self, expected: &[&str]) {
        let deadline = Instant::now() + Duration::from_secs(120);
        while self.firewall.held().await != expected {
            assert!(Instant::now() < deadline, "{:?} instead of {expected:?}", self.firewall.held().await);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.drain.start();
    }
}

fn entry(element: Element, seconds: u64) -> Entry {
    Entry {
        decision: DecisionId(9),
        verb: element.verb,
        target: element.target,
        // The virtual clock of a test and the wall clock go apart: far enough not to matter.
        expires_at: now().saturating_add(Duration::from_secs(seconds)),
        trace: TraceParent::default(),
        revision: 1,
        rollout: None,
    }
}

fn block(prefix: &str) -> Entry {
    entry(Element::block(prefix.parse().unwrap()), 3600)
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_and_its_deltas_take_effect_and_are_reported() {
    let mut rig = Rig::start().await;
    assert!(!rig.ready.is_ready());
    rig.snapshot(1, 5, &[block("192.0.2.1")]).await;
    let report = rig.report().await;
    assert_eq!((report.effective_revision, report.entries, report.backend.as_str()), (5, 1, "glass"));
    assert!(report.effective_at > 0 && report.not_effective.is_empty());
    assert!(rig.ready.is_ready());

    let shield: Target = Target::Service(netguard_core::subject::Service {
        address: "10.0.0.1".parse().unwrap(),
        protocol: netguard_core::net::Protocol::TCP,
        port: 80,
    });
    let shield = entry(Element { verb: netguard_core::decision::Verb::Shield, target: shield }, 60);
    let lifted = block("192.0.2.1");
    let remove = Change::Remove { verb: lifted.verb, target: lifted.target };
    rig.delta(1, 5, 9, vec![Change::Put(block("198.51.100.0/24")), Change::Put(shield), remove]).await;
    let report = rig.report().await;
    assert_eq!((report.effective_revision, report.entries), (9, 2));
    let why: Vec<_> = report.not_effective.iter().map(|not| not.why.as_str()).collect();
    assert_eq!(why, ["no cookies"]);
    rig.holds(&["shield tcp/10.0.0.1:80", "block 198.51.100.0/24"]).await;
    assert_eq!(rig.resume.borrow().position.as_ref().map(|position| position.revision), Some(9));
    assert_eq!(rig.status.borrow().not_effective, ["shield tcp/10.0.0.1:80: no cookies"]);
}

#[tokio::test(start_paused = true)]
async fn a_gap_asks_for_a_snapshot_and_keeps_what_is_in_force() {
    let mut rig = Rig::start().await;
    rig.snapshot(1, 5, &[block("192.0.2.1")]).await;
    rig.report().await;
    rig.delta(1, 6, 7, vec![Change::Put(block("192.0.2.2"))]).await;
    rig.resume.wait_for(|resume| resume.restart == 1 && resume.position.is_none()).await.unwrap();
    // What the same subscription still brings is void.
    rig.delta(1, 5, 6, vec![Change::Put(block("192.0.2.3"))]).await;
    rig.holds(&["block 192.0.2.1"]).await;

    rig.connect(2).await;
    rig.snapshot(2, 7, &[block("192.0.2.2")]).await;
    // The first report tells what held before.
    assert_eq!(rig.report().await.effective_revision, 7);
    rig.holds(&["block 192.0.2.2"]).await;
}

#[tokio::test(start_paused = true)]
async fn digests_are_compared_and_a_difference_begins_anew() {
    let mut rig = Rig::start().await;
    let held = [block("192.0.2.1"), block("192.0.2.2")];
    rig.snapshot(1, 5, &held).await;
    rig.report().await;
    rig.digest(5, &held).await;
    let report = rig.report().await;
    assert_eq!((report.digest_revision, report.digest_equal), (5, true));
    rig.digest(5, &held[..1]).await;
    let report = rig.report().await;
    assert_eq!((report.digest_revision, report.digest_equal), (5, false));
    rig.resume.wait_for(|resume| resume.restart == 1 && resume.position.is_none()).await.unwrap();
    rig.holds(&["block 192.0.2.1", "block 192.0.2.2"]).await;
}

#[tokio::test(start_paused = true)]
async fn what_comes_during_a_transaction_becomes_one_more() {
    let mut rig = Rig::start().await;
    rig.firewall.0.lock().await.takes = Duration::from_secs(1);
    rig.snapshot(1, 1, &[]).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    for revision in 1..50 {
        rig.delta(1, revision, revision + 1, vec![Change::Put(block(&format!("192.0.2.{revision}")))]).await;
    }
    while rig.report().await.effective_revision != 50 {}
    assert_eq!(rig.firewall.held().await.len(), 49);
    assert_eq!(rig.firewall.0.lock().await.transactions, 2);
}

#[tokio::test(start_paused = true)]
async fn without_the_cluster_rules_stay_are_put_back_and_never_extended() {
    let mut rig = Rig::start().await;
    let (kept, gone) = (block("192.0.2.1"), block("192.0.2.2"));
    rig.snapshot(1, 5, &[kept.clone(), gone.clone()]).await;
    rig.report().await;
    rig.to.send(FromCluster::Lost { why: "test".into() }).await.unwrap();
    rig.status.wait_for(|status| !status.connected).await.unwrap();

    let element = |entry: &Entry| Element { verb: entry.verb, target: entry.target };
    let shorter = now().saturating_add(Duration::from_secs(1800));
    rig.firewall
        .tamper(|actual| {
            actual.elements.insert(element(&kept), shorter);
            actual.elements.remove(&element(&gone));
        })
        .await;
    rig.holds(&["block 192.0.2.1", "block 192.0.2.2"]).await;
    tokio::time::sleep(Duration::from_secs(120)).await;
    let held = rig.firewall.0.lock().await.memory.held().elements.clone();
    assert_eq!(held.get(&element(&kept)), Some(&shorter));
    assert_eq!(held.get(&element(&gone)), Some(&gone.expires_at));

    // With the cluster back it is as decided.
    rig.connect(2).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    let held = rig.firewall.0.lock().await.memory.held().elements.clone();
    assert_eq!(held.get(&element(&kept)), Some(&kept.expires_at));
}

#[tokio::test(start_paused = true)]
async fn what_others_change_is_put_right_within_a_second_and_told_by_name() {
    let mut rig = Rig::start().await;
    let held = [block("192.0.2.1"), block("192.0.2.2")];
    rig.snapshot(1, 5, &held).await;
    rig.report().await;
    let began = Instant::now();
    rig.firewall
        .tamper(|actual| {
            actual.elements.remove(&Element::block("192.0.2.2".parse().unwrap()));
            actual.elements.insert(Element::block("8.8.8.8".parse().unwrap()), Timestamp::MAX_SANE);
        })
        .await;
    let report = rig.report().await;
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    let what: Vec<_> = report.drift.iter().map(|drift| drift.what.as_str()).collect();
    assert_eq!(what, ["block 192.0.2.2 was missing", "block 8.8.8.8 was put there by somebody else"]);
    assert!(report.drift.iter().all(|drift| drift.noticed_at > 0 && drift.repaired_at >= drift.noticed_at));
    assert_eq!(rig.firewall.held().await, ["block 192.0.2.1", "block 192.0.2.2"]);

    // A storm of changes to what is not ours: looked at, at a pace, and nothing is told.
    let before = rig.firewall.0.lock().await.surveys;
    for _ in 0..1000 {
        rig.firewall.tamper(|_| {}).await;
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let surveys = rig.firewall.0.lock().await.surveys - before;
    assert!((10..=42).contains(&surveys), "{surveys} looks in 10 s");
    assert!(rig.reports.try_recv().is_err());
}

#[tokio::test(start_paused = true)]
async fn a_drift_seen_without_the_cluster_is_told_when_it_is_back() {
    let mut rig = Rig::start().await;
    rig.snapshot(1, 5, &[block("192.0.2.1")]).await;
    rig.report().await;
    rig.to.send(FromCluster::Lost { why: "test".into() }).await.unwrap();
    rig.firewall.tamper(|actual| actual.elements.clear()).await;
    while rig.firewall.held().await.is_empty() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    rig.connect(2).await;
    let report = rig.report().await;
    assert_eq!(report.drift.len(), 1, "{report:?}");
    rig.to.send(FromCluster::Lost { why: "test".into() }).await.unwrap();
    rig.connect(3).await;
    assert_eq!(rig.report().await.drift.len(), 0, "told once");
}

#[tokio::test(start_paused = true)]
async fn a_firewall_that_refuses_is_told_of_and_tried_again() {
    let mut rig = Rig::start().await;
    rig.snapshot(1, 5, &[block("192.0.2.1")]).await;
    rig.report().await;
    rig.firewall.0.lock().await.broken = true;
    rig.delta(1, 5, 6, vec![Change::Put(block("192.0.2.2"))]).await;
    let report = rig.report().await;
    assert_eq!(report.effective_revision, 5);
    assert!(report.not_effective.iter().any(|not| not.why.contains("broken")), "{report:?}");
    rig.firewall.0.lock().await.broken = false;
    while rig.report().await.effective_revision != 6 {}
    rig.holds(&["block 192.0.2.1", "block 192.0.2.2"]).await;
    assert!(rig.status.borrow().not_effective.is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_the_host_must_keep_is_released_at_once() {
    let mut rig = Rig::start().await;
    rig.snapshot(1, 5, &[block("192.0.2.0/24"), block("198.51.100.1")]).await;
    rig.report().await;
    let gateway = NeverBlockEntry { prefix: "192.0.2.1".parse().unwrap(), why: "default gateway".into() };
    rig.host.send_replace(HostView { never_block: vec![gateway], ..HostView::default() });
    let report = rig.report().await;
    assert_eq!(report.effective_revision, 5);
    assert!(report.not_effective[0].why.contains("default gateway"));
    rig.holds(&["block 198.51.100.1"]).await;
    rig.host.send_replace(HostView::default());
    assert!(rig.report().await.not_effective.is_empty());
    rig.holds(&["block 192.0.2.0/24", "block 198.51.100.1"]).await;
}

#[tokio::test(start_paused = true)]
async fn a_restart_changes_nothing_before_the_first_snapshot() {
    let mut rig = Rig::start().await;
    let before = Element::block("192.0.2.1".parse().unwrap());
    let until = now().saturating_add(Duration::from_secs(3600));
    rig.firewall.tamper(|actual| actual.elements.extend([(before, until)])).await;
    tokio::time::sleep(Duration::from_secs(120)).await;
    rig.holds(&["block 192.0.2.1"]).await;
    assert!(rig.reports.try_recv().is_err());
    rig.snapshot(1, 5, &[]).await;
    rig.report().await;
    rig.holds(&[]).await;
}
