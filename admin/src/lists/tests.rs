use super::*;

fn entries(format: ListFormat, input: &str) -> Vec<(String, Option<u64>, Option<String>)> {
    let list = read(format, input.as_bytes()).unwrap();
    list.entries.into_iter().map(|entry| (entry.prefix, entry.ttl_seconds, entry.reason)).collect()
}

fn plain(prefix: &str) -> (String, Option<u64>, Option<String>) {
    (prefix.to_owned(), None, None)
}

fn full(prefix: &str, ttl: u64, reason: &str) -> (String, Option<u64>, Option<String>) {
    (prefix.to_owned(), Some(ttl), Some(reason.to_owned()))
}

#[test]
fn plain_lists_are_read_with_their_remarks() {
    let text = "\u{feff}# FireHOL\n; DROP\n\n192.0.2.1\r\n 198.51.100.0/24 ; SBL1\n2001:db8::1 # why\n1.2.3.4 5.6.7.8\n";
    let list = read(ListFormat::Auto, text.as_bytes()).unwrap();
    let read: Vec<_> = list.entries.iter().map(|e| (e.line, e.prefix.as_str())).collect();
    assert_eq!(read, [(4, "192.0.2.1"), (5, "198.51.100.0/24"), (6, "2001:db8::1")]);
    assert_eq!(list.complaints.iter().map(|c| c.line).collect::<Vec<_>>(), [7]);
}

#[test]
fn comma_separated_values_are_read_by_their_header() {
    let text = "reason,ip,duration\n\"a, \"\"b\"\"\",192.0.2.1,4h\n'=cmd(),192.0.2.2,90\n,192.0.2.3,\n";
    assert_eq!(
        entries(ListFormat::Auto, text),
        [full("192.0.2.1", 14_400, "a, \"b\""), full("192.0.2.2", 90, "=cmd()"), plain("192.0.2.3")]
    );
    assert_eq!(read(ListFormat::Csv, b"192.0.2.1,4h\n"), Err(ListError::Header));
    let broken =
        read(ListFormat::Csv, b"address,duration\n192.0.2.1,-1\n\"192.0.2.2\n1\"2,1s\n\"1\"2,1s\n").unwrap();
    assert_eq!((broken.entries.len(), broken.complaints.len()), (0, 4), "{:?}", broken.complaints);
}

#[test]
fn documents_of_ours_and_of_crowdsec_are_read() {
    let end = crate::moment::now() + 100_500_000;
    let ours = format!(
        r#"{{"decisions":[{{"target":"192.0.2.1","verb":"block","reason":"x","expires_at_us":{end}}},
            {{"target":"192.0.2.2","verb":"throttle"}},{{"target":"192.0.2.3","simulated":true}},
            {{"target":"192.0.2.4","expires_at_us":1}}],"revision":9}}"#
    );
    let list = read(ListFormat::Auto, ours.as_bytes()).unwrap();
    assert_eq!(list.entries[0].ttl_seconds, Some(100));
    assert_eq!((list.entries.len(), list.complaints.len()), (1, 3));
    let theirs = r#"[{"capacity":0,"created_at":"2026-01-01T00:00:00Z","decisions":[{"duration":"3h59m49.572957s",
        "id":1,"origin":"cscli","scenario":"manual 'ban'","scope":"Ip","simulated":false,"type":"ban",
        "value":"192.0.2.1"},{"scope":"Country","type":"ban","value":"XX","duration":"1h"}],"scenario":"y"}]"#;
    assert_eq!(entries(ListFormat::Auto, theirs), [full("192.0.2.1", 14_389, "manual 'ban'")]);
    assert_eq!(entries(ListFormat::Crowdsec, "null\n"), []);
}

#[test]
fn sets_of_ipset_and_nftables_are_read() {
    let ipset = "create bad hash:net family inet hashsize 1024 maxelem 65536 timeout 300\nadd bad 192.0.2.1 timeout 299\n\
                 add bad 192.0.2.0/30 timeout 0 comment \"by hand\"\nadd bad 192.0.2.9 nomatch\nadd bad 1.2.3.4,tcp:80\n";
    assert_eq!(
        entries(ListFormat::Auto, ipset),
        [("192.0.2.1".into(), Some(299), None), ("192.0.2.0/30".into(), None, Some("by hand".into()))]
    );
    let nft = "table inet f {\n\tset s {\n\t\ttype ipv4_addr\n\t\tflags interval,timeout\n\t\telements = { 192.0.2.1 timeout 1h \
               expires 59m3s512ms comment \"a, b\",\n\t\t\t     198.51.100.0/24, 192.0.2.4-192.0.2.7 }\n\t}\n}\n";
    assert_eq!(
        entries(ListFormat::Auto, nft),
        [full("192.0.2.1", 3_543, "a, b"), plain("198.51.100.0/24"), plain("192.0.2.4/30")]
    );
    let json = r#"{"nftables":[{"metainfo":{"version":"1.0.6"}},{"set":{"family":"inet","name":"s","elem":["192.0.2.1",
        {"prefix":{"addr":"198.51.100.0","len":24}},{"range":["192.0.2.4","192.0.2.7"]},
        {"elem":{"val":"2001:db8::1","timeout":3600,"expires":59,"comment":"c"}},{"concat":["1.2.3.4",80]}]}}]}"#;
    let list = read(ListFormat::Auto, json.as_bytes()).unwrap();
    let read: Vec<_> = list.entries.iter().map(|e| e.prefix.as_str()).collect();
    assert_eq!(read, ["192.0.2.1", "198.51.100.0/24", "192.0.2.4/30", "2001:db8::1"]);
    assert_eq!((list.entries[3].ttl_seconds, list.complaints.len()), (Some(59), 1));
}

#[test]
fn hostile_documents_are_refused_whole() {
    let deep = format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000));
    let nested = format!("[{{\"target\":\"192.0.2.1\",\"x\":{deep}}}]");
    for bad in [
        nested.as_str(),
        deep.as_str(),
        r#"[{"target":"192.0.2.1","expires_at_us":1e400}]"#,
        r#"[{"target":"192.0.2.1","target":"192.0.2.2"}]"#,
        r#"[{"target":"\ud800"}]"#,
        r#"[{"target":"192.0.2.1"}] x"#,
        r#"[{"target":"192.0.2.1"}"#,
        r#"{"decisions":[{"target":"192.0.2.1"}]}{}"#,
        r#"[{"target":["192.0.2.1"]}]"#,
        r#"[{"target":"192.0.2.1","expires_at_us":-1}]"#,
    ] {
        assert!(
            matches!(read(ListFormat::Json, bad.as_bytes()), Err(ListError::Json(_))),
            "{}",
            &bad[..40.min(bad.len())]
        );
    }
    assert_eq!(read(ListFormat::Json, b"[\"\xff\"]"), Err(ListError::NotUtf8));
}

#[test]
fn hostile_lines_are_told_and_bounded() {
    let mut input = b"\xff\xff\n".to_vec();
    input.extend(vec![b'1'; MAX_LINE + 1]);
    input.extend(b"\n192.0.2.1\n");
    let list = read(ListFormat::Text, &input).unwrap();
    assert_eq!(list.entries.len(), 1);
    assert_eq!(list.complaints.iter().map(|c| c.line).collect::<Vec<_>>(), [1, 2]);
    let many = "a b\n".repeat(MAX_COMPLAINTS + 5);
    let list = read(ListFormat::Text, many.as_bytes()).unwrap();
    assert_eq!((list.complaints.len(), list.more_complaints), (MAX_COMPLAINTS, 5));
    let many = "1\n".repeat(MAX_ENTRIES + 1);
    assert_eq!(read(ListFormat::Text, many.as_bytes()), Err(ListError::TooMany));
}

#[test]
fn durations_are_whole_seconds_and_never_guessed() {
    for (text, expected) in [("90", 90), ("4h", 14_400), ("3h59m49.57s", 14_389), ("59m3s512ms", 3_543)] {
        assert_eq!(seconds(text), Some(expected), "{text}");
    }
    for bad in ["", "0", "-1", "-1s", "0s", "1e9", "1.5h", "4 h", "18446744073709551616", "1.s", "\u{661}s"] {
        assert_eq!(seconds(bad), None, "{bad}");
    }
}

#[test]
fn what_is_written_is_read_again_and_computes_nothing() {
    let row = |target: &str, ttl_seconds, reason: &str| Row {
        target: target.into(),
        ttl_seconds,
        reason: reason.into(),
        origin: "admin".into(),
    };
    let rows = [
        row("192.0.2.1", 60, "=HYPERLINK(\"http://x\",\"y\")"),
        row("198.51.100.0/24", 3_600, "a, b"),
        row("2001:db8::1", 10_000_000, "\u{1b}[2J@x"),
    ];
    for format in [
        ListFormat::Text,
        ListFormat::Csv,
        ListFormat::Json,
        ListFormat::Netset,
        ListFormat::Ipset,
        ListFormat::Nft,
    ] {
        let text = write(format, &rows);
        assert!(!text.contains('\u{1b}'), "{format:?}");
        let mut again: Vec<String> =
            read(ListFormat::Auto, text.as_bytes()).unwrap().entries.into_iter().map(|e| e.prefix).collect();
        again.sort_unstable();
        assert_eq!(again, ["192.0.2.1", "198.51.100.0/24", "2001:db8::1"], "{format:?}: {text}");
    }
    let csv = write(ListFormat::Csv, &rows);
    assert!(csv.contains(",\"'=HYPERLINK(\"\"http://x\"\",\"\"y\"\")\","), "{csv}");
    assert_eq!(entries(ListFormat::Csv, &csv)[0], full("192.0.2.1", 60, "=HYPERLINK(\"http://x\",\"y\")"));
    assert!(
        write(ListFormat::Ipset, &rows).contains("add netguard-list6 2001:db8::1 timeout 2147483 -exist")
    );
}

#[test]
fn a_spreadsheets_csv_is_read_and_a_hostile_one_told_by_its_lines() {
    // As Excel saves "CSV UTF-8": a mark, CRLF, quotes where there are commas.
    let excel = "\u{feff}Address,Reason,Duration\r\n192.0.2.1,\"a, \"\"b\"\"\",4h\r\n192.0.2.2,,90\r\n\r\n";
    assert_eq!(
        entries(ListFormat::Auto, excel),
        [full("192.0.2.1", 14_400, "a, \"b\""), ("192.0.2.2".into(), Some(90), None)]
    );
    for marked in [&b"\xff\xfea\0d\0"[..], b"\xfe\xff\0a\0d"] {
        for format in [ListFormat::Auto, ListFormat::Csv, ListFormat::Text, ListFormat::Json] {
            assert_eq!(read(format, marked), Err(ListError::Utf16));
        }
    }
    let long = "x".repeat(MAX_LINE);
    let hostile = [
        "address,reason,duration",
        "192.0.2.1,ok,1h",
        "192.0.2.2,\"over",
        "two lines\",1h",
        "192.0.2.3,a\"b,1h",
        "\"192.0.2.4\"x,y,1h",
        &format!("192.0.2.5,{long},1h"),
        "192.0.2.6,y,1e400",
        "192.0.2.7,y,18446744073709551616",
        "192.0.2.8,y,-1h",
        "192.0.2.9,last,1h",
    ];
    let list = read(ListFormat::Csv, hostile.join("\n").as_bytes()).unwrap();
    let lines: Vec<u32> = list.complaints.iter().map(|complaint| complaint.line).collect();
    assert_eq!(lines, [3, 4, 5, 6, 7, 8, 9, 10], "{:?}", list.complaints);
    let taken: Vec<_> = list.entries.iter().map(|entry| (entry.line, entry.prefix.as_str())).collect();
    assert_eq!(taken, [(2, "192.0.2.1"), (11, "192.0.2.9")]);
    // What is in a cell is cut out and nothing more: the coordinator refuses what is no address or no plain text.
    let odd = read(ListFormat::Csv, b"address,reason\n=cmd()|' /C calc'!A0,x\n192.0.2.1\0,y\n").unwrap();
    assert_eq!((odd.entries.len(), odd.entries[0].prefix.as_str()), (2, "=cmd()|' /C calc'!A0"));
    assert_eq!(odd.entries[1].prefix, "192.0.2.1\0");
}

#[test]
fn no_cell_of_an_export_is_computed_by_any_spreadsheet() {
    let reasons = [
        "=1+1",
        "+1",
        "-1",
        "@SUM(A1)",
        "\t=1",
        "\r=1",
        "\n=1",
        " =1",
        "＝1",
        "＋1",
        "－1",
        "＠x",
        "x;=1+1;y",
        "x; =1",
        "a\";=1",
        "a,=1",
        "'=1",
        "\u{202e}=1",
    ];
    for reason in reasons {
        let row = Row {
            target: "192.0.2.1".into(),
            ttl_seconds: 60,
            reason: reason.into(),
            origin: "admin".into(),
        };
        let csv = write(ListFormat::Csv, std::slice::from_ref(&row));
        assert_eq!(csv.lines().count(), 2, "{reason:?}: {csv}");
        let line = csv.lines().nth(1).unwrap();
        // However it is cut, at commas or at semicolons, with quotes or without regard to them.
        for cell in line.split([',', ';']) {
            let shown = cell.trim_start_matches('"');
            let address = shown == "192.0.2.1" || shown == "60s" || shown == "admin";
            assert!(address || !super::csv::computes(shown) || reason == "a,=1", "{reason:?}: {line}");
        }
        let again = entries(ListFormat::Csv, &csv);
        assert_eq!((again[0].0.as_str(), again[0].1), ("192.0.2.1", Some(60)), "{csv}");
    }
    // A comma within quotes is no separator to a program that reads commas; to one that reads semicolons it is text.
    let row = |reason: &str| Row {
        target: "192.0.2.1".into(),
        ttl_seconds: 60,
        reason: reason.into(),
        origin: "a".into(),
    };
    assert_eq!(write(ListFormat::Csv, &[row("a,=1")]).lines().nth(1), Some("192.0.2.1,60s,\"a,=1\",a"));
    assert_eq!(
        entries(ListFormat::Csv, &write(ListFormat::Csv, &[row("=1+1")]))[0].2.as_deref(),
        Some("=1+1")
    );
}
