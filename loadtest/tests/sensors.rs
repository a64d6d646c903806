//! A real sensor beside real coordinators, and what an operator gets to see of it: the conversation that was on the wire
//! is listed by the command line with its bytes, and the sensor's records go on while logrotate takes their file away.

use anyhow::{Context, ensure};
use netguard_lab::{
    fleet::{Binaries, Fleet},
    world::{World, in_world_of, namespace::Namespace, process::Process},
};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::{
    fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    time::{Duration, Instant},
};

/// Flows are told 10 s after they closed, in a window of 10 s; the rest is a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(90);
const LOOK_INTERVAL: Duration = Duration::from_millis(50);
const PORT: u16 = 8_081;
/// Bytes that the server answers with.
const BODY: u32 = 100_000;
/// Exchanges since the sensor writes, at least: the first, the one behind it, two about rotations, and the last.
const WRITTEN: u64 = 5;

#[tokio::test]
async fn what_was_on_the_wire_is_listed_and_written_down_through_a_rotation() {
    if !rustix::process::geteuid().is_root() {
        assert!(std::env::var_os("CI").is_none(), "network namespaces need root, and CI must run this");
        eprintln!("not run: network namespaces need root");
        return;
    }
    in_world_of(1, async |world| {
        let directory = Path::new(env!("CARGO_BIN_EXE_netguard-lab")).parent().context("no directory")?;
        let binaries = Binaries::find(Some(directory))?;
        let mut fleet = Fleet::start(world, &binaries, "info,openraft=error").await?;
        let host = world.hosts.first().context("no host")?;
        fleet.hosts.first_mut().context("no host")?.sensor.stop();
        let mut sensor = recording(world, host, &binaries)?;
        let server = host.within(|| TcpListener::bind((host.address(), PORT)))??;

        // The first requests may come before the sensor looks: until one of them was written down.
        let written = world.scratch().join("eve.json");
        until("the first record", async || {
            exchange(world, host, &server, "/first")?;
            Ok(lines(&written)?.iter().any(|line| url(line) == Some("/first")))
        })
        .await?;
        // Records come in their order: behind this one comes none of those.
        exchange(world, host, &server, "/settled")?;
        until("the last record", async || Ok(lines(&written)?.last().and_then(url) == Some("/settled")))
            .await?;
        rotated(world, host, &server, &sensor).await?;
        sensor.check()?;
        listed(world, host, &server, &binaries).await
    })
    .await
    .unwrap();
}

/// The host's sensor once more, with the identity it has, now with records.
fn recording(world: &World, host: &Namespace, binaries: &Binaries) -> anyhow::Result<Process> {
    let scratch = world.scratch();
    let mut config = fs::read_to_string(scratch.join("host-1-sensor.yaml"))?;
    config.push_str("application: on\nrecords:\n");
    let written = scratch.join("eve.json");
    config
        .push_str(&format!("  - {{ format: eve, types: [http], to: file, path: {} }}\n", written.display()));
    let file = scratch.join("recording.yaml");
    fs::write(&file, config)?;
    let arguments = ["run", "--config", file.to_str().context("not UTF-8")?];
    Process::start(host, scratch, "recording", &binaries.path("netguard-sensor")?, &arguments)
}

/// One request from another host, and its answer, in a connection of its own.
fn exchange(world: &World, host: &Namespace, server: &TcpListener, target: &str) -> anyhow::Result<()> {
    let address = SocketAddr::from((host.address(), PORT));
    let exchanged = std::thread::scope(|scope| {
        let answering = scope.spawn(|| -> anyhow::Result<()> {
            let (mut stream, _) = server.accept()?;
            // All of the request: what is left unread when a connection is closed makes it end in a reset.
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                let mut part = [0; 512];
                let read = stream.read(&mut part)?;
                ensure!(read > 0, "the request ended early");
                request.extend_from_slice(part.get(..read).unwrap_or_default());
            }
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {BODY}\r\n\r\n");
            stream.write_all(head.as_bytes())?;
            std::io::copy(&mut std::io::repeat(b'x').take(BODY.into()), &mut stream)?;
            Ok(())
        });
        let read = world.innocent.within(|| -> anyhow::Result<u64> {
            let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
            let request = format!("GET {target} HTTP/1.1\r\nHost: host-1\r\nConnection: close\r\n\r\n");
            stream.write_all(request.as_bytes())?;
            Ok(std::io::copy(&mut stream, &mut std::io::sink())?)
        });
        answering.join().map_err(|_| anyhow::anyhow!("the server panicked"))??;
        read?
    })?;
    ensure!(exchanged > u64::from(BODY), "the answer came only in part: {exchanged} bytes");
    Ok(())
}

/// `logrotate` with a `postrotate` that sends SIGHUP, and without: what comes later is in a new file, what came before
/// stays in the old one, and the process is the same.
async fn rotated(
    world: &World,
    host: &Namespace,
    server: &TcpListener,
    sensor: &Process,
) -> anyhow::Result<()> {
    let written = world.scratch().join("eve.json");
    let pid = i32::try_from(sensor.pid()).ok().and_then(Pid::from_raw).context("no process")?;
    let name = fs::read_to_string(format!("/proc/{}/comm", sensor.pid()))?;
    ensure!(name.trim() == "netguard-sensor", "the signal would go to {name}");
    for (aside, target, signal) in
        [("eve.json-20260101", "/hung-up", Some(Signal::HUP)), ("eve.json-20260102", "/moved", None)]
    {
        let aside = world.scratch().join(aside);
        fs::rename(&written, &aside)?;
        if let Some(signal) = signal {
            kill_process(pid, signal).context("the sensor is gone")?;
        }
        until("a new file", async || Ok(written.exists())).await?;
        let before = lines(&aside)?;
        exchange(world, host, server, target)?;
        until("a record in the new file", async || {
            Ok(lines(&written)?.iter().any(|line| url(line) == Some(target)))
        })
        .await?;
        // Nothing went into the old file any more, nor twice into the new one.
        ensure!(lines(&aside)? == before && !before.is_empty(), "{} went on", aside.display());
        ensure!(lines(&written)?.len() == 1, "{:?}", lines(&written)?);
    }
    Ok(())
}

/// `netguard-admin flows` at the coordinators.
async fn listed(
    world: &World,
    host: &Namespace,
    server: &TcpListener,
    binaries: &Binaries,
) -> anyhow::Result<()> {
    let admin = binaries.path("netguard-admin")?;
    let servers: Vec<_> = world.coordinators.iter().map(|one| format!("{}:7443", one.address())).collect();
    let (servers, owner) = (servers.join(","), world.scratch().join("owner"));
    let owner = owner.to_str().context("not UTF-8")?;
    let address = host.address().to_string();
    let ask = |more: &[&str]| {
        let reach = ["--server", &servers, "--identity", owner];
        world.control.run(&admin, &[&reach[..], more].concat())
    };
    let flows = |port: &str| -> anyhow::Result<Vec<Value>> {
        let said = ask(&["-o", "json", "flows", "--destination", &address, "--port", port])?;
        let mut answer: Value = serde_json::from_str(&said).with_context(|| said.clone())?;
        ensure!(answer["silent"] == serde_json::json!([]), "coordinators were silent: {said}");
        Ok(answer["conversations"].take().as_array().cloned().unwrap_or_default())
    };
    exchange(world, host, server, "/listed")?;
    let mut found = Value::Null;
    until("the conversation", async || {
        let rows = flows("8081")?;
        ensure!(rows.len() < 2, "one conversation is listed as several: {rows:?}");
        found = rows.into_iter().next().unwrap_or_default();
        Ok(found["states"]["SF"].as_u64() >= Some(WRITTEN))
    })
    .await?;
    // Those that were seen from their first packet to their last.
    let whole = found["states"]["SF"].as_u64().unwrap_or_default();
    for (field, expected) in [
        ("sensor", "host-1"),
        ("source", &world.innocent.address().to_string()),
        ("destination", &address),
        ("protocol", "tcp"),
        ("service", "http"),
    ] {
        ensure!(found[field] == expected, "{field} is not {expected}: {found}");
    }
    ensure!(found["destination_port"] == PORT, "{found}");
    let at_least = |field: &str, least: u64| {
        ensure!(found[field].as_u64() >= Some(least), "{field} is below {least}: {found}");
        Ok(())
    };
    // Whole answers with their headers went by, and the requests, with handshakes of at least three packets.
    at_least("flows", whole)?;
    at_least("bytes_to_client", whole * u64::from(BODY))?;
    at_least("bytes_to_server", whole * 4 * 40)?;
    at_least("packets_to_server", whole * 4)?;
    at_least("packets_to_client", whole * 3)?;
    let table = ask(&["flows", "--destination", &address, "--port", "8081"])?;
    let row = table.lines().find(|line| line.contains("host-1")).with_context(|| table.clone())?;
    ensure!(row.contains("tcp/8081") && row.contains(" http "), "{table}");
    let elsewhere = flows("8082")?;
    ensure!(elsewhere.is_empty(), "nobody spoke to that port: {elsewhere:?}");
    Ok(())
}

fn lines(path: &Path) -> anyhow::Result<Vec<Value>> {
    let text = match fs::read_to_string(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        read => read?,
    };
    // Behind the last line feed stands what is being written.
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    whole.lines().map(|line| serde_json::from_str(line).with_context(|| line.to_owned())).collect()
}

fn url(event: &Value) -> Option<&str> {
    event["http"]["url"].as_str()
}

/// Looks again and again, until it holds.
async fn until(what: &str, mut holds: impl AsyncFnMut() -> anyhow::Result<bool>) -> anyhow::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while !holds().await? {
        ensure!(Instant::now() < deadline, "{what} did not come");
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
    Ok(())
}
