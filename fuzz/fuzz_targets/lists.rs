//! A list in every form there is: whatever comes in, nothing panics, the bounds hold, and what is written is read again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use netguard_admin::lists::{ListFormat, MAX_COMPLAINTS, MAX_ENTRIES, Row, read, write};

const FORMATS: [ListFormat; 8] = [
    ListFormat::Auto,
    ListFormat::Text,
    ListFormat::Csv,
    ListFormat::Json,
    ListFormat::Netset,
    ListFormat::Ipset,
    ListFormat::Nft,
    ListFormat::Crowdsec,
];

fuzz_target!(|input: &[u8]| {
    for format in FORMATS {
        let Ok(list) = read(format, input) else { continue };
        assert!(list.entries.len() <= MAX_ENTRIES && list.complaints.len() <= MAX_COMPLAINTS);
        let rows: Vec<Row> = list
            .entries
            .into_iter()
            .map(|entry| Row {
                target: "192.0.2.1".to_owned(),
                ttl_seconds: entry.ttl_seconds.unwrap_or(1),
                reason: entry.reason.unwrap_or_default(),
                origin: "import".to_owned(),
            })
            .collect();
        let csv = write(ListFormat::Csv, &rows);
        assert!(!csv.contains(['\u{1b}', '\r']));
        let again = read(ListFormat::Csv, csv.as_bytes()).map(|list| list.entries.len() + list.complaints.len());
        assert_eq!(again, Ok(rows.len()));
    }
});
