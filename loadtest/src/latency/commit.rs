//! Decision → in the kernel of all hosts. Counted from the time the decision carries, which the leader gave it before
//! it was committed: what is measured is never less than what is promised.

use super::{block_request, until_effective};
use crate::{figures::milliseconds, fleet::Fleet};
use anyhow::Context;
use netguard_core::time::Timestamp;
use std::time::Duration;

/// Long enough that nothing expires while it is measured.
const TTL: Duration = Duration::from_secs(3600);

/// Blocks so many addresses, one after the other; for each the milliseconds until the last host had it.
pub(super) async fn measure(fleet: &Fleet, decisions: u32) -> anyhow::Result<Vec<f64>> {
    let mut measured = Vec::new();
    for number in 0..decisions {
        let request = block_request(number, TTL);
        let written = fleet.control.block(&request).await?;
        let decision = written.decisions.first().context("a block was acknowledged without a decision")?;
        let created = Timestamp::from_micros(decision.created_at);
        let (_, last) = until_effective(&fleet.control, &request.prefix, fleet.hosts.len()).await?;
        measured.push(milliseconds(created, last));
    }
    Ok(measured)
}
