//! How frames come in: each interface its turn, and each packet once however many interfaces show it.

use super::{Watched, Worker};
use crate::{
    capture::{BATCH, Frame, duplicates::Duplicates},
    pipeline::Pipeline,
};

/// Batches taken of one interface before the others have their turn: about a block.
const TURN: usize = 8;
/// Batches taken of a ring that another one replaces: the most that the largest holds, at the least a frame takes.
const MAX_REST: usize = (64 << 20) / 128 / BATCH;
/// Marks the id of a ring that is being replaced.
const RETIRED: u32 = 1 << 31;

impl Worker {
    /// Takes what is there, each interface its turn. Whether anything was.
    pub(super) fn read(&mut self) -> bool {
        let mut intake = Intake { pipeline: &mut self.pipeline, repeated: &mut self.repeated };
        // A host with one watched interface sees every packet once, but for its loopback.
        let is_only = self.watched.len() == 1;
        let (mut came, mut failed) = (false, Vec::new());
        for watched in &mut self.watched {
            if !std::mem::take(&mut watched.is_ready) {
                continue;
            }
            let Watched { id, source, frames, bytes, is_ready, .. } = watched;
            let mut take = |batch: &[Frame<'_>]| {
                *frames += batch.len() as u64;
                *bytes += lengths(batch);
                intake.take(batch, (!is_only).then_some((&mut self.duplicates, *id)));
            };
            for turn in 1..=TURN {
                match source.next_ready(&mut take) {
                    Ok(true) => {
                        came = true;
                        *is_ready = turn == TURN;
                    }
                    Ok(false) => break,
                    Err(error) => {
                        failed.push((*id, error));
                        break;
                    }
                }
            }
        }
        failed.into_iter().for_each(|(id, error)| self.lose(id, error));
        came
    }

    /// Takes frames of another interface, or of the same by another ring.
    pub(super) fn watch(&mut self, new: Watched) {
        let Some(known) = self.watched.iter_mut().find(|known| known.id == new.id) else {
            return self.watched.push(new);
        };
        let mut old = std::mem::replace(&mut known.source, new.source);
        let kernel_dropped = std::mem::take(&mut known.kernel_dropped);
        // What both rings have counts once, by the marked id.
        let mut intake = Intake { pipeline: &mut self.pipeline, repeated: &mut self.repeated };
        let id = known.id | RETIRED;
        let mut take = |batch: &[Frame<'_>]| {
            known.frames += batch.len() as u64;
            known.bytes += lengths(batch);
            intake.take(batch, Some((&mut self.duplicates, id)));
        };
        // At most a ring full: what comes later is the other ring's.
        for _ in 0..MAX_REST {
            if !matches!(old.next_ready(&mut take), Ok(true)) {
                break;
            }
        }
        self.give_up(old, kernel_dropped);
    }
}

/// Where frames go.
struct Intake<'a> {
    pipeline: &'a mut Pipeline,
    repeated: &'a mut u64,
}

impl Intake<'_> {
    /// Takes frames in, without those that another interface has shown, where there are others.
    fn take(&mut self, batch: &[Frame<'_>], others: Option<(&mut Duplicates, u32)>) {
        let Some((duplicates, id)) = others else {
            return self.pipeline.push_all(batch.iter().copied());
        };
        let mut new = [None; BATCH];
        let mut count = 0;
        let unseen = batch.iter().filter(|frame| !duplicates.is_repeated(frame, id));
        for (slot, frame) in new.iter_mut().zip(unseen) {
            *slot = Some(frame);
            count += 1;
        }
        *self.repeated += (batch.len() - count) as u64;
        self.pipeline.push_all(new.iter().flatten().copied().copied());
    }
}

/// Bytes on the wire.
fn lengths(batch: &[Frame<'_>]) -> u64 {
    batch.iter().map(|frame| u64::from(frame.wire_length)).sum()
}
