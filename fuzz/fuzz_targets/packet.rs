//! One captured frame of any link type: a header or an error, and the same for the same bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use netguard_core::{
    net::canonical,
    packet::{LinkType, decode, martian},
};

fuzz_target!(|input: (u16, &[u8])| {
    let (link, frame) = input;
    let link = LinkType::from_pcap(u32::from(link));
    let decoded = decode(frame, link);
    if let Ok(header) = &decoded {
        assert_eq!(canonical(header.source), header.source);
        assert_eq!(canonical(header.destination), header.destination);
        let _ = martian(header);
    }
    assert_eq!(format!("{decoded:?}"), format!("{:?}", decode(frame, link)));
});
