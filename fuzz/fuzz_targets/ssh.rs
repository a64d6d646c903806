//! SSH banners: any lines before and bytes behind.
#![no_main]

#[path = "conversation/mod.rs"]
mod conversation;

use conversation::converse;
use libfuzzer_sys::fuzz_target;
use netguard_core::{
    application::{Fields, Ssh},
    net::Protocol,
};

fuzz_target!(|input: (u8, &[u8], &[u8])| {
    let (segment, client, server) = input;
    let server = [b"SSH-", server].concat();
    let script = [(false, server.as_slice()), (true, client)];
    for transaction in converse(Protocol::TCP, 902, segment.into(), &script) {
        if let Fields::Ssh(ssh) = transaction.fields {
            assert!(ssh.client.bytes().len() <= 255 && Ssh::software(&ssh.server).len() <= 255);
        }
    }
});
