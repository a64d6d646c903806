//! A duration as operators write it: a bare number never passes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use netguard_daemon::config::parse_duration;

fuzz_target!(|text: &str| {
    if parse_duration(text).is_ok() {
        assert!(!text.bytes().all(|byte| byte.is_ascii_digit()), "{text:?} has no unit");
    }
});
