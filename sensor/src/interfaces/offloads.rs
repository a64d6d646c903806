//! Which receive offloads an interface has on: what its card or the kernel does to frames before anybody sees them.
//!
//! Asked of the kernel by generic netlink (Documentation/networking/ethtool-netlink.rst, linux/ethtool_netlink.h,
//! linux/genetlink.h). Invariant: it only asks; a kernel that does not answer costs what there is to know, no more.

use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink,
    sockopt::{Timeout, set_socket_timeout},
};
use std::{io, os::fd::OwnedFd, time::Duration};

/// The kernel answers at once or never.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);
/// All features of an interface by name, with room to spare: they are some sixty.
const RECEIVE_BYTES: usize = 32 << 10;

const REQUEST: u16 = 1;
const NESTED: u16 = 0x8000;
const TYPE_MASK: u16 = 0x3fff;
/// `nlmsghdr` and `genlmsghdr`.
const HEADERS: usize = 20;
/// `GENL_ID_CTRL`, `CTRL_CMD_GETFAMILY`, `CTRL_ATTR_FAMILY_NAME`, `CTRL_ATTR_FAMILY_ID`.
const CONTROL: u16 = 16;
const GET_FAMILY: u8 = 3;
const FAMILY_NAME: u16 = 2;
const FAMILY_ID: u16 = 1;
/// `ETHTOOL_MSG_FEATURES_GET`, `ETHTOOL_A_FEATURES_HEADER` with `ETHTOOL_A_HEADER_DEV_INDEX`.
const GET_FEATURES: u8 = 11;
const FEATURES_HEADER: u16 = 1;
const DEVICE_INDEX: u16 = 1;
/// `ETHTOOL_A_FEATURES_ACTIVE`, in it `ETHTOOL_A_BITSET_BITS`, in those `ETHTOOL_A_BITSET_BIT_NAME`: only those that are
/// on, as it is a list without a mask.
const FEATURES_ACTIVE: u16 = 4;
const BITS: u16 = 3;
const BIT_NAME: u16 = 2;

/// One that is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Offload {
    /// The kernel, or the card as the kernel would, puts segments of a connection together.
    Gro,
    /// The card puts segments together as it likes.
    Lro,
    /// The card verifies checksums.
    Checksum,
    /// The card takes tags out of frames.
    Vlan,
}

impl Offload {
    /// By the kernel's name (net/ethtool/common.c).
    fn named(feature: &[u8]) -> Option<Self> {
        match feature {
            b"rx-gro" | b"rx-gro-hw" | b"rx-gro-list" => Some(Self::Gro),
            b"rx-lro" => Some(Self::Lro),
            b"rx-checksum" => Some(Self::Checksum),
            b"rx-vlan-hw-parse" | b"rx-vlan-stag-hw-parse" => Some(Self::Vlan),
            _ => None,
        }
    }
}

/// Asks about interfaces of the network namespace it was opened in.
#[derive(Debug)]
pub(super) struct Ethtool {
    socket: OwnedFd,
    family: u16,
}

impl Ethtool {
    /// Errors: the kernel has no such interface (before 5.6), or does not let it be used here.
    pub(super) fn open() -> io::Result<Self> {
        let socket = rustix::net::socket_with(
            AddressFamily::NETLINK,
            SocketType::RAW,
            SocketFlags::CLOEXEC,
            Some(netlink::GENERIC),
        )?;
        rustix::net::bind(&socket, &netlink::SocketAddrNetlink::new(0, 0))?;
        set_socket_timeout(&socket, Timeout::Recv, Some(ANSWER_TIMEOUT))?;
        let mut ethtool = Self { socket, family: CONTROL };
        let answer = ethtool.ask(GET_FAMILY, &attribute(FAMILY_NAME, b"ethtool\0"))?;
        let family = value(&answer, FAMILY_ID).and_then(|id| id.first_chunk());
        ethtool.family = family.map(|id| u16::from_ne_bytes(*id)).ok_or(io::ErrorKind::Unsupported)?;
        Ok(ethtool)
    }

    /// Those that are on, each once.
    ///
    /// Errors: there is no such interface, or it has no features.
    pub(super) fn offloads(&self, index: u32) -> io::Result<Vec<Offload>> {
        let device = attribute(DEVICE_INDEX, &index.to_ne_bytes());
        let answer = self.ask(GET_FEATURES, &attribute(FEATURES_HEADER | NESTED, &device))?;
        Ok(active(&answer))
    }

    /// The attributes of the one message that answers.
    fn ask(&self, command: u8, attributes: &[u8]) -> io::Result<Vec<u8>> {
        let length = u32::try_from(HEADERS + attributes.len()).unwrap_or(u32::MAX);
        let mut message = length.to_ne_bytes().to_vec();
        message.extend([self.family, REQUEST].map(u16::to_ne_bytes).as_flattened());
        // Sequence and port of a socket that asks one thing at a time; command, version.
        message.extend([0; 8]);
        message.extend([command, 1, 0, 0]);
        message.extend(attributes);
        rustix::net::send(&self.socket, &message, SendFlags::empty())?;
        let mut answer = vec![0; RECEIVE_BYTES];
        let (length, _) = rustix::net::recv(&self.socket, &mut answer[..], RecvFlags::empty())?;
        answer.truncate(length);
        if answer.get(4..6) != Some(&self.family.to_ne_bytes()) {
            // An error, with the number of its reason.
            return Err(io::ErrorKind::Unsupported.into());
        }
        Ok(answer.split_off(HEADERS.min(length)))
    }
}

/// The offloads among the features that are on.
fn active(answer: &[u8]) -> Vec<Offload> {
    let bits = value(answer, FEATURES_ACTIVE).and_then(|set| value(set, BITS)).unwrap_or_default();
    let names = Attributes(bits).filter_map(|(_, bit)| value(bit, BIT_NAME));
    let mut found: Vec<_> =
        names.filter_map(|name| Offload::named(name.strip_suffix(&[0]).unwrap_or(name))).collect();
    found.sort_unstable();
    found.dedup();
    found
}

fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
    let mut bytes = [length, kind].map(u16::to_ne_bytes).as_flattened().to_vec();
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

fn value(block: &[u8], wanted: u16) -> Option<&[u8]> {
    Attributes(block).find(|(kind, _)| *kind == wanted).map(|(_, value)| value)
}

/// Type and value of each. Stops at the first that does not fit.
struct Attributes<'a>(&'a [u8]);

impl<'a> Iterator for Attributes<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let length = usize::from(u16::from_ne_bytes(*self.0.first_chunk()?));
        let kind = u16::from_ne_bytes(*self.0.get(2..)?.first_chunk()?) & TYPE_MASK;
        let value = self.0.get(4..length)?;
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn answer(features: &[&[u8]]) -> Vec<u8> {
        let bits: Vec<_> =
            features.iter().map(|name| attribute(1 | NESTED, &attribute(BIT_NAME, name))).collect();
        let set = [attribute(1, &[]), attribute(BITS | NESTED, &bits.concat())].concat();
        [attribute(FEATURES_HEADER, b"whose"), attribute(FEATURES_ACTIVE | NESTED, &set)].concat()
    }

    #[test]
    fn features_that_are_on_are_told_by_their_names() {
        let names: [&[u8]; 5] =
            [b"rx-vlan-hw-parse\0", b"tx-checksum-ipv4\0", b"rx-gro-hw\0", b"rx-gro\0", b"rx-checksum\0"];
        assert_eq!(active(&answer(&names)), [Offload::Gro, Offload::Checksum, Offload::Vlan]);
        assert_eq!(active(&answer(&[b"rx-lro\0"])), [Offload::Lro]);
        assert_eq!(active(&answer(&[])), []);
    }

    #[test]
    fn the_kernel_tells_what_the_loopback_interface_does() {
        let ethtool = match Ethtool::open() {
            Ok(ethtool) => ethtool,
            Err(error) => {
                assert!(std::env::var_os("CI").is_none(), "{error}");
                return;
            }
        };
        // Its checksums are never written, and so always taken as verified (drivers/net/loopback.c).
        assert!(ethtool.offloads(1).unwrap().contains(&Offload::Checksum));
        assert!(ethtool.offloads(u32::MAX >> 1).is_err(), "no such interface");
        assert!(ethtool.offloads(1).is_ok(), "and the next question has its own answer");
    }

    proptest! {
        #[test]
        fn no_answer_loops_or_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200), at in 0..200_usize) {
            let _ = active(&bytes);
            let mut changed = answer(&[b"rx-gro\0", b"rx-lro\0"]);
            changed.truncate(at);
            prop_assert!(active(&changed).len() <= 2);
        }
    }
}
