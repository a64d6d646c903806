//! `capture.filter`: any text is refused or becomes a program that ends for every frame.
#![no_main]

use libfuzzer_sys::fuzz_target;
use netguard_core::{packet::LinkType, time::Timestamp};
use netguard_sensor::capture::{Filter, Frame, Matcher};

fuzz_target!(|data: &[u8]| {
    let (text, bytes) = data.split_at(data.len() / 2);
    let Ok(text) = std::str::from_utf8(text) else { return };
    let Ok(filter) = text.parse::<Filter>() else { return };
    for link in [LinkType::Ethernet, LinkType::RawIp, LinkType::LinuxSll2, LinkType::Loopback] {
        if let Ok(matcher) = Matcher::new(&filter, link, &[]) {
            let _ = matcher.takes(&Frame::new(Timestamp::default(), link, bytes, 1_500));
        }
    }
});
