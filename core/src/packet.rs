//! Bytes → header.
