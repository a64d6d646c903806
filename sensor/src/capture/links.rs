//! Being told that interfaces or their addresses changed, by rtnetlink's groups (rtnetlink(7)).
//!
//! What changed is not read: whoever is told looks at all of them, which is right also when messages were lost.

use rustix::{
    io::Errno,
    net::{AddressFamily, RecvFlags, SocketFlags, SocketType, netlink},
};
use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

/// `RTMGRP_LINK`, `RTMGRP_IPV4_IFADDR`, `RTMGRP_IPV6_IFADDR`.
const GROUPS: u32 = 0x1 | 0x10 | 0x100;
/// Messages taken at once; more come with the next look.
const DRAIN: usize = 1_024;

/// A socket that becomes readable with every change in the network namespace it was opened in.
#[derive(Debug)]
pub(super) struct LinkEvents(OwnedFd);

impl LinkEvents {
    /// Errors: the kernel has no such socket.
    pub(super) fn open() -> io::Result<Self> {
        // Protocol 0 is NETLINK_ROUTE.
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, None)?;
        rustix::net::bind(&socket, &netlink::SocketAddrNetlink::new(0, GROUPS))?;
        Ok(Self(socket))
    }

    /// Forgets what was told so far. Whether anything was.
    pub(super) fn drain(&self) -> bool {
        let (mut told, mut buffer) = (false, [0; 64]);
        for _ in 0..DRAIN {
            // A message that does not fit is cut, and one that was lost says so: both are a change.
            match rustix::net::recv(&self.0, &mut buffer[..], RecvFlags::DONTWAIT) {
                Ok(_) | Err(Errno::NOBUFS) => told = true,
                Err(Errno::INTR) => {}
                Err(_) => break,
            }
        }
        told
    }
}

impl AsFd for LinkEvents {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
