//! Never-block: an address that is covered is covered in every prefix around it and in every disguise.
#![no_main]

use libfuzzer_sys::fuzz_target;
use netguard_core::net::{NeverBlock, NeverBlockEntry, Prefix};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

fuzz_target!(|input: ([u8; 4], u8, [u8; 16], u8)| {
    let (protected, protected_len, candidate, len) = input;
    let protected = Prefix::containing(IpAddr::V4(Ipv4Addr::from(protected)), protected_len % 33);
    let set = NeverBlock::with_builtin([NeverBlockEntry { prefix: protected, why: "fuzz".into() }]);
    let candidate = Prefix::containing(IpAddr::V6(Ipv6Addr::from(candidate)), len % 129);
    let covered = set.overlap(&candidate).is_some();
    if set.covers(candidate.address()).is_some() {
        assert!(covered, "{candidate} has a protected address in it, but is not protected");
    }
    if let IpAddr::V4(v4) = protected.address() {
        let [a, b, c, d] = v4.octets().map(u16::from);
        for disguise in [
            IpAddr::V6(v4.to_ipv6_mapped()),
            IpAddr::V6(Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, a << 8 | b, c << 8 | d)),
            IpAddr::V6(Ipv6Addr::new(0x2002, a << 8 | b, c << 8 | d, 0, 0, 0, 0, 1)),
        ] {
            assert!(set.covers(disguise).is_some(), "{v4} as {disguise} is not protected");
        }
    }
});
