//! An interface of which frames are taken, as one worker has it.

use crate::capture::{
    live::LiveSource,
    loss::LossWatch,
    metrics::{CaptureMetrics, InterfaceLabel},
};

/// An interface of which frames are taken.
#[derive(Debug)]
pub(in crate::capture) struct Watched {
    /// The same for all rings of an interface; never that of another one.
    pub(in crate::capture) id: u32,
    pub(super) label: InterfaceLabel,
    /// By its name, not by a pattern.
    pub(super) is_named: bool,
    pub(super) source: LiveSource,
    /// What the open source dropped so far.
    pub(super) kernel_dropped: u64,
    pub(super) watch: LossWatch,
    pub(super) is_blind: bool,
    /// Frames and bytes that the metrics do not know of.
    pub(super) frames: u64,
    pub(super) bytes: u64,
    pub(super) is_ready: bool,
}

impl Watched {
    pub(in crate::capture) fn new(id: u32, name: &str, is_named: bool, source: LiveSource) -> Self {
        Self {
            id,
            label: InterfaceLabel { interface: name.to_owned() },
            is_named,
            source,
            kernel_dropped: 0,
            watch: LossWatch::default(),
            is_blind: false,
            frames: 0,
            bytes: 0,
            is_ready: true,
        }
    }
}

impl CaptureMetrics {
    /// Counts what came of an interface since this was last done.
    pub(super) fn count(&self, watched: &mut Watched) {
        let frames = std::mem::take(&mut watched.frames);
        if frames > 0 {
            self.frames.get_or_create(&watched.label).inc_by(frames);
            self.bytes.get_or_create(&watched.label).inc_by(std::mem::take(&mut watched.bytes));
        }
    }
}
