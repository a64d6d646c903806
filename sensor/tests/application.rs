//! What flows of real captures say, beside what an independent reader (tshark 4.0.17) counts in them.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test: a panic is its report")]

use netguard_core::{
    application::{ApplicationLimits, Fields, Service, Transaction},
    flow::FlowSummary,
};
use netguard_sensor::{
    capture::CaptureFile,
    pipeline::{Output, Pipeline, PipelineSettings, replay},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    env,
    path::{Path, PathBuf},
};

/// `NETGUARD_DATA`, or the directory beside the project. Without it the test says so, and fails in CI.
fn data() -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data");
    let data = env::var_os("NETGUARD_DATA").map_or(beside, PathBuf::from).join("pcap");
    if data.is_dir() {
        return Some(data);
    }
    assert!(env::var_os("CI").is_none(), "no captures in {}: set NETGUARD_DATA", data.display());
    println!("SKIPPED: no captures in {}: set NETGUARD_DATA", data.display());
    None
}

#[derive(Debug, Default)]
struct Heard {
    said: Vec<Transaction>,
    flows: Vec<FlowSummary>,
    counters: BTreeMap<&'static str, (u64, bool)>,
}

fn hear(path: &Path) -> Heard {
    let settings = PipelineSettings {
        flow_events: true,
        application: Some(ApplicationLimits::default()),
        ..PipelineSettings::replay()
    };
    let mut pipeline = Pipeline::new(settings);
    let mut heard = Heard::default();
    replay(&mut CaptureFile::open(path).unwrap(), &mut pipeline, |output| match output {
        Output::Transaction(transaction) => heard.said.push(transaction),
        Output::Flow(flow) => heard.flows.push(flow),
        Output::Evidence(..) => {}
    })
    .unwrap();
    heard.counters = pipeline.counters();
    heard
}

/// How many there are of each in a capture. tshark's counts are of `http.request`, `http.response`, `dns`, TLS
/// ClientHellos over TCP, `ssh.protocol` and `dhcp`; where ours differ from them, the reason stands beside.
const EXPECTED: &[(&str, [usize; 6])] = &[
    // requests, answers, DNS messages, hellos, banners, DHCP messages
    ("attack/cs_arppoison.pcapng", [15, 15, 54, 0, 0, 0]),
    ("attack/cs_http_dvwa_directorytraversal.pcapng", [1, 1, 0, 0, 0, 0]),
    ("attack/cs_http_dvwa_sqlinjection.pcapng", [3, 3, 0, 0, 0, 0]),
    // tshark counts no head without end: 6.
    ("attack/doup_slowloris.pcap", [7, 0, 0, 0, 0, 0]),
    ("attack/ndpi_dns-tunnel-iodine.pcap", [0, 0, 434, 0, 0, 0]),
    ("attack/ndpi_xss.pcap", [1, 1, 0, 0, 0, 0]),
    ("attack/slips_test-cc_test-cc-capture-2.pcap", [0, 0, 495, 22, 0, 0]),
    ("attack/zeek_dhcp_dhcp_flood.pcap", [0, 0, 0, 0, 0, 500]),
    ("attack/zeek_ssh_sshguess.pcap", [0, 0, 0, 0, 22, 0]),
    ("benign/cs_http_espn_fail.pcapng", [7, 7, 14, 0, 0, 0]),
    ("benign/ndpi_443-firefox.pcap", [0, 0, 0, 1, 0, 0]),
    ("benign/ndpi_chrome.pcap", [0, 0, 0, 6, 0, 0]),
    ("benign/ndpi_mysql.pcapng", [0, 0, 0, 1, 0, 0]),
    ("benign/ndpi_nintendo.pcap", [0, 0, 12, 2, 0, 0]),
    ("benign/ndpi_ssh.pcap", [0, 0, 0, 0, 2, 0]),
];

fn counted(heard: &Heard) -> [usize; 6] {
    let mut counts = [0; 6];
    let [requests, answers, dns, hellos, banners, dhcp] = &mut counts;
    for transaction in &heard.said {
        match &transaction.fields {
            Fields::Http(http) => {
                *requests += usize::from(!http.method.is_empty());
                *answers += usize::from(http.status.is_some());
            }
            Fields::Dns(_) => *dns += 1,
            Fields::Tls(tls) => *hellos += usize::from(tls.ja4.is_some()),
            Fields::Ssh(ssh) => {
                *banners += [&ssh.client, &ssh.server].iter().filter(|end| !end.is_empty()).count()
            }
            Fields::Dhcp(_) => *dhcp += 1,
            _ => {}
        }
    }
    counts
}

#[test]
fn as_much_is_said_as_an_independent_reader_counts() {
    let Some(data) = data() else { return };
    for (name, expected) in EXPECTED {
        let heard = hear(&data.join(name));
        assert_eq!(counted(&heard), *expected, "{name}");
        let anomalies = heard.said.iter().filter(|said| matches!(said.fields, Fields::Anomaly(_))).count();
        assert_eq!(anomalies, 0, "{name}: honest traffic, as far as its format goes");
    }
}

#[test]
fn chromes_hello_has_the_fingerprint_that_is_published() {
    let Some(data) = data() else { return };
    let heard = hear(&data.join("benign/ndpi_chrome.pcap"));
    let hellos = heard.said.iter().filter_map(|said| match &said.fields {
        Fields::Tls(tls) => Some((tls.server_name.to_text(), tls.ja4?.to_string(), tls.cipher)),
        _ => None,
    });
    let hellos: BTreeSet<_> = hellos.collect();
    let name = || "www.iit.cnr.it".to_owned();
    // The second is a resumption: one extension more, `pre_shared_key`, for the padding.
    let expected = ["t13d1516h2_8daaf6152771_9b887d9acb53", "t13d1516h2_8daaf6152771_e5627efa2ab1"]
        .map(|ja4| (name(), ja4.to_owned(), Some(0x1302)));
    assert_eq!(hellos, expected.into());
}

#[test]
fn logins_in_clear_are_told_with_their_users() {
    let Some(data) = data() else { return };
    let logins = [
        ("benign/ndpi_ftp.pcap", Service::Ftp, "anonymous"),
        ("benign/ndpi_imap.pcap", Service::Imap, "samir"),
        ("benign/ndpi_mysql.pcapng", Service::Mysql, "admin"),
        ("benign/zeek_smtp.pcap", Service::Smtp, "gurpartap@patriots.in"),
    ];
    for (name, service, user) in logins {
        let heard = hear(&data.join(name));
        let told: Vec<_> = heard
            .said
            .iter()
            .filter_map(|said| match &said.fields {
                Fields::Login(login) => Some((login.service, login.user.to_text(), login.success)),
                _ => None,
            })
            .collect();
        assert_eq!(told, [(service, user.to_owned(), true)], "{name}");
    }
}

#[test]
fn services_are_known_by_what_is_spoken() {
    let Some(data) = data() else { return };
    let services = [
        ("benign/ndpi_irc.pcap", "irc", 1),
        ("benign/ndpi_vnc.pcap", "rfb", 2),
        ("benign/ndpi_bittorrent.pcap", "bittorrent", 24),
        ("benign/ndpi_rtsp.pcap", "rtsp", 7),
        ("benign/ndpi_snmp.pcap", "snmp", 17),
        // Two of them in IPv6 over IPv4.
        ("benign/ndpi_syslog.pcap", "syslog", 22),
        ("benign/ndpi_wireguard.pcap", "wireguard", 2),
        ("benign/ndpi_modbus.pcap", "modbus", 1),
        ("benign/ndpi_s7comm.pcap", "s7comm", 1),
        ("benign/zeek_rdp_rdp-to-ssl.pcap", "rdp", 2),
        ("benign/zeek_smb_smb2.pcap", "smb", 1),
        ("benign/zeek_postgresql_greenhouse-app.pcap", "postgresql", 2),
        ("benign/zeek_krb_kinit.pcap", "krb", 94),
        ("benign/zeek_nfs_nfs_write.pcap", "rpc", 10),
        ("benign/zeek_ssh_ssh.pcap", "ssh", 22),
        ("benign/ark_http2-nghttp2.pcap", "http2", 1),
        ("benign/suri_sip-method_sip.pcap", "sip", 6),
        ("attack/stop_amp.UDP.isakmp.pcap", "isakmp", 3_978),
    ];
    for (name, service, expected) in services {
        let heard = hear(&data.join(name));
        let applications = heard.flows.iter().filter_map(|flow| flow.application?.service);
        assert_eq!(applications.filter(|spoken| spoken.name() == service).count(), expected, "{name}");
    }
}

/// Every capture, whatever is in it: within the bounds, and nothing given up for want of room.
#[test]
fn every_capture_is_read_without_loss() {
    let Some(data) = data() else { return };
    let mut files = 0;
    for directory in ["attack", "benign"] {
        for entry in std::fs::read_dir(data.join(directory)).unwrap() {
            let path = entry.unwrap().path();
            let heard = hear(&path);
            let lost = heard
                .counters
                .iter()
                .filter(|(name, (_, is_loss))| name.starts_with("application.") && *is_loss);
            assert_eq!(lost.collect::<Vec<_>>(), [], "{}", path.display());
            files += 1;
        }
    }
    assert!(files > 50, "{files} captures");
}
