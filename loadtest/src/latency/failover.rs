//! Leader killed → next decision acknowledged, with a client that writes all the time; and nothing acknowledged lost.

use super::block_request;
use crate::{
    figures,
    fleet::{Fleet, LOOK_INTERVAL, control::Control},
};
use anyhow::{Context, bail};
use netguard_core::net::Prefix;
use netguard_proto::v1;
use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};
use tokio::time::MissedTickBehavior;

/// Time between two writes of the client.
const WRITE_INTERVAL: Duration = Duration::from_millis(10);
/// Writes the client must have had acknowledged before the next kill.
const CALM_WRITES: usize = 20;
/// How long the cluster may take to acknowledge anything again.
const DEADLINE: Duration = Duration::from_secs(30);
/// Long enough that no acknowledged decision expires before it is looked for.
const TTL: Duration = Duration::from_secs(24 * 3600);
/// Apart from the addresses of the other measurement.
const FIRST_NUMBER: u32 = 1 << 16;

/// What was measured.
#[derive(Debug)]
pub(super) struct Failover {
    /// Milliseconds, one for each kill.
    pub(super) gaps: Vec<f64>,
    pub(super) acknowledged: usize,
    pub(super) lost: usize,
}

/// A write that was acknowledged.
#[derive(Debug, Clone)]
struct Write {
    prefix: String,
    begun: Instant,
    acknowledged: Instant,
}

type Writes = Arc<Mutex<Vec<Write>>>;

/// Kills the leader so many times, each time after the killed one is back.
pub(super) async fn measure(fleet: &mut Fleet, kills: u32) -> anyhow::Result<Failover> {
    let writes = Writes::default();
    let writer = tokio::spawn(write(fleet.control.clone(), writes.clone()));
    let gaps = kill_again_and_again(fleet, kills, &writes, &writer).await;
    writer.abort();
    // Whatever was under way is either recorded or was never acknowledged.
    let _ = writer.await;
    let gaps = gaps?;

    let listed: BTreeSet<Prefix> = fleet
        .control
        .decisions()
        .await?
        .into_iter()
        .filter_map(|decision| match decision.target?.of? {
            v1::target::Of::Source(prefix) => Prefix::try_from(prefix).ok(),
            v1::target::Of::Service(_) => None,
        })
        .collect();
    let writes = locked(&writes).clone();
    let mut lost = 0;
    for write in &writes {
        if !listed.contains(&write.prefix.parse()?) {
            println!("LOST: {} was acknowledged and is not in the list", write.prefix);
            lost += 1;
        }
    }
    Ok(Failover { gaps, acknowledged: writes.len(), lost })
}

async fn kill_again_and_again(
    fleet: &mut Fleet,
    kills: u32,
    writes: &Writes,
    writer: &tokio::task::JoinHandle<anyhow::Result<()>>,
) -> anyhow::Result<Vec<f64>> {
    let mut gaps = Vec::new();
    for _ in 0..kills {
        let before = locked(writes).len();
        until(writer, || (locked(writes).len() >= before + CALM_WRITES).then_some(())).await?;
        let killed = fleet.coordinators.kill_leader().await?;
        // A write begun before the leader was gone may have been acknowledged by it.
        let next = until(writer, || {
            locked(writes).iter().find(|write| write.begun > killed.dead).map(|write| write.acknowledged)
        })
        .await?;
        gaps.push(figures::round((next - killed.asked).as_secs_f64() * 1e3));
        fleet.coordinators.restart(killed.node)?;
        fleet.until_ready().await?;
    }
    Ok(gaps)
}

/// Waits for something the writer brings about; fails when the writer has given up.
async fn until<T>(
    writer: &tokio::task::JoinHandle<anyhow::Result<()>>,
    mut look: impl FnMut() -> Option<T>,
) -> anyhow::Result<T> {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(found) = look() {
            return Ok(found);
        }
        if writer.is_finished() || Instant::now() >= deadline {
            bail!("the cluster acknowledges no decision any more");
        }
        tokio::time::sleep(LOOK_INTERVAL / 4).await;
    }
}

/// One client: a decision after the other, each tried at every coordinator until it is acknowledged.
async fn write(control: Control, writes: Writes) -> anyhow::Result<()> {
    let mut ticks = tokio::time::interval(WRITE_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for number in FIRST_NUMBER.. {
        ticks.tick().await;
        let request = block_request(number, TTL);
        let begun = Instant::now();
        control.block(&request).await.context("the writing client gave up")?;
        let acknowledged = Instant::now();
        locked(&writes).push(Write { prefix: request.prefix, begun, acknowledged });
    }
    Ok(())
}

fn locked(writes: &Writes) -> std::sync::MutexGuard<'_, Vec<Write>> {
    writes.lock().unwrap_or_else(PoisonError::into_inner)
}
