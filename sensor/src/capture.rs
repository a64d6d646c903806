//! Where frames come from: a capture file or an interface, behind one trait.

mod budget;
mod clock;
mod duplicates;
mod emergency;
mod file;
pub mod filter;
mod filtered;
mod links;
mod live;
mod loss;
mod metrics;
mod opening;
mod own;
mod portable;
mod ring;
mod selection;
mod supervisor;
mod threads;
mod wake;
mod worker;

pub use clock::{FrameClock, follow_wall_clock, now};
pub use file::{CaptureFile, FileError};
pub use filter::{Filter, FilterError, Matcher};
pub use filtered::{Filtered, FilteredError};
pub use live::{Interface, LiveError, LiveOptions, LiveSource, SourceKind};
pub use metrics::CaptureMetrics;
pub(crate) use own::master;
pub use own::own_of;
pub use ring::{Group, RingOptions, RingSource};
pub use selection::{Selection, SelectionError};
pub use threads::{Capture, RING_TOTAL, Recording, Sources, WatchedInterfaces};

use netguard_core::{packet::LinkType, time::Timestamp};

/// One captured frame.
#[derive(Debug, Clone, Copy)]
pub struct Frame<'a> {
    pub at: Timestamp,
    pub link: LinkType,
    /// What was captured of it.
    pub bytes: &'a [u8],
    /// Its length on the wire.
    pub wire_length: u32,
    /// The id of the 802.1Q tag that the interface took off before we saw the frame; tags left in it are in `bytes`.
    pub vlan: Option<u16>,
    pub checksum: Checksum,
}

impl<'a> Frame<'a> {
    /// A frame of which nobody knows more.
    #[must_use]
    pub fn new(at: Timestamp, link: LinkType, bytes: &'a [u8], wire_length: u32) -> Self {
        Self { at, link, bytes, wire_length, vlan: None, checksum: Checksum::Unknown }
    }
}

/// Whether the checksum in a frame's transport header can be held against it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Checksum {
    /// As it was on the wire: a wrong one tells of a damaged or forged packet.
    #[default]
    Verify,
    /// The kernel or the card has verified it, or will only write it when the frame leaves.
    Trusted,
    /// Nobody says: a capture has frames that a card was still to complete beside those from the wire.
    Unknown,
}

/// What a source has next.
#[derive(Debug, Clone, Copy)]
pub enum Next<'a> {
    Frame(Frame<'a>),
    /// Nothing for now: time passes.
    Quiet,
    /// The file is read to its end.
    End,
}

/// Frames handed over at once at most: their headers fit into the first-level cache, and the timers between batches are
/// late by some ten microseconds at most.
pub const BATCH: usize = 64;

/// What came of asking for a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Came {
    Frames,
    /// Nothing for now: time passes.
    Quiet,
    /// The file is read to its end.
    End,
}

/// A source of frames.
pub trait FrameSource {
    type Error: std::error::Error + Send + Sync + 'static;

    /// The next frame. Blocks for a bounded time at most.
    ///
    /// Errors: the source cannot go on; what it gave before stands.
    fn next(&mut self) -> Result<Next<'_>, Self::Error>;

    /// As [`Self::next`], but gives all frames that are there at once, at most [`BATCH`], in their order.
    ///
    /// Errors: as `next`.
    fn next_batch(&mut self, take: &mut dyn FnMut(&[Frame<'_>])) -> Result<Came, Self::Error> {
        Ok(match self.next()? {
            Next::Frame(frame) => {
                take(&[frame]);
                Came::Frames
            }
            Next::Quiet => Came::Quiet,
            Next::End => Came::End,
        })
    }

    /// Frames dropped before they reached us, since the start; none where the source cannot tell.
    fn dropped(&mut self) -> Option<u64>;
}
