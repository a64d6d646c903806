use super::{
    ConnLog, Context, Framing as _, Identifiers, LocalNetworks, NoNetworks, Record, RecordFormat, Rendering,
    safe::write_line, zeek::escape,
};
use netguard_core::{
    flow::{ConnState, EndReason, FlowId, FlowState, FlowSummary, History, IcmpErrors, Traffic},
    net::Protocol,
    packet::{TcpFlags, Tuple},
    time::Timestamp,
};
use proptest::prelude::*;
use serde_json::{Value, json};

fn summary() -> FlowSummary {
    FlowSummary {
        id: FlowId::new(3, 7),
        flow: Tuple {
            source: "192.0.2.9".parse().unwrap(),
            destination: "10.0.0.5".parse().unwrap(),
            protocol: Protocol::TCP,
            source_port: 40_000,
            destination_port: 902,
        },
        start: Timestamp::from_micros(1_700_000_000_123_456),
        end: Timestamp::from_micros(1_700_000_002_000_006),
        to_server: Traffic { packets: 6, bytes: 812, payload: 500, flags: TcpFlags(0x1b) },
        to_client: Traffic { packets: 5, bytes: 4_660, payload: 4_400, flags: TcpFlags(0x1b) },
        state: FlowState::Closed,
        reason: EndReason::Timeout,
        picked_up: false,
        conn_state: ConnState::Sf,
        history: History::default(),
        icmp_errors: IcmpErrors::default(),
        application: None,
        vlan: Some(7),
        tunnel: None,
    }
}

fn line(format: RecordFormat, summary: FlowSummary, service: Option<&'static str>) -> Option<String> {
    let mut record = Record::of_flow(summary);
    if let Record::Flow(flow) = &mut record {
        flow.service = service;
    }
    let networks = LocalNetworks(vec!["10.0.0.0/8".parse().unwrap()]);
    let context = Context { identifiers: Identifiers::new(0, 0), interface: "eth0", is_local: &networks };
    let mut rendering = Rendering::new(format);
    rendering.line(&record, &context).map(|line| String::from_utf8(line.to_vec()).unwrap())
}

#[test]
fn a_flow_is_suricatas_flow_event_to_the_letter() {
    let shown = line(RecordFormat::Eve, summary(), Some("ssh")).unwrap();
    let id = Identifiers::new(0, 0).flow_id(FlowId::new(3, 7));
    assert!(id < 1 << 51);
    let wanted = format!(
        concat!(
            r#"{{"timestamp":"2023-11-14T22:13:22.000006+0000","flow_id":{id},"in_iface":"eth0","event_type":"flow","#,
            r#""src_ip":"192.0.2.9","src_port":40000,"dest_ip":"10.0.0.5","dest_port":902,"proto":"TCP","#,
            r#""community_id":"1:{community}","app_proto":"ssh","vlan":[7],"#,
            r#""flow":{{"pkts_toserver":6,"pkts_toclient":5,"bytes_toserver":812,"bytes_toclient":4660,"#,
            r#""start":"2023-11-14T22:13:20.123456+0000","end":"2023-11-14T22:13:22.000006+0000","age":1,"#,
            r#""state":"closed","reason":"timeout","alerted":false}},"#,
            r#""tcp":{{"tcp_flags":"1b","tcp_flags_ts":"1b","tcp_flags_tc":"1b","syn":true,"fin":true,"psh":true,"ack":true}},"#,
            r#""netguard":{{"picked_up":false,"conn_state":"SF","history":"","payload_toserver":500,"payload_toclient":4400}}}}"#,
            "\n"
        ),
        id = id,
        community = netguard_core::flow::community_id(&summary().flow).strip_prefix("1:").unwrap(),
    );
    assert_eq!(shown, wanted);
}

#[test]
fn icmp_has_a_type_and_a_code_instead_of_ports() {
    let echo = FlowSummary {
        flow: Tuple { protocol: Protocol::ICMP, source_port: 8, destination_port: 0, ..summary().flow },
        conn_state: ConnState::Oth,
        ..summary()
    };
    let event: Value = serde_json::from_str(&line(RecordFormat::Eve, echo.clone(), None).unwrap()).unwrap();
    assert_eq!(
        (&event["proto"], &event["icmp_type"], &event["icmp_code"]),
        (&json!("ICMP"), &json!(8), &json!(0))
    );
    assert!(
        event.get("src_port").is_none() && event.get("tcp").is_none() && event.get("app_proto").is_none()
    );
    let row = line(RecordFormat::Zeek, echo, None).unwrap();
    let fields: Vec<_> = row.trim_end().split('\t').collect();
    assert_eq!((&fields[2..8], fields[11]), (&["192.0.2.9", "8", "10.0.0.5", "0", "icmp", "-"][..], "OTH"));
}

/// What any reader of Zeek's logs does: by the header, not by position.
fn read_log(log: &str) -> Vec<std::collections::BTreeMap<String, String>> {
    let (mut separator, mut fields, mut types) = (String::new(), Vec::new(), Vec::new());
    let mut rows = Vec::new();
    for line in log.lines() {
        if let Some(escaped) = line.strip_prefix("#separator ") {
            assert_eq!(escaped, "\\x09");
            separator = "\t".into();
        } else if let Some(names) = line.strip_prefix("#fields\t") {
            fields = names.split(&separator).map(str::to_owned).collect();
        } else if let Some(names) = line.strip_prefix("#types\t") {
            types = names.split(&separator).map(str::to_owned).collect();
            assert_eq!(types.len(), fields.len());
        } else if !line.starts_with('#') {
            let values: Vec<_> = line.split(&separator).collect();
            assert_eq!(values.len(), fields.len(), "{line}");
            for (value, kind) in values.iter().zip(&types) {
                assert!(is_of(value, kind), "{value} is no {kind}: {line}");
            }
            rows.push(fields.iter().cloned().zip(values.into_iter().map(str::to_owned)).collect());
        }
    }
    rows
}

fn is_of(value: &str, kind: &str) -> bool {
    value == "-"
        || match kind {
            "time" | "interval" => value.split_once('.').is_some_and(|(whole, part)| {
                whole.parse::<u64>().is_ok() && part.len() == 6 && part.parse::<u32>().is_ok()
            }),
            "addr" => value.parse::<std::net::IpAddr>().is_ok(),
            "port" => value.parse::<u16>().is_ok(),
            "count" => value.parse::<u64>().is_ok(),
            "bool" => matches!(value, "T" | "F"),
            "enum" => value.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'),
            "string" | "set[string]" => !value.is_empty(),
            _ => false,
        }
}

#[test]
fn a_flow_is_a_row_of_zeeks_conn_log_to_the_letter() {
    let head = ConnLog { now: || Timestamp::from_secs(1_700_000_000) };
    let head = String::from_utf8(head.head()).unwrap();
    assert_eq!(
        head,
        "#separator \\x09\n#set_separator\t,\n#empty_field\t(empty)\n#unset_field\t-\n#path\tconn\n\
         #open\t2023-11-14-22-13-20\n\
         #fields\tts\tuid\tid.orig_h\tid.orig_p\tid.resp_h\tid.resp_p\tproto\tservice\tduration\torig_bytes\tresp_bytes\t\
         conn_state\tlocal_orig\tlocal_resp\tmissed_bytes\thistory\torig_pkts\torig_ip_bytes\tresp_pkts\tresp_ip_bytes\t\
         tunnel_parents\tcommunity_id\n\
         #types\ttime\tstring\taddr\tport\taddr\tport\tenum\tstring\tinterval\tcount\tcount\tstring\tbool\tbool\tcount\t\
         string\tcount\tcount\tcount\tcount\tset[string]\tstring\n"
    );
    let uid = Identifiers::new(0, 0).uid(FlowId::new(3, 7));
    assert!(uid.len() == 18 && uid.starts_with('C'), "{uid}");
    let community = netguard_core::flow::community_id(&summary().flow);
    let row = line(RecordFormat::Zeek, summary(), Some("ssh")).unwrap();
    assert_eq!(
        row,
        format!(
            "1700000000.123456\t{uid}\t192.0.2.9\t40000\t10.0.0.5\t902\ttcp\tssh\t1.876550\t500\t4400\tSF\tF\tT\t0\t-\t6\t\
             812\t5\t4660\t-\t{community}\n"
        )
    );
    let rows = read_log(&format!("{head}{row}"));
    assert_eq!((rows.len(), rows[0]["service"].as_str(), rows[0]["local_resp"].as_str()), (1, "ssh", "T"));
    // A single packet has no duration, and then Zeek tells no sizes.
    let probe = FlowSummary { end: summary().start, ..summary() };
    let rows = read_log(&format!("{head}{}", line(RecordFormat::Zeek, probe.clone(), None).unwrap()));
    assert_eq!(
        ["duration", "orig_bytes", "resp_bytes", "service"].map(|name| rows[0][name].as_str()),
        ["-"; 4]
    );
    let json: Value = serde_json::from_str(&line(RecordFormat::ZeekJson, probe, None).unwrap()).unwrap();
    assert!(json.get("duration").is_none() && json.get("service").is_none());
}

#[test]
fn a_flow_is_zeeks_json_to_the_letter() {
    let (uid, community) =
        (Identifiers::new(0, 0).uid(FlowId::new(3, 7)), netguard_core::flow::community_id(&summary().flow));
    assert_eq!(
        line(RecordFormat::ZeekJson, summary(), Some("ssh")).unwrap(),
        format!(
            concat!(
                r#"{{"ts":1700000000.123456,"uid":"{}","id.orig_h":"192.0.2.9","id.orig_p":40000,"#,
                r#""id.resp_h":"10.0.0.5","id.resp_p":902,"proto":"tcp","service":"ssh","duration":1.87655,"#,
                r#""orig_bytes":500,"resp_bytes":4400,"conn_state":"SF","local_orig":false,"local_resp":true,"#,
                r#""missed_bytes":0,"orig_pkts":6,"orig_ip_bytes":812,"resp_pkts":5,"resp_ip_bytes":4660,"#,
                r#""community_id":"{}"}}"#,
                "\n"
            ),
            uid, community
        )
    );
}

#[test]
fn a_flow_that_goes_on_is_told_when_it_ended() {
    let going_on = FlowSummary { reason: EndReason::Active, ..summary() };
    assert_eq!(line(RecordFormat::Eve, going_on.clone(), None), None);
    assert_eq!(line(RecordFormat::Zeek, going_on, None), None);
}

#[test]
fn names_of_flows_differ_between_threads_starts_and_flows_and_agree_within() {
    let of = |start, thread, slot, generation| {
        let names = Identifiers::new(start, thread);
        let flow = FlowId::new(slot, generation);
        (names.flow_id(flow), names.uid(flow))
    };
    assert_eq!(of(1, 2, 3, 4), of(1, 2, 3, 4));
    let mut seen = std::collections::HashSet::new();
    for start in 0..8 {
        for thread in 0..8 {
            for slot in 0..64 {
                let (number, uid) = of(start, thread, slot, 1);
                assert!(seen.insert(number.to_string()) && seen.insert(uid));
            }
        }
    }
}

#[test]
fn hostile_text_reaches_no_terminal_and_no_other_column() {
    let mut json = Vec::new();
    let hostile = "a\u{1b}[2J\0\u{202e}\u{85}\u{7f}\u{feff}\"\\\n\tü";
    write_line(&json!({ "x": hostile }), &mut json);
    let json = String::from_utf8(json).unwrap();
    assert_eq!(json, "{\"x\":\"a\\u001b[2J\\u0000\\u202e\\u0085\\u007f\\ufeff\\\"\\\\\\n\\tü\"}\n");
    assert_eq!(serde_json::from_str::<Value>(&json).unwrap(), json!({ "x": hostile }));

    let column = |text: &str| {
        let mut shown = String::new();
        escape(text, &mut shown);
        shown
    };
    assert_eq!(column("a\tb\nc\\d\u{1b}\0\u{202e}ü"), "a\\x09b\\x0ac\\\\d\\x1b\\x00\\xe2\\x80\\xaeü");
    assert_eq!(
        (column("-"), column("(empty)"), column("--")),
        ("\\x2d".into(), "\\x28empty)".into(), "--".into())
    );
}

proptest! {
    #[test]
    fn any_text_is_one_line_of_json_without_control_characters(text in any::<String>()) {
        let mut line = Vec::new();
        write_line(&json!({ "x": text }), &mut line);
        let line = String::from_utf8(line).unwrap();
        let body = line.strip_suffix('\n').unwrap();
        let commands = |c: char| c.is_control() || matches!(c, '\u{202a}'..='\u{202e}');
        prop_assert!(!body.contains(commands));
        prop_assert_eq!(serde_json::from_str::<Value>(body).unwrap(), json!({ "x": text }));
    }

    #[test]
    fn any_text_stays_in_its_column(text in any::<String>()) {
        let mut shown = String::new();
        escape(&text, &mut shown);
        prop_assert!(!shown.contains(|c: char| c.is_control()));
        prop_assert!(text.is_empty() || (shown != "-" && shown != "(empty)"));
    }

    #[test]
    fn any_flow_is_read_back_from_its_row(
        source: std::net::IpAddr, destination: std::net::IpAddr, protocol: u8, ports: (u16, u16),
        start in 0..4_000_000_000_000_000_u64, length: u32, id: (u32, u32),
    ) {
        let flow = Tuple {
            source, destination, protocol: Protocol(protocol), source_port: ports.0, destination_port: ports.1,
        };
        let start = Timestamp::from_micros(start);
        let end = Timestamp::from_micros(start.as_micros() + u64::from(length));
        let any = FlowSummary { flow, start, end, id: FlowId::new(id.0, id.1), ..summary() };
        let record = Record::of_flow(any.clone());
        let context = Context { identifiers: Identifiers::new(1, 2), interface: "", is_local: &NoNetworks };
        let mut rendering = Rendering::new(RecordFormat::Zeek);
        let row = String::from_utf8(rendering.line(&record, &context).unwrap().to_vec()).unwrap();
        let log = ConnLog { now: Timestamp::default };
        let rows = read_log(&format!("{}{row}", String::from_utf8(log.head()).unwrap()));
        prop_assert_eq!(&rows[0]["id.orig_h"], &source.to_string());
        prop_assert_eq!(&rows[0]["id.resp_p"], &ports.1.to_string());
        prop_assert_eq!(rows[0]["local_orig"].as_str(), "-");
        for format in [RecordFormat::Eve, RecordFormat::ZeekJson] {
            let mut rendering = Rendering::new(format);
            let line = rendering.line(&record, &context).unwrap();
            prop_assert!(serde_json::from_slice::<Value>(line).is_ok() && line.ends_with(b"\n"));
        }
    }
}
