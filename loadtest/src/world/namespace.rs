//! One network namespace: its address, commands in it, threads in it.

use super::tools;
use anyhow::{Context, bail};
use std::{
    fs::File,
    io::Write,
    net::{Ipv4Addr, Ipv6Addr},
    os::fd::AsFd,
    process::{Command, Stdio},
};

/// A named network namespace with one interface, `eth0`.
#[derive(Debug, Clone)]
pub struct Namespace {
    name: String,
    last_byte: u8,
    /// A process whose mounts commands see, instead of the machine's.
    mounts_of: Option<u32>,
}

/// The interface every namespace has.
pub const INTERFACE: &str = "eth0";

impl Namespace {
    pub(super) fn new(name: String, last_byte: u8) -> Self {
        Self { name, last_byte, mounts_of: None }
    }

    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    #[must_use]
    pub fn address(&self) -> Ipv4Addr {
        Ipv4Addr::new(10, 77, 0, self.last_byte)
    }

    #[must_use]
    pub fn address6(&self) -> Ipv6Addr {
        Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, u16::from(self.last_byte))
    }

    /// The same namespace, in which commands see the mounts of this process.
    #[must_use]
    pub fn with_mounts_of(&self, process: u32) -> Self {
        Self { mounts_of: Some(process), ..self.clone() }
    }

    /// A command that runs inside. It gets SIGKILL when the lab's thread dies, however it dies.
    #[must_use]
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL"]);
        match self.mounts_of {
            None => command.args(["ip", "netns", "exec", &self.name, program]),
            Some(process) => {
                let (mounts, network) =
                    (format!("--mount=/proc/{process}/ns/mnt"), format!("--net=/proc/{process}/ns/net"));
                command.args(["nsenter", &mounts, &network, "--", program])
            }
        };
        command.stdin(Stdio::null()).env("PATH", tools::PATH);
        // The daemons take settings from the environment too; what the caller has there is not meant for them.
        for (name, _) in std::env::vars_os() {
            if name.as_encoded_bytes().starts_with(b"NETGUARD_") {
                command.env_remove(name);
            }
        }
        command
    }

    /// Runs a command inside and returns what it printed.
    ///
    /// Errors: it does not start or does not exit with 0; the message has what it said.
    pub fn run(&self, program: &str, args: &[&str]) -> anyhow::Result<String> {
        finish(self.command(program).args(args), &format!("{program} {}", args.join(" ")))
    }

    /// Runs a command inside with this standard input.
    pub fn run_with_input(&self, program: &str, args: &[&str], input: &str) -> anyhow::Result<String> {
        feed(self.command(program).args(args), input, program)
    }

    /// Gives the interface one more address of the world's network.
    pub fn add_address(&self, address: Ipv4Addr) -> anyhow::Result<()> {
        ip(&["-n", &self.name, "addr", "add", &format!("{address}/24"), "dev", INTERFACE])?;
        Ok(())
    }

    /// Fixes where `peer` is found, so that finding it needs no packet that a firewall might stop.
    pub fn keep_neighbour(&self, peer: &Self) -> anyhow::Result<()> {
        let shown = ip(&["-n", &peer.name, "-brief", "link", "show", "dev", INTERFACE])?;
        let mac = shown.split_whitespace().nth(2).context("the interface has no MAC address")?;
        for address in [peer.address().to_string(), peer.address6().to_string()] {
            let neighbour =
                ["neigh", "replace", &address, "lladdr", mac, "nud", "permanent", "dev", INTERFACE];
            ip(&[&["-n", &self.name], &neighbour[..]].concat())?;
        }
        Ok(())
    }

    /// Moves the calling thread inside: what it opens or starts from now on is inside.
    pub fn enter(&self) -> anyhow::Result<()> {
        let path = format!("/run/netns/{}", self.name);
        let file = File::open(&path).with_context(|| format!("cannot open {path}"))?;
        rustix::thread::move_into_link_name_space(
            file.as_fd(),
            Some(rustix::thread::LinkNameSpaceType::Network),
        )
        .with_context(|| format!("cannot enter {path}"))
    }

    /// Runs `work` in a thread of its own inside.
    pub fn within<T: Send>(&self, work: impl FnOnce() -> T + Send) -> anyhow::Result<T> {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| self.enter().map(|()| work()));
            thread.join().map_err(|_| anyhow::anyhow!("a thread in {} panicked", self.name))?
        })
    }
}

/// Runs `ip` and returns what it printed.
pub(super) fn ip(args: &[&str]) -> anyhow::Result<String> {
    finish(Command::new("ip").env("PATH", tools::PATH).args(args), &format!("ip {}", args.join(" ")))
}

/// Runs many `ip` commands, one a line, in one process.
pub(super) fn ip_batch(args: &[&str], lines: &str) -> anyhow::Result<()> {
    feed(Command::new("ip").env("PATH", tools::PATH).args(args).args(["-batch", "-"]), lines, "ip")?;
    Ok(())
}

fn finish(command: &mut Command, what: &str) -> anyhow::Result<String> {
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("cannot start {what}"))?;
    said(&output, what)
}

fn feed(command: &mut Command, input: &str, what: &str) -> anyhow::Result<String> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {what}"))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A program that ends early says why on its standard error.
        let _ = stdin.write_all(input.as_bytes());
    }
    said(&child.wait_with_output()?, what)
}

fn said(output: &std::process::Output, what: &str) -> anyhow::Result<String> {
    if !output.status.success() {
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        bail!("`{what}` failed ({}): {}{}", output.status, out.trim(), err.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
