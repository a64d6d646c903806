//! An evidence batch off the wire: whatever the bytes, converting neither panics nor takes more than the message did;
//! what it takes can be merged, and goes back to the wire and comes in again as the same record.
#![no_main]

use libfuzzer_sys::fuzz_target;
use netguard_core::evidence::EvidenceRecord;
use netguard_proto::{convert, v1};
use prost::Message;

fuzz_target!(|bytes: &[u8]| {
    let Ok(wire) = v1::EvidenceBatch::decode(bytes) else { return };
    for record in wire.records.clone() {
        let Ok(record) = EvidenceRecord::try_from(record) else { continue };
        let mut merged = record.clone();
        merged.merge(&record);
        assert_eq!(merged.subject, record.subject);
        let again = v1::EvidenceRecord::from(record.clone());
        assert_eq!(EvidenceRecord::try_from(again), Ok(record));
    }
    let _ = convert::Batch::try_from(wire);
});
