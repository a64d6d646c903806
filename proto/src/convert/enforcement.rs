//! What is pushed to responders.

use super::{
    ConvertError, at_most, decision::verb_fits, decision_id, known_time, optional_time, required,
    rollout::holds, text, verb, wire_time,
};
use crate::v1;
use netguard_core::{
    decision::{Target, Verb},
    ledger::{Change, Entry},
    net::NeverBlockEntry,
    rollout::{Hold, RolloutId},
    time::Timestamp,
    trace::TraceParent,
};

/// Changes in one delta: what 4 MiB (the largest message) holds of the smallest change.
pub const MAX_CHANGES: usize = 131_072;
/// Entries of the never-block list.
pub const MAX_NEVER_BLOCK: usize = 65_536;
/// New connections a minute a throttle may leave a source, as [`netguard_core::policy::Policy::validate`] has it.
const THROTTLE_PER_MINUTE: std::ops::RangeInclusive<u32> = 1..=60_000;

/// One part of a snapshot; the last one completes it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SnapshotPart {
    pub ledger_id: String,
    pub revision: u64,
    pub entries: Vec<Entry>,
    pub never_block: Vec<NeverBlockEntry>,
    pub last: bool,
    pub throttle_per_minute: Option<u32>,
    pub holds: Vec<Hold>,
    pub breaker_resets: u64,
}

/// All changes of one revision.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Delta {
    pub previous: u64,
    pub revision: u64,
    pub changes: Vec<Change>,
    pub trace: TraceParent,
    pub committed_at: Option<Timestamp>,
}

impl TryFrom<v1::Entry> for Entry {
    type Error = ConvertError;

    fn try_from(wire: v1::Entry) -> Result<Self, ConvertError> {
        let verb = verb(wire.verb)?;
        let target = Target::try_from(required("entry.target", wire.target)?)?;
        verb_fits(verb, &target)?;
        Ok(Self {
            decision: decision_id("entry.decision_id", &wire.decision_id)?,
            verb,
            target,
            expires_at: known_time("entry.expires_at", wire.expires_at)?,
            trace: TraceParent::parse(&wire.traceparent),
            revision: wire.revision,
            rollout: (wire.rollout > 0).then_some(RolloutId(wire.rollout)),
        })
    }
}

impl From<Entry> for v1::Entry {
    fn from(entry: Entry) -> Self {
        Self {
            decision_id: entry.decision.0.to_be_bytes().to_vec(),
            verb: v1::Verb::from(entry.verb).into(),
            target: Some(entry.target.into()),
            expires_at: entry.expires_at.as_micros(),
            traceparent: entry.trace.as_str().to_owned(),
            revision: entry.revision,
            rollout: entry.rollout.map_or(0, |rollout| rollout.0),
        }
    }
}

impl TryFrom<v1::EntryKey> for (Verb, Target) {
    type Error = ConvertError;

    fn try_from(wire: v1::EntryKey) -> Result<Self, ConvertError> {
        let verb = verb(wire.verb)?;
        let target = Target::try_from(required("key.target", wire.target)?)?;
        verb_fits(verb, &target)?;
        Ok((verb, target))
    }
}

impl From<(Verb, Target)> for v1::EntryKey {
    fn from((verb, target): (Verb, Target)) -> Self {
        Self { verb: v1::Verb::from(verb).into(), target: Some(target.into()) }
    }
}

impl TryFrom<v1::NeverBlockEntry> for NeverBlockEntry {
    type Error = ConvertError;

    fn try_from(wire: v1::NeverBlockEntry) -> Result<Self, ConvertError> {
        Ok(Self {
            prefix: required("never_block.prefix", wire.prefix)?.try_into()?,
            why: text("never_block.why", wire.why)?,
        })
    }
}

impl From<NeverBlockEntry> for v1::NeverBlockEntry {
    fn from(entry: NeverBlockEntry) -> Self {
        Self { prefix: Some(entry.prefix.into()), why: entry.why }
    }
}

fn never_block(wire: Vec<v1::NeverBlockEntry>) -> Result<Vec<NeverBlockEntry>, ConvertError> {
    at_most("never_block", wire.len(), MAX_NEVER_BLOCK)?;
    wire.into_iter().map(NeverBlockEntry::try_from).collect()
}

fn throttle_per_minute(wire: v1::EnforcementSettings) -> Result<u32, ConvertError> {
    let value = wire.throttle_per_minute;
    if THROTTLE_PER_MINUTE.contains(&value) {
        return Ok(value);
    }
    Err(ConvertError::OutOfRange {
        field: "settings.throttle_per_minute",
        value: u64::from(value),
        takes: "1 to 60000",
    })
}

impl TryFrom<v1::Change> for Change {
    type Error = ConvertError;

    fn try_from(wire: v1::Change) -> Result<Self, ConvertError> {
        Ok(match required("change", wire.of)? {
            v1::change::Of::Put(entry) => Self::Put(entry.try_into()?),
            v1::change::Of::Remove(key) => {
                let (verb, target) = key.try_into()?;
                Self::Remove { verb, target }
            }
            v1::change::Of::NeverBlock(list) => Self::NeverBlock(never_block(list.entries)?),
            v1::change::Of::Hold(hold) => Self::Hold(hold.try_into()?),
            v1::change::Of::Release(rollout) => Self::Release(RolloutId(rollout)),
            v1::change::Of::BreakerResets(resets) => Self::BreakerResets(resets),
            v1::change::Of::Settings(settings) => Self::ThrottlePerMinute(throttle_per_minute(settings)?),
        })
    }
}

impl From<Change> for v1::Change {
    fn from(change: Change) -> Self {
        let of = match change {
            Change::Put(entry) => v1::change::Of::Put(entry.into()),
            Change::Hold(hold) => v1::change::Of::Hold(hold.into()),
            Change::Release(rollout) => v1::change::Of::Release(rollout.0),
            Change::BreakerResets(resets) => v1::change::Of::BreakerResets(resets),
            Change::Remove { verb, target } => v1::change::Of::Remove((verb, target).into()),
            Change::NeverBlock(entries) => v1::change::Of::NeverBlock(v1::NeverBlockList {
                entries: entries.into_iter().map(Into::into).collect(),
            }),
            Change::ThrottlePerMinute(throttle_per_minute) => {
                v1::change::Of::Settings(v1::EnforcementSettings { throttle_per_minute })
            }
        };
        Self { of: Some(of) }
    }
}

impl TryFrom<v1::Delta> for Delta {
    type Error = ConvertError;

    fn try_from(wire: v1::Delta) -> Result<Self, ConvertError> {
        at_most("delta.changes", wire.changes.len(), MAX_CHANGES)?;
        if wire.revision <= wire.previous {
            return Err(ConvertError::Order { field: "delta.revision", other: "delta.previous" });
        }
        Ok(Self {
            previous: wire.previous,
            revision: wire.revision,
            changes: wire.changes.into_iter().map(Change::try_from).collect::<Result<_, _>>()?,
            trace: TraceParent::parse(&wire.traceparent),
            committed_at: optional_time("delta.committed_at", wire.committed_at)?,
        })
    }
}

impl From<Delta> for v1::Delta {
    fn from(delta: Delta) -> Self {
        Self {
            previous: delta.previous,
            revision: delta.revision,
            changes: delta.changes.into_iter().map(Into::into).collect(),
            traceparent: delta.trace.as_str().to_owned(),
            committed_at: wire_time(delta.committed_at),
        }
    }
}

impl TryFrom<v1::SnapshotPart> for SnapshotPart {
    type Error = ConvertError;

    fn try_from(wire: v1::SnapshotPart) -> Result<Self, ConvertError> {
        at_most("snapshot.entries", wire.entries.len(), MAX_CHANGES)?;
        Ok(Self {
            ledger_id: text("snapshot.ledger_id", wire.ledger_id)?,
            revision: wire.revision,
            entries: wire.entries.into_iter().map(Entry::try_from).collect::<Result<_, _>>()?,
            never_block: never_block(wire.never_block)?,
            last: wire.last,
            throttle_per_minute: wire.settings.map(throttle_per_minute).transpose()?,
            holds: holds(wire.holds)?,
            breaker_resets: wire.breaker_resets,
        })
    }
}

impl From<SnapshotPart> for v1::SnapshotPart {
    fn from(part: SnapshotPart) -> Self {
        Self {
            ledger_id: part.ledger_id,
            revision: part.revision,
            entries: part.entries.into_iter().map(Into::into).collect(),
            never_block: part.never_block.into_iter().map(Into::into).collect(),
            last: part.last,
            settings: part
                .throttle_per_minute
                .map(|throttle_per_minute| v1::EnforcementSettings { throttle_per_minute }),
            holds: part.holds.into_iter().map(Into::into).collect(),
            breaker_resets: part.breaker_resets,
        }
    }
}
