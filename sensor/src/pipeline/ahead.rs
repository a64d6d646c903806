use super::Pipeline;
use crate::capture::Frame;
use netguard_core::flow::Hint;
use std::hint::black_box;

/// Frames between two steps: what one asked for has come when the next needs it.
const APART: usize = 3;
/// Places for frames on their way: more than are ever between the first and the last step, and a power of two.
const PLACES: usize = 16;

/// Frames on their way into a pipeline. In each round one frame is fetched, one is hashed, one is looked for in the index,
/// one flow is read, and one frame is taken in; each step has the memory that the step before asked for.
#[derive(Debug)]
pub(super) struct Ahead<'a> {
    places: [Option<(Frame<'a>, Hint)>; PLACES],
    /// Frames that have gone through each step so far.
    done: [usize; STEPS],
}

const STEPS: usize = 5;
const FETCHED: usize = 0;
const TAKEN: usize = STEPS - 1;

impl Default for Ahead<'_> {
    fn default() -> Self {
        Self { places: [const { None }; PLACES], done: [0; STEPS] }
    }
}

impl<'a> Ahead<'a> {
    /// One round; whether there is anything left to do.
    #[inline]
    pub(super) fn step(
        &mut self,
        frames: &mut impl Iterator<Item = Frame<'a>>,
        pipeline: &mut Pipeline,
    ) -> bool {
        let next = frames.next();
        let is_last = next.is_none();
        if let Some(frame) = next {
            self.put(self.done[FETCHED], (frame, Hint::default()));
            self.done[FETCHED] += 1;
        }
        let distance = if is_last { 0 } else { APART };
        for step in 1..STEPS {
            // When no more frames come, those on their way go on without keeping apart.
            while self.done[step - 1] - self.done[step] > distance {
                self.one(step, pipeline);
                if !is_last {
                    break;
                }
            }
        }
        !is_last || self.done[TAKEN] < self.done[FETCHED]
    }

    #[inline]
    fn one(&mut self, step: usize, pipeline: &mut Pipeline) {
        let at = self.done[step];
        self.done[step] += 1;
        let Some((frame, hint)) = self.places[at % PLACES] else { return };
        match step {
            1 => self.put(at, (frame, pipeline.table.hint(frame.bytes, frame.link))),
            2 => self.put(at, (frame, pipeline.table.follow(hint))),
            3 => {
                let _ = black_box(pipeline.table.warm(hint));
            }
            _ => pipeline.push(&frame),
        }
    }

    #[inline]
    fn put(&mut self, at: usize, frame: (Frame<'a>, Hint)) {
        self.places[at % PLACES] = Some(frame);
    }
}
