//! The URI in a certificate, read by the two who read it: neither takes what the other refuses to print again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use netguard_core::identity::SpiffeId;
use netguard_daemon::identity::SpiffeParts;

fuzz_target!(|text: &str| {
    if let Ok(id) = text.parse::<SpiffeId>() {
        assert_eq!(id.to_string(), text);
        let parts = SpiffeParts::parse(text);
        assert!(parts.is_some_and(|parts| parts.cluster == id.cluster && parts.id == id.id));
    }
});
