//! A snapshot of the ledger from a peer or a file.
#![no_main]

use libfuzzer_sys::fuzz_target;
use netguard_core::ledger::Ledger;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(ledger) = Ledger::from_bytes(bytes) {
        let _ = ledger.entries().count();
        let _ = ledger.to_bytes();
    }
});
