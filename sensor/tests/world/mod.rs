//! Two hosts in network namespaces of their own, for tests with real packets.
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test: a panic is its report; not every test needs all"
)]

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::{
    env, fs,
    io::Write as _,
    os::fd::AsFd as _,
    process::{self, Command},
    thread,
};

pub(crate) const OUTSIDE: &str = "10.77.0.1";
pub(crate) const HOST: &str = "10.77.0.2";

/// Two namespaces joined by a veth pair; gone when dropped, also after a failure.
pub(crate) struct World {
    pub(crate) outside: String,
    pub(crate) host: String,
    /// Where an interface can be put away.
    pub(crate) elsewhere: String,
}

impl World {
    /// None where namespaces cannot be made; that fails in CI.
    pub(crate) fn make(name: &str) -> Option<Self> {
        let world = Self {
            outside: format!("ng-sensor-{name}-o-{}", process::id()),
            host: format!("ng-sensor-{name}-h-{}", process::id()),
            elsewhere: format!("ng-sensor-{name}-e-{}", process::id()),
        };
        if !run(&["netns", "add", &world.outside]) {
            assert!(env::var_os("CI").is_none(), "no network namespaces: root and iproute2 are needed");
            println!("SKIPPED: no network namespaces: root and iproute2 are needed");
            return None;
        }
        let made = run(&["netns", "add", &world.host])
            && run(&["netns", "add", &world.elsewhere])
            && run(&[
                "link",
                "add",
                "eth0",
                "netns",
                &world.outside,
                "type",
                "veth",
                "peer",
                "name",
                "eth0",
                "netns",
                &world.host,
            ])
            && [(&world.outside, OUTSIDE), (&world.host, HOST)].iter().all(|(namespace, address)| {
                run(&["-n", namespace, "addr", "add", &format!("{address}/24"), "dev", "eth0"])
                    && run(&["-n", namespace, "link", "set", "eth0", "up"])
                    && run(&["-n", namespace, "link", "set", "lo", "up"])
            });
        assert!(made, "the namespaces could not be joined");
        Some(world)
    }
}

impl Drop for World {
    fn drop(&mut self) {
        run(&["netns", "del", &self.outside]);
        run(&["netns", "del", &self.host]);
        run(&["netns", "del", &self.elsewhere]);
    }
}

pub(crate) fn run(arguments: &[&str]) -> bool {
    Command::new("ip").args(arguments).output().is_ok_and(|output| output.status.success())
}

/// Many commands of `ip`, one a line.
pub(crate) fn batch(namespace: &str, lines: &str) {
    let mut ip = Command::new("ip")
        .args(["-n", namespace, "-batch", "-"])
        .stdin(process::Stdio::piped())
        .spawn()
        .unwrap();
    ip.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
    assert!(ip.wait().unwrap().success());
}

/// Runs in a thread that lives in the namespace; threads it starts live there too.
pub(crate) fn inside<T: Send>(namespace: &str, work: impl FnOnce() -> T + Send) -> T {
    let entry = fs::File::open(format!("/run/netns/{namespace}")).unwrap();
    thread::scope(|scope| {
        scope
            .spawn(|| {
                move_into_link_name_space(entry.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
                work()
            })
            .join()
            .unwrap()
    })
}
