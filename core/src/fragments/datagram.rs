use crate::{
    packet::{Fragment, Header},
    time::Timestamp,
};

/// What one fragment made of its datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Parts are missing.
    Waiting,
    Complete,
    Duplicate,
    /// This fragment alone is not taken.
    Refused,
    /// Nothing of the datagram is to be kept.
    Discard(Reason),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reason {
    Overlap,
    Contradiction,
    Oversized,
}

/// Bytes that came one after the other, each where the one before it ended. What is sent again within a run is a
/// duplicate; what is sent again across runs is an overlap, because Linux looks at one run at a time.
#[derive(Debug, Clone, Copy)]
struct Run {
    start: u32,
    end: u32,
}

/// Where in the datagram some captured bytes belong.
#[derive(Debug, Clone, Copy)]
struct Piece {
    offset: u32,
    length: u32,
}

/// A datagram of which parts are missing.
#[derive(Debug)]
pub(super) struct Datagram {
    /// The first fragment's, once it came.
    pub(super) header: Header,
    pub(super) began: Timestamp,
    /// All parts may be held against their checksum.
    pub(super) verify: bool,
    /// In order, disjoint.
    runs: Vec<Run>,
    /// In order of arrival, as their bytes are.
    pieces: Vec<Piece>,
    bytes: Vec<u8>,
    has_first: bool,
    has_last: bool,
    /// The highest end so far.
    end: u32,
    /// Bytes of all parts on the wire.
    held: u32,
    /// Where the first gap in what was captured begins: frames may be cut short.
    captured_to: u32,
    /// Bytes of all IP packets it came in.
    wire: u32,
}

/// The longest IP packet (RFC 791) and the longest IPv6 payload (RFC 8200).
const MAX_LENGTH: u32 = 65_535;
const IPV6_HEADER: u32 = 40;
const FRAGMENT_HEADER: u32 = 8;

impl Datagram {
    pub(super) fn new(header: Header, began: Timestamp) -> Self {
        Self {
            header,
            began,
            verify: true,
            runs: Vec::new(),
            pieces: Vec::new(),
            bytes: Vec::new(),
            has_first: false,
            has_last: false,
            end: 0,
            held: 0,
            captured_to: u32::MAX,
            wire: 0,
        }
    }

    /// What it takes in memory.
    pub(super) fn cost(&self) -> usize {
        size_of::<Self>()
            + self.runs.capacity() * size_of::<Run>()
            + self.pieces.capacity() * size_of::<Piece>()
            + self.bytes.capacity()
    }

    /// Takes a part in; `captured` is what there is of it. The order of the checks is that of `ip_frag_queue` and
    /// `ip6_frag_queue`.
    pub(super) fn take(&mut self, header: &Header, part: &Fragment, captured: &[u8]) -> Outcome {
        let offset = u32::from(part.offset);
        let mut end = offset.saturating_add(part.length);
        if part.ipv6 && end > MAX_LENGTH {
            return Outcome::Refused;
        }
        if part.more {
            if end % 8 != 0 && part.ipv6 {
                return Outcome::Refused;
            }
            end -= end % 8;
            if end > self.end && self.has_last {
                return Outcome::Discard(Reason::Contradiction);
            }
            self.end = self.end.max(end);
        } else {
            if end < self.end || (self.has_last && end != self.end) {
                return Outcome::Discard(Reason::Contradiction);
            }
            self.has_last = true;
            self.end = end;
        }
        if end <= offset {
            return Outcome::Discard(Reason::Contradiction);
        }
        match self.place(offset, end) {
            Placed::Duplicate => return Outcome::Duplicate,
            Placed::Overlap => return Outcome::Discard(Reason::Overlap),
            Placed::New => {}
        }
        self.keep(offset, end - offset, captured);
        self.wire = self.wire.saturating_add(header.ip_length);
        if offset == 0 {
            self.has_first = true;
            self.header = *header;
        }
        if !(self.has_first && self.has_last && self.held == self.end) {
            return Outcome::Waiting;
        }
        let headers = self.header.ip_length.saturating_sub(match self.header.transport {
            crate::packet::Transport::Fragment(first) => first.length,
            _ => 0,
        });
        // An IPv6 payload is counted without the fixed header, and the fragment header goes.
        let uncounted = if part.ipv6 { IPV6_HEADER + FRAGMENT_HEADER } else { 0 };
        if headers.saturating_sub(uncounted).saturating_add(self.end) > MAX_LENGTH {
            return Outcome::Discard(Reason::Oversized);
        }
        Outcome::Complete
    }

    /// `inet_frag_queue_insert`.
    fn place(&mut self, offset: u32, end: u32) -> Placed {
        let new = Run { start: offset, end };
        match self.runs.last_mut() {
            Some(last) if last.end >= end => {
                let at = self.runs.partition_point(|run| run.end <= offset);
                match self.runs.get(at) {
                    Some(run) if end > run.start => {
                        return if offset >= run.start && end <= run.end {
                            Placed::Duplicate
                        } else {
                            Placed::Overlap
                        };
                    }
                    _ => self.runs.insert(at, new),
                }
            }
            Some(last) if offset < last.end => return Placed::Overlap,
            Some(last) if offset == last.end => last.end = end,
            _ => self.runs.push(new),
        }
        Placed::New
    }

    fn keep(&mut self, offset: u32, length: u32, captured: &[u8]) {
        self.held = self.held.saturating_add(length);
        let wanted = usize::try_from(length).unwrap_or(usize::MAX);
        let captured = captured.get(..wanted).unwrap_or(captured);
        let kept = u32::try_from(captured.len()).unwrap_or(length);
        if kept < length {
            self.captured_to = self.captured_to.min(offset + kept);
        }
        // Too far out for any packet: it is never read.
        if kept > 0 && offset + kept <= MAX_LENGTH {
            self.pieces.push(Piece { offset, length: kept });
            self.bytes.extend_from_slice(captured);
        }
    }

    /// The parts in their order, as far as they were captured without a gap; and how long all of it was.
    pub(super) fn join(&self) -> (Vec<u8>, u32) {
        let known = usize::try_from(self.end.min(self.captured_to)).unwrap_or(0);
        let mut whole = vec![0; known];
        let mut rest = self.bytes.as_slice();
        for piece in &self.pieces {
            let [offset, length] = [piece.offset, piece.length].map(|n| usize::try_from(n).unwrap_or(0));
            let (bytes, behind) = rest.split_at_checked(length).unwrap_or_default();
            rest = behind;
            if let Some(place) = whole.get_mut(offset..) {
                let fits = place.len().min(bytes.len());
                if let (Some(place), Some(bytes)) = (place.get_mut(..fits), bytes.get(..fits)) {
                    place.copy_from_slice(bytes);
                }
            }
        }
        (whole, self.end)
    }

    /// The header of the whole: its wire bytes are those of all its parts.
    pub(super) fn whole_header(&self) -> Header {
        Header { ip_length: self.wire, ..self.header }
    }
}

enum Placed {
    New,
    Duplicate,
    Overlap,
}
