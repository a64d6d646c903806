//! `netguard-admin`: the gRPC command line of an operator. It asks any coordinator and shows what it says.
//!
//! Invariants: it decides nothing itself; whatever came from elsewhere is shown with its control characters escaped; the
//! exit code says who has to act: 0 nobody, 1 the cluster refused, 2 the command line is wrong, 3 nobody was reached.

mod args;
mod cluster;
mod commands;
mod escape;
mod failure;
mod identity;
pub mod lists;
mod moment;
mod output;

pub use args::Cli;
pub use failure::Failure;

use clap::Parser as _;
use std::{ffi::OsString, io::Write};

/// Runs one command line (its first item is the program's name). Results go to `out`, everything else to `err`; returns
/// the exit code.
pub async fn run<Arguments>(
    arguments: Arguments,
    out: &mut (dyn Write + Send),
    err: &mut (dyn Write + Send),
) -> u8
where
    Arguments: IntoIterator<Item: Into<OsString> + Clone>,
{
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(asked) => {
            // `--help` and `--version` come here too, with exit code 0.
            let sink: &mut (dyn Write + Send) = if asked.use_stderr() { err } else { out };
            let _ = write!(sink, "{}", asked.render());
            return u8::from(asked.use_stderr()) * Failure::USAGE;
        }
    };
    match execute(cli, out, err).await {
        Ok(()) => 0,
        Err(failure) => {
            if !failure.is_closed_pipe() {
                let _ = writeln!(err, "netguard-admin: {}", escape::plain(&failure.to_string()));
            }
            failure.exit_code()
        }
    }
}

/// The same for a parsed command line.
///
/// Errors: [`Failure`] says whether the cluster refused, the command was wrong, or nobody was reached.
pub async fn execute(
    cli: Cli,
    out: &mut (dyn Write + Send),
    err: &mut (dyn Write + Send),
) -> Result<(), Failure> {
    // Whoever calls this as a library may have installed it already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut output = output::Output::new(cli.connection.output, out, err);
    if let args::Command::Completions { shell } = cli.command {
        return commands::completions(shell, &mut output);
    }
    let mut cluster = cluster::Cluster::open(&cli.connection, &mut output).await?;
    commands::execute(cli.command, &mut cluster, &mut output).await
}

#[cfg(test)]
mod tests;
