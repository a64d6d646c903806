//! A configuration file, read strictly: anchors, duplicate keys and depth must neither pass nor hurt.
#![no_main]

use libfuzzer_sys::fuzz_target;
use netguard_daemon::config::{self, HumanDuration};
use std::{collections::BTreeMap, path::Path};

#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
#[derive(Default)]
#[allow(dead_code, reason = "only read")]
struct Everything {
    text: Option<String>,
    number: Option<u64>,
    flag: Option<bool>,
    list: Vec<String>,
    map: BTreeMap<String, Vec<u64>>,
    duration: Option<HumanDuration>,
    nested: Option<Box<Everything>>,
}

fuzz_target!(|text: &str| {
    if let Err(error) = config::parse::<Everything>(Path::new("fuzz.yaml"), text) {
        assert!(!error.to_string().is_empty());
    }
});
