//! Fake sensors and responders, over the wire.

use super::cluster::{Cluster, IDENTITY, PATIENCE};
use crate::wall_clock::now;
use netguard_core::{
    decision::{Target, Verb},
    evidence::{EvidenceRecord, Fact},
    ledger::{Change, Entry, SetDigest},
    rollout::{Hold, RolloutId},
    subject::Subject,
    time::Timestamp,
    trace::TraceParent,
};
use netguard_proto::{
    convert::{self, Batch, Hello},
    v1::{
        self, push, responder_service_client::ResponderServiceClient, sensor_instruction, sensor_message,
        sensor_service_client::SensorServiceClient,
    },
};
use std::{
    collections::{BTreeMap, BTreeSet},
    convert::Infallible,
    net::IpAddr,
    time::Duration,
};
use tokio::{sync::mpsc, time::timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Status, Streaming};

fn identified<T>(message: T, identity: &str) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert(IDENTITY, identity.parse().unwrap());
    request
}

pub(super) struct Sensor {
    pub(super) sender: mpsc::Sender<v1::SensorMessage>,
    instructions: Streaming<v1::SensorInstruction>,
    sequence: u64,
    pub(super) resends: usize,
}

pub(super) fn hello(id: &str) -> Hello {
    Hello {
        sensor_id: id.into(),
        epoch: 7,
        version: "test".into(),
        networks: vec!["10.0.0.0/8".parse().unwrap()],
        interfaces: vec!["eth0".into()],
        conditions: BTreeSet::new(),
    }
}

/// A scan: `ports` ports tried in vain, from the first on.
pub(super) fn scan(source: IpAddr, ports: std::ops::Range<u16>) -> EvidenceRecord {
    let at = now();
    let start = at.saturating_sub(Duration::from_millis(100));
    let mut record = EvidenceRecord::new(Subject::Source(source), start, at);
    record.counters.add(Fact::Attempt, u64::from(ports.end - ports.start));
    record.counters.add(Fact::Refused, u64::from(ports.end - ports.start));
    ports.for_each(|port| record.failed_ports.insert_port(port));
    record.failed_hosts.insert_address("10.0.0.1".parse().unwrap());
    record.seen_against("10.0.0.1".parse().unwrap());
    record
}

impl Sensor {
    pub(super) async fn connect(cluster: &Cluster, node: u64, id: &str) -> Self {
        Self::connect_as(cluster, node, &format!("sensor/{id}"), hello(id)).await
    }

    pub(super) async fn connect_as(cluster: &Cluster, node: u64, identity: &str, hello: Hello) -> Self {
        let (sender, messages) = mpsc::channel(1024);
        let first = v1::SensorMessage { of: Some(sensor_message::Of::Hello(hello.into())) };
        sender.send(first).await.unwrap();
        let mut client = SensorServiceClient::new(cluster.channel(node));
        let request = identified(ReceiverStream::new(messages), identity);
        let instructions = client.stream_evidence(request).await.unwrap().into_inner();
        Self { sender, instructions, sequence: 0, resends: 0 }
    }

    /// Sends a batch; its sequence number.
    pub(super) async fn send(&mut self, records: Vec<EvidenceRecord>) -> u64 {
        self.sequence += 1;
        self.send_as(self.sequence, records, Some(now())).await
    }

    pub(super) async fn send_as(
        &mut self,
        sequence: u64,
        records: Vec<EvidenceRecord>,
        sent_at: Option<Timestamp>,
    ) -> u64 {
        self.sequence = self.sequence.max(sequence);
        let batch = Batch { sequence, cut_at: now(), sent_at, records, ..Batch::default() };
        self.send_raw(batch.into()).await;
        sequence
    }

    /// Sends a batch that belongs to a trace.
    pub(super) async fn send_traced(&mut self, records: Vec<EvidenceRecord>, trace: &TraceParent) -> u64 {
        self.sequence += 1;
        let (sequence, trace) = (self.sequence, trace.clone());
        let batch =
            Batch { sequence, cut_at: now(), sent_at: Some(now()), records, trace, ..Batch::default() };
        self.send_raw(batch.into()).await;
        sequence
    }

    pub(super) async fn send_raw(&self, batch: v1::EvidenceBatch) {
        let of = Some(sensor_message::Of::Batch(batch));
        self.sender.send(v1::SensorMessage { of }).await.unwrap();
    }

    pub(super) async fn next(&mut self) -> Result<Option<sensor_instruction::Of>, Status> {
        let message = timeout(PATIENCE, self.instructions.message()).await.expect("nothing comes")?;
        Ok(message.and_then(|message| message.of))
    }

    pub(super) async fn acknowledged(&mut self, sequence: u64) {
        loop {
            match self.next().await.unwrap().expect("the stream goes on") {
                sensor_instruction::Of::Acknowledged(acknowledged) if acknowledged >= sequence => return,
                sensor_instruction::Of::Acknowledged(_) | sensor_instruction::Of::FlowBudget(_) => {}
                sensor_instruction::Of::Resend(_) => self.resends += 1,
            }
        }
    }

    pub(super) async fn asked_to_resend(&mut self) {
        let before = self.resends;
        while self.resends == before {
            if let sensor_instruction::Of::Resend(_) = self.next().await.unwrap().expect("the stream goes on")
            {
                self.resends += 1;
            }
        }
    }

    /// Sends these batches again whenever it is asked to, as a sensor does that retains them.
    pub(super) async fn resend_whenever_asked(&mut self, batches: &[(u64, EvidenceRecord)]) -> Infallible {
        loop {
            self.asked_to_resend().await;
            for (sequence, record) in batches {
                self.send_as(*sequence, vec![record.clone()], Some(now())).await;
            }
        }
    }

    /// How the stream ends.
    pub(super) async fn end(&mut self) -> Status {
        loop {
            match self.next().await {
                Ok(Some(_)) => {}
                Ok(None) => panic!("it ended without a reason"),
                Err(status) => return status,
            }
        }
    }
}

/// What a responder holds, and that it never saw a gap.
pub(super) struct Responder {
    pub(super) id: String,
    pushes: Streaming<v1::Push>,
    pub(super) revision: u64,
    pub(super) ledger_id: String,
    pub(super) entries: BTreeMap<(Verb, Target), Entry>,
    pub(super) holds: BTreeMap<RolloutId, Hold>,
    building: Vec<Entry>,
    holds_incoming: Vec<Hold>,
    pub(super) snapshots: usize,
    pub(super) revisions: Vec<u64>,
}

impl Responder {
    pub(super) async fn subscribe(cluster: &Cluster, node: u64, id: &str) -> Self {
        let pushes = subscribe(cluster, node, id, 0, "").await;
        Self {
            id: id.into(),
            pushes,
            revision: 0,
            ledger_id: String::new(),
            entries: BTreeMap::new(),
            holds: BTreeMap::new(),
            building: vec![],
            holds_incoming: vec![],
            snapshots: 0,
            revisions: vec![],
        }
    }

    /// Goes on at another coordinator, or at the same one.
    pub(super) async fn resubscribe(&mut self, cluster: &Cluster, node: u64) {
        self.pushes = subscribe(cluster, node, &self.id, self.revision, &self.ledger_id).await;
        self.building.clear();
    }

    pub(super) async fn report(&self, cluster: &Cluster, node: u64, reports: Vec<v1::EnforcementReport>) {
        let mut client = ResponderServiceClient::new(cluster.channel(node));
        let request = identified(tokio_stream::iter(reports), &format!("responder/{}", self.id));
        client.report(request).await.unwrap();
    }

    pub(super) async fn until_revision(&mut self, revision: u64) {
        while self.revision < revision {
            self.take_one().await;
        }
    }

    /// How the subscription ends.
    pub(super) async fn end(&mut self) -> Status {
        loop {
            match timeout(PATIENCE, self.pushes.message()).await.expect("it goes on") {
                Ok(Some(_)) => {}
                Ok(None) => panic!("it ended without a reason"),
                Err(status) => return status,
            }
        }
    }

    /// Takes messages up to a digest, which must be that of what is held.
    pub(super) async fn until_digest(&mut self) {
        while !self.take_one().await {}
    }

    /// Whether it was a digest.
    async fn take_one(&mut self) -> bool {
        let push = timeout(PATIENCE, self.pushes.message()).await.expect("nothing is pushed").unwrap();
        match push.expect("the stream goes on").of.unwrap() {
            push::Of::Snapshot(part) => {
                let part = convert::SnapshotPart::try_from(part).unwrap();
                assert!(part.revision >= self.revision, "never back in time");
                self.building.extend(part.entries);
                if self.holds_incoming.is_empty() {
                    self.holds_incoming = part.holds;
                }
                if part.last {
                    let entries = std::mem::take(&mut self.building);
                    let holds = std::mem::take(&mut self.holds_incoming);
                    self.holds = holds.into_iter().map(|hold| (hold.rollout, hold)).collect();
                    self.entries = entries.into_iter().map(|e| ((e.verb, e.target), e)).collect();
                    (self.revision, self.ledger_id) = (part.revision, part.ledger_id);
                    self.snapshots += 1;
                }
                false
            }
            push::Of::Delta(delta) => {
                let delta = convert::Delta::try_from(delta).unwrap();
                assert_eq!(delta.previous, self.revision, "no gap, no repetition");
                for change in delta.changes {
                    match change {
                        Change::Put(entry) => {
                            self.entries.insert((entry.verb, entry.target), entry);
                        }
                        Change::Remove { verb, target } => {
                            self.entries.remove(&(verb, target));
                        }
                        Change::Hold(hold) => {
                            self.holds.insert(hold.rollout, hold);
                        }
                        Change::Release(rollout) => {
                            self.holds.remove(&rollout);
                        }
                        Change::NeverBlock(_) | Change::ThrottlePerMinute(_) | Change::BreakerResets(_) => {}
                    }
                }
                self.revision = delta.revision;
                self.revisions.push(delta.revision);
                false
            }
            push::Of::Digest(digest) => {
                let mut ours = SetDigest::of(self.entries.values());
                self.holds.values().for_each(|hold| ours.hold(hold));
                assert_eq!((digest.revision, digest.count), (self.revision, ours.count));
                assert_eq!(digest.hash, ours.hash.to_vec());
                true
            }
        }
    }
}

async fn subscribe(
    cluster: &Cluster,
    node: u64,
    id: &str,
    from_revision: u64,
    ledger_id: &str,
) -> Streaming<v1::Push> {
    let request = v1::SubscribeRequest {
        from_revision,
        ledger_id: ledger_id.into(),
        version: "test".into(),
        backend: "memory".into(),
    };
    let mut client = ResponderServiceClient::new(cluster.channel(node));
    client.subscribe(identified(request, &format!("responder/{id}"))).await.unwrap().into_inner()
}
