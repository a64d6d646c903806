//! The real tools the lab works with: found, installed, or named with the command that installs them.

use anyhow::{Context, bail};
use std::{
    path::{Path, PathBuf},
    process::Command,
};

/// Where Debian has them; `sudo` and `cron` often leave the sbin directories out.
pub const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A program and the Debian package it comes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tool {
    pub program: &'static str,
    pub package: &'static str,
}

const fn tool(program: &'static str, package: &'static str) -> Tool {
    Tool { program, package }
}

/// What every world needs.
pub const WORLD: &[Tool] = &[tool("ip", "iproute2"), tool("setpriv", "util-linux"), tool("nft", "nftables")];
/// What a host with iptables needs besides.
pub const IPTABLES: &[Tool] = &[tool("iptables-nft", "iptables"), tool("ipset", "ipset")];
/// What a host that firewalld keeps needs besides.
pub const FIREWALLD: &[Tool] =
    &[tool("firewalld", "firewalld"), tool("dbus-daemon", "dbus-daemon"), tool("nsenter", "util-linux")];
/// What a host that ufw keeps needs besides.
pub const UFW: &[Tool] = &[tool("ufw", "ufw"), tool("iptables", "iptables"), tool("ipset", "ipset")];
/// What setting a host's clock needs besides.
pub const CLOCK: &[Tool] = &[tool("faketime", "faketime")];
/// What the demo needs besides.
pub const DEMO: &[Tool] = &[
    tool("nmap", "nmap"),
    tool("hping3", "hping3"),
    tool("hydra", "hydra"),
    tool("sshd", "openssh-server"),
    tool("ssh-keygen", "openssh-client"),
];

/// The path of a program.
#[must_use]
pub fn find(program: &str) -> Option<PathBuf> {
    PATH.split(':').map(|directory| Path::new(directory).join(program)).find(|path| path.is_file())
}

/// Sees to it that the tools are there: installs what is missing, or says how to.
pub fn require(tools: &[Tool], install: bool) -> anyhow::Result<()> {
    let missing: Vec<_> = tools.iter().filter(|tool| find(tool.program).is_none()).copied().collect();
    if missing.is_empty() {
        return Ok(());
    }
    let programs: Vec<_> = missing.iter().map(|tool| tool.program).collect();
    let packages: Vec<_> = missing.iter().map(|tool| tool.package).collect();
    let by_hand = format!("apt-get install --no-install-recommends {}", packages.join(" "));
    if !install {
        bail!("missing: {}. Install them with `{by_hand}`, or run again with --install", programs.join(", "));
    }
    let Some(apt) = find("apt-get") else {
        bail!("missing: {}. This is no Debian: install the packages that have them", programs.join(", "));
    };
    eprintln!("installing {} (Debian packages {})", programs.join(", "), packages.join(", "));
    let services = ServicesHeld::hold()?;
    apt_get(&apt, &["update", "-qq"])?;
    let mut arguments = vec!["install", "-y", "-qq", "--no-install-recommends"];
    arguments.extend(&packages);
    apt_get(&apt, &arguments).with_context(|| format!("try `{by_hand}` by hand"))?;
    drop(services);
    if packages.contains(&"openssh-server") {
        disable_ssh_service();
    }
    let still: Vec<_> = missing.iter().filter(|tool| find(tool.program).is_none()).collect();
    if let Some(tool) = still.first() {
        bail!("{} is still missing after installing {}", tool.program, tool.package);
    }
    Ok(())
}

fn apt_get(apt: &Path, arguments: &[&str]) -> anyhow::Result<()> {
    let status = Command::new(apt)
        .args(arguments)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .env("PATH", PATH)
        // Standard output is the lab's own: its last line may be JSON.
        .stdout(std::io::stderr())
        .status()
        .with_context(|| format!("cannot start {}", apt.display()))?;
    if !status.success() {
        bail!("`apt-get {}` failed ({status})", arguments.join(" "));
    }
    Ok(())
}

/// While this lives, packages being installed start no service: the lab wants the programs, not an sshd on the
/// machine's own network. Debian asks `/usr/sbin/policy-rc.d` (invoke-rc.d(8)).
#[derive(Debug)]
struct ServicesHeld {
    made: bool,
}

const POLICY: &str = "/usr/sbin/policy-rc.d";

impl ServicesHeld {
    fn hold() -> anyhow::Result<Self> {
        use std::os::unix::fs::PermissionsExt;
        if Path::new(POLICY).exists() {
            return Ok(Self { made: false });
        }
        std::fs::write(POLICY, "#!/bin/sh\nexit 101\n").with_context(|| format!("cannot write {POLICY}"))?;
        std::fs::set_permissions(POLICY, std::fs::Permissions::from_mode(0o755))?;
        Ok(Self { made: true })
    }
}

impl Drop for ServicesHeld {
    fn drop(&mut self) {
        if self.made {
            let _ = std::fs::remove_file(POLICY);
        }
    }
}

/// A freshly installed ssh server would start with the machine's next boot: nobody asked for that.
fn disable_ssh_service() {
    if let Some(systemctl) = find("systemctl") {
        let _ = Command::new(systemctl)
            .args(["disable", "--quiet", "ssh.service", "ssh.socket"])
            .stdout(std::io::stderr())
            .status();
        eprintln!(
            "openssh-server is installed for the lab only: its service was neither started nor enabled"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_tool_is_named_with_the_command_that_installs_it() {
        let error = require(&[tool("ng-no-such-tool", "ng-package")], false).unwrap_err().to_string();
        assert_eq!(
            error,
            "missing: ng-no-such-tool. Install them with `apt-get install --no-install-recommends ng-package`, \
             or run again with --install"
        );
    }
}
