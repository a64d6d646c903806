#![allow(clippy::cast_possible_truncation, reason = "lengths that a test chose")]

use super::*;
use proptest::prelude::*;

const WINDOW: usize = 16 << 10;

/// Everything given, with `None` for a byte that is missing.
#[derive(Debug, Default)]
struct Taken {
    bytes: Vec<Option<u8>>,
    conflicts: u32,
}

struct Driver {
    stream: Stream,
    buffers: Buffers,
    taken: Taken,
}

impl Driver {
    fn new(first: u32) -> Self {
        Self { stream: Stream::starting_at(first), buffers: Buffers::new(1 << 20), taken: Taken::default() }
    }

    fn push(&mut self, sequence: u32, bytes: &[u8], length: usize) -> Findings {
        let digests = FixedState::with_seed(7);
        let segment = Segment { sequence, length: length as u32, bytes, at: Timestamp::default() };
        let taken = &mut self.taken;
        let findings = self
            .stream
            .push(&segment, (WINDOW, &digests, &mut self.buffers), &mut |given, _| taken.take(given));
        self.taken.conflicts += u32::from(findings.conflict);
        findings
    }

    fn finish(&mut self) {
        let taken = &mut self.taken;
        let digests = FixedState::with_seed(7);
        self.stream.finish((&digests, &mut self.buffers), &mut |given, _| taken.take(given));
    }
}

impl Taken {
    fn take(&mut self, given: Given<'_>) -> u64 {
        match given {
            Given::Bytes(bytes) => self.bytes.extend(bytes.iter().copied().map(Some)),
            Given::Gap(length) => self.bytes.extend(std::iter::repeat_n(None, length as usize)),
        }
        0
    }
}

fn whole(bytes: &[u8]) -> Vec<Option<u8>> {
    bytes.iter().copied().map(Some).collect()
}

#[test]
fn the_first_that_came_for_a_place_counts_and_a_conflict_is_told() {
    // Too early, then again with other bytes, then the hole is filled with a segment that overlaps as well.
    let mut driver = Driver::new(u32::MAX - 1);
    assert!(!driver.push(2, b"EFGH", 4).conflict);
    assert!(driver.push(3, b"xGH", 3).conflict);
    assert!(!driver.push(3, b"FGH", 3).conflict);
    assert!(driver.push(u32::MAX - 1, b"ABCDX", 5).conflict);
    assert_eq!(driver.taken.bytes, whole(b"ABCDXFGH"), "what reached the receiver first");
    // Sent again after it was given: the same is no conflict, other bytes are; joined segments too.
    assert!(!driver.push(u32::MAX - 1, b"ABCDX", 5).conflict);
    assert!(driver.push(u32::MAX - 1, b"ABCxX", 5).conflict);
    assert!(!driver.push(u32::MAX - 1, b"ABCDXFGHij", 10).conflict);
    assert_eq!(driver.taken.bytes, whole(b"ABCDXFGHij"));
}

#[test]
fn what_is_missing_is_told_as_a_gap() {
    let mut driver = Driver::new(100);
    // Cut off by the snap length.
    driver.push(100, b"abc", 10);
    driver.push(110, b"def", 3);
    let mut expected = whole(b"abc");
    expected.extend([None; 7]);
    expected.extend(whole(b"def"));
    assert_eq!(driver.taken.bytes, expected);
    // Lost, and more follows than is kept.
    driver.push(115, &[b'x'; 10_000], 10_000);
    assert_eq!(driver.taken.bytes.len(), 13);
    driver.push(10_115, &[b'y'; 10_000], 10_000);
    expected.extend([None; 2]);
    expected.extend(whole(&[b'x'; 10_000]));
    expected.extend(whole(&[b'y'; 10_000]));
    assert!(driver.taken.bytes == expected);
    // Far out of every window.
    assert!(driver.push(20_115 + (5 << 20), b"z", 1).out_of_window);
    // Lost, and the end comes.
    driver.push(20_120, b"end", 3);
    driver.finish();
    assert_eq!(driver.taken.bytes.len(), expected.len() + 5 + 3);
    assert!(driver.stream.early.is_empty());
}

#[test]
fn what_the_receiver_has_and_we_have_not_is_lost_after_a_while() {
    let digests = FixedState::with_seed(7);
    let mut driver = Driver::new(0);
    driver.push(5, b"late", 4);
    for (milliseconds, expected) in [(0, 0), (100, 0), (300, 9)] {
        let taken = &mut driver.taken;
        let at = Timestamp::from_micros(milliseconds * 1_000);
        let own = (&digests, &mut driver.buffers);
        driver.stream.acknowledged(9, at, own, &mut |given, _| taken.take(given));
        assert_eq!(driver.taken.bytes.len(), expected, "after {milliseconds} ms");
    }
}

#[test]
fn nobody_waits_for_what_nobody_wants() {
    let digests = FixedState::with_seed(7);
    let mut buffers = Buffers::new(0);
    let mut stream = Stream::starting_at(0);
    let mut given = Vec::new();
    let mut push = |sequence, bytes: &[u8]| {
        let segment = Segment { sequence, length: bytes.len() as u32, bytes, at: Timestamp::default() };
        let mut give = |next: Given<'_>, _: &mut Buffers| {
            given.push(format!("{next:?}"));
            if given.len() == 1 { 100 } else { 0 }
        };
        stream.push(&segment, (WINDOW, &digests, &mut buffers), &mut give)
    };
    // A header, of whose 100 bytes of body a part is lost: no buffer is needed, and none is there.
    push(0, b"h");
    push(50, &[b'b'; 40]);
    push(90, &[b'b'; 11]);
    let findings = push(101, b"n");
    assert_eq!(findings, Findings::default());
    assert_eq!(given, ["Bytes([104])", "Bytes([110])"]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// Cut anyhow, in any order, some of it several times: what comes out is what was sent.
    #[test]
    fn any_segments_in_any_order_give_the_stream(
        bytes in proptest::collection::vec(any::<u8>(), 1..600),
        first in prop_oneof![any::<u32>(), Just(u32::MAX - 100)],
        cuts in proptest::collection::vec((any::<prop::sample::Index>(), 1usize..80, any::<u32>()), 0..60),
        order in any::<u64>(),
    ) {
        let mut segments: Vec<(usize, usize, u64)> = cuts
            .iter()
            .map(|(at, length, rank)| {
                let start = at.index(bytes.len());
                (start, (start + length).min(bytes.len()), u64::from(*rank) ^ order)
            })
            .collect();
        // Every byte at least once, 20 at a time.
        for start in (0..bytes.len()).step_by(20) {
            segments.push((start, (start + 20).min(bytes.len()), (start as u64).wrapping_mul(order | 1)));
        }
        segments.sort_by_key(|(.., rank)| *rank);
        let mut driver = Driver::new(first);
        for (start, end, _) in segments {
            driver.push(first.wrapping_add(start as u32), &bytes[start..end], end - start);
        }
        prop_assert_eq!(driver.taken.conflicts, 0);
        prop_assert!(driver.taken.bytes == whole(&bytes));
        prop_assert!(driver.stream.early.is_empty());
    }

    /// Whatever is sent: no panic, no more than the bounds.
    #[test]
    fn no_segments_break_the_bounds(
        segments in proptest::collection::vec((any::<u32>(), 0usize..3_000, 0usize..3_000, any::<bool>()), 0..80),
    ) {
        let mut driver = Driver::new(0);
        driver.buffers = Buffers::new(40_000);
        for (sequence, captured, more, near) in segments {
            let sequence = if near { sequence % 30_000 } else { sequence };
            driver.push(sequence, &vec![sequence as u8; captured], captured + more);
            prop_assert!(driver.buffers.held() <= 40_000);
        }
        driver.finish();
        prop_assert!(driver.stream.early.is_empty());
    }
}
