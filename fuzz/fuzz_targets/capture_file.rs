//! A capture file, pcap or pcapng, broken in any way: frames until the end or an error, never a loop.
#![no_main]

use libfuzzer_sys::fuzz_target;
use netguard_sensor::{
    capture::{CaptureFile, FrameSource, Next},
    pipeline::{Pipeline, PipelineSettings},
};

fuzz_target!(|bytes: &[u8]| {
    let Ok(mut file) = CaptureFile::new(bytes) else { return };
    let mut pipeline = Pipeline::new(PipelineSettings::replay());
    // A frame takes a record header of at least eight bytes.
    for _ in 0..=bytes.len() / 8 {
        match file.next() {
            Ok(Next::Frame(frame)) => pipeline.push(&frame),
            Ok(Next::Quiet) => {}
            Ok(Next::End) | Err(_) => {
                let _ = pipeline.finish();
                return;
            }
        }
    }
    panic!("more frames than {} bytes can hold", bytes.len());
});
