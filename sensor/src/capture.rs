//! Where frames come from: a capture file or an interface, behind one trait.

mod clock;
mod file;
pub mod filter;
mod live;
mod loss;
mod portable;
mod ring;
mod threads;

pub use clock::{FrameClock, follow_wall_clock, now};
pub use file::{CaptureFile, FileError};
pub use live::{Interface, LiveError, LiveOptions, LiveSource, SourceKind};
pub use ring::{Group, RingOptions, RingSource};
pub use threads::{Capture, CaptureMetrics, Sources, own_of};

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

/// A source of frames.
pub trait FrameSource {
    type Error: std::error::Error + Send + Sync + 'static;

    /// The next frame. Blocks for a bounded time at most.
    ///
    /// Errors: the source cannot go on; what it gave before stands.
    fn next(&mut self) -> Result<Next<'_>, Self::Error>;

    /// Frames dropped before they reached us, since the start; none where the source cannot tell.
    fn dropped(&mut self) -> Option<u64>;
}
