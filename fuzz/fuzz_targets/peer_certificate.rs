//! A certificate from a peer, in DER and in PEM.
#![no_main]

use libfuzzer_sys::fuzz_target;
use netguard_daemon::identity::{Identity, peer_identity_from_cert, peer_identity_from_pem};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(peer) = peer_identity_from_cert(bytes) {
        assert!(peer.uri.starts_with("spiffe://"));
    }
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = peer_identity_from_pem(text);
        let _ = Identity::from_pem(text, text, text);
    }
});
