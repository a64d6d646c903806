//! Every capture of the data directory goes through the whole pipeline: without an error, and with the same result
//! every time.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test: a panic is its report")]

use netguard_core::{
    evidence::{EvidenceRecord, Own, OwnNetworks},
    net::Prefix,
    subject::Subject,
};
use netguard_sensor::{
    capture::CaptureFile,
    pipeline::{Output, Pipeline, PipelineSettings, replay},
    read::{ReadOptions, read_file},
};
use std::{
    collections::BTreeSet,
    env, fs,
    path::{Path, PathBuf},
};

/// `NETGUARD_DATA`, or the directory beside the project. Without it the test says so, and fails in CI.
fn data() -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data");
    let data = env::var_os("NETGUARD_DATA").map_or(beside, PathBuf::from);
    if data.join("pcap").is_dir() {
        return Some(data);
    }
    assert!(env::var_os("CI").is_none(), "no captures in {}: set NETGUARD_DATA", data.display());
    println!("SKIPPED: no captures in {}: set NETGUARD_DATA", data.display());
    None
}

fn captures(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(captures(&path));
        } else if path.extension().is_some_and(|ending| ending == "pcap" || ending == "pcapng") {
            found.push(path);
        }
    }
    found.sort();
    found
}

#[test]
fn every_capture_is_read_the_same_way_every_time() {
    let Some(data) = data() else { return };
    let captures = captures(&data.join("pcap"));
    assert!(captures.len() > 50, "{} captures", captures.len());
    for path in captures {
        let lines = || {
            let mut out = Vec::new();
            read_file(&path, &ReadOptions::default(), &mut out)
                .unwrap_or_else(|error| panic!("{}: {error:#}", path.display()));
            String::from_utf8(out).unwrap()
        };
        let first = lines();
        assert!(first == lines(), "{}: two readings differ", path.display());
        let events: Vec<serde_json::Value> =
            first.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let (stats, events) = events.split_last().unwrap();
        assert_eq!(stats["event_type"], "stats");
        assert!(stats["netguard"]["frames"].as_u64().unwrap() > 0, "{}", path.display());
        for event in events {
            assert!(event["timestamp"].as_str().unwrap().ends_with("+0000"));
            assert!(matches!(event["event_type"].as_str(), Some("flow" | "evidence")), "{event}");
            if event["event_type"] == "flow" {
                assert!(event["community_id"].as_str().unwrap().starts_with("1:"));
            }
        }
    }
}

/// The hash's seed may change the order of nothing that is seen outside.
#[test]
fn the_seed_changes_nothing() {
    let Some(data) = data() else { return };
    for name in ["attack/cs_synscan.pcapng", "attack/zeek_ssh_sshguess.pcap", "benign/ndpi_gnutella.pcap"] {
        let path = data.join("pcap").join(name);
        let outputs = |seed| {
            let settings = PipelineSettings { seed, flow_events: true, ..PipelineSettings::replay() };
            let mut outputs = Vec::new();
            replay(&mut CaptureFile::open(&path).unwrap(), &mut Pipeline::new(settings), |output| {
                outputs.push(format!("{output:?}"));
            })
            .unwrap();
            outputs
        };
        assert!(outputs(1) == outputs(u64::MAX), "{name}");
    }
}

/// What a capture tells of sources, as a sensor with these networks tells it.
fn about_sources(path: &Path, own: OwnNetworks) -> Vec<EvidenceRecord> {
    let mut records = Vec::new();
    let mut pipeline = Pipeline::new(PipelineSettings { own, ..PipelineSettings::replay() });
    replay(&mut CaptureFile::open(path).unwrap(), &mut pipeline, |output| {
        if let Output::Evidence(_, record) = output
            && matches!(record.subject, Subject::Source(_))
        {
            records.push(record);
        }
    })
    .unwrap();
    records
}

/// A coordinator takes no record about a source that names no address of the sensor's networks: so each names some.
#[test]
fn evidence_about_a_source_names_the_sensors_own_addresses() {
    let Some(data) = data() else { return };
    let mut seen = 0;
    for name in ["attack/cs_synscan.pcapng", "attack/zeek_ssh_sshguess.pcap", "benign/ndpi_gnutella.pcap"] {
        let path = data.join("pcap").join(name);
        let records = about_sources(&path, OwnNetworks::Any);
        let named = |record: &EvidenceRecord| (1..=8).contains(&record.destinations.len());
        assert!(records.iter().all(named), "{}", path.display());
        let networks: BTreeSet<Prefix> = records
            .iter()
            .flat_map(|record| &record.destinations)
            .map(|address| Prefix::containing(*address, if address.is_ipv4() { 24 } else { 64 }))
            .take(2)
            .collect();
        let networks: Vec<_> = networks.into_iter().collect();
        let own = Own { networks: networks.clone(), ..Own::default() };
        for record in about_sources(&path, OwnNetworks::Known(own)) {
            let lies_within = |address| networks.iter().any(|network| network.contains(address));
            assert!(named(&record) && record.destinations.iter().copied().all(lies_within), "{record:?}");
            seen += 1;
        }
    }
    assert!(seen > 0, "nothing was told");
}
