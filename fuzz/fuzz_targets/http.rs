//! HTTP/1 behind a request that is one: any heads, bodies and chunks.
#![no_main]

#[path = "conversation/mod.rs"]
mod conversation;

use conversation::converse;
use libfuzzer_sys::fuzz_target;
use netguard_core::{application::Fields, net::Protocol};

fuzz_target!(|input: (u16, Vec<(bool, &[u8])>)| {
    let (segment, speech) = input;
    let mut script: Vec<(bool, &[u8])> = vec![(true, b"GET ")];
    script.extend(speech);
    for transaction in converse(Protocol::TCP, 80, segment.into(), &script) {
        if let Fields::Http(http) = transaction.fields {
            assert!(http.target.bytes().len() <= 1_024 && http.host.bytes().len() <= 256);
        }
    }
});
