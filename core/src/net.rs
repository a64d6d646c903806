//! Addresses, prefixes and what must never be blocked.
//!
//! Parsing is strict: what is not exactly an address is refused with a reason, never guessed.

mod never_block;
mod prefix;
mod protocol;

pub use never_block::{NeverBlock, NeverBlockEntry, builtin_never_block};
pub use prefix::{Prefix, PrefixError, canonical, embedded_ipv4, parse_address};
pub use protocol::Protocol;
