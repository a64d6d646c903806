use super::Pipeline;
use crate::capture::Frame;
use netguard_core::{flow::Hint, packet};
use prefetch_index::prefetch_index;

/// Frames between two steps: what one asked for has come when the next needs it.
const APART: usize = 3;
/// Places for frames on their way: more than are ever between the first and the last step, and a power of two.
const PLACES: usize = 8;
/// Bytes the processor fetches at a time.
const LINE: usize = 64;

/// A frame on its way into a pipeline.
#[derive(Debug, Clone, Copy)]
struct Waiting<'a> {
    frame: Frame<'a>,
    hint: Option<Hint>,
}

impl Pipeline {
    /// Takes frames in as [`Self::push`] does, one after the other, but lets the processor fetch what the next ones need
    /// meanwhile: in each round one frame is looked at, one flow is asked for, and one frame is taken in.
    pub fn push_all<'a>(&mut self, frames: impl Iterator<Item = Frame<'a>>) {
        let mut places: [Option<Waiting<'a>>; PLACES] = [const { None }; PLACES];
        let mut begun = 0;
        for frame in frames {
            // In a ring and in a file the next frame stands behind this one.
            prefetch_index(frame.bytes, frame.bytes.len());
            prefetch_index(frame.bytes, frame.bytes.len() + LINE);
            let hint = packet::plain(frame.bytes, frame.link).map(|plain| self.table.hint(&plain));
            places[begun % PLACES] = Some(Waiting { frame, hint });
            if let Some(Waiting { hint: Some(hint), .. }) = &places[begun.wrapping_sub(APART) % PLACES] {
                self.table.follow(hint);
            }
            if let Some(waiting) = places[begun.wrapping_sub(2 * APART) % PLACES].take() {
                self.take(&waiting);
            }
            begun += 1;
        }
        for rest in begun..begun + PLACES {
            if let Some(waiting) = places[rest % PLACES].take() {
                self.take(&waiting);
            }
        }
    }

    #[inline]
    fn take(&mut self, waiting: &Waiting<'_>) {
        match (&waiting.hint, packet::plain(waiting.frame.bytes, waiting.frame.link)) {
            (Some(hint), Some(plain)) => self.hinted(&waiting.frame, &plain, hint),
            _ => self.push(&waiting.frame),
        }
    }
}
