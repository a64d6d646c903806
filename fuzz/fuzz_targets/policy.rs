//! A policy as an operator applies it: what validates reads back the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use netguard_core::policy::Policy;
use netguard_daemon::config;
use std::path::Path;

fuzz_target!(|text: &str| {
    let Ok(policy) = config::parse::<Policy>(Path::new("policy.yaml"), text) else { return };
    if policy.validate().is_ok() {
        let written = serde_norway::to_string(&policy).expect("a valid policy can be written");
        assert_eq!(config::parse::<Policy>(Path::new("policy.yaml"), &written).ok(), Some(policy));
    }
});
