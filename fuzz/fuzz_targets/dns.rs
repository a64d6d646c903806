//! DNS messages over UDP and TCP: names are bounded whatever they are made of.
#![no_main]

#[path = "conversation/mod.rs"]
mod conversation;

use conversation::converse;
use libfuzzer_sys::fuzz_target;
use netguard_core::{
    application::{Dns, Fields},
    net::Protocol,
};

fn check(dns: &Dns) {
    assert!(dns.answer_list.len() <= 16);
    if let Some(question) = &dns.question {
        assert!(question.name.text.bytes().len() <= 253 && question.name.longest_label <= 63);
        assert!(question.name.entropy_millibits <= 8_000);
    }
}

fuzz_target!(|input: (u8, Vec<(bool, &[u8])>)| {
    let (segment, speech) = input;
    let mut told = converse(Protocol::UDP, 53, 1 << 20, &speech);
    told.extend(converse(Protocol::TCP, 53, segment.into(), &speech));
    for transaction in told {
        if let Fields::Dns(dns) = &transaction.fields {
            check(dns);
        }
    }
});
