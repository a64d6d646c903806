//! What Envoy asks about a request.
#![no_main]

use libfuzzer_sys::fuzz_target;
use netguard_core::net::canonical;
use netguard_proto::{convert::Check, envoy::CheckRequest};
use prost::Message;

fuzz_target!(|bytes: &[u8]| {
    let Ok(wire) = CheckRequest::decode(bytes) else { return };
    let Ok(check) = Check::try_from(wire) else { return };
    assert!(check.source.is_none_or(|source| canonical(source) == source));
    check.header("x-forwarded-for").for_each(drop);
});
