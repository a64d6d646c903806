//! Where a reader of events stands.

use netguard_core::shard::NodeId;
use std::{fmt, str::FromStr};

/// Opaque to readers: the last replicated event read (log index, and which event of that entry), and the last local
/// event with the coordinator process it belongs to. The first half is valid at any coordinator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor {
    pub(super) log_index: u64,
    /// Events of the entry at `log_index` already read.
    pub(super) part: u32,
    pub(super) local: LocalCursor,
}

/// A place in one coordinator process' ring of local events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LocalCursor {
    pub(super) node: NodeId,
    /// Random per process: a restarted coordinator numbers from the beginning.
    pub(super) boot: u32,
    pub(super) sequence: u64,
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let LocalCursor { node, boot, sequence } = self.local;
        write!(f, "{}.{}-{node}.{boot:x}.{sequence}", self.log_index, self.part)
    }
}

impl FromStr for Cursor {
    type Err = BadCursor;

    fn from_str(text: &str) -> Result<Self, BadCursor> {
        let number = |part: Option<&str>| {
            part.filter(|text| !text.starts_with('+')).and_then(|text| text.parse().ok()).ok_or(BadCursor)
        };
        let (replicated, local) = text.split_once('-').ok_or(BadCursor)?;
        let (mut replicated, mut local) = (replicated.split('.'), local.split('.'));
        let cursor = Self {
            log_index: number(replicated.next())?,
            part: number(replicated.next())?.try_into().map_err(|_| BadCursor)?,
            local: LocalCursor {
                node: number(local.next())?,
                boot: u32::from_str_radix(local.next().ok_or(BadCursor)?, 16).map_err(|_| BadCursor)?,
                sequence: number(local.next())?,
            },
        };
        if replicated.next().is_some() || local.next().is_some() { Err(BadCursor) } else { Ok(cursor) }
    }
}

/// A text that is no cursor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a cursor: pass one that `netguard-admin watch` printed, or none to start from now")]
pub struct BadCursor;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_reads_back_as_written_and_nothing_else_is_one() {
        let cursor = Cursor {
            log_index: 41,
            part: 2,
            local: LocalCursor { node: 3, boot: 0xf00d, sequence: u64::MAX },
        };
        assert_eq!(cursor.to_string().parse(), Ok(cursor));
        for bad in
            ["", "-", "1-1", "1.2-3.x.4", "1.2-3.4", "1.2.3-3.4.5", "1.2-3.4.5.6", "+1.2-3.4.5", "-1.0-1.1.1"]
        {
            assert_eq!(bad.parse::<Cursor>(), Err(BadCursor), "{bad}");
        }
    }
}
