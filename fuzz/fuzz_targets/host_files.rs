//! Files of the kernel, the resolver and daemons, which say what must never be blocked.
#![no_main]

use libfuzzer_sys::fuzz_target;
use netguard_responder::hostile;

fuzz_target!(|bytes: &[u8]| hostile::host_file(bytes));
