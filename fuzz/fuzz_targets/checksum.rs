//! A frame held against its checksums and its TCP options read: what is right is not right any more with one bit of it
//! turned.
#![no_main]

use libfuzzer_sys::fuzz_target;
use netguard_core::packet::{ChecksumVerdict, Decoded, LinkType, decode, verify};

fuzz_target!(|input: (u8, u16, u8, &[u8])| {
    let (link, at, bit, frame) = input;
    let link = LinkType::from_pcap(u32::from(link));
    let Ok(Decoded::Packet(packet)) = decode(frame, link) else { return };
    let _ = packet.tcp_options();
    if verify(&packet) != ChecksumVerdict::Right {
        return;
    }
    let mut turned = frame.to_vec();
    let Some(byte) = turned.get_mut(usize::from(at)) else { return };
    *byte ^= 1 << (bit & 7);
    let Ok(Decoded::Packet(other)) = decode(&turned, link) else { return };
    // Of the same packet, so that the sum still goes over the same bytes.
    let alike = other.segment().len() == packet.segment().len()
        && other.transport_length == packet.transport_length
        && other.header.transport == packet.header.transport
        && other.header.source == packet.header.source
        && other.header.destination == packet.header.destination;
    if alike && other.payload != packet.payload {
        assert_ne!(verify(&other), ChecksumVerdict::Right);
    }
});
