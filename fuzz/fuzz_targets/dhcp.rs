//! DHCP messages with any options.
#![no_main]

#[path = "conversation/mod.rs"]
mod conversation;

use conversation::converse;
use libfuzzer_sys::fuzz_target;
use netguard_core::{application::Fields, net::Protocol};

fuzz_target!(|options: &[u8]| {
    let mut bytes = vec![1, 1, 6, 0];
    bytes.resize(236, 0);
    bytes.extend([99, 130, 83, 99]);
    bytes.extend(options);
    for transaction in converse(Protocol::UDP, 67, 1 << 20, &[(true, bytes.as_slice())]) {
        if let Fields::Dhcp(dhcp) = transaction.fields {
            assert!(dhcp.host_name.bytes().len() <= 255);
        }
    }
});
