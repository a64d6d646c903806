//! What was said, from its bytes on the wire to every field of its line: one small transaction of each kind, written as
//! a capture, read as an operator reads it, and compared with the whole event that docs/records.md promises.
#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a test: a panic is its report, and lengths are what it chose"
)]

mod capture;
mod connections;
mod datagrams;
