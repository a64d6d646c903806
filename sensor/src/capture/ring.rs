//! Frames from a live interface through a ring shared with the kernel (TPACKET_V3): no system call and no copy a packet.
//!
//! Invariants: a frame is lent out of the kernel's memory and its block given back only when the next one is asked for;
//! what the kernel dropped for want of room is counted; time never goes back and is never ahead of ours.

mod block;
mod sys;

use super::{
    BATCH, Came, Checksum, Frame, FrameSource, Next,
    clock::{now, wall_micros},
    filter::{Filter, Instruction},
    live::{Interface, LiveError},
};
use block::{Broken, Packet, Packets};
use netguard_core::{packet::LinkType, time::Timestamp};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::{
    io,
    net::SocketAddr,
    os::fd::{AsFd, BorrowedFd},
    sync::{Arc, Mutex, PoisonError},
};
use sys::{Geometry, Ring};

/// What a block of a ring of some size holds: some 200 packets of 512 bytes.
const BLOCK_BYTES: usize = 128 << 10;
/// The same of a small ring, so that one block is filled while others are read.
const SMALL_BLOCK_BYTES: usize = 32 << 10;
/// The kernel's headers in a block, before the frame in it: one packet of the largest size has to fit.
const BLOCK_OVERHEAD: usize = 512;
/// How long a packet waits at most until its block is handed over. A quarter of it would cost four times the wake-ups
/// under little load, and a decision takes longer than this anyway.
const RETIRE_MS: u32 = 4;
/// The same of a small ring: there are many of these, and the kernel looks at each that often.
const SMALL_RETIRE_MS: u32 = 10;
/// How long `next` waits on a silent interface: half of the interval at which evidence is cut.
const WAIT: Timespec = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };

/// What a ring is to be like.
#[derive(Debug, Clone)]
pub struct RingOptions {
    /// Memory shared with the kernel, rounded up to whole blocks.
    pub bytes: usize,
    /// Bytes of each frame that are of use; the rest is not copied.
    pub snap_length: u32,
    /// Take frames for others too.
    pub promiscuous: bool,
    /// What is to be taken at all.
    pub filter: Filter,
}

impl RingOptions {
    fn program(&self, interface: &Interface, uplinks: &[SocketAddr]) -> Result<Vec<Instruction>, LiveError> {
        self.filter
            .program(interface.link, uplinks, self.snap_length)
            .map_err(|source| LiveError::Filter { name: interface.name.clone(), source })
    }
}

impl Default for RingOptions {
    /// 4 MiB: 40 ms of 100,000 full-sized packets a second cut to 512 bytes, twice what a busy host's scheduler lets a
    /// thread wait. 512 bytes hold all headers, and the packet quoted by an ICMP error with its own.
    fn default() -> Self {
        Self { bytes: 4 << 20, snap_length: 512, promiscuous: false, filter: Filter::default() }
    }
}

/// How a ring is divided: into at least two blocks, each of which holds a whole frame as far as it is of use.
fn geometry(options: &RingOptions) -> io::Result<Geometry> {
    let is_small = options.bytes < 8 * BLOCK_BYTES;
    let block = if is_small { SMALL_BLOCK_BYTES } else { BLOCK_BYTES };
    let frame = usize::try_from(options.snap_length).map_err(io::Error::other)? + BLOCK_OVERHEAD;
    let block = block.max(frame.next_power_of_two());
    let blocks = options.bytes.div_ceil(block).max(2);
    Ok(Geometry {
        block_bytes: u32::try_from(block).map_err(io::Error::other)?,
        blocks: u32::try_from(blocks).map_err(io::Error::other)?,
        retire_ms: if is_small { SMALL_RETIRE_MS } else { RETIRE_MS },
    })
}

/// The rings of one interface among which the kernel shares what comes, by the hash of the flow. Clones are the same
/// group.
#[derive(Debug, Clone, Default)]
pub struct Group(Arc<Mutex<Members>>);

#[derive(Debug, Default)]
struct Members {
    /// The kernel's number of the group; it goes with the last member.
    number: Option<u16>,
    count: usize,
}

/// Being in a group, until dropped.
#[derive(Debug)]
struct Membership(Group);

impl Group {
    fn members(&self) -> std::sync::MutexGuard<'_, Members> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn join(&self, ring: &Ring) -> io::Result<Membership> {
        let mut members = self.members();
        members.number = Some(ring.join(members.number)?);
        members.count += 1;
        Ok(Membership(self.clone()))
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        let mut members = self.0.members();
        members.count -= 1;
        if members.count == 0 {
            members.number = None;
        }
    }
}

/// A live interface, by a ring.
#[derive(Debug)]
pub struct RingSource {
    interface: Interface,
    options: RingOptions,
    ring: Ring,
    // After the ring, whose socket has to be gone when the last member leaves.
    _membership: Option<Membership>,
    /// The block being read, counted on and on.
    index: usize,
    /// What is left of it; none while it is the kernel's.
    packets: Option<Packets>,
    clock: RingClock,
    dropped: u64,
}

impl RingSource {
    /// Opens an interface; as one of a group if there is one.
    ///
    /// Errors: [`LiveError::NotPermitted`], [`LiveError::Interface`] with [`io::ErrorKind::Unsupported`] where the
    /// kernel has no such ring, or with what else hinders.
    pub fn open(
        interface: Interface,
        options: RingOptions,
        uplinks: &[SocketAddr],
        group: Option<&Group>,
    ) -> Result<Self, LiveError> {
        let program = options.program(&interface, uplinks)?;
        let opened = (|| {
            let ring = Ring::new(geometry(&options)?)?;
            ring.filter(&program)?;
            ring.bind(interface.index)?;
            if options.promiscuous {
                ring.be_promiscuous(interface.index)?;
            }
            let membership = group.map(|group| group.join(&ring)).transpose()?;
            Ok((ring, membership))
        })();
        let (ring, membership) = opened.map_err(|error| interface.failed(error))?;
        Ok(Self {
            interface,
            options,
            ring,
            _membership: membership,
            index: 0,
            packets: None,
            clock: RingClock::default(),
            dropped: 0,
        })
    }

    /// Leaves out what is exchanged with other coordinators than before.
    ///
    /// Errors: the kernel does not take the filter; the one before stays.
    pub fn leave_out(&self, uplinks: &[SocketAddr]) -> Result<(), LiveError> {
        self.ring
            .filter(&self.options.program(&self.interface, uplinks)?)
            .map_err(|error| self.interface.failed(error))
    }

    /// The packet that is next in the block at hand, and its time; none when that is used up, or the kernel's.
    fn next_packet(&mut self) -> Option<(Timestamp, Packet)> {
        let block = self.ring.block(self.index)?;
        let packets = self.packets.get_or_insert_with(|| {
            self.clock.set();
            Packets::of(block)
        });
        loop {
            match packets.next(block)? {
                // What is sent there comes back, and is seen then.
                Ok(packet) if packet.outgoing && self.interface.is_loopback => {}
                Ok(packet) => return Some((self.clock.tell(packet.wall_micros), packet)),
                Err(Broken { lost }) => self.dropped += u64::from(lost),
            }
        }
    }

    /// Gives a block that is used up back. Whether there was one.
    fn next_block(&mut self) -> bool {
        let used = self.packets.take().is_some();
        if used {
            self.ring.release(self.index);
            self.index = self.index.wrapping_add(1);
        }
        used
    }

    /// Gives what the blocks hold that are ours, at most a batch out of one of them. Whether there was anything.
    pub(super) fn next_ready(&mut self, take: &mut dyn FnMut(&[Frame<'_>])) -> bool {
        let link = self.interface.link;
        loop {
            let (mut packets, mut count) = ([const { None }; BATCH], 0);
            for slot in &mut packets {
                *slot = self.next_packet();
                if slot.is_none() {
                    break;
                }
                count += 1;
            }
            if count > 0 {
                let block = self.ring.block(self.index).unwrap_or_default();
                let mut frames = [Frame::new(Timestamp::default(), link, &[], 0); BATCH];
                for (frame, packet) in frames.iter_mut().zip(packets.iter().flatten()) {
                    *frame = self::frame(packet, link, block);
                }
                take(frames.get(..count).unwrap_or_default());
            }
            if count < BATCH && !self.next_block() && count == 0 {
                return false;
            }
            if count > 0 {
                return true;
            }
        }
    }

    /// Waits until the kernel hands a block over, or for a while.
    fn wait(&self) -> Result<(), LiveError> {
        let mut waiting = [PollFd::new(&self.ring, PollFlags::IN | PollFlags::ERR)];
        match poll(&mut waiting, Some(&WAIT)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(self.interface.failed(error.into())),
        }
        let [waited] = waiting;
        if waited.revents().intersects(PollFlags::ERR | PollFlags::HUP) {
            self.check()?;
        }
        Ok(())
    }

    /// Errors: what became of the interface, as when it went down.
    pub(super) fn check(&self) -> Result<(), LiveError> {
        self.ring.take_error().map_err(|error| self.interface.failed(error))
    }
}

impl AsFd for RingSource {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.ring.as_fd()
    }
}

impl FrameSource for RingSource {
    type Error = LiveError;

    fn next(&mut self) -> Result<Next<'_>, LiveError> {
        let mut waited = false;
        let packet = loop {
            match self.next_packet() {
                Some(packet) => break packet,
                None if self.next_block() => {}
                None if waited => return Ok(Next::Quiet),
                None => {
                    waited = true;
                    self.wait()?;
                }
            }
        };
        let block = self.ring.block(self.index).unwrap_or_default();
        Ok(Next::Frame(frame(&packet, self.interface.link, block)))
    }

    fn next_batch(&mut self, take: &mut dyn FnMut(&[Frame<'_>])) -> Result<Came, LiveError> {
        if self.next_ready(take) {
            return Ok(Came::Frames);
        }
        self.wait()?;
        Ok(if self.next_ready(take) { Came::Frames } else { Came::Quiet })
    }

    fn dropped(&mut self) -> Option<u64> {
        if let Ok(statistics) = self.ring.statistics() {
            self.dropped += u64::from(statistics.dropped);
        }
        Some(self.dropped)
    }
}

/// A packet of the block as everybody else knows it.
fn frame<'a>((at, packet): &(Timestamp, Packet), link: LinkType, block: &'a [u8]) -> Frame<'a> {
    Frame {
        vlan: packet.vlan,
        checksum: if packet.checksum_known { Checksum::Trusted } else { Checksum::Verify },
        ..Frame::new(*at, link, block.get(packet.bytes.clone()).unwrap_or_default(), packet.wire_length)
    }
}

/// Turns the wall clock's times into ours, which setting the clock does not move.
#[derive(Debug, Clone, Copy, Default)]
struct RingClock {
    now: Timestamp,
    wall_micros: u64,
    last: Timestamp,
}

impl RingClock {
    /// Compares the clocks: once a block.
    fn set(&mut self) {
        (self.now, self.wall_micros) = (now(), wall_micros());
    }

    fn tell(&mut self, stamped: u64) -> Timestamp {
        let ago = self.wall_micros.saturating_sub(stamped);
        let at = Timestamp::from_micros(self.now.as_micros().saturating_sub(ago));
        self.last = self.last.max(at);
        self.last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_ours_and_never_go_back() {
        let mut clock =
            RingClock { now: Timestamp::from_secs(100), wall_micros: 7_000_000, last: Timestamp::default() };
        let told: Vec<u64> = [6_999_000, 6_999_500, 6_998_000, 7_000_900, 6_999_999]
            .into_iter()
            .map(|stamped| clock.tell(stamped).as_micros())
            .collect();
        assert_eq!(told, [99_999_000, 99_999_500, 99_999_500, 100_000_000, 100_000_000]);
    }
}
