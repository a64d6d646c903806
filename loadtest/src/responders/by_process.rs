//! For comparison: the same change by an `nft` process, one for each.

use crate::{figures::Percentiles, world::namespace::Namespace};
use anyhow::Context;
use std::{fmt::Write as _, time::Instant};

/// The lab's own table.
const TABLE: &str = "inet lab_compare";

/// Adds one address to `entries` others, so many times; the milliseconds of each `nft -f -`.
pub(super) fn measure(host: &Namespace, entries: u32, rounds: u32) -> anyhow::Result<Percentiles> {
    let mut table = format!("table {TABLE} {{\n set held {{ type ipv4_addr; flags timeout; }}\n}}\n");
    let addresses: Vec<_> = (0..entries)
        .map(|number| format!("{} timeout 1d", std::net::Ipv4Addr::from(0x1400_0000 + number)))
        .collect();
    writeln!(table, "add element {TABLE} held {{ {} }}", addresses.join(", "))?;
    host.run_with_input("nft", &["-f", "-"], &table).context("nft takes no table of the lab's")?;
    let mut taken = Vec::new();
    for round in 0..rounds {
        let address = std::net::Ipv4Addr::from(0x1300_0000 + round);
        let script = format!("add element {TABLE} held {{ {address} timeout 1d }}\n");
        let mut nft = std::process::Command::new("nft");
        nft.args(["-f", "-"]).stdin(std::process::Stdio::piped());
        // In the namespace already: only nft itself is measured.
        let milliseconds = host.within(|| -> anyhow::Result<f64> {
            let began = Instant::now();
            let mut child = nft.spawn().context("cannot start nft")?;
            std::io::Write::write_all(&mut child.stdin.take().context("no input")?, script.as_bytes())?;
            child.wait()?;
            Ok(began.elapsed().as_secs_f64() * 1e3)
        })??;
        taken.push(milliseconds);
    }
    host.run("nft", &["delete", "table", "inet", "lab_compare"])?;
    Percentiles::of(&taken).context("no rounds")
}
