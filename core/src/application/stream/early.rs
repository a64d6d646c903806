use crate::application::buffers::{Buffers, Full};

/// Pieces with holes between them, at most: a loss makes one, a peer that sends single bytes in any order as many as it
/// likes.
const MAX_PIECES: usize = 64;

/// What came before its turn: pieces that do not touch, in order.
#[derive(Debug, Default)]
pub(super) struct Early {
    pieces: Vec<(u32, Vec<u8>)>,
    bytes: usize,
}

impl Early {
    pub(super) fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    pub(super) fn is_full(&self, max_bytes: usize) -> bool {
        self.pieces.len() > MAX_PIECES || self.bytes > max_bytes
    }

    /// Number of the first byte that waits.
    pub(super) fn first(&self) -> Option<u32> {
        self.pieces.first().map(|(sequence, _)| *sequence)
    }

    /// Keeps what is new of a segment; numbers count from `next`. Says whether what is not new differs from what is
    /// kept.
    pub(super) fn insert(
        &mut self,
        next: u32,
        sequence: u32,
        bytes: &[u8],
        buffers: &mut Buffers,
    ) -> Result<bool, Full> {
        let from_next = |number: u32| number.wrapping_sub(next) as usize;
        let (mut at, mut rest) = (from_next(sequence), bytes);
        let (mut conflict, mut index) = (false, 0);
        while !rest.is_empty() {
            let known = self.pieces.get(index).map(|(start, piece)| (from_next(*start), piece));
            let free = match known {
                Some((start, piece)) if start + piece.len() <= at => 0,
                Some((start, piece)) if start <= at => {
                    let kept = piece.get(at - start..).unwrap_or_default();
                    let both = kept.len().min(rest.len());
                    conflict |= kept.get(..both) != rest.get(..both);
                    (at, rest) = (at + both, rest.get(both..).unwrap_or_default());
                    0
                }
                Some((start, _)) => rest.len().min(start - at),
                None => rest.len(),
            };
            if free > 0 {
                let (new, after) = rest.split_at_checked(free).unwrap_or_default();
                self.put(index, next.wrapping_add(u32::try_from(at).unwrap_or(u32::MAX)), new, buffers)?;
                (at, rest) = (at + free, after);
            }
            index += 1;
        }
        self.join(buffers)?;
        Ok(conflict)
    }

    fn put(&mut self, index: usize, sequence: u32, bytes: &[u8], buffers: &mut Buffers) -> Result<(), Full> {
        // The usual case: the segment after the last that came too early.
        if index == self.pieces.len()
            && let Some((start, last)) = self.pieces.last_mut()
            && start.wrapping_add(u32::try_from(last.len()).unwrap_or(u32::MAX)) == sequence
        {
            buffers.extend(last, bytes)?;
        } else {
            let mut piece = Vec::new();
            buffers.extend(&mut piece, bytes)?;
            self.pieces.insert(index.min(self.pieces.len()), (sequence, piece));
        }
        self.bytes += bytes.len();
        Ok(())
    }

    /// Makes one piece of those that touch.
    fn join(&mut self, buffers: &mut Buffers) -> Result<(), Full> {
        let mut index = 0;
        while let Some([(start, piece), (after, more)]) = self.pieces.get_mut(index..index + 2) {
            if start.wrapping_add(u32::try_from(piece.len()).unwrap_or(u32::MAX)) == *after {
                buffers.extend(piece, more)?;
                buffers.release(more);
                self.pieces.remove(index + 1);
            } else {
                index += 1;
            }
        }
        Ok(())
    }

    /// Whether a segment that is given now differs from what is kept.
    pub(super) fn conflicts(&self, sequence: u32, bytes: &[u8]) -> bool {
        self.pieces.iter().any(|(start, piece)| {
            let offset = start.wrapping_sub(sequence) as usize;
            bytes
                .get(offset..)
                .is_some_and(|again| again.iter().zip(piece).any(|(again, kept)| again != kept))
        })
    }

    /// The first piece, if it begins at `next` or before.
    pub(super) fn take_due(&mut self, next: u32) -> Option<(u32, Vec<u8>)> {
        let first = self.first()?;
        let ahead = first.wrapping_sub(next);
        if ahead != 0 && ahead < 1 << 31 {
            return None;
        }
        let piece = self.pieces.remove(0);
        self.bytes -= piece.1.len();
        Some(piece)
    }

    pub(super) fn release(&mut self, buffers: &mut Buffers) {
        self.bytes = 0;
        for (_, mut piece) in self.pieces.drain(..) {
            buffers.release(&mut piece);
        }
    }
}
