//! `netguard-lab client`: the innocent one. Fetches a page from every host again and again, with new connections, and
//! counts what it did not get.

use anyhow::Context;
use clap::Args;
use serde::{Deserialize, Serialize};
use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    signal::unix::{SignalKind, signal},
    task::JoinSet,
    time::MissedTickBehavior,
};

/// What to fetch, and how often.
#[derive(Debug, Clone, Args)]
pub struct ClientArgs {
    /// Servers, as address:port.
    #[arg(long, required = true, value_delimiter = ',')]
    pub targets: Vec<SocketAddr>,
    /// Time between two requests to the same server.
    #[arg(long, default_value = "100ms", value_parser = humantime::parse_duration)]
    pub interval: Duration,
    /// A request that takes longer has failed.
    #[arg(long, default_value = "2s", value_parser = humantime::parse_duration)]
    pub timeout: Duration,
}

/// What the client went through so far. One JSON line of it a second, and a last one at the end.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientReport {
    pub requests: u64,
    pub failed: u64,
    /// The slowest request that was answered.
    pub slowest_ms: u64,
    /// The longest time without any answer from one of the servers.
    pub longest_gap_ms: u64,
    /// The first failures, in words.
    pub failures: Vec<String>,
}

/// Failures kept in words; the others are counted.
const MAX_FAILURES_KEPT: usize = 8;

/// Fetches until SIGTERM; then waits for what is under way, and reports.
pub async fn run(args: &ClientArgs) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let report = Arc::new(Mutex::new(ClientReport::default()));
    let mut fetchers = JoinSet::new();
    let (stop, stopped) = tokio::sync::watch::channel(false);
    for target in &args.targets {
        fetchers.spawn(fetch_from(*target, args.clone(), report.clone(), stopped.clone()));
    }
    let mut every_second = tokio::time::interval(Duration::from_secs(1));
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = every_second.tick() => print(&report)?,
        }
    }
    stop.send_replace(true);
    while fetchers.join_next().await.is_some() {}
    print(&report)
}

fn print(report: &Mutex<ClientReport>) -> anyhow::Result<()> {
    let report = report.lock().unwrap_or_else(PoisonError::into_inner).clone();
    println!("{}", serde_json::to_string(&report)?);
    Ok(())
}

/// One server's requests: begun in time, whether those before have been answered or not.
async fn fetch_from(
    target: SocketAddr,
    args: ClientArgs,
    report: Arc<Mutex<ClientReport>>,
    mut stopped: tokio::sync::watch::Receiver<bool>,
) {
    let mut ticks = tokio::time::interval(args.interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let last_answer = Arc::new(Mutex::new(Instant::now()));
    // At most timeout / interval of them live at once.
    let mut requests = JoinSet::new();
    loop {
        tokio::select! {
            _ = stopped.changed() => break,
            _ = ticks.tick() => {}
        }
        while requests.try_join_next().is_some() {}
        let (report, last_answer) = (report.clone(), last_answer.clone());
        requests.spawn(async move {
            let begun = Instant::now();
            let outcome = tokio::time::timeout(args.timeout, fetch(target)).await;
            let failure = match outcome {
                Ok(Ok(())) => None,
                Ok(Err(error)) => Some(error.to_string()),
                Err(_) => Some(format!("no answer in {}", humantime::format_duration(args.timeout))),
            };
            let gap = {
                let mut last = last_answer.lock().unwrap_or_else(PoisonError::into_inner);
                let gap = last.elapsed();
                if failure.is_none() {
                    *last = Instant::now();
                }
                gap
            };
            let mut report = report.lock().unwrap_or_else(PoisonError::into_inner);
            report.requests += 1;
            report.longest_gap_ms = report.longest_gap_ms.max(milliseconds(gap));
            match failure {
                None => report.slowest_ms = report.slowest_ms.max(milliseconds(begun.elapsed())),
                Some(why) => {
                    report.failed += 1;
                    if report.failures.len() < MAX_FAILURES_KEPT {
                        report.failures.push(format!("{target}: {why}"));
                    }
                }
            }
        });
    }
    while requests.join_next().await.is_some() {}
}

async fn fetch(target: SocketAddr) -> std::io::Result<()> {
    let mut stream = TcpStream::connect(target).await?;
    stream
        .write_all(format!("GET / HTTP/1.1\r\nHost: {target}\r\nConnection: close\r\n\r\n").as_bytes())
        .await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    if answer.starts_with(b"HTTP/1.1 200 ") {
        Ok(())
    } else {
        Err(std::io::Error::other("the answer is no page"))
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// The last report in what the client printed.
#[must_use]
pub fn last_report(output: &str) -> Option<ClientReport> {
    output.lines().rev().find_map(|line| serde_json::from_str(line).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_page_is_counted_and_a_missing_one_too() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let free = listener.local_addr().unwrap();
        drop(listener);
        assert!(fetch(free).await.is_err());
        let args = crate::web::server::ServeArgs { listen: free, backlog: 16 };
        let server = tokio::spawn(async move { crate::web::server::run(&args).await });
        let deadline = Instant::now() + Duration::from_secs(10);
        while fetch(free).await.is_err() {
            assert!(Instant::now() < deadline, "the server does not answer");
            tokio::task::yield_now().await;
        }
        server.abort();
    }

    #[test]
    fn the_last_whole_line_is_the_report() {
        let report = ClientReport { requests: 7, failed: 1, ..ClientReport::default() };
        let line = serde_json::to_string(&report).unwrap();
        assert_eq!(last_report(&format!("{{}}\n{line}\n{{\"requests\":")), Some(report));
        assert_eq!(last_report("nothing\n"), None);
    }
}
