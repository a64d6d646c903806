//! One captured frame of any link type: what it carries or an error, the same for the same bytes, and nothing told of
//! bytes that are not there.
#![no_main]

use libfuzzer_sys::fuzz_target;
use netguard_core::{
    net::canonical,
    packet::{Decoded, LinkType, decode, martian},
};

fuzz_target!(|input: (u16, &[u8])| {
    let (link, frame) = input;
    let link = LinkType::from_pcap(u32::from(link));
    let decoded = decode(frame, link);
    if let Ok(Decoded::Packet(packet)) = &decoded {
        let header = &packet.header;
        assert_eq!(canonical(header.source), header.source);
        assert_eq!(canonical(header.destination), header.destination);
        assert!(packet.network.len() <= frame.len());
        assert!(packet.payload.len() <= packet.segment().len());
        assert!(header.tunnel.is_none_or(|tunnel| (1..=8).contains(&tunnel.depth)));
        let _ = martian(header);
    }
    assert_eq!(format!("{decoded:?}"), format!("{:?}", decode(frame, link)));
});
