use super::Pipeline;
use crate::capture::Frame;
use netguard_core::{
    evidence::ServiceHint,
    flow::Hint,
    packet::{self, Plain},
};
use prefetch_index::prefetch_index;

/// Frames between two steps: what one asked for has come when the next needs it.
const APART: usize = 3;
/// Places for frames on their way: more than are ever between the first and the last step, and a power of two.
const PLACES: usize = 8;
/// Bytes the processor fetches at a time, and those whose place it looks up at once.
const LINE: usize = 64;
const PAGE: usize = 4_096;

/// Frames on their way into a pipeline, each in its place.
struct Waiting<'a> {
    frames: [Frame<'a>; PLACES],
    plain: [Option<(Plain<'a>, Hint)>; PLACES],
    services: [Option<ServiceHint>; PLACES],
}

impl Pipeline {
    /// Takes frames in as [`Self::push`] does, one after the other, but lets the processor fetch what the next ones need
    /// meanwhile: in each round one frame is looked at, one flow is asked for, and one frame is taken in.
    pub fn push_all<'a>(&mut self, mut frames: impl Iterator<Item = Frame<'a>>) {
        let Some(first) = frames.next() else { return };
        let mut waiting =
            Waiting { frames: [first; PLACES], plain: [None; PLACES], services: [None; PLACES] };
        self.look(&mut waiting, 0, first);
        let mut begun = 1;
        for frame in frames {
            self.look(&mut waiting, begun, frame);
            if begun >= APART {
                self.ask(&waiting, begun - APART);
            }
            if begun >= 2 * APART {
                self.take(&waiting, begun - 2 * APART);
            }
            begun += 1;
        }
        for place in begun.saturating_sub(2 * APART)..begun {
            self.take(&waiting, place);
        }
    }

    #[inline]
    fn look<'a>(&self, waiting: &mut Waiting<'a>, place: usize, frame: Frame<'a>) {
        ask_for_next(frame.bytes);
        let plain = packet::plain(frame.bytes, frame.link);
        waiting.services[place % PLACES] = plain.and_then(|plain| self.collected.evidence.hint(&plain));
        waiting.plain[place % PLACES] = plain.map(|plain| (plain, self.table.hint(&plain)));
        waiting.frames[place % PLACES] = frame;
    }

    #[inline]
    fn ask(&self, waiting: &Waiting<'_>, place: usize) {
        if let Some((_, hint)) = &waiting.plain[place % PLACES] {
            self.table.follow(hint);
        }
        if let Some(hint) = waiting.services[place % PLACES] {
            self.collected.evidence.follow(hint);
        }
    }

    #[inline]
    fn take(&mut self, waiting: &Waiting<'_>, place: usize) {
        let frame = &waiting.frames[place % PLACES];
        match &waiting.plain[place % PLACES] {
            Some((plain, hint)) => self.hinted(frame, plain, hint),
            None => self.push(frame),
        }
    }
}

/// Asks the processor for the next frame: in a ring and in a file it stands behind this one. Where a new page begins, the
/// one after it is asked for too: finding a page takes longer than a frame does.
#[inline]
fn ask_for_next(frame: &[u8]) {
    let begin = frame.as_ptr().addr();
    let end = begin.wrapping_add(frame.len());
    prefetch_index(frame, frame.len());
    prefetch_index(frame, frame.len() + LINE);
    prefetch_index(frame, frame.len() + 2 * LINE);
    if begin / PAGE != end / PAGE {
        prefetch_index(frame, frame.len() + PAGE - end % PAGE);
    }
}
