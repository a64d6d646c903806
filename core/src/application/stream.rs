//! One direction of a TCP connection in order.
//!
//! Invariants: every byte is given once, in order, the first that came for its place; in order and whole it is handed
//! over as it lies in the packet, without a copy; what waits for an earlier segment is bounded; what is missing is told
//! as a gap. Bytes that nobody wants are not kept, and holes among them do not matter.

mod early;

use super::buffers::{Buffers, Full};
use crate::time::Timestamp;
use early::Early;
use foldhash::fast::FixedState;
use std::{hash::BuildHasher, time::Duration};

/// Farther ahead than any window (RFC 9293 with the scaling that Linux chooses): it does not belong here.
const MAX_AHEAD: u32 = 4 << 20;
/// What the receiver acknowledged it has: if the capture has not seen it for so long, it will not. Reordering between
/// the queues of a network card is over by far.
const LOST_AFTER: Duration = Duration::from_millis(200);
/// Segments remembered to compare retransmissions with.
const RECENT: u8 = 4;

/// What comes next in the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Given<'a> {
    Bytes(&'a [u8]),
    /// So many bytes are missing.
    Gap(u32),
}

/// A segment as captured.
#[derive(Debug, Clone, Copy)]
pub(super) struct Segment<'a> {
    pub(super) sequence: u32,
    /// What it had on the wire; `bytes` may be less.
    pub(super) length: u32,
    pub(super) bytes: &'a [u8],
    pub(super) at: Timestamp,
}

/// What was wrong with a segment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Findings {
    pub(super) conflict: bool,
    pub(super) out_of_window: bool,
    pub(super) full: bool,
}

#[derive(Debug, Clone, Copy, Default)]
struct Recent {
    sequence: u32,
    length: u32,
    digest: u64,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Stream {
    next: u32,
    started: bool,
    /// Following bytes that nobody wants; `u64::MAX` is all of them.
    skip: u64,
    early: Early,
    waiting_since: Timestamp,
    recent: [Recent; RECENT as usize],
    oldest: u8,
}

impl Stream {
    /// A stream whose first byte has this number.
    pub(super) fn starting_at(next: u32) -> Self {
        Self { next, started: true, ..Self::default() }
    }

    pub(super) fn is_unwanted(&self) -> bool {
        self.skip == u64::MAX
    }

    pub(super) fn has_early(&self) -> bool {
        !self.early.is_empty()
    }

    /// So many more bytes are of no interest.
    pub(super) fn pass(&mut self, length: u64) {
        self.skip = self.skip.saturating_add(length);
    }

    /// Nobody wants anything more of it.
    pub(super) fn end(&mut self, buffers: &mut Buffers) {
        self.skip = u64::MAX;
        self.early.release(buffers);
    }

    /// Takes a segment in. `give` gets what is next, and says how many bytes after that are not wanted.
    pub(super) fn push(
        &mut self,
        segment: &Segment<'_>,
        (max_window, digests, buffers): (usize, &FixedState, &mut Buffers),
        give: &mut impl FnMut(Given<'_>, &mut Buffers) -> u64,
    ) -> Findings {
        let mut findings = Findings::default();
        let Segment { mut sequence, mut length, mut bytes, at } = *segment;
        if length == 0 || self.is_unwanted() {
            return findings;
        }
        if !std::mem::replace(&mut self.started, true) {
            self.next = sequence;
        }
        let ahead = sequence.wrapping_sub(self.next);
        if ahead >= 1 << 31 {
            let behind = ahead.wrapping_neg();
            findings.conflict = self.conflicts(sequence, bytes, digests);
            if behind >= length {
                return findings;
            }
            bytes = bytes.get(behind as usize..).unwrap_or_default();
            (sequence, length) = (self.next, length - behind);
        } else if ahead > MAX_AHEAD {
            findings.out_of_window = true;
            return findings;
        }
        let ahead = sequence.wrapping_sub(self.next);
        if ahead == 0 {
            if !self.early.is_empty() {
                findings.conflict |= self.early.conflicts(sequence, bytes);
            }
            self.in_order(bytes, length, digests, buffers, give);
        } else if u64::from(ahead) + u64::from(length) <= self.skip {
            self.lose(ahead + length, buffers, give);
        } else {
            if self.early.is_empty() {
                self.waiting_since = at;
            }
            let kept = self.early.insert(self.next, sequence, bytes, buffers);
            findings.conflict |= kept == Ok(true);
            if kept == Err(Full) {
                findings.full = true;
                return findings;
            }
            let too_far = ahead as usize + bytes.len() > max_window;
            if too_far || self.early.is_full(max_window) {
                self.give_up_hole(buffers, give);
            }
        }
        self.drain(digests, buffers, give);
        while self.early.is_full(max_window) {
            self.give_up_hole(buffers, give);
            self.drain(digests, buffers, give);
        }
        findings
    }

    /// The receiver acknowledged everything before this number: what we miss of it, we will not see.
    pub(super) fn acknowledged(
        &mut self,
        number: u32,
        at: Timestamp,
        (digests, buffers): (&FixedState, &mut Buffers),
        give: &mut impl FnMut(Given<'_>, &mut Buffers) -> u64,
    ) {
        if self.early.is_empty() || at.since(self.waiting_since) < LOST_AFTER {
            return;
        }
        let ahead = number.wrapping_sub(self.next);
        if (1..=MAX_AHEAD).contains(&ahead) {
            self.give_up_hole(buffers, give);
            self.drain(digests, buffers, give);
            self.waiting_since = at;
        }
    }

    /// The connection is over: gives what waits, with its gaps.
    pub(super) fn finish(
        &mut self,
        (digests, buffers): (&FixedState, &mut Buffers),
        give: &mut impl FnMut(Given<'_>, &mut Buffers) -> u64,
    ) {
        while !self.early.is_empty() {
            self.give_up_hole(buffers, give);
            self.drain(digests, buffers, give);
        }
    }

    fn in_order(
        &mut self,
        bytes: &[u8],
        length: u32,
        digests: &FixedState,
        buffers: &mut Buffers,
        give: &mut impl FnMut(Given<'_>, &mut Buffers) -> u64,
    ) {
        let captured = u32::try_from(bytes.len()).unwrap_or(u32::MAX).min(length);
        if u64::from(captured) > self.skip && captured > 0 {
            let recent = Recent { sequence: self.next, length: captured, digest: digests.hash_one(bytes) };
            if let Some(place) = self.recent.get_mut(usize::from(self.oldest)) {
                *place = recent;
            }
            self.oldest = (self.oldest + 1) % RECENT;
        }
        self.next = self.next.wrapping_add(captured);
        let skipped = self.skipped(captured);
        if let Some(wanted) = bytes.get(skipped..captured as usize)
            && !wanted.is_empty()
        {
            self.skip = give(Given::Bytes(wanted), buffers);
        }
        if length > captured {
            self.lose(length - captured, buffers, give);
        }
    }

    /// Counts bytes against those that nobody wants.
    fn skipped(&mut self, length: u32) -> usize {
        let skipped = self.skip.min(u64::from(length));
        if self.skip != u64::MAX {
            self.skip -= skipped;
        }
        usize::try_from(skipped).unwrap_or(usize::MAX)
    }

    fn lose(
        &mut self,
        length: u32,
        buffers: &mut Buffers,
        give: &mut impl FnMut(Given<'_>, &mut Buffers) -> u64,
    ) {
        self.next = self.next.wrapping_add(length);
        let skipped = u32::try_from(self.skipped(length)).unwrap_or(u32::MAX);
        if length > skipped {
            self.skip = give(Given::Gap(length - skipped), buffers);
        }
    }

    fn give_up_hole(&mut self, buffers: &mut Buffers, give: &mut impl FnMut(Given<'_>, &mut Buffers) -> u64) {
        if let Some(first) = self.early.first() {
            let hole = first.wrapping_sub(self.next);
            if (1..=MAX_AHEAD).contains(&hole) {
                self.lose(hole, buffers, give);
            }
        }
    }

    /// Gives what waited and is next now.
    fn drain(
        &mut self,
        digests: &FixedState,
        buffers: &mut Buffers,
        give: &mut impl FnMut(Given<'_>, &mut Buffers) -> u64,
    ) {
        while let Some((sequence, mut bytes)) = self.early.take_due(self.next) {
            let behind = self.next.wrapping_sub(sequence) as usize;
            if let Some(rest) = bytes.get(behind..)
                && !self.is_unwanted()
            {
                let length = u32::try_from(rest.len()).unwrap_or(u32::MAX);
                self.in_order(rest, length, digests, buffers, give);
            }
            buffers.release(&mut bytes);
        }
        if self.is_unwanted() {
            self.early.release(buffers);
        }
    }

    /// Whether bytes sent again differ from those that were given, as far as whole segments can be compared.
    fn conflicts(&self, sequence: u32, bytes: &[u8], digests: &FixedState) -> bool {
        self.recent.iter().filter(|recent| recent.length > 0).any(|recent| {
            let offset = recent.sequence.wrapping_sub(sequence) as usize;
            let end = offset.saturating_add(recent.length as usize);
            bytes.get(offset..end).is_some_and(|again| digests.hash_one(again) != recent.digest)
        })
    }
}

#[cfg(test)]
mod tests;
