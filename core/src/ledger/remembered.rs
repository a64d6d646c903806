use super::{Applied, Outcome, RequestId};
use rpds::RedBlackTreeMapSync;
use serde::{Deserialize, Serialize};

/// Requests whose answers are kept, so that a retry is answered and not applied again. A proposer retries for 10 s;
/// at 400 commands a second this still reaches back far enough.
pub const MAX_REMEMBERED: usize = 4096;
/// Decisions kept of a remembered answer; a retry of a mass lift is told the first of them.
const MAX_REMEMBERED_DECISIONS: usize = 16;

/// The last answers, oldest first.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Remembered {
    answers: RedBlackTreeMapSync<RequestId, Applied>,
    order: RedBlackTreeMapSync<u64, RequestId>,
    next: u64,
}

impl Remembered {
    pub(super) fn get(&self, id: RequestId) -> Option<&Applied> {
        self.answers.get(&id)
    }

    pub(super) fn insert(&mut self, id: RequestId, mut applied: Applied) {
        if let Ok(Outcome::Decisions(decisions)) = &mut applied.outcome {
            decisions.truncate(MAX_REMEMBERED_DECISIONS);
        }
        self.answers.insert_mut(id, applied);
        self.order.insert_mut(self.next, id);
        self.next += 1;
        while self.order.size() > MAX_REMEMBERED {
            let Some((oldest, id)) = self.order.first().map(|(oldest, id)| (*oldest, *id)) else { break };
            self.order.remove_mut(&oldest);
            self.answers.remove_mut(&id);
        }
    }
}
