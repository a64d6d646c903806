//! What each command asks for and shows. One file for each noun.

mod agents;
mod allowlist;
mod audit;
mod bouncers;
mod coordinators;
mod decisions;
mod explain;
mod flows;
mod lists;
mod policy;
mod rollouts;
mod status;
mod tokens;
mod watch;
mod wire;

use crate::{
    Failure,
    args::{Command, Shell},
    cluster::Cluster,
    output::Output,
};
use clap::CommandFactory as _;
use netguard_proto::v1::ListFlowsRequest;

pub(crate) async fn execute(
    command: Command,
    cluster: &mut Cluster,
    output: &mut Output<'_>,
) -> Result<(), Failure> {
    match command {
        Command::Status => status::show(cluster, output).await,
        Command::Cluster { command } => coordinators::execute(command, cluster, output).await,
        Command::Token { command } => tokens::execute(command, cluster, output).await,
        Command::Sensors { command } => agents::execute(agents::Role::Sensor, command, cluster, output).await,
        Command::Responders { command } => {
            agents::execute(agents::Role::Responder, command, cluster, output).await
        }
        Command::Block { prefix, ttl, reason, throttle, canary } => {
            let wanted = decisions::Wanted { prefix, ttl, reason, throttle, canary };
            decisions::block(wanted, cluster, output).await
        }
        Command::Unblock { what, reason, only: None } => {
            decisions::unblock(what, reason, cluster, output).await
        }
        Command::Unblock { what, reason, only: Some(only) } => {
            decisions::unblock_imported(&what, reason, &only, cluster, output).await
        }
        Command::Blocklist { prefix, verb, origin, enforced, limit, linearizable } => {
            let asked = decisions::Asked { prefix, verb, origin, enforced, limit, linearizable };
            decisions::list(asked, cluster, output).await
        }
        Command::Rollouts { command } => rollouts::execute(command, cluster, output).await,
        Command::Breaker { command } => rollouts::breaker(command, cluster, output).await,
        Command::Allowlist { command } => allowlist::execute(command, cluster, output).await,
        Command::Explain { what } => explain::show(what, cluster, output).await,
        Command::Flows { source, destination, port, sensor, since, top, by_flows } => {
            let request = ListFlowsRequest {
                source: source.unwrap_or_default(),
                destination: destination.unwrap_or_default(),
                port: port.map_or(0, u32::from),
                sensor: sensor.unwrap_or_default(),
                since_seconds: since,
                top,
                by_flows,
            };
            flows::show(request, cluster, output).await
        }
        Command::Watch { after, types, count } => watch::follow(after, types, count, cluster, output).await,
        Command::Policy { command } => policy::execute(command, cluster, output).await,
        Command::Audit { after, last } => audit::show(after, last, cluster, output).await,
        Command::Bouncers { command } => bouncers::execute(command, cluster, output).await,
        Command::Import { file, format, duration, reason, kind, throttle, dry_run, strict } => {
            let asked = lists::Asked { format, ttl: duration, reason, kind, throttle, dry_run, strict };
            lists::import(&file, asked, cluster, output).await
        }
        Command::Export { format, verb } => lists::export(format, verb, cluster, output).await,
        Command::Completions { shell } => completions(shell, output),
    }
}

/// Needs no cluster.
pub(crate) fn completions(shell: Shell, output: &mut Output<'_>) -> Result<(), Failure> {
    let shell = match shell {
        Shell::Bash => clap_complete::Shell::Bash,
        Shell::Zsh => clap_complete::Shell::Zsh,
        Shell::Fish => clap_complete::Shell::Fish,
    };
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut crate::Cli::command(), "netguard-admin", &mut script);
    output.write(&String::from_utf8_lossy(&script))
}
