//! Parts of packets in any order and at any time, also of tunnels: bounded, whole packets no longer than a packet can be,
//! nothing left when time has passed.
#![no_main]

use libfuzzer_sys::fuzz_target;
use netguard_core::{
    fragments::{FragmentLimits, Fragments},
    packet::{Decoded, LinkType, Transport, decode, decode_reassembled, verify},
    time::Timestamp,
};
use std::time::Duration;

/// Small, so that the bounds are reached.
const DATAGRAMS: usize = 4;
const BYTES: usize = 4_096;

fuzz_target!(|frames: Vec<(u16, &[u8])>| {
    let limits =
        FragmentLimits { max_datagrams: DATAGRAMS, max_bytes: BYTES, ..FragmentLimits::default() };
    let mut fragments = Fragments::new(limits, 7);
    let mut at = Timestamp::from_secs(1_700_000_000);
    for (milliseconds, bytes) in frames {
        at = at.saturating_add(Duration::from_millis(milliseconds.into()));
        let Ok(Decoded::Packet(packet)) = decode(bytes, LinkType::RawIp) else { continue };
        let Some(whole) = fragments.push(&packet, true, at) else {
            assert!(fragments.len() <= DATAGRAMS && fragments.bytes() <= BYTES);
            continue;
        };
        assert!(whole.length <= 65_535);
        assert!(whole.payload.len() <= usize::try_from(whole.length).unwrap());
        if let Ok(Decoded::Packet(packet)) = decode_reassembled(&whole.header, &whole.payload, whole.length) {
            let _ = verify(&packet);
            // Only what a tunnel carries may be in parts again.
            let is_part = matches!(packet.header.transport, Transport::Fragment(_));
            assert!(!is_part || packet.header.tunnel.is_some());
        }
    }
    fragments.advance(at.saturating_add(Duration::from_secs(60)));
    assert_eq!((fragments.len(), fragments.bytes()), (0, 0));
});
