//! A process in a namespace: started with its output in a log file, ended in order, never left behind.

use super::namespace::Namespace;
use anyhow::{Context, bail};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal},
};
use std::{
    fs::File,
    os::{fd::OwnedFd, unix::process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, ExitStatus},
    time::{Duration, Instant},
};

/// How long a process may take to end in order before it is killed.
const STOP_DEADLINE: Duration = Duration::from_secs(5);
/// How long the kernel may take to end what was killed.
pub(super) const KILL_DEADLINE: Duration = Duration::from_secs(5);
/// How often a process that is waited for is looked at.
const WAIT_INTERVAL: Duration = Duration::from_millis(10);

/// A running program.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
    ended: Option<ExitStatus>,
}

impl Process {
    /// Starts a program in a namespace, its output appended to `<logs>/<name>.log`.
    pub fn start(
        namespace: &Namespace,
        logs: &Path,
        name: &str,
        program: &str,
        args: &[impl AsRef<std::ffi::OsStr>],
    ) -> anyhow::Result<Self> {
        let log = logs.join(format!("{name}.log"));
        let file = File::options()
            .create(true)
            .append(true)
            .open(&log)
            .with_context(|| format!("cannot write {}", log.display()))?;
        let child = namespace
            .command(program)
            .args(args)
            .stdout(file.try_clone()?)
            .stderr(file)
            // Tools that leave files where they are started (hydra) leave them here.
            .current_dir(logs)
            // Ctrl-C on the terminal is for the lab, which then ends its processes in order.
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot start {name} ({program})"))?;
        Ok(Self { name: name.to_owned(), child, log, ended: None })
    }

    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Everything it has said so far.
    #[must_use]
    pub fn output(&self) -> String {
        std::fs::read(&self.log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().ok().flatten();
        }
        self.ended
    }

    /// Fails with the end of its log when it does not run any more.
    pub fn check(&mut self) -> anyhow::Result<()> {
        if let Some(status) = self.ended() {
            let output = self.output();
            let lines: Vec<_> = output.lines().rev().take(5).collect();
            let tail: Vec<_> = lines.into_iter().rev().collect();
            bail!("{} ended ({status}): {}", self.name, tail.join(" | "));
        }
        Ok(())
    }

    /// Waits until it has ended, at most until the deadline.
    pub async fn wait(&mut self, deadline: Instant) -> Option<ExitStatus> {
        loop {
            if let Some(status) = self.ended() {
                return Some(status);
            }
            if Instant::now() >= deadline {
                return None;
            }
            tokio::time::sleep(WAIT_INTERVAL).await;
        }
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        self.ended = self.child.wait().ok();
    }

    /// SIGTERM, and SIGKILL if that is not heard.
    pub fn stop(&mut self) {
        stop_all(std::slice::from_mut(self));
    }

    fn signal(&self, signal: Signal) -> Option<OwnedFd> {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw)?;
        let descriptor = pidfd_open(pid, PidfdFlags::empty()).ok()?;
        let _ = pidfd_send_signal(&descriptor, signal);
        Some(descriptor)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Ends processes together: each has the same few seconds.
pub fn stop_all(processes: &mut [Process]) {
    let running: Vec<_> = processes
        .iter_mut()
        .filter_map(|process| if process.ended().is_none() { process.signal(Signal::TERM) } else { None })
        .collect();
    wait_until_gone(&running, STOP_DEADLINE);
    for process in processes {
        if process.ended().is_none() {
            process.kill();
        }
    }
}

/// Kills a process that is no child of ours.
pub(super) fn kill_by_pid(pid: i32) -> Option<OwnedFd> {
    let descriptor = pidfd_open(Pid::from_raw(pid)?, PidfdFlags::empty()).ok()?;
    pidfd_send_signal(&descriptor, Signal::KILL).ok()?;
    Some(descriptor)
}

/// Waits until all these processes have ended, at most so long.
pub(super) fn wait_until_gone(processes: &[OwnedFd], limit: Duration) {
    let deadline = Instant::now() + limit;
    for process in processes {
        let left = deadline.saturating_duration_since(Instant::now());
        let Ok(left) = Timespec::try_from(left) else { return };
        // Readable once the process has ended (pidfd_open(2)).
        let _ = poll(&mut [PollFd::new(process, PollFlags::IN)], Some(&left));
    }
}
