//! `preflight` as people and as machines read it.

use crate::{
    config::BackendKind,
    preflight::{self, Preflight, Severity},
};
use clap::{Args, ValueEnum};

#[derive(Debug, Args)]
pub(super) struct Look {
    /// Look at this one, whatever would be chosen
    #[arg(long, env = "NETGUARD_RESPONDER_BACKEND")]
    backend: Option<BackendKind>,
    #[arg(short, long, value_enum, default_value_t = Format::Table)]
    output: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Table,
    Json,
}

impl Look {
    pub(super) async fn run(&self) -> anyhow::Result<()> {
        let found = preflight::look(self.backend).await;
        match self.output {
            Format::Json => println!("{}", serde_json::to_string_pretty(&found)?),
            Format::Table => table(&found),
        }
        anyhow::ensure!(found.can_enforce, "this host cannot enforce with {}: see above", found.backend);
        Ok(())
    }
}

fn table(found: &Preflight) {
    println!("backend  {}: {}", found.backend, found.why);
    for note in &found.notes {
        let state = match note.severity {
            Severity::Fine => "ok     ",
            Severity::Partly => "partly ",
            Severity::Missing => "MISSING",
        };
        println!("{state}  {}: {}", note.what, note.text);
    }
    for chain in &found.surroundings.chains {
        println!(
            "hook     {} {}: {} {} {} ({}), policy {}",
            chain.hook, chain.priority, chain.family, chain.table, chain.name, chain.owner, chain.policy
        );
    }
}
