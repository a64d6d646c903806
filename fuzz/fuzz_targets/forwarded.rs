//! Whatever a client writes before what its proxy appends, the proxy's word is taken and nothing panics.
#![no_main]

use libfuzzer_sys::fuzz_target;
use netguard_core::{
    gate::{client, is_trusted},
    net::Prefix,
};
use std::net::{IpAddr, Ipv4Addr};

const PROXY: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 7));

fuzz_target!(|values: Vec<Vec<u8>>| {
    let trusted = [Prefix::host(PROXY)];
    let named = |values: &[Vec<u8>]| client(PROXY, values.iter().map(Vec::as_slice), &trusted);
    if let Ok(address) = named(&values) {
        assert!(address == PROXY || !is_trusted(address, &trusted));
    }
    let mut appended = values.clone();
    appended.push(CLIENT.to_string().into_bytes());
    assert_eq!(named(&appended), Ok(CLIENT));
    // Nobody who is not trusted speaks for anybody else.
    assert_eq!(client(CLIENT, values.iter().map(Vec::as_slice), &trusted), Ok(CLIENT));
});
