//! Commands out of the log: each is applied or refused whole, its audit entry with it, and a ledger restored from its
//! bytes is the same ledger.
#![no_main]

use libfuzzer_sys::fuzz_target;
use netguard_core::ledger::{Ledger, Request};

fuzz_target!(|bytes: &[u8]| {
    let mut ledger = Ledger::new();
    let mut rest = bytes;
    let mut log_index = 0;
    while let Ok((request, left)) = postcard::take_from_bytes::<Request>(rest) {
        if left.len() == rest.len() {
            break;
        }
        rest = left;
        log_index += 1;
        let revision = ledger.revision();
        ledger.apply(log_index, &request);
        assert!(ledger.revision() >= revision);
    }
    let written = ledger.to_bytes().expect("a ledger can be written");
    let restored = Ledger::from_bytes(&written).expect("a ledger can be read back");
    assert_eq!(restored.to_bytes().ok(), Some(written));
    assert_eq!(restored.digest(), ledger.digest());
});
