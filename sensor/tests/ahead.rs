//! Frames taken in together give what they give one by one.
#![allow(clippy::unwrap_used, reason = "a test: a panic is its report")]

use netguard_core::{packet::LinkType, time::Timestamp};
use netguard_sensor::{
    capture::Frame,
    pipeline::{Pipeline, PipelineSettings},
};
use proptest::prelude::*;

/// Ethernet, perhaps a VLAN tag, IPv4, TCP or UDP between few hosts and ports, perhaps cut short.
fn any_frame() -> impl Strategy<Value = Vec<u8>> {
    let ends = (0u8..4, 0u8..4, 0u8..3, 0u8..3);
    (ends, any::<bool>(), any::<bool>(), any::<u8>(), 0u8..4, 30usize..70).prop_map(
        |((source, destination, from, to), is_tcp, is_tagged, flags, number, length)| {
            let mut frame = vec![0; 12];
            if is_tagged {
                frame.extend([0x81, 0, 0, 5]);
            }
            frame.extend([8, 0, 0x45, 0, 0, 40, 0, 0, 0, 0, 64, if is_tcp { 6 } else { 17 }, 0, 0]);
            frame.extend([192, 0, 2, source + 1, 192, 0, 2, destination + 1]);
            frame.extend([
                0,
                53 + from,
                0,
                53 + to,
                0,
                0,
                0,
                number,
                0,
                0,
                0,
                number,
                0x50,
                flags,
                4,
                0,
                0,
                0,
                0,
                0,
            ]);
            frame.truncate(length);
            frame
        },
    )
}

proptest! {
    #[test]
    fn together_as_one_by_one(
        frames in proptest::collection::vec((any_frame(), 0u64..2_000), 0..200),
        at_once in 1usize..80,
    ) {
        let settings = PipelineSettings { flow_events: true, ..PipelineSettings::replay() };
        let (mut together, mut singly) = (Pipeline::new(settings.clone()), Pipeline::new(settings));
        let mut at = Timestamp::from_secs(1_700_000_000);
        let frames: Vec<_> = frames
            .iter()
            .map(|(bytes, milliseconds)| {
                at = Timestamp::from_micros(at.as_micros() + milliseconds * 1_000);
                Frame::new(at, LinkType::Ethernet, bytes, u32::try_from(bytes.len()).unwrap())
            })
            .collect();
        for batch in frames.chunks(at_once) {
            together.push_all(batch.iter().copied());
            batch.iter().for_each(|frame| singly.push(frame));
            prop_assert_eq!(together.frames(), singly.frames());
            prop_assert_eq!(together.is_hot(), singly.is_hot());
        }
        prop_assert_eq!(together.finish(), singly.finish());
        prop_assert_eq!(together.take_flows(), singly.take_flows());
        prop_assert_eq!(together.counters(), singly.counters());
    }
}
