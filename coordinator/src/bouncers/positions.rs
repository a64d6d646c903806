use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Mutex, PoisonError},
    time::Instant,
};

/// Readers remembered; past it the one that asked longest ago is told everything again.
const MAX_POSITIONS: usize = 20_000;

/// How far each reader of the stream has come here: by name and address, since hosts may share a key.
#[derive(Debug, Default)]
pub(super) struct Positions(Mutex<HashMap<(String, IpAddr), Position>>);

#[derive(Debug, Clone, Copy)]
struct Position {
    /// What the last answer went up to.
    last: u64,
    /// What the next answer starts after: one answer further back, in case the last one was lost on its way. None:
    /// everything.
    before: Option<u64>,
    asked: Instant,
}

impl Positions {
    /// After which revision the reader is to be told what changed; none: everything. The answer goes up to `revision`.
    pub(super) fn step(&self, reader: (String, IpAddr), revision: u64, startup: bool) -> Option<u64> {
        let mut positions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = positions.get(&reader).copied().filter(|known| known.last <= revision && !startup);
        if known.is_none() && positions.len() >= MAX_POSITIONS {
            let idle = positions.iter().min_by_key(|(_, position)| position.asked);
            if let Some(idle) = idle.map(|(reader, _)| reader.clone()) {
                positions.remove(&idle);
            }
        }
        // Who starts asks again by itself when it got no answer; who came from elsewhere does not.
        let before = if startup { Some(revision) } else { known.map(|known| known.last) };
        positions.insert(reader, Position { last: revision, before, asked: Instant::now() });
        known.and_then(|known| known.before)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reader(n: u32) -> (String, IpAddr) {
        ("web".to_owned(), IpAddr::V4(n.into()))
    }

    #[test]
    fn every_answer_reaches_back_over_the_one_before() {
        let positions = Positions::default();
        assert_eq!(positions.step(reader(1), 5, true), None);
        assert_eq!(positions.step(reader(1), 7, false), Some(5));
        assert_eq!(positions.step(reader(1), 9, false), Some(5), "the answer up to 7 may be lost");
        assert_eq!(positions.step(reader(1), 9, false), Some(7));
        assert_eq!(positions.step(reader(1), 9, true), None);
    }

    #[test]
    fn a_stranger_is_told_everything_until_it_surely_has_it() {
        let positions = Positions::default();
        assert_eq!(positions.step(reader(1), 5, false), None);
        assert_eq!(positions.step(reader(1), 6, false), None, "the first answer may be lost");
        assert_eq!(positions.step(reader(1), 7, false), Some(5));
        assert_eq!(positions.step(reader(2), 7, false), None, "another host with the same key");
        assert_eq!(positions.step(reader(1), 2, false), None, "a ledger of another time");
    }

    #[test]
    fn the_table_is_bounded() {
        let positions = Positions::default();
        for n in 0..=u32::try_from(MAX_POSITIONS).unwrap() {
            positions.step(reader(n), 1, false);
        }
        assert_eq!(positions.0.lock().unwrap().len(), MAX_POSITIONS);
    }
}
