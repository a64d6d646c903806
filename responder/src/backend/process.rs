//! Running a firewall's own program: no shell, its own arguments only, text on standard input, a limit on time.

use super::BackendError;
use std::{ffi::OsString, io, os::unix::process::ExitStatusExt as _, process::Stdio, time::Duration};
use tokio::{io::AsyncWriteExt, process::Command};

/// A million elements take some seconds; whatever takes longer hangs.
const TIME_LIMIT: Duration = Duration::from_secs(30);
/// Longest part of a program's complaint that is handed on.
const MAX_COMPLAINT_BYTES: usize = 600;

/// A program of the firewall, as `nft`, `ipset` or `ufw`.
#[derive(Debug, Clone)]
pub(crate) struct Program {
    /// As the operator knows it.
    name: &'static str,
    /// The Debian package it comes with.
    package: &'static str,
    program: OsString,
    time_limit: Duration,
}

impl Program {
    /// The one in `PATH`.
    pub(crate) fn new(name: &'static str, package: &'static str) -> Self {
        Self { name, package, program: name.into(), time_limit: TIME_LIMIT }
    }

    /// Another file than the one in `PATH`.
    pub(crate) fn at(mut self, program: OsString) -> Self {
        self.program = program;
        self
    }

    #[cfg(test)]
    fn with_time_limit(mut self, limit: Duration) -> Self {
        self.time_limit = limit;
        self
    }

    /// Runs it with `input` on its standard input; gives back its standard output.
    ///
    /// Errors: it is missing, refuses (with what it said), or takes too long and was killed.
    pub(crate) async fn run(&self, arguments: &[&str], input: &str) -> Result<Vec<u8>, BackendError> {
        let mut child = Command::new(&self.program)
            .args(arguments)
            .env("LC_ALL", "C")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| match error.kind() {
                io::ErrorKind::NotFound => {
                    BackendError::ProgramMissing { program: self.name, package: self.package }
                }
                _ => BackendError::Process { program: self.name, source: error },
            })?;
        let stdin = child.stdin.take();
        let feed = async {
            if let Some(mut stdin) = stdin {
                // A program that gives up early closes its end; its complaint tells more than this error.
                let _ = stdin.write_all(input.as_bytes()).await;
            }
        };
        let whole = async { tokio::join!(feed, child.wait_with_output()).1 };
        // Dropping the child kills it.
        let output = tokio::time::timeout(self.time_limit, whole)
            .await
            .map_err(|_| BackendError::TimedOut { program: self.name, limit: self.time_limit })?
            .map_err(|source| BackendError::Process { program: self.name, source })?;
        if output.status.success() {
            return Ok(output.stdout);
        }
        if let Some(signal) = output.status.signal() {
            let why = format!(
                "it was ended by signal {signal}: see the kernel's log (`dmesg`) for a lack of memory"
            );
            return Err(BackendError::Refused { program: self.name, why });
        }
        Err(complaint(self.name, &String::from_utf8_lossy(&output.stderr)))
    }
}

/// What the program says, as the operator needs it.
fn complaint(program: &'static str, stderr: &str) -> BackendError {
    if stderr.contains("Operation not permitted") || stderr.contains("you must be root") {
        return BackendError::NotPermitted;
    }
    if stderr.contains("Protocol not supported") || stderr.contains("Unable to initialize Netlink socket") {
        return BackendError::NoKernelSupport;
    }
    if stderr.contains("holding the xtables lock") {
        return BackendError::Locked;
    }
    let mut text: String =
        stderr.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" | ");
    if text.len() > MAX_COMPLAINT_BYTES {
        let end = (0..=MAX_COMPLAINT_BYTES).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
        text.truncate(end);
        text.push('…');
    }
    BackendError::Refused { program, why: text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_missing_program_and_a_hanging_one_are_told_apart() {
        let missing = Program::new("nft", "nftables").at("/nonexistent/nft".into()).run(&[], "").await;
        assert!(
            matches!(missing, Err(BackendError::ProgramMissing { program: "nft", package: "nftables" })),
            "{missing:?}"
        );
        let sleep = Program::new("sleep", "coreutils").with_time_limit(Duration::from_millis(50));
        let killed = Program::new("sh", "dash").run(&["-c", "kill -9 $$"], "").await.unwrap_err().to_string();
        assert!(killed.contains("signal 9") && killed.contains("memory"), "{killed}");
        let hanging = sleep.run(&["60"], "").await;
        assert!(matches!(hanging, Err(BackendError::TimedOut { program: "sleep", .. })), "{hanging:?}");
    }

    #[test]
    fn complaints_become_what_an_operator_can_act_on() {
        assert!(matches!(
            complaint("nft", "netlink: Error: Operation not permitted (you must be root)"),
            BackendError::NotPermitted
        ));
        let locked = complaint(
            "iptables-legacy-restore",
            "Can't lock /run/xtables.lock: Resource temporarily unavailable\n\
             Another app is currently holding the xtables lock. Stopped waiting after 2s.\n",
        );
        assert!(
            matches!(locked, BackendError::Locked) && locked.to_string().contains("fuser -v"),
            "{locked}"
        );
        assert_eq!(complaint("nft", "Error: a\n\n  ^^\n").to_string(), "nft refused: Error: a | ^^");
        assert!(complaint("nft", &"ä".repeat(1000)).to_string().ends_with('…'));
    }
}
