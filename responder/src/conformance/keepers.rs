//! Hosts that ufw or firewalld keeps, for tests: files of their own that let everything through, put in the place of the
//! machine's by a shell in a mount namespace of its own.

use std::{fs, io, path::Path, process::Command};

/// Where Debian has ufw's files as they are before anybody changed them.
const UFW_SHIPPED: &str = "/usr/share/ufw";

/// Writes ufw's files below `directory`, as Debian ships them but for the policies; ufw is not enabled.
///
/// Errors: a file cannot be written, or ufw is not installed.
pub fn furnish_ufw(directory: &Path) -> io::Result<()> {
    let etc = directory.join("etc");
    let ufw = etc.join("ufw");
    fs::create_dir_all(etc.join("default"))?;
    copy(&["-a", "--no-target-directory"], &format!("{UFW_SHIPPED}/iptables"), &ufw)?;
    fs::create_dir(ufw.join("applications.d"))?;
    for hook in ["before.init", "after.init"] {
        copy(
            &["--no-target-directory", "--preserve=timestamps"],
            &format!("{UFW_SHIPPED}/{hook}"),
            &ufw.join(hook),
        )?;
        set_mode(&ufw.join(hook), 0o640)?;
    }
    fs::write(ufw.join("sysctl.conf"), "")?;
    fs::write(ufw.join("ufw.conf"), "ENABLED=no\nLOGLEVEL=off\n")?;
    fs::write(
        etc.join("default/ufw"),
        "IPV6=yes\nDEFAULT_INPUT_POLICY=\"ACCEPT\"\nDEFAULT_OUTPUT_POLICY=\"ACCEPT\"\n\
         DEFAULT_FORWARD_POLICY=\"ACCEPT\"\nDEFAULT_APPLICATION_POLICY=\"SKIP\"\nMANAGE_BUILTINS=no\n\
         IPT_SYSCTL=/etc/ufw/sysctl.conf\nIPT_MODULES=\"\"\n",
    )
}

/// For a shell: puts the files of [`furnish_ufw`] in the place of the machine's, with an empty `/run`.
#[must_use]
pub fn mount_ufw(directory: &Path) -> String {
    let etc = directory.join("etc");
    let etc = etc.display();
    format!(
        "mount --bind {etc}/ufw /etc/ufw && mount --bind {etc}/default/ufw /etc/default/ufw && \
         mount -t tmpfs tmpfs /run"
    )
}

/// Writes the configuration of a message bus and of a firewalld on it (`nftables` or `iptables`) below `directory`.
///
/// Errors: a file cannot be written.
pub fn furnish_firewalld(directory: &Path, firewall_backend: &str) -> io::Result<()> {
    let etc = directory.join("etc");
    fs::create_dir_all(&etc)?;
    fs::write(
        directory.join("bus.conf"),
        format!(
            "<busconfig><type>system</type><listen>unix:path={}</listen><auth>EXTERNAL</auth>\
             <policy context=\"default\"><allow own=\"*\"/><allow send_destination=\"*\"/>\
             <allow send_type=\"signal\"/><allow receive_sender=\"*\"/></policy></busconfig>",
            directory.join("bus").display()
        ),
    )?;
    fs::write(
        etc.join("firewalld.conf"),
        format!("DefaultZone=trusted\nIPv6_rpfilter=no\nFirewallBackend={firewall_backend}\n"),
    )
}

/// For a shell: puts the files of [`furnish_firewalld`] in the place of the machine's; the bus `directory/bus` becomes
/// the system's.
#[must_use]
pub fn mount_firewalld(directory: &Path) -> String {
    let directory = directory.display();
    format!(
        "mount --bind {directory}/etc /etc/firewalld && mount -t tmpfs tmpfs /run && mkdir /run/dbus && \
         ln -s {directory}/bus /run/dbus/system_bus_socket"
    )
}

fn copy(options: &[&str], from: &str, to: &Path) -> io::Result<()> {
    let copied = Command::new("cp").args(options).arg(from).arg(to).output()?;
    let why = String::from_utf8_lossy(&copied.stderr);
    if copied.status.success() { Ok(()) } else { Err(io::Error::other(why.trim().to_owned())) }
}

fn set_mode(path: &Path, mode: u32) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}
