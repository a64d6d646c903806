//! The local way out: a person switches enforcement off on this host, and nothing switches it on but a person.
//!
//! Invariants:
//! * It needs no network, no configuration, no state and no disk: the mark is a table of its own in the kernel; where the
//!   kernel has no nf_tables, a file in the run directory, which is memory.
//! * A second mark goes into the state directory where that can be written, so that a reboot changes nothing.
//! * Any one mark keeps every responder of this host from changing any firewall.

mod guarded;

pub use guarded::Guarded;

use crate::backend::{Backend, BackendError, Firewall, Nftables};
use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// The mark in the run and in the state directory.
const OFF_FILE: &str = "off";
/// Where marks live that a reboot forgets.
pub const RUN_DIR: &str = "/run/netguard";

/// Where the marks are.
#[derive(Debug)]
pub struct Switch {
    run_dir: PathBuf,
    data_dir: PathBuf,
    /// `None`: this kernel has no nf_tables, or nobody may ask it.
    nftables: Option<Nftables>,
}

/// What switching off did. The rules are gone when there are no `failures`.
#[derive(Debug, Default)]
pub struct SwitchedOff {
    /// Firewalls that hold nothing of ours now.
    pub clean: Vec<&'static str>,
    /// Where marks stand.
    pub marks: Vec<String>,
    pub failures: Vec<String>,
}

impl Switch {
    #[must_use]
    pub fn new(run_dir: PathBuf, data_dir: PathBuf) -> Self {
        Self { run_dir, data_dir, nftables: Some(Nftables::default()) }
    }

    fn files(&self) -> [PathBuf; 2] {
        [self.run_dir.join(OFF_FILE), self.data_dir.join(OFF_FILE)]
    }

    /// Whether any mark stands. Costs two looks at files and one netlink message.
    pub fn is_off(&mut self) -> bool {
        if self.files().iter().any(|file| file.exists()) {
            return true;
        }
        match self.nftables.as_mut().map(Nftables::is_switched_off) {
            Some(Ok(off)) => off,
            Some(Err(BackendError::NoKernelSupport)) => {
                self.nftables = None;
                false
            }
            // The firewall itself tells of this.
            Some(Err(_)) | None => false,
        }
    }

    /// Leaves the marks and removes everything of ours, from every firewall of this host. What cannot be done does not
    /// keep the rest from being done.
    pub async fn off(&mut self) -> SwitchedOff {
        let mut done = SwitchedOff::default();
        let [in_run, in_data] = self.files();
        // No directory is made in a place that may not be ours, nor on a disk that may be full.
        if self.data_dir.is_dir() && fs::write(&in_data, "").is_ok() {
            done.marks.push(in_data.display().to_string());
        }
        // Mark and removal are one transaction: a running responder never sees one without the other.
        let marked = Nftables::default().switch_off().await;
        match &marked {
            Ok(()) => {
                done.marks.push("table inet netguard_off".to_owned());
                done.clean.push("nftables");
            }
            Err(error) => {
                match fs::create_dir_all(&self.run_dir).and_then(|()| fs::write(&in_run, "")) {
                    Ok(()) => done.marks.push(in_run.display().to_string()),
                    Err(failure) => done.failures.push(format!("{}: {failure}", in_run.display())),
                }
                // A table may stand in the kernel though the program that made it is gone.
                if !is_absent(error) || Nftables::default().stands().unwrap_or(false) {
                    done.failures.push(format!("nftables: {error}"));
                }
            }
        }
        self.flush_others(&mut done).await;
        done
    }

    /// Takes the marks away.
    ///
    /// Errors: a mark that could not be taken away, and where it is.
    pub async fn on(&mut self) -> anyhow::Result<()> {
        for file in self.files() {
            match fs::remove_file(&file) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    anyhow::bail!("the mark {} could not be removed: {error}", file.display());
                }
                _ => {}
            }
        }
        match Nftables::default().switch_on().await {
            Err(error) if !is_absent(&error) => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// Removes everything of ours and every mark.
    pub async fn clear(&mut self) -> SwitchedOff {
        let mut done = self.off().await;
        match self.on().await {
            Ok(()) => done.marks.clear(),
            Err(error) => done.failures.push(format!("{error:#}")),
        }
        done
    }

    /// All firewalls but nftables, one after the other: they share the kernel's lock.
    async fn flush_others(&self, done: &mut SwitchedOff) {
        for mut firewall in Firewall::others(&self.data_dir) {
            match firewall.flush().await {
                Ok(()) => done.clean.push(firewall.name()),
                Err(error) if is_absent(&error) => {}
                Err(error) => done.failures.push(format!("{}: {error}", firewall.name())),
            }
        }
    }
}

/// Whether this firewall is not on this host at all: then it holds nothing of ours.
fn is_absent(error: &BackendError) -> bool {
    matches!(
        error,
        BackendError::ProgramMissing { .. } | BackendError::NoKernelSupport | BackendError::NoIpset
    )
}

/// Removes what a responder keeps in its state directory; the identity only with `purge`. Nothing that is not ours.
///
/// Errors: what could not be removed.
pub fn remove_state(data_dir: &Path, run_dir: &Path, purge: bool) -> anyhow::Result<()> {
    let gone = |what: PathBuf, result: io::Result<()>| match result {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            anyhow::bail!("{} could not be removed: {error}", what.display())
        }
        _ => Ok(()),
    };
    if purge {
        let identity = data_dir.join("identity");
        gone(identity.clone(), fs::remove_dir_all(identity))?;
    }
    for directory in [data_dir, run_dir] {
        // Directories in which something else lives stay.
        let _ = fs::remove_dir(directory);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn state_goes_the_identity_with_a_purge_and_what_is_not_ours_never() {
        let place = tempfile::tempdir().unwrap();
        let (data, run) = (place.path().join("data"), place.path().join("run"));
        for directory in [data.join("identity"), run.clone()] {
            fs::create_dir_all(directory).unwrap();
        }
        fs::write(data.join("identity/key.pem"), "").unwrap();
        remove_state(&data, &run, false).unwrap();
        assert!(data.join("identity/key.pem").exists() && !run.exists());
        fs::write(data.join("notes"), "somebody's").unwrap();
        remove_state(&data, &run, true).unwrap();
        assert!(data.join("notes").exists() && !data.join("identity").exists());
        remove_state(&place.path().join("nowhere"), &run, true).unwrap();
    }
}
