//! What flows said waits for whoever takes it: so much and no more, and what finds no room is counted.
#![allow(clippy::unwrap_used, reason = "a test: a panic is its report")]

use netguard_core::{application::ApplicationLimits, packet::LinkType, time::Timestamp};
use netguard_sensor::{
    capture::Frame,
    pipeline::{Pipeline, PipelineSettings},
};

/// As docs/limits.md says.
const MOST: usize = 65_536;
const BEYOND: usize = 4_321;

/// Ethernet, IPv4, UDP without a checksum, DNS: one client asks its resolver for one name.
fn question(id: u16) -> Vec<u8> {
    let mut dns = id.to_be_bytes().to_vec();
    dns.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    dns.extend(b"\x03www\x07example\x00\x00\x01\x00\x01");
    let udp = u16::try_from(8 + dns.len()).unwrap();
    let mut frame = vec![0; 12];
    frame.extend([8, 0, 0x45, 0]);
    frame.extend((20 + udp).to_be_bytes());
    frame.extend([0, 0, 0, 0, 64, 17, 0, 0, 192, 0, 2, 7, 192, 0, 2, 53]);
    frame.extend([0x9c, 0x40, 0, 53]);
    frame.extend(udp.to_be_bytes());
    frame.extend([0, 0]);
    frame.extend(dns);
    frame
}

#[test]
fn what_nobody_takes_waits_up_to_its_bound_and_the_rest_is_counted() {
    let settings =
        PipelineSettings { application: Some(ApplicationLimits::default()), ..PipelineSettings::replay() };
    let mut pipeline = Pipeline::new(settings);
    let at = Timestamp::from_secs(1_700_000_000);
    let ask = |pipeline: &mut Pipeline, questions: usize| {
        for number in 0..questions {
            let frame = question(u16::try_from(number % 65_536).unwrap());
            let length = u32::try_from(frame.len()).unwrap();
            pipeline.push(&Frame::new(at, LinkType::Ethernet, &frame, length));
        }
    };

    ask(&mut pipeline, MOST);
    assert_eq!(pipeline.counters().get("application.untaken"), None, "full, and nothing lost");
    ask(&mut pipeline, BEYOND);
    assert_eq!(pipeline.counters()["application.untaken"], (BEYOND as u64, true));
    assert_eq!(pipeline.take_transactions().len(), MOST);
    ask(&mut pipeline, 10);
    assert_eq!(pipeline.take_transactions().len(), 10, "what was taken makes room");
    assert_eq!(pipeline.counters()["application.untaken"], (BEYOND as u64, true));
}
