//! The standard output. A reader that stops reading stops the writer of records, never a capture thread.

use super::{Framing, Outcome, Sink};
use std::io::Write as _;

/// Lines wait here until this many bytes.
const BUFFER: usize = 64 << 10;

/// See the module.
#[derive(Debug)]
pub struct StdoutSink {
    buffer: Vec<u8>,
    waiting: u64,
    outcome: Outcome,
    framing: Box<dyn Framing>,
}

impl StdoutSink {
    #[must_use]
    pub fn new(framing: Box<dyn Framing>) -> Self {
        Self { buffer: framing.head(), waiting: 0, outcome: Outcome::default(), framing }
    }

    fn write_out(&mut self) {
        if self.buffer.is_empty() {
            return;
        }
        let lines = std::mem::take(&mut self.waiting);
        let mut out = std::io::stdout().lock();
        match out.write_all(&self.buffer).and_then(|()| out.flush()) {
            Ok(()) => self.outcome.written += lines,
            Err(error) => {
                self.outcome.lost += lines;
                self.outcome.error = Some(error);
            }
        }
        self.buffer.clear();
    }
}

impl Sink for StdoutSink {
    fn line(&mut self, line: &[u8]) {
        self.buffer.extend_from_slice(line);
        self.waiting += 1;
        if self.buffer.len() >= BUFFER {
            self.write_out();
        }
    }

    fn flush(&mut self) -> Outcome {
        self.write_out();
        std::mem::take(&mut self.outcome)
    }

    fn close(&mut self) -> Outcome {
        self.buffer.extend_from_slice(&self.framing.tail());
        self.flush()
    }
}
