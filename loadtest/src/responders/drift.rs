//! How long a firewall stays open after somebody else changed it, with the real program running: from the change to
//! the last packet of a blocked address that got through.

use super::RespondersArgs;
use crate::{
    firewalls::{Firewall, names},
    fleet::{Binaries, LOOK_INTERVAL, control::request_id},
    schedules::{Cluster, host::Host, probe::Probes},
    world::{World, namespace::Namespace},
};
use anyhow::{Context, bail};
use netguard_proto::v1;
use std::{net::IpAddr, time::Duration};

/// Nothing got through for so long: it is closed again.
const QUIET: Duration = Duration::from_millis(300);
/// How long it may stay open before the measurement is given up.
const DEADLINE: Duration = Duration::from_secs(40);

/// Breaks the firewall so many times; the milliseconds of each repair.
pub(super) async fn measure(
    world: &World,
    cluster: &mut Cluster,
    namespace: &Namespace,
    firewall: Firewall,
    binaries: &Binaries,
    args: &RespondersArgs,
) -> anyhow::Result<Vec<f64>> {
    let control = cluster.0.control.clone();
    let attacker = world.attackers.first().context("no attacker")?;
    let source = IpAddr::from(attacker.address());
    let mut host = Host::prepare(world, namespace, firewall, binaries, &control, &args.log).await?;
    host.start().await?;
    host.until_ready().await?;
    let request = v1::BlockRequest {
        prefix: source.to_string(),
        ttl_seconds: 3600,
        reason: "repair".into(),
        verb: v1::Verb::Block.into(),
        traceparent: String::new(),
        request_id: request_id(),
        canary: false,
    };
    control.block(&request).await?;
    let address = source.to_string();
    host.until("holds the block", |host| Ok(names(&host.list()?, &address))).await?;
    let probes = Probes::start(namespace, &[attacker], &world.control, &[])?;
    let mut repairs = Vec::new();
    for round in 0..args.repairs {
        let which = usize::try_from(round)?;
        let how = host.tamper(which).await?;
        let changed = probes.now();
        let open_since =
            |now: Duration| probes.last_arrival(source).unwrap_or(changed).max(changed) + QUIET > now;
        while open_since(probes.now()) {
            host.check()?;
            if probes.now() > changed + DEADLINE {
                bail!("the firewall was changed by somebody else and is not put right");
            }
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
        let last = probes.last_arrival(source).unwrap_or(changed);
        let open_ms = last.saturating_sub(changed).as_secs_f64() * 1e3;
        println!("  after `{how}`: open for {open_ms:.0} ms");
        repairs.push(open_ms);
    }
    host.terminate();
    host.command("uninstall")?;
    control.unblock(&address).await?;
    Ok(repairs)
}
