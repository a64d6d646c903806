//! Captures sent over an interface as fast as it takes them are read live as they are from their files.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test: a panic is its report")]

mod world;

use netguard_core::{evidence::Fact, packet::LinkType};
use netguard_sensor::{
    capture::{
        CaptureFile, Frame, FrameSource, LiveError, LiveOptions, LiveSource, Next, RingOptions, SourceKind,
    },
    pipeline::{ChecksumPolicy, Output, Pipeline, PipelineSettings, replay},
};
use std::{
    collections::BTreeMap,
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicBool, Ordering},
    thread,
};
use world::{World, inside, run};

/// A live source that ends when the sender has, and nothing came for a while after.
struct UntilSilent<'a> {
    source: LiveSource,
    is_sent: &'a AtomicBool,
    quiet: usize,
    frames: u64,
}

impl FrameSource for UntilSilent<'_> {
    type Error = LiveError;

    fn next(&mut self) -> Result<Next<'_>, LiveError> {
        match self.source.next()? {
            Next::Frame(frame) => {
                self.frames += 1;
                self.quiet = 0;
                Ok(Next::Frame(frame))
            }
            Next::Quiet if self.quiet < 4 || !self.is_sent.load(Ordering::Relaxed) => {
                self.quiet += 1;
                Ok(Next::Quiet)
            }
            Next::Quiet | Next::End => Ok(Next::End),
        }
    }

    fn dropped(&mut self) -> Option<u64> {
        self.source.dropped()
    }
}

/// What came of it, without times: packets and bytes of each flow, and handshakes of each subject.
type Outcome = BTreeMap<String, (u64, u64)>;

fn outcome<S: FrameSource>(source: &mut S) -> Outcome
where
    S::Error: std::fmt::Debug,
{
    let settings = PipelineSettings {
        flow_events: true,
        // On the way through an interface some are written anew.
        checksums: ChecksumPolicy::Ignore,
        ..PipelineSettings::replay()
    };
    let (mut pipeline, mut seen) = (Pipeline::new(settings), Outcome::new());
    replay(source, &mut pipeline, |output| match output {
        Output::Flow(flow) => {
            let (packets, bytes) = (
                flow.to_server.packets + flow.to_client.packets,
                flow.to_server.bytes + flow.to_client.bytes,
            );
            let entry = seen.entry(format!("flow {:?}", flow.flow)).or_default();
            *entry = (entry.0 + packets, entry.1 + bytes);
        }
        Output::Evidence(_, record) => {
            // What time has no part in.
            let entry = seen.entry(format!("handshakes of {}", record.subject)).or_default();
            entry.0 += record.counters.get(Fact::Handshake);
        }
        Output::Transaction(_) => {}
    })
    .unwrap();
    seen
}

fn count(path: &Path, mut wanted: impl FnMut(&Frame<'_>) -> bool) -> Option<u64> {
    let (mut file, mut count) = (CaptureFile::open(path).ok()?, 0);
    loop {
        match file.next() {
            Ok(Next::Frame(frame)) if wanted(&frame) => count += 1,
            Ok(Next::End) => return Some(count),
            _ => return None,
        }
    }
}

/// Captures of whole Ethernet frames that an interface takes.
fn captures() -> Vec<PathBuf> {
    let data = env::var_os("NETGUARD_DATA")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data"), PathBuf::from);
    [
        "attack/ef_TCP_CONNECT_SCAN.pcap",
        "attack/zeek_ssh_sshguess.pcap",
        "attack/cs_synscan.pcapng",
        "benign/ndpi_ftp.pcap",
        "benign/ndpi_imap.pcap",
    ]
    .iter()
    .map(|name| data.join("pcap").join(name))
    .filter(|path| path.exists())
    .filter(|path| {
        let fits = |frame: &Frame<'_>| {
            frame.link == LinkType::Ethernet
                && (14..9_000).contains(&frame.bytes.len())
                && frame.bytes.len() == frame.wire_length as usize
        };
        count(path, fits).is_some()
    })
    .collect()
}

#[test]
fn a_capture_sent_at_top_speed_is_read_as_from_its_file() {
    let Some(world) = World::make("replay") else { return };
    if Command::new("tcpreplay").arg("--version").output().is_err() {
        assert!(env::var_os("CI").is_none(), "no tcpreplay: scripts/install-tools.sh installs it");
        println!("SKIPPED: no tcpreplay: scripts/install-tools.sh installs it");
        return;
    }
    // Nobody but the sender speaks, and nobody answers.
    for namespace in [&world.outside, &world.host] {
        inside(namespace, || fs::write("/proc/sys/net/ipv6/conf/all/disable_ipv6", "1").unwrap());
        for line in ["addr flush dev eth0", "link set eth0 mtu 9000", "link set eth0 arp off"] {
            assert!(
                run(&["-n", namespace].into_iter().chain(line.split(' ')).collect::<Vec<_>>()),
                "ip {line}"
            );
        }
    }
    let captures = captures();
    assert!(captures.len() >= 3 || env::var_os("CI").is_none(), "only {captures:?}");
    for path in captures {
        let sent = count(&path, |_| true).unwrap();
        let ring = RingOptions { bytes: 64 << 20, snap_length: 9_100, ..RingOptions::default() };
        let options = LiveOptions { source: SourceKind::Ring, ring };
        let source = inside(&world.host, || LiveSource::open("eth0", &options, &[], None)).unwrap();
        let is_sent = AtomicBool::new(false);
        let mut live = UntilSilent { source, is_sent: &is_sent, quiet: 0, frames: 0 };
        let seen = thread::scope(|scope| {
            let sender = scope.spawn(|| {
                let sender = Command::new("ip")
                    .args(["netns", "exec", &world.outside, "tcpreplay", "--topspeed", "-q", "-i", "eth0"])
                    .arg(&path)
                    .output();
                is_sent.store(true, Ordering::Relaxed);
                sender.unwrap()
            });
            let seen = outcome(&mut live);
            let sender = sender.join().unwrap();
            assert!(sender.status.success(), "{}", String::from_utf8_lossy(&sender.stderr));
            seen
        });
        let name = path.file_name().unwrap().display();
        assert_eq!((live.frames, live.dropped()), (sent, Some(0)), "{name}");
        let from_file = outcome(&mut CaptureFile::open(&path).unwrap());
        assert!(!from_file.is_empty());
        for (what, figures) in &from_file {
            assert_eq!(seen.get(what), Some(figures), "{what} in {name}");
        }
        assert_eq!(seen.len(), from_file.len(), "{name}");
        println!("{name}: {sent} packets, {} facts", seen.len());
    }
}
