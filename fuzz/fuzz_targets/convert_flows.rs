//! A sensor's window of flow summaries, and another coordinator's answer about them, off the wire.
#![no_main]

use libfuzzer_sys::fuzz_target;
use netguard_proto::{
    convert::{self, FlowEntry, FlowWindow},
    v1,
};
use prost::Message;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(Ok(window)) = v1::FlowWindow::decode(bytes).map(FlowWindow::try_from) {
        assert!(window.start <= window.end && window.entries.len() <= convert::MAX_CONVERSATIONS);
        for entry in window.entries {
            let again = FlowEntry::try_from(v1::Conversation::from(entry.clone()));
            assert_eq!(again, Ok(entry));
        }
    }
    if let Ok(answer) = v1::ListFlowsResponse::decode(bytes) {
        for row in answer.conversations {
            let _ = convert::sensor_conversation(row);
        }
        let _ = convert::flow_totals(answer.rest);
    }
});
