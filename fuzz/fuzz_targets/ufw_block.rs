//! Our lines in ufw's file of the operator's: in once, out without a trace.
#![no_main]

use libfuzzer_sys::fuzz_target;
use netguard_responder::hostile;

fuzz_target!(|text: &str| hostile::ufw_block(text));
