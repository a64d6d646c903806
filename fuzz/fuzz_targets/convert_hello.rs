//! A sensor's first message off the wire.
#![no_main]

use libfuzzer_sys::fuzz_target;
use netguard_core::identity::is_name;
use netguard_proto::{convert::Hello, v1};
use prost::Message;

fuzz_target!(|bytes: &[u8]| {
    let Ok(wire) = v1::SensorHello::decode(bytes) else { return };
    if let Ok(hello) = Hello::try_from(wire) {
        assert!(is_name(&hello.sensor_id));
    }
});
