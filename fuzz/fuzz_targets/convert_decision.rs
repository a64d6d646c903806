//! A decision off the wire: taken whole or refused, and the same after another journey.
#![no_main]

use libfuzzer_sys::fuzz_target;
use netguard_core::decision::Decision;
use netguard_proto::v1;
use prost::Message;

fuzz_target!(|bytes: &[u8]| {
    let Ok(wire) = v1::Decision::decode(bytes) else { return };
    if let Ok(decision) = Decision::try_from(wire) {
        let again = v1::Decision::from(decision.clone());
        assert_eq!(Decision::try_from(again), Ok(decision));
    }
});
