//! TLS: any bytes behind the begin of a hello, whole and in pieces: the same is told.
#![no_main]

#[path = "conversation/mod.rs"]
mod conversation;

use conversation::converse;
use libfuzzer_sys::fuzz_target;
use netguard_core::net::Protocol;

fuzz_target!(|input: (u8, &[u8], &[u8])| {
    let (segment, client, server) = input;
    let client = [&[22, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3][..], client].concat();
    let server = [&[22, 3, 3, 0, 122, 2, 0, 0, 118, 3, 3][..], server].concat();
    let script = [(true, client.as_slice()), (false, server.as_slice())];
    let whole = converse(Protocol::TCP, 443, 1 << 20, &script);
    let parts = converse(Protocol::TCP, 443, segment.into(), &script);
    assert_eq!(whole, parts);
});
