//! What the parsers make of bytes that others wrote: for fuzzing, and for the bounded round of it among the tests.
//!
//! Each of these panics where a promise is broken, and nowhere else.

use crate::{backend::schedule, backend::ufw::block, host::parse, peers::diag, preflight};

/// A schedule: what is read is written and read again as the same.
///
/// # Panics
///
/// When it is not.
pub fn schedule(bytes: &[u8]) {
    let Ok(held) = schedule::parse(bytes) else { return };
    let again = schedule::parse(schedule::whole(&held).as_bytes());
    assert_eq!(again.as_ref(), Ok(&held));
}

/// ufw's file of the operator's: our lines go in once, and come out without a trace.
///
/// # Panics
///
/// When they do not.
pub fn ufw_block(text: &str) {
    let code = |line: &str| !line.starts_with('#');
    let Ok(with) = block::put(text, "mode 640", "ours\n", code) else {
        assert!(block::take(text).is_err() && block::note(text).is_err(), "{text:?}");
        return;
    };
    assert_eq!(block::put(&with, "mode 640", "ours\n", code).as_ref(), Ok(&with));
    assert_eq!(block::note(&with), Ok(Some("mode 640")));
    let rest = block::take(&with).ok().flatten();
    let before = block::take(text).ok().flatten().unwrap_or_else(|| text.to_owned());
    // A last line without an end gets one.
    let ended = format!("{before}\n");
    assert!(rest.as_deref() == Some(&before) || rest.as_deref() == Some(&ended), "{text:?}");
}

/// Files of the kernel, the resolver and daemons: all that comes out is an address or the name of a host.
///
/// # Panics
///
/// When something else does.
pub fn host_file(bytes: &[u8]) {
    for found in parse::everything(bytes) {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b':');
        assert!(!found.is_empty() && found.len() <= 253 && found.bytes().all(plain), "{found:?}");
    }
}

/// The kernel's answer about sockets.
///
/// # Panics
///
/// When there are more connections than an answer of this size can hold.
pub fn sock_diag(bytes: &[u8]) {
    assert!(diag::connections(bytes).len() <= bytes.len() / 72);
}

/// Listings of `nft`, `ip`, `tc` and `iptables-save`: what is told stays readable.
///
/// # Panics
///
/// When a note says nothing.
pub fn listings(text: &str) {
    assert!(preflight::read_listings(text).iter().all(|note| !note.what.is_empty() && !note.text.is_empty()));
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::{prelude::*, sample::Index};

    const SEEDS: &[&[u8]] = &[
        b"netguard-schedule 1\n+ 1767225600 block 192.0.2.1\n+ 1767225600 shield 203.0.113.1,6:443\n- block 192.0.2.1\n",
        b"#!/bin/sh\n# BEGIN netguard mode 640\nours\n# END netguard\nset -e\n",
        b"Iface\tDestination\tGateway\neth0\t00000000\t0100000A\t0003\t0\t0\t0\t00000000\nnameserver 9.9.9.9\nserver ntp.example iburst\n\
          NTP=10.0.0.1 a.example\nSSH_CONNECTION=10.0.0.7 54321 10.0.0.1 22\n - server: \"https://[2001:db8::1]:6443\"\n\
          lease {\n  interface \"eth0\";\n  option dhcp-server-identifier 10.0.0.1;\n}\n",
        b"  sl  local_address rem_address   st\n 0: 0100000A:0016 0700000A:D431 01 0:0 0:0 0 0 0\n",
        b"{\"nftables\":[{\"chain\":{\"family\":\"netdev\",\"table\":\"t\",\"name\":\"c\",\"hook\":\"ingress\",\"prio\":0}}]}",
        b"[{\"kind\":\"bpf\",\"dev\":\"d\",\"options\":{\"in_hw\":true,\"actions\":[{\"kind\":\"mirred\",\"mirred_action\":\"redirect\",\"to_dev\":\"x\"}]}}]",
        b"[{\"ifname\":\"eth0\",\"xdp\":{\"mode\":4,\"attached\":[{\"mode\":3}]},\"linkinfo\":{\"info_kind\":\"bridge\"}}]",
        b"table inet x {\n\tflowtable f {\n\t\tflags offload\n\t}\n}\n:DOCKER-USER - [0:0]\n",
        &[88, 0, 0, 0, 20, 0, 2, 0, 1, 0, 0, 0, 0, 0, 0, 0, 2, 1, 0, 0, 0, 22, 0, 80, 10, 0, 0, 1],
    ];

    /// A cut, a byte, a repetition or a piece of another seed, somewhere.
    #[derive(Debug, Clone)]
    enum Change {
        Cut(Index, Index),
        Byte(Index, u8),
        Again(Index, Index, u8),
        Other(Index, Index, Index),
    }

    fn change() -> impl Strategy<Value = Change> {
        prop_oneof![
            any::<(Index, Index)>().prop_map(|(a, b)| Change::Cut(a, b)),
            any::<(Index, u8)>().prop_map(|(a, b)| Change::Byte(a, b)),
            any::<(Index, Index, u8)>().prop_map(|(a, b, n)| Change::Again(a, b, n % 8)),
            any::<(Index, Index, Index)>().prop_map(|(a, b, c)| Change::Other(a, b, c)),
        ]
    }

    fn part(bytes: &[u8], a: Index, b: Index) -> std::ops::Range<usize> {
        let (a, b) = (a.index(bytes.len() + 1), b.index(bytes.len() + 1));
        a.min(b)..a.max(b)
    }

    fn changed(mut bytes: Vec<u8>, changes: &[Change]) -> Vec<u8> {
        for change in changes {
            match *change {
                Change::Cut(a, b) => drop(bytes.drain(part(&bytes, a, b))),
                Change::Byte(at, value) if !bytes.is_empty() => {
                    let at = at.index(bytes.len());
                    bytes[at] = value;
                }
                Change::Byte(..) => {}
                Change::Again(a, b, times) => {
                    let range = part(&bytes, a, b);
                    let piece = bytes[range.clone()].repeat(usize::from(times));
                    bytes.splice(range.end..range.end, piece);
                }
                Change::Other(seed, a, b) => {
                    let other = SEEDS[seed.index(SEEDS.len())];
                    let range = part(other, a, b);
                    let at = a.index(bytes.len() + 1);
                    bytes.splice(at..at, other[range].iter().copied());
                }
            }
        }
        bytes
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 4_096, ..ProptestConfig::default() })]
        #[test]
        fn whatever_others_write_breaks_no_promise(
            seed in any::<Index>(),
            changes in prop::collection::vec(change(), 0..6),
        ) {
            let bytes = changed(SEEDS[seed.index(SEEDS.len())].to_vec(), &changes);
            let text = String::from_utf8_lossy(&bytes);
            schedule(&bytes);
            ufw_block(&text);
            host_file(&bytes);
            sock_diag(&bytes);
            listings(&text);
        }
    }
}
