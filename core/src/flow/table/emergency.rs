use crate::time::Timestamp;
use std::time::Duration;

/// The room for embryonic flows must be no fuller than half, for so long, before an emergency is over: a flood that comes
/// in waves is one emergency.
const CALM: Duration = Duration::from_secs(10);

/// Whether the room for embryonic flows is being overrun.
///
/// It begins when a flow that still waits for its answer is given up for room, and ends after [`CALM`]. While it lasts
/// the table waits shorter, see [`super::FlowTable::timeout`].
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Emergency {
    is_on: bool,
    /// Since when the room is half empty.
    calm_since: Option<Timestamp>,
}

impl Emergency {
    pub(super) fn is_on(&self) -> bool {
        self.is_on
    }

    /// A waiting flow was given up for room; whether that is when it began.
    pub(super) fn overrun(&mut self) -> bool {
        self.calm_since = None;
        !std::mem::replace(&mut self.is_on, true)
    }

    /// Looks at how full the room is; whether that is when it ended.
    pub(super) fn look(&mut self, held: usize, room: usize, now: Timestamp) -> bool {
        if !self.is_on || held * 2 > room {
            self.calm_since = None;
            return false;
        }
        let since = *self.calm_since.get_or_insert(now);
        self.is_on = now.since(since) < CALM;
        !self.is_on
    }
}
