use netguard_core::time::Timestamp;
use netguard_proto::v1::EvidenceBatch;
use prost::Message as _;
use std::{collections::VecDeque, time::Duration};

/// Batches older than the longest take-over needs are of no use to a new owner.
pub(crate) const MAX_AGE: Duration = Duration::from_secs(300);

/// The last batches, in order of their sequence, acknowledged or not.
#[derive(Debug)]
pub struct Retained {
    /// Most that is kept, in encoded bytes.
    max_bytes: usize,
    batches: VecDeque<(usize, EvidenceBatch)>,
    bytes: usize,
    next_sequence: u64,
    acknowledged: u64,
    /// The sequence that goes out next.
    next_to_send: u64,
    /// Sequences up to this one went out before.
    sent: u64,
}

impl Retained {
    /// Keeps at most so many encoded bytes: five minutes of a hundred records a second of 200 bytes are 6 MB.
    #[must_use]
    pub fn new(max_bytes: usize) -> Self {
        Self {
            max_bytes,
            batches: VecDeque::new(),
            bytes: 0,
            next_sequence: 1,
            acknowledged: 0,
            next_to_send: 1,
            sent: 0,
        }
    }

    /// Numbers a batch and keeps it. Returns how many unacknowledged batches had to go for it.
    pub fn push(&mut self, mut batch: EvidenceBatch) -> u64 {
        batch.sequence = self.next_sequence;
        self.next_sequence += 1;
        let now = Timestamp::from_micros(batch.cut_at);
        let size = batch.encoded_len();
        self.bytes += size;
        self.batches.push_back((size, batch));
        self.shrink(now)
    }

    /// Drops what is too old or too much, oldest first, never the newest.
    fn shrink(&mut self, now: Timestamp) -> u64 {
        let mut lost = 0;
        while self.batches.len() > 1 {
            let Some((size, oldest)) = self.batches.front() else { break };
            let aged = now.since(Timestamp::from_micros(oldest.cut_at)) > MAX_AGE;
            if !aged && self.bytes <= self.max_bytes {
                break;
            }
            lost += u64::from(oldest.sequence > self.acknowledged);
            self.bytes -= size;
            self.batches.pop_front();
        }
        lost
    }

    /// Takes note that everything up to `sequence` was handed to the judges.
    pub fn acknowledge(&mut self, sequence: u64) {
        // A coordinator that acknowledges what was never sent is not believed.
        if sequence <= self.sent {
            self.acknowledged = self.acknowledged.max(sequence);
        }
    }

    /// Everything kept goes out again.
    pub fn send_again(&mut self) {
        self.next_to_send = self.batches.front().map_or(self.next_sequence, |(_, batch)| batch.sequence);
    }

    #[must_use]
    pub fn has_unsent(&self) -> bool {
        self.next_to_send < self.next_sequence
    }

    /// The next batch to go out, stamped with when it does and whether it did before.
    pub fn take_next(&mut self, now: Timestamp) -> Option<EvidenceBatch> {
        let first = self.batches.front()?.1.sequence;
        let sequence = self.next_to_send.max(first);
        let at = usize::try_from(sequence.checked_sub(first)?).ok()?;
        let mut batch = self.batches.get(at)?.1.clone();
        batch.again = sequence <= self.sent;
        batch.sent_at = now.as_micros();
        self.sent = self.sent.max(sequence);
        self.next_to_send = sequence + 1;
        Some(batch)
    }

    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    #[must_use]
    pub fn acknowledged(&self) -> u64 {
        self.acknowledged
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX_BYTES: usize = 8 << 20;

    fn batch(at_seconds: u64, bytes: usize) -> EvidenceBatch {
        EvidenceBatch {
            cut_at: at_seconds * 1_000_000,
            traceparent: "x".repeat(bytes),
            ..EvidenceBatch::default()
        }
    }

    fn drain(retained: &mut Retained) -> Vec<(u64, bool)> {
        std::iter::from_fn(|| retained.take_next(Timestamp::from_secs(1)))
            .map(|b| (b.sequence, b.again))
            .collect()
    }

    #[test]
    fn batches_go_out_once_and_again_when_asked() {
        let mut retained = Retained::new(MAX_BYTES);
        for at in 1..=3 {
            assert_eq!(retained.push(batch(at, 1)), 0);
        }
        assert_eq!(drain(&mut retained), [(1, false), (2, false), (3, false)]);
        assert!(!retained.has_unsent());
        retained.acknowledge(2);
        retained.push(batch(4, 1));
        retained.send_again();
        assert_eq!(drain(&mut retained), [(1, true), (2, true), (3, true), (4, false)]);
        retained.acknowledge(99);
        assert_eq!(retained.acknowledged(), 2);
    }

    #[test]
    fn age_and_bytes_are_bounded_and_loss_is_counted() {
        let mut retained = Retained::new(MAX_BYTES);
        retained.push(batch(1, 1));
        retained.push(batch(2, 1));
        drain(&mut retained);
        retained.acknowledge(1);
        assert_eq!(retained.push(batch(400, 1)), 1, "the second was never acknowledged");
        assert_eq!(drain(&mut retained), [(3, false)]);
        let lost: u64 = (0..20).map(|_| retained.push(batch(401, 1 << 20))).sum();
        assert!(retained.bytes() <= MAX_BYTES && lost >= 12, "{} {lost}", retained.bytes());
    }
}
