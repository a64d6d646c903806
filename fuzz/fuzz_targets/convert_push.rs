//! What a coordinator pushes to a responder.
#![no_main]

use libfuzzer_sys::fuzz_target;
use netguard_proto::{
    convert::{Delta, SnapshotPart, hash16},
    v1::{self, push::Of},
};
use prost::Message;

fuzz_target!(|bytes: &[u8]| {
    let Ok(wire) = v1::Push::decode(bytes) else { return };
    match wire.of {
        Some(Of::Snapshot(part)) => drop(SnapshotPart::try_from(part)),
        Some(Of::Delta(delta)) => {
            if let Ok(delta) = Delta::try_from(delta) {
                assert!(delta.previous < delta.revision);
            }
        }
        Some(Of::Digest(digest)) => drop(hash16("hash", &digest.hash)),
        None => {}
    }
});
