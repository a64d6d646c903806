//! What is looked at all the time while a schedule runs: whether blocked sources get a packet through, whether the
//! host can be managed, whether it reaches a coordinator.
//!
//! Invariant: nothing here depends on a firewall's own counters: what counts is what a socket of the host was handed.

use super::record::Record;
use crate::world::namespace::Namespace;
use anyhow::Context;
use netguard_core::net::canonical;
use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    sync::{Arc, Condvar, Mutex, PoisonError},
    thread::JoinHandle,
    time::{Duration, Instant},
};

/// Where the host takes datagrams, and where it would have its ssh server.
const DATAGRAMS: u16 = 40_000;
const MANAGEMENT: u16 = 22;
/// Between two datagrams of one source: no opening longer than this stays unseen.
const SEND_INTERVAL: Duration = Duration::from_millis(5);
/// Between two connections.
const DIAL_INTERVAL: Duration = Duration::from_millis(50);
/// A connection that takes longer failed.
const DIAL_TIMEOUT: Duration = Duration::from_millis(500);
/// How long a socket waits before it is asked whether it is still wanted.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// Running probes. They end when dropped.
#[derive(Debug)]
pub(crate) struct Probes {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    began: Instant,
    stop: Mutex<bool>,
    stopped: Condvar,
    record: Mutex<Record>,
}

impl Shared {
    fn wanted(&self) -> bool {
        !*self.stop.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets some time pass, less when the probes end; whether they go on.
    fn pause(&self, length: Duration) -> bool {
        let stop = self.stop.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.stopped.wait_timeout_while(stop, length, |stop| !*stop);
        !*waited.unwrap_or_else(PoisonError::into_inner).0
    }

    /// Since the probes began.
    fn now(&self) -> Duration {
        self.began.elapsed()
    }

    fn note(&self, note: impl FnOnce(&mut Record)) {
        note(&mut self.record.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

impl Probes {
    /// Sends from `senders` to `host`, manages it from `admin`, and dials the coordinators from it.
    pub(crate) fn start(
        host: &Namespace,
        senders: &[&Namespace],
        admin: &Namespace,
        coordinators: &[SocketAddr],
    ) -> anyhow::Result<Self> {
        let shared = Arc::new(Shared {
            began: Instant::now(),
            stop: Mutex::default(),
            stopped: Condvar::new(),
            record: Mutex::default(),
        });
        let mut probes = Self { shared, threads: Vec::new() };
        let receiver = host.within(|| UdpSocket::bind((Ipv6Addr::UNSPECIFIED, DATAGRAMS)))??;
        receiver.set_read_timeout(Some(LOOK_INTERVAL))?;
        probes.thread(move |shared| receive(shared, &receiver))?;
        let listener = host.within(|| TcpListener::bind((Ipv6Addr::UNSPECIFIED, MANAGEMENT)))??;
        listener.set_nonblocking(true)?;
        probes.thread(move |shared| greet(shared, &listener))?;

        let targets: [SocketAddr; 2] =
            [(host.address(), DATAGRAMS).into(), (host.address6(), DATAGRAMS).into()];
        for sender in senders {
            sender.keep_neighbour(host)?;
            let v4 = sender.within(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)))??;
            let v6 = sender.within(|| UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)))??;
            probes.thread(move |shared| send(shared, [&v4, &v6], targets))?;
        }
        let (inside, management) = (admin.clone(), [(host.address(), MANAGEMENT).into()]);
        probes.thread(move |shared| {
            dial(shared, &inside, &management, |record, at| record.managed.push(at));
        })?;
        let (inside, coordinators) = (host.clone(), coordinators.to_vec());
        probes.thread(move |shared| {
            dial(shared, &inside, &coordinators, |record, at| record.reached.push(at));
        })?;
        Ok(probes)
    }

    fn thread(&mut self, work: impl FnOnce(&Shared) + Send + 'static) -> anyhow::Result<()> {
        let shared = self.shared.clone();
        let thread = std::thread::Builder::new().name("probe".into());
        self.threads.push(thread.spawn(move || work(&shared)).context("cannot start a probe")?);
        Ok(())
    }

    /// Since the probes began.
    pub(crate) fn now(&self) -> Duration {
        self.shared.now()
    }

    /// Whether a datagram that was sent since then arrived.
    pub(crate) fn arrived_since(&self, source: IpAddr, since: Duration) -> bool {
        self.last_arrival(source).is_some_and(|last| last >= since)
    }

    /// When the last datagram that arrived was sent.
    pub(crate) fn last_arrival(&self, source: IpAddr) -> Option<Duration> {
        let record = self.shared.record.lock().unwrap_or_else(PoisonError::into_inner);
        record.arrivals.get(&source).and_then(|sent| sent.last()).copied()
    }

    /// Ends the probes; what they saw, and for how long they looked.
    pub(crate) fn finish(mut self) -> Record {
        self.end();
        let mut record =
            std::mem::take(&mut *self.shared.record.lock().unwrap_or_else(PoisonError::into_inner));
        record.length = self.now();
        record
    }

    fn end(&mut self) {
        *self.shared.stop.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.shared.stopped.notify_all();
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl Drop for Probes {
    fn drop(&mut self) {
        self.end();
    }
}

/// Each datagram says when it was sent: one that was on its way when a rule came is not counted against the rule.
fn send(shared: &Shared, sockets: [&UdpSocket; 2], targets: [SocketAddr; 2]) {
    while shared.pause(SEND_INTERVAL) {
        let at = u64::try_from(shared.now().as_micros()).unwrap_or(u64::MAX).to_be_bytes();
        for (socket, target) in sockets.into_iter().zip(targets) {
            // A full queue loses one datagram of many.
            let _ = socket.send_to(&at, target);
        }
    }
}

fn receive(shared: &Shared, socket: &UdpSocket) {
    let mut buffer = [0; 8];
    while shared.wanted() {
        if let Ok((8, from)) = socket.recv_from(&mut buffer) {
            let sent = Duration::from_micros(u64::from_be_bytes(buffer));
            shared.note(|record| record.arrivals.entry(canonical(from.ip())).or_default().push(sent));
        }
    }
}

fn greet(shared: &Shared, listener: &TcpListener) {
    // A connection that stands is all that is asked for.
    while shared.pause(LOOK_INTERVAL) {
        while listener.accept().is_ok() {}
    }
}

/// Dials one after the other until one answers.
fn dial(
    shared: &Shared,
    inside: &Namespace,
    targets: &[SocketAddr],
    note: impl Fn(&mut Record, Duration) + Copy,
) {
    if inside.enter().is_err() {
        // Without a single success in the record the schedule fails.
        return;
    }
    while shared.pause(DIAL_INTERVAL) {
        if targets.iter().any(|target| TcpStream::connect_timeout(target, DIAL_TIMEOUT).is_ok()) {
            let at = shared.now();
            shared.note(|record| note(record, at));
        }
    }
}

/// What arrived, by source.
pub(crate) type Arrivals = BTreeMap<IpAddr, Vec<Duration>>;
