//! Fragments → whole datagrams, as a Linux host puts them together.
//!
//! Invariants: what a Linux host behind us would put together is put together to the same bytes, and what it would throw
//! away is thrown away (`net/ipv4/inet_fragment.c`, `ip_fragment.c` and `net/ipv6/reassembly.c` as of Linux 6.18: a
//! fragment within what came in one run is a duplicate and ignored, any other overlap discards the whole datagram;
//! RFC 5722 wants the latter for IPv6). Parts of different datagrams are never mixed: the key has everything that
//! tells datagrams apart, and a datagram that was completed, discarded or timed out leaves nothing behind for the next
//! one of the same identification. Memory is bounded by [`FragmentLimits`]; the oldest is given up first, counted.
//!
//! Not as Linux: it takes no new datagram when its memory is full, which would let a flood blind us; and it starts a
//! datagram anew when 64 others of the same source came between (`ipfrag_max_dist`).

mod datagram;
mod key;
mod limits;
mod reassembly;

pub use limits::{FragmentCounts, FragmentLimits};
pub use reassembly::{Fragments, Whole};

#[cfg(test)]
mod tests;
