//! A join token: what is taken is printed as it was.
#![no_main]

use libfuzzer_sys::fuzz_target;
use netguard_daemon::identity::JoinToken;

fuzz_target!(|text: &str| {
    if let Ok(token) = text.parse::<JoinToken>() {
        assert_eq!(token.to_string(), text);
    }
});
