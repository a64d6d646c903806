//! `panic`, `flush`, `resume`, `uninstall`: the local ways out and back. None needs the network or the configuration.

use crate::switch::{self, Switch, SwitchedOff};
use clap::Args;
use std::path::PathBuf;

/// Where a responder of this host keeps what it keeps.
#[derive(Debug, Args)]
pub(super) struct Places {
    #[arg(long, env = "NETGUARD_RESPONDER_DATA_DIR", default_value = "/var/lib/netguard/responder")]
    data_dir: PathBuf,
    /// Holds the mark where the kernel cannot
    #[arg(long, env = "NETGUARD_RUN_DIR", default_value = switch::RUN_DIR)]
    run_dir: PathBuf,
}

#[derive(Debug, Args)]
pub(super) struct Uninstall {
    #[command(flatten)]
    places: Places,
    /// The identity too: the host has to be enrolled anew afterwards
    #[arg(long)]
    purge: bool,
}

impl Places {
    fn switch(&self) -> Switch {
        Switch::new(self.run_dir.clone(), self.data_dir.clone())
    }

    /// Everything of ours goes, and stays away.
    pub(super) async fn off(&self) -> anyhow::Result<()> {
        let done = self.switch().off().await;
        tell(&done);
        anyhow::ensure!(
            done.failures.is_empty(),
            "not all of it could be removed: {}",
            done.failures.join("; ")
        );
        anyhow::ensure!(
            !done.marks.is_empty(),
            "the rules are gone, but no mark could be left: stop the responder, or it puts them back"
        );
        println!("`netguard-responder resume` lets this host's responder enforce again");
        Ok(())
    }

    pub(super) async fn on(&self) -> anyhow::Result<()> {
        self.switch().on().await?;
        println!("a running responder enforces again within seconds");
        Ok(())
    }
}

impl Uninstall {
    pub(super) async fn run(&self) -> anyhow::Result<()> {
        let Places { data_dir, run_dir } = &self.places;
        let done = self.places.switch().clear().await;
        tell(&done);
        anyhow::ensure!(
            done.failures.is_empty(),
            "not all of it could be removed: {}",
            done.failures.join("; ")
        );
        switch::remove_state(data_dir, run_dir, self.purge)?;
        let identity = data_dir.join("identity");
        if identity.exists() {
            println!("kept: {} (--purge removes it)", identity.display());
        }
        println!("if a responder still runs here it puts its rules back: stop it first");
        Ok(())
    }
}

fn tell(done: &SwitchedOff) {
    for firewall in &done.clean {
        println!("{firewall}: nothing of NetGuard is left");
    }
    for mark in &done.marks {
        println!("enforcement is off: {mark}");
    }
}
