/// Emptied buffers kept for the next flow.
const MAX_FREE: usize = 256;
/// Longer ones are given back to the allocator.
const MAX_FREE_CAPACITY: usize = 4_096;
const SMALLEST: usize = 256;

/// No room for more bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Full;

/// The memory of all buffers together: never more than the limit, and none of it given back and taken again all the
/// time.
#[derive(Debug)]
pub(super) struct Buffers {
    free: Vec<Vec<u8>>,
    /// Capacity of those in use and of the free ones.
    held: usize,
    limit: usize,
}

impl Buffers {
    pub(super) fn new(limit: usize) -> Self {
        Self { free: Vec::new(), held: 0, limit }
    }

    pub(super) fn held(&self) -> usize {
        self.held
    }

    /// Appends, where there is room for it.
    pub(super) fn extend(&mut self, buffer: &mut Vec<u8>, bytes: &[u8]) -> Result<(), Full> {
        if buffer.capacity() == 0
            && let Some(free) = self.free.pop()
        {
            *buffer = free;
        }
        let needed = buffer.len() + bytes.len();
        if needed > buffer.capacity() {
            let capacity = needed.next_power_of_two().max(SMALLEST);
            let more = capacity - buffer.capacity();
            if self.held + more > self.limit {
                self.free.drain(..).for_each(|free| self.held -= free.capacity());
            }
            if self.held + more > self.limit {
                return Err(Full);
            }
            let before = buffer.capacity();
            buffer.reserve_exact(capacity - buffer.len());
            self.held += buffer.capacity() - before;
        }
        buffer.extend_from_slice(bytes);
        Ok(())
    }

    /// Takes a buffer back.
    pub(super) fn release(&mut self, buffer: &mut Vec<u8>) {
        if buffer.capacity() == 0 {
            return;
        }
        let mut buffer = std::mem::take(buffer);
        if buffer.capacity() <= MAX_FREE_CAPACITY && self.free.len() < MAX_FREE {
            buffer.clear();
            self.free.push(buffer);
        } else {
            self.held -= buffer.capacity();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_buffers_together_stay_below_the_limit() {
        let mut buffers = Buffers::new(16_384);
        let mut taken = Vec::new();
        loop {
            let mut buffer = Vec::new();
            if buffers.extend(&mut buffer, &[1; 900]).is_err() {
                break;
            }
            taken.push(buffer);
        }
        assert_eq!(taken.len(), 16);
        assert_eq!(buffers.held(), 16_384);
        taken.iter_mut().for_each(|buffer| buffers.release(buffer));
        // What lies free makes room for what is needed.
        let mut large = Vec::new();
        assert_eq!(buffers.extend(&mut large, &[2; 10_000]), Ok(()));
        assert_eq!(buffers.held(), 16_384);
        buffers.release(&mut large);
        assert_eq!(buffers.held(), 0);
    }
}
