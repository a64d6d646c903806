//! What the responder keeps on disk: read, written, read again as the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use netguard_responder::hostile;

fuzz_target!(|bytes: &[u8]| hostile::schedule(bytes));
