//! The packet that crosses the threshold → in the kernel of all hosts. The packet's time is the lab's own: a tap on the
//! attacker's wire sees it leave.

use super::until_effective;
use crate::{
    figures::milliseconds,
    fleet::Fleet,
    world::{World, namespace::INTERFACE, process::Process, tap::Tap},
};
use anyhow::{Context, bail};
use netguard_core::{kind::Kind, policy::row};
use std::{
    net::Ipv4Addr,
    time::{Duration, Instant},
};

/// Ports of one scan, none of them open: enough to cross the threshold well before the scan ends.
const FIRST_PORT: u64 = 1_001;
const PORTS: u64 = 40;
/// The first fresh address; the attackers' own lie below.
const FIRST_ADDRESS: u8 = 120;
const SCAN_DEADLINE: Duration = Duration::from_secs(20);

/// Scans a host from so many fresh addresses, one after the other; for each the milliseconds from the packet that
/// crossed the threshold until the last host had the rule.
pub(super) async fn measure(world: &World, fleet: &mut Fleet, scans: u8) -> anyhow::Result<Vec<f64>> {
    let attacker = world.attackers.first().context("the world has no attacker")?;
    let threshold = usize::try_from(row(Kind::PortScan).context("no port_scan in the table")?.threshold)?;
    let ports = format!("{FIRST_PORT}-{}", FIRST_PORT + PORTS - 1);
    let mut measured = Vec::new();
    for (number, last_byte) in (FIRST_ADDRESS..).take(scans.into()).enumerate() {
        let source = Ipv4Addr::new(10, 77, 0, last_byte);
        attacker.add_address(source)?;
        let host = world.hosts.get(number % world.hosts.len()).context("the world has no host")?;
        let (source, target) = (source.to_string(), host.address().to_string());
        let tap = Tap::open(attacker)?;
        let scan =
            ["-sS", "-Pn", "-n", "-S", &source, "-e", INTERFACE, "--max-retries", "0", "-p", &ports, &target];
        let mut nmap = Process::start(attacker, world.scratch(), "scan", "nmap", &scan)?;
        let (_, last) = until_effective(&fleet.control, &source, fleet.hosts.len()).await?;
        fleet.check()?;
        let Some(crossed) = tap.sent(threshold) else {
            bail!("the scan sent {} packets, and {threshold} cross the threshold", tap.packets());
        };
        measured.push(milliseconds(crossed, last));
        nmap.wait(Instant::now() + SCAN_DEADLINE).await.context("nmap does not end")?;
    }
    Ok(measured)
}
