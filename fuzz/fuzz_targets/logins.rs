//! Protocols in which people log in, in clear: any lines of both ends behind each one's greeting.
#![no_main]

#[path = "conversation/mod.rs"]
mod conversation;

use conversation::converse;
use libfuzzer_sys::fuzz_target;
use netguard_core::{application::Fields, net::Protocol};

const GREETINGS: [&[u8]; 6] = [
    b"220 FTP\r\n",
    b"220 ESMTP\r\n",
    b"+OK\r\n",
    b"* OK\r\n",
    b"\xff\xfd\x18login: ",
    b"\x0c\0\0\x008.0.36\0\0\0\0\0\0",
];

fuzz_target!(|input: (u8, u8, Vec<(bool, &[u8])>)| {
    let (which, segment, speech) = input;
    let mut script: Vec<(bool, &[u8])> = Vec::new();
    script.extend(GREETINGS.get(usize::from(which) % GREETINGS.len()).map(|greeting| (false, *greeting)));
    script.extend(speech);
    for transaction in converse(Protocol::TCP, 12_345, segment.into(), &script) {
        if let Fields::Login(login) = transaction.fields {
            assert!(login.user.bytes().len() <= 128);
        }
    }
});
