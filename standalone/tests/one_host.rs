//! One host, one process: a real scan is seen and shown, and with `--enforce` stopped in the kernel.

use netguard_lab::world::{
    World, in_world,
    namespace::{INTERFACE, Namespace},
    process::Process,
    tools,
};
use std::{
    net::TcpListener,
    path::PathBuf,
    time::{Duration, Instant},
};

/// Far more than it takes on a loaded machine.
const DEADLINE: Duration = Duration::from_secs(60);
/// Ports where something listens, so that a connect scan proves its source.
const OPEN: [u16; 3] = [22, 80, 443];

/// Starts `netguard run` on a host of the world.
fn netguard(world: &World, host: &Namespace, name: &str, more: &[&str]) -> anyhow::Result<Process> {
    let data_dir = data_dir(world);
    let mut args = vec!["run", "--interface", INTERFACE, "--data-dir", data_dir.to_str().unwrap_or_default()];
    args.extend(more);
    Process::start(host, world.scratch(), name, env!("CARGO_BIN_EXE_netguard"), &args)
}

fn data_dir(world: &World) -> PathBuf {
    world.scratch().join("standalone")
}

/// Waits until `found` finds something; otherwise says what there was instead.
async fn eventually<T>(
    what: &str,
    process: &Process,
    mut found: impl FnMut() -> Option<T>,
) -> anyhow::Result<T> {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(value) = found() {
            return Ok(value);
        }
        anyhow::ensure!(Instant::now() < deadline, "never came: {what}\n{}", process.output());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn says(process: &Process, text: &str) -> anyhow::Result<()> {
    eventually(text, process, || process.output().contains(text).then_some(())).await
}

fn scan(attacker: &Namespace, host: &Namespace) -> anyhow::Result<()> {
    let target = host.address().to_string();
    attacker.run("nmap", &["-sT", "-Pn", "-n", "--max-retries", "0", "-p", "1-200,443", &target]).map(drop)
}

#[test]
fn a_scan_is_shown_and_with_enforce_stopped_until_its_timeout() -> anyhow::Result<()> {
    if !rustix::process::geteuid().is_root() {
        assert!(std::env::var_os("CI").is_none(), "network namespaces need root, and CI must run this");
        eprintln!("not run: network namespaces need root");
        return Ok(());
    }
    assert!(tools::find("nmap").is_some() && tools::find("nft").is_some(), "install nmap and nftables");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(in_world(async |world| {
        let (host, first, second) = (&world.hosts[0], &world.attackers[0], &world.attackers[1]);
        let _services: Vec<TcpListener> = host.within(|| {
            OPEN.iter().map(|port| TcpListener::bind(("0.0.0.0", *port))).collect::<Result<_, _>>()
        })??;

        let mut observing = netguard(world, host, "observing", &[])?;
        says(&observing, "only shows what it would do").await?;
        scan(first, host)?;
        says(&observing, &format!("would block {}", first.address())).await?;
        let rules = host.run("nft", &["list", "ruleset"])?;
        assert!(!rules.contains(&first.address().to_string()), "nothing is enforced unasked:\n{rules}");
        observing.stop();

        let mut enforcing = netguard(world, host, "enforcing", &["--enforce"])?;
        says(&enforcing, "acts on what it decides").await?;
        scan(second, host)?;
        let blocked = second.address().to_string();
        says(&enforcing, &format!("block {blocked}")).await?;
        eventually("the rule", &enforcing, || {
            host.run("nft", &["list", "ruleset"]).ok().filter(|rules| rules.contains(&blocked))
        })
        .await?;
        let listed = ask(world, host, &["blocklist", "-o", "json"])?;
        assert!(listed.contains(&blocked), "{listed}");

        enforcing.stop();
        let rules = host.run("nft", &["list", "ruleset"])?;
        assert!(rules.contains(&blocked), "a stop must not lift what holds:\n{rules}");
        Ok(())
    }))
}

/// What `netguard-admin` says on that host.
fn ask(world: &World, host: &Namespace, args: &[&str]) -> anyhow::Result<String> {
    let identity = data_dir(world).join("admin");
    let mut all = vec!["netguard-admin", "--server", "127.0.0.1:7443", "--identity"];
    all.push(identity.to_str().unwrap_or_default());
    all.extend(args);
    host.within(|| {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let code = runtime.block_on(netguard_admin::run(all, &mut out, &mut err));
        anyhow::ensure!(code == 0, "exit code {code}: {}", String::from_utf8_lossy(&err));
        Ok(String::from_utf8_lossy(&out).into_owned())
    })?
}
