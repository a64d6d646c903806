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
    records::{RecordFormat, RecordType},
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
            let known = ["flow", "evidence", "http", "dns", "tls", "ssh", "login", "dhcp", "arp", "anomaly"];
            assert!(known.iter().any(|known| event["event_type"] == *known), "{event}");
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

/// Events of one type in a capture.
fn events(path: &Path, of: RecordType) -> Vec<serde_json::Value> {
    let options = ReadOptions { types: vec![of], ..ReadOptions::default() };
    let mut out = Vec::new();
    read_file(path, &options, &mut out).unwrap();
    let text = String::from_utf8(out).unwrap();
    assert!(!text.contains(|c: char| c.is_control() && c != '\n'), "{}", path.display());
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn what_flows_say_is_told_in_suricatas_names_and_tied_to_its_flow() {
    let Some(data) = data() else { return };
    let at = |name: &str| data.join("pcap").join(name);
    let told = |name: &str, of, pointers: &[&str]| {
        let path = at(name);
        let (said, flows) = (events(&path, of), events(&path, RecordType::Flow));
        let ids: BTreeSet<_> = flows.iter().map(|flow| flow["flow_id"].as_u64().unwrap()).collect();
        assert!(!said.is_empty(), "{name}");
        for event in &said {
            assert!(ids.contains(&event["flow_id"].as_u64().unwrap()), "{event}");
        }
        let has_all =
            |event: &&serde_json::Value| pointers.iter().all(|pointer| event.pointer(pointer).is_some());
        said.iter()
            .find(has_all)
            .unwrap_or_else(|| panic!("{name}: none has {pointers:?}: {:?}", said.first()))
            .clone()
    };
    let http = ["/http/hostname", "/http/url", "/http/http_method", "/http/http_user_agent", "/http/status"];
    assert_eq!(told("benign/cs_http_espn.pcapng", RecordType::Http, &http)["app_proto"], "http");
    let ssh = ["/ssh/client/software_version", "/ssh/server/software_version", "/ssh/client/proto_version"];
    assert_eq!(
        told("attack/zeek_ssh_sshguess.pcap", RecordType::Ssh, &ssh)["ssh"]["client"]["proto_version"],
        "2.0"
    );
    let dns = ["/dns/rrname", "/dns/rrtype", "/dns/rcode", "/dns/answers/0/rdata"];
    assert_eq!(
        told("benign/ndpi_443-firefox.pcap", RecordType::Tls, &["/tls/sni", "/tls/ja4", "/tls/version"])["proto"],
        "TCP"
    );
    assert_eq!(told("benign/cs_http_espn.pcapng", RecordType::Dns, &dns)["dns"]["type"], "answer");
}

#[test]
fn each_format_has_the_same_flows() {
    let Some(data) = data() else { return };
    for name in ["attack/cs_synscan.pcapng", "attack/zeek_ssh_sshguess.pcap", "benign/ark_v6.pcap"] {
        let path = data.join("pcap").join(name);
        let lines = |format| {
            let mut out = Vec::new();
            let options = ReadOptions { format, types: vec![RecordType::Flow], ..ReadOptions::default() };
            read_file(&path, &options, &mut out).unwrap();
            let text = String::from_utf8(out).unwrap();
            text.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect::<Vec<_>>()
        };
        let (eve, json, rows) =
            (lines(RecordFormat::Eve), lines(RecordFormat::ZeekJson), lines(RecordFormat::Zeek));
        assert!(!eve.is_empty() && eve.len() == json.len() && json.len() == rows.len(), "{name}");
        for ((eve, json), row) in eve.iter().zip(&json).zip(&rows) {
            let (eve, json): (serde_json::Value, serde_json::Value) =
                (serde_json::from_str(eve).unwrap(), serde_json::from_str(json).unwrap());
            let columns: Vec<_> = row.split('\t').collect();
            assert_eq!((columns.len(), json["uid"].as_str()), (22, Some(columns[1])));
            assert_eq!(eve["community_id"], json["community_id"]);
            assert_eq!(eve["community_id"].as_str(), Some(columns[21]));
            assert_eq!(eve["flow"]["bytes_toserver"], json["orig_ip_bytes"]);
            assert_eq!(eve["netguard"]["conn_state"].as_str(), Some(columns[11]));
        }
    }
}
