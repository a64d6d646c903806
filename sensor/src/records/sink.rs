//! Where lines go: a file, the standard output, a socket.
//!
//! Invariants: a line arrives whole or not at all, and what does not arrive is counted; nothing here waits for a reader
//! but the standard output's.

mod file;
mod socket;
mod stdout;

pub use file::{FileSink, Rotation};
pub use socket::{SocketKind, SocketSink};
pub use stdout::StdoutSink;

use std::{fmt, io};

/// What became of lines since it was last asked.
#[derive(Debug, Default)]
pub struct Outcome {
    pub written: u64,
    pub lost: u64,
    /// Why, of the last that were lost.
    pub error: Option<io::Error>,
}

/// Takes lines, each with its line feed.
pub trait Sink: fmt::Debug + Send {
    /// Takes a line over; it may be written later.
    fn line(&mut self, line: &[u8]);

    /// Writes what can be written now, and tells what became of all lines since the last time.
    fn flush(&mut self) -> Outcome;

    /// Time passed: looks whether the file is to be rotated or the socket to be connected again.
    fn tick(&mut self) {}

    /// Asked by the operator: opens anew.
    fn reopen(&mut self) {}

    /// The last lines are in.
    fn close(&mut self) -> Outcome {
        self.flush()
    }
}

/// What a file begins and ends with, made when it is opened or closed.
pub trait Framing: fmt::Debug + Send {
    fn head(&self) -> Vec<u8> {
        Vec::new()
    }

    fn tail(&self) -> Vec<u8> {
        Vec::new()
    }

    /// Whether lines may follow those of an earlier run in one file.
    fn may_append(&self) -> bool {
        true
    }
}

/// Lines alone.
#[derive(Debug, Clone, Copy, Default)]
pub struct Unframed;

impl Framing for Unframed {}
