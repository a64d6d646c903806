//! The kernel's answer about sockets.
#![no_main]

use libfuzzer_sys::fuzz_target;
use netguard_responder::hostile;

fuzz_target!(|bytes: &[u8]| hostile::sock_diag(bytes));
