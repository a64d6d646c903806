//! The packet socket and the memory it shares with the kernel: the system calls, and the only unsafe code of the
//! workspace.
//!
//! Invariants: the mapping lives as long as the socket's ring and not longer than this value; a block is read only
//! while the kernel says it is ours, and given back only when nobody reads it any more (`release` takes `&mut self`,
//! every slice borrows `self`).

#![allow(unsafe_code, reason = "shared memory and socket options that no safe interface offers")]

use super::super::filter::Instruction;
use std::{
    ffi::{c_int, c_void},
    io, mem,
    os::fd::{AsFd, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd},
    ptr::{self, NonNull},
    slice,
    sync::atomic::{AtomicU32, Ordering},
};

/// `block_status` in `struct tpacket_block_desc`.
const STATUS_OFFSET: usize = 8;
/// `TP_STATUS_USER`: the block is ours.
const OURS: u32 = 1;
const KERNELS: u32 = 0;
/// `PACKET_FANOUT_FLAG_UNIQUEID`: the kernel finds a number that no group has (Linux 4.12).
const UNIQUE_ID: u32 = 0x2000;
/// The kernel keeps whole frames up to this; what a block cannot hold it cuts.
const FRAME_BYTES: u32 = 2048;

/// How the shared memory is divided.
#[derive(Debug, Clone, Copy)]
pub(super) struct Geometry {
    /// A multiple of the page size, and of 2,048.
    pub(super) block_bytes: u32,
    pub(super) blocks: u32,
    /// After so many milliseconds a block with anything in it is handed over, full or not.
    pub(super) retire_ms: u32,
}

/// Packets and drops since they were last asked for.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Statistics {
    pub(super) dropped: u32,
}

/// A packet socket of one interface with its ring.
#[derive(Debug)]
pub(super) struct Ring {
    // Before the socket: it is unmapped first.
    memory: Memory,
    socket: OwnedFd,
}

impl Ring {
    /// A socket with a ring, which takes nothing yet.
    ///
    /// Errors: no permission, no memory, a kernel without packet sockets or TPACKET_V3.
    pub(super) fn new(geometry: Geometry) -> io::Result<Self> {
        // SAFETY: no memory is passed. Protocol 0: it takes nothing before it is bound.
        let socket = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
        if socket < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor was just made and belongs to nobody else.
        let socket = unsafe { OwnedFd::from_raw_fd(socket) };
        set(&socket, libc::SOL_PACKET, libc::PACKET_VERSION, &(libc::tpacket_versions::TPACKET_V3 as c_int))?;
        let request = libc::tpacket_req3 {
            tp_block_size: geometry.block_bytes,
            tp_block_nr: geometry.blocks,
            tp_frame_size: FRAME_BYTES,
            tp_frame_nr: geometry.block_bytes / FRAME_BYTES * geometry.blocks,
            tp_retire_blk_tov: geometry.retire_ms,
            tp_sizeof_priv: 0,
            tp_feature_req_word: 0,
        };
        set(&socket, libc::SOL_PACKET, libc::PACKET_RX_RING, &request)?;
        let block = usize::try_from(geometry.block_bytes).map_err(io::Error::other)?;
        let blocks = usize::try_from(geometry.blocks).map_err(io::Error::other)?;
        let memory = Memory::map(socket.as_fd(), block, blocks)?;
        Ok(Self { memory, socket })
    }

    /// From now on it takes what passes the interface, both ways.
    pub(super) fn bind(&self, interface: u32) -> io::Result<()> {
        // SAFETY: all fields are integers, for which zeros are valid.
        let mut address: libc::sockaddr_ll = unsafe { mem::zeroed() };
        address.sll_family = u16::try_from(libc::AF_PACKET).map_err(io::Error::other)?;
        address.sll_protocol = u16::try_from(libc::ETH_P_ALL).map_err(io::Error::other)?.to_be();
        address.sll_ifindex = c_int::try_from(interface).map_err(io::Error::other)?;
        // SAFETY: the address lives for the call, and its size is given with it.
        let bound = unsafe {
            libc::bind(self.socket.as_raw_fd(), ptr::from_ref(&address).cast(), size_of(&address)?)
        };
        if bound < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// Takes frames for others too, as long as the socket lives.
    pub(super) fn be_promiscuous(&self, interface: u32) -> io::Result<()> {
        let request = libc::packet_mreq {
            mr_ifindex: c_int::try_from(interface).map_err(io::Error::other)?,
            mr_type: u16::try_from(libc::PACKET_MR_PROMISC).map_err(io::Error::other)?,
            mr_alen: 0,
            mr_address: [0; 8],
        };
        set(&self.socket, libc::SOL_PACKET, libc::PACKET_ADD_MEMBERSHIP, &request)
    }

    /// Shares what comes with the other sockets of a group, by the hash of the flow; the same flow, both ways, always
    /// goes to the same one. Without a number a new group is made. Returns its number.
    pub(super) fn join(&self, group: Option<u16>) -> io::Result<u16> {
        let wanted = match group {
            Some(group) => u32::from(group) | libc::PACKET_FANOUT_HASH << 16,
            None => (libc::PACKET_FANOUT_HASH | UNIQUE_ID) << 16,
        };
        set(&self.socket, libc::SOL_PACKET, libc::PACKET_FANOUT, &wanted)?;
        let mut joined = 0_u32;
        get(&self.socket, libc::SOL_PACKET, libc::PACKET_FANOUT, &mut joined)?;
        u16::try_from(joined & 0xffff).map_err(io::Error::other)
    }

    /// Lets the kernel decide by `program` what is taken, and how much of it.
    pub(super) fn filter(&self, program: &[Instruction]) -> io::Result<()> {
        let mut program: Vec<libc::sock_filter> = program
            .iter()
            .map(|&Instruction { code, jt, jf, k }| libc::sock_filter { code, jt, jf, k })
            .collect();
        let described = libc::sock_fprog {
            len: u16::try_from(program.len()).map_err(io::Error::other)?,
            filter: program.as_mut_ptr(),
        };
        // The kernel copies the program before this returns.
        set(&self.socket, libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, &described)
    }

    /// What was dropped for want of room since this was last asked.
    pub(super) fn statistics(&self) -> io::Result<Statistics> {
        // SAFETY: all fields are integers, for which zeros are valid.
        let mut statistics: libc::tpacket_stats_v3 = unsafe { mem::zeroed() };
        get(&self.socket, libc::SOL_PACKET, libc::PACKET_STATISTICS, &mut statistics)?;
        Ok(Statistics { dropped: statistics.tp_drops })
    }

    /// The error that waits at the socket, as when its interface went down.
    pub(super) fn take_error(&self) -> io::Result<()> {
        let mut error: c_int = 0;
        get(&self.socket, libc::SOL_SOCKET, libc::SO_ERROR, &mut error)?;
        if error == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(error)) }
    }

    /// The block at `index` (counted on and on), when the kernel has handed it over.
    pub(super) fn block(&self, index: usize) -> Option<&[u8]> {
        self.memory.block(index)
    }

    /// Gives the block at `index` back to the kernel.
    pub(super) fn release(&mut self, index: usize) {
        self.memory.release(index);
    }
}

impl AsFd for Ring {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Memory shared with the kernel, in blocks.
#[derive(Debug)]
struct Memory {
    start: NonNull<u8>,
    block: usize,
    blocks: usize,
}

// SAFETY: the memory is bound to no thread; whoever has the value has all of it.
unsafe impl Send for Memory {}

impl Memory {
    fn map(socket: BorrowedFd<'_>, block: usize, blocks: usize) -> io::Result<Self> {
        let length = block.checked_mul(blocks).filter(|length| *length > 0);
        let length = length.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        // SAFETY: the kernel chooses where; nothing that exists is touched.
        let start = unsafe {
            libc::mmap(
                ptr::null_mut(),
                length,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                socket.as_raw_fd(),
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).ok_or_else(|| io::Error::other("mapped at address 0"))?;
        Ok(Self { start, block, blocks })
    }

    /// The first byte of a block.
    fn at(&self, index: usize) -> NonNull<u8> {
        // SAFETY: the remainder is below the number of blocks, so the offset lies within the mapping.
        unsafe { self.start.add(index % self.blocks * self.block) }
    }

    fn status(&self, index: usize) -> &AtomicU32 {
        // SAFETY: blocks begin at multiples of the page size, so the field is aligned for a u32, and it is within its
        // block; kernel and program only ever change it as one.
        unsafe { AtomicU32::from_ptr(self.at(index).add(STATUS_OFFSET).cast().as_ptr()) }
    }

    fn block(&self, index: usize) -> Option<&[u8]> {
        if self.status(index).load(Ordering::Acquire) & OURS == 0 {
            return None;
        }
        // SAFETY: the block lies within the mapping, and the kernel does not write to it before it is given back, for
        // which `release` needs the whole of `self`: no slice lives then.
        Some(unsafe { slice::from_raw_parts(self.at(index).as_ptr(), self.block) })
    }

    fn release(&mut self, index: usize) {
        self.status(index).store(KERNELS, Ordering::Release);
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: this is what `map` mapped, and no slice of it outlives the value.
        unsafe { libc::munmap(self.start.as_ptr().cast::<c_void>(), self.block * self.blocks) };
    }
}

fn size_of<T>(_: &T) -> io::Result<libc::socklen_t> {
    libc::socklen_t::try_from(mem::size_of::<T>()).map_err(io::Error::other)
}

fn set<T>(socket: &OwnedFd, level: c_int, name: c_int, value: &T) -> io::Result<()> {
    let size = size_of(value)?;
    // SAFETY: the value lives for the call and is as large as said; the kernel only reads it. Every caller passes the
    // type that the option takes.
    let done =
        unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, ptr::from_ref(value).cast(), size) };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn get<T: Copy>(socket: &OwnedFd, level: c_int, name: c_int, value: &mut T) -> io::Result<()> {
    let mut size = size_of(value)?;
    // SAFETY: the value lives for the call, the kernel writes at most `size` bytes into it, and every caller passes a
    // type of integers, valid whatever is written.
    let done = unsafe {
        libc::getsockopt(socket.as_raw_fd(), level, name, ptr::from_mut(value).cast(), &raw mut size)
    };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As the kernel shares it, without one: three blocks of a page.
    fn memory() -> Memory {
        // SAFETY: the kernel chooses where; nothing that exists is touched.
        let start = unsafe {
            libc::mmap(
                ptr::null_mut(),
                3 * 4096,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        assert_ne!(start, libc::MAP_FAILED);
        Memory { start: NonNull::new(start.cast()).unwrap(), block: 4096, blocks: 3 }
    }

    #[test]
    fn a_block_is_read_only_while_it_is_ours() {
        let mut memory = memory();
        assert_eq!(memory.block(1), None);
        memory.status(1).store(OURS, Ordering::Release);
        let block = memory.block(4).unwrap();
        assert_eq!((block.len(), block[STATUS_OFFSET]), (4096, u8::from(cfg!(target_endian = "little"))));
        assert_eq!((memory.block(0), memory.block(2)), (None, None));
        memory.release(1);
        assert_eq!(memory.block(1), None);
    }

    /// The mapping as the kernel has it, beside ours.
    struct Kernels(NonNull<u8>);
    // SAFETY: it only reaches blocks whose status says that they are the kernel's.
    unsafe impl Send for Kernels {}

    impl Kernels {
        /// Fills the block at `index`, as soon as it is given back, with the number of the round.
        fn fill(&self, index: usize, round: u8) {
            // SAFETY: the mapping has three blocks of a page and outlives the thread that has this.
            let block = unsafe { self.0.add(index % 3 * 4096) };
            // SAFETY: as in `Memory::status`.
            let status = unsafe { AtomicU32::from_ptr(block.add(STATUS_OFFSET).cast().as_ptr()) };
            while status.load(Ordering::Acquire) != KERNELS {
                std::thread::yield_now();
            }
            // SAFETY: within the block, which nobody reads while it is the kernel's.
            unsafe { block.add(48).write_bytes(round, 64) };
            status.store(OURS, Ordering::Release);
        }
    }

    /// Under Miri, which knows of every byte what happened before what, this shows that handing over and giving back
    /// order all reads and writes of a block.
    #[test]
    fn a_block_is_read_whole_while_others_are_written() {
        const BLOCKS: u8 = 12;
        let mut memory = memory();
        let kernels = Kernels(memory.start);
        std::thread::scope(|scope| {
            scope.spawn(move || (0..BLOCKS).for_each(|round| kernels.fill(usize::from(round), round)));
            for round in 0..BLOCKS {
                let block = loop {
                    match memory.block(usize::from(round)) {
                        Some(block) => break block,
                        None => std::thread::yield_now(),
                    }
                };
                assert_eq!(block[48..112], [round; 64]);
                memory.release(usize::from(round));
            }
        });
    }
}
