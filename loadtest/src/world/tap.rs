//! A tap on an attacker's own wire: when its first packet left, and how many did.

use super::namespace::{INTERFACE, Namespace};
use anyhow::{Context, bail};
use netguard_core::time::Timestamp;
use pnet_datalink::{Channel, Config};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// How long a read may block before the tap looks whether it is still wanted.
const READ_TIMEOUT: Duration = Duration::from_millis(50);

/// Watches the IPv4 TCP packets that leave a namespace.
#[derive(Debug)]
pub struct Tap {
    shared: Arc<Shared>,
    thread: Option<std::thread::JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    stop: AtomicBool,
    /// When each of the first packets left, in microseconds since the Unix epoch; 0: not yet.
    sent_at: [AtomicU64; REMEMBERED],
    packets: AtomicU64,
}

/// Packets whose time is remembered: more than any threshold of a scan.
const REMEMBERED: usize = 64;

impl Tap {
    /// Starts to listen; everything sent after this returns is seen.
    pub fn open(namespace: &Namespace) -> anyhow::Result<Self> {
        let shared = Arc::new(Shared {
            stop: AtomicBool::new(false),
            sent_at: [const { AtomicU64::new(0) }; REMEMBERED],
            packets: AtomicU64::new(0),
        });
        let own_mac = namespace.within(interface)??.mac.context("the interface has no MAC address")?;
        let mut receiver = namespace.within(|| -> anyhow::Result<_> {
            let config = Config { read_timeout: Some(READ_TIMEOUT), ..Config::default() };
            match pnet_datalink::channel(&interface()?, config)? {
                Channel::Ethernet(_, receiver) => Ok(receiver),
                _ => bail!("{INTERFACE} is no Ethernet interface"),
            }
        })??;
        let thread = std::thread::Builder::new().name("tap".into()).spawn({
            let shared = shared.clone();
            move || {
                while !shared.stop.load(Ordering::Relaxed) {
                    let frame = match receiver.next() {
                        Ok(frame) => frame,
                        Err(error) if error.kind() == std::io::ErrorKind::TimedOut => continue,
                        // The interface is gone.
                        Err(_) => return,
                    };
                    if is_sent_tcp(frame, own_mac) {
                        // This thread alone counts.
                        let number = shared.packets.load(Ordering::Relaxed);
                        if let Some(at) = usize::try_from(number).ok().and_then(|n| shared.sent_at.get(n)) {
                            at.store(now().as_micros(), Ordering::Relaxed);
                        }
                        shared.packets.store(number + 1, Ordering::Release);
                    }
                }
            }
        })?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// When the first packet left.
    #[must_use]
    pub fn first_packet(&self) -> Option<Timestamp> {
        self.sent(1)
    }

    /// When the `number`th packet left, counted from 1; only the first 64 are remembered.
    #[must_use]
    pub fn sent(&self, number: usize) -> Option<Timestamp> {
        let at = self.shared.sent_at.get(number.checked_sub(1)?)?.load(Ordering::Acquire);
        (at > 0).then(|| Timestamp::from_micros(at))
    }

    /// How many have left.
    #[must_use]
    pub fn packets(&self) -> u64 {
        self.shared.packets.load(Ordering::Acquire)
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn interface() -> anyhow::Result<pnet_datalink::NetworkInterface> {
    pnet_datalink::interfaces()
        .into_iter()
        .find(|interface| interface.name == INTERFACE)
        .context("the namespace has no eth0")
}

/// Whether a frame is IPv4 with TCP and was sent from here: an attacker's answers come in on the same wire.
fn is_sent_tcp(frame: &[u8], own_mac: pnet_datalink::MacAddr) -> bool {
    frame.get(6..12) == Some(&own_mac.octets())
        && frame.get(12..14) == Some(&[0x08, 0x00])
        && frame.get(23) == Some(&6)
}

/// The machine's clock, which every process in the world shares.
#[must_use]
pub fn now() -> Timestamp {
    let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_micros(u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX))
}
