//! A prefix as an operator types it: what is taken prints as what is taken again, with no bit past its length.
#![no_main]

use libfuzzer_sys::fuzz_target;
use netguard_core::net::Prefix;

fuzz_target!(|text: &str| {
    let Ok(prefix) = text.parse::<Prefix>() else { return };
    assert_eq!(prefix.to_string().parse(), Ok(prefix));
    assert_eq!(Prefix::containing(prefix.address(), prefix.prefix_len()), prefix);
    assert!(prefix.overlaps(&prefix));
});
