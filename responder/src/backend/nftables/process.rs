//! Running `nft`: no shell, its own arguments only, text on standard input, a limit on time.

use crate::backend::BackendError;
use std::{ffi::OsString, io, process::Stdio, time::Duration};
use tokio::{io::AsyncWriteExt, process::Command};

/// A million elements take some seconds; whatever takes longer hangs.
const TIME_LIMIT: Duration = Duration::from_secs(30);
/// Longest part of nft's complaint that is handed on.
const MAX_COMPLAINT_BYTES: usize = 600;

/// The `nft` program.
#[derive(Debug, Clone)]
pub(super) struct Nft {
    program: OsString,
    time_limit: Duration,
}

impl Nft {
    pub(super) fn new(program: OsString) -> Self {
        Self { program, time_limit: TIME_LIMIT }
    }

    #[cfg(test)]
    fn with_time_limit(mut self, limit: Duration) -> Self {
        self.time_limit = limit;
        self
    }

    /// Carries out `script` as one transaction.
    pub(super) async fn transact(&self, script: &str) -> Result<(), BackendError> {
        self.run(&["-f", "-"], script).await.map(|_| ())
    }

    /// Asks the kernel whether it would take `script`, without doing it.
    pub(super) async fn would_take(&self, script: &str) -> Result<(), BackendError> {
        self.run(&["-c", "-f", "-"], script).await.map(|_| ())
    }

    /// Runs nft; gives back its standard output.
    pub(super) async fn run(&self, arguments: &[&str], input: &str) -> Result<Vec<u8>, BackendError> {
        let mut child = Command::new(&self.program)
            .args(arguments)
            .env("LC_ALL", "C")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| match error.kind() {
                io::ErrorKind::NotFound => BackendError::NftMissing,
                _ => BackendError::Process(error),
            })?;
        let stdin = child.stdin.take();
        let feed = async {
            if let Some(mut stdin) = stdin {
                // An nft that gives up early closes its end; its complaint tells more than this error.
                let _ = stdin.write_all(input.as_bytes()).await;
            }
        };
        let whole = async { tokio::join!(feed, child.wait_with_output()).1 };
        // Dropping the child kills it.
        let output = tokio::time::timeout(self.time_limit, whole)
            .await
            .map_err(|_| BackendError::TimedOut(self.time_limit))?
            .map_err(BackendError::Process)?;
        if output.status.success() {
            return Ok(output.stdout);
        }
        Err(complaint(&String::from_utf8_lossy(&output.stderr)))
    }
}

/// What nft says, as the operator needs it.
fn complaint(stderr: &str) -> BackendError {
    if stderr.contains("Operation not permitted") {
        return BackendError::NotPermitted;
    }
    if stderr.contains("Protocol not supported") || stderr.contains("Unable to initialize Netlink socket") {
        return BackendError::NoKernelSupport;
    }
    let mut text: String =
        stderr.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" | ");
    if text.len() > MAX_COMPLAINT_BYTES {
        let end = (0..=MAX_COMPLAINT_BYTES).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
        text.truncate(end);
        text.push('…');
    }
    BackendError::Refused(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_missing_program_and_a_hanging_one_are_told_apart() {
        let missing = Nft::new("/nonexistent/nft".into()).transact("").await;
        assert!(matches!(missing, Err(BackendError::NftMissing)), "{missing:?}");
        let hanging =
            Nft::new("sleep".into()).with_time_limit(Duration::from_millis(50)).run(&["60"], "").await;
        assert!(matches!(hanging, Err(BackendError::TimedOut(_))), "{hanging:?}");
    }

    #[test]
    fn complaints_become_what_an_operator_can_act_on() {
        assert!(matches!(
            complaint("netlink: Error: Operation not permitted (you must be root)"),
            BackendError::NotPermitted
        ));
        assert_eq!(complaint("Error: a\n\n  ^^\n").to_string(), "nft refused the transaction: Error: a | ^^");
        assert!(complaint(&"ä".repeat(1000)).to_string().ends_with('…'));
    }
}
