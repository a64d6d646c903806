//! Listings of nft, ip, tc and iptables-save.
#![no_main]

use libfuzzer_sys::fuzz_target;
use netguard_responder::hostile;

fuzz_target!(|text: &str| hostile::listings(text));
