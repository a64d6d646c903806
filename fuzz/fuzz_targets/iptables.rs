//! What `iptables-save` prints, with rules of others in it, and what the kernel says of sets.
#![no_main]

use libfuzzer_sys::fuzz_target;
use netguard_responder::backend::iptables::hostile::{answer, listing};

fuzz_target!(|bytes: &[u8]| {
    let _ = answer(bytes);
    let text = String::from_utf8_lossy(bytes);
    let (faults, script) = listing(&text);
    assert_eq!(listing(&text), (faults, script.clone()));
    // Chains of others are never emptied nor removed.
    for line in script.lines() {
        if let Some(chain) = line.strip_prefix("-F ").or_else(|| line.strip_prefix("-X ")) {
            assert!(chain.starts_with("NETGUARD-"), "{line}");
        }
    }
});
