//! The stream of pushes from whichever coordinator can be reached.
//!
//! Invariants: one subscription at a time, its messages marked with its number; what is lost is asked for again from
//! where the responder stands; ten thousand responders do not come back at the same moment.

use crate::enforcer::Position;
use netguard_daemon::{
    client::{Backoff, Endpoints},
    identity::Identity,
};
use netguard_proto::{
    MAX_MESSAGE_BYTES,
    v1::{self, responder_service_client::ResponderServiceClient},
};
use std::{sync::Arc, time::Duration};
use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};
use tokio_stream::wrappers::ReceiverStream;

/// Pushes waiting for the enforcer: while one transaction runs, the next one gathers here.
pub(crate) const PUSHES: usize = 256;
/// Reports waiting for the transport. Each tells everything: when it is full, a later one is as good.
const REPORTS: usize = 16;
/// A coordinator sends a digest every 10 s: a stream that is silent for longer than three of them is dead.
const SILENCE: Duration = Duration::from_secs(35);
/// A subscription that lasted so long was no failure: the next one begins at once.
const PROVEN: Duration = Duration::from_secs(10);

/// What comes from the cluster.
#[derive(Debug)]
pub(crate) enum FromCluster {
    /// A subscription stands: reports go here. Its number marks what it brings.
    Connected {
        number: u64,
        reports: mpsc::Sender<v1::EnforcementReport>,
    },
    Push {
        number: u64,
        push: v1::Push,
    },
    /// The subscription ended, or could not be had.
    Lost {
        why: String,
    },
}

/// Where the next subscription begins.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Resume {
    /// `None`: with a snapshot.
    pub(crate) position: Option<Position>,
    /// Raised to give up the subscription that stands.
    pub(crate) restart: u64,
}

/// Keeps a subscription until dropped.
pub(crate) struct Subscription {
    pub(crate) endpoints: Endpoints,
    pub(crate) identity: watch::Receiver<Arc<Identity>>,
    pub(crate) backend: &'static str,
    pub(crate) resume: watch::Receiver<Resume>,
    pub(crate) to_enforcer: mpsc::Sender<FromCluster>,
}

impl Subscription {
    /// Until the enforcer is gone.
    pub(crate) async fn run(mut self) {
        let mut backoff = Backoff::new();
        let mut number = 0;
        while !self.to_enforcer.is_closed() {
            number += 1;
            let started = Instant::now();
            let why = match self.subscribe(number).await {
                Ok(why) => why,
                Err(error) => format!("{error:#}"),
            };
            if self.to_enforcer.send(FromCluster::Lost { why }).await.is_err() {
                return;
            }
            if started.elapsed() >= PROVEN {
                backoff.reset();
            }
            backoff.wait().await;
        }
    }

    /// One subscription from its beginning to its end; gives back why it ended.
    async fn subscribe(&mut self, number: u64) -> anyhow::Result<String> {
        let identity = self.identity.borrow_and_update().clone();
        let (address, channel) = self.endpoints.connect(&identity).await?;
        let mut client = ResponderServiceClient::new(channel)
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES);
        let position = self.resume.borrow_and_update().position.clone().unwrap_or_default();
        let request = v1::SubscribeRequest {
            from_revision: position.revision,
            ledger_id: position.ledger_id,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            backend: self.backend.to_owned(),
        };
        let mut pushes = client
            .subscribe(request)
            .await
            .map_err(|status| anyhow::anyhow!("{address} refused the subscription: {}", status.message()))?
            .into_inner();
        let (reports, outgoing) = mpsc::channel(REPORTS);
        let mut reporting = std::pin::pin!(client.report(ReceiverStream::new(outgoing)));
        tracing::info!(coordinator = %address, "subscribed");
        self.to_enforcer.send(FromCluster::Connected { number, reports }).await?;
        loop {
            tokio::select! {
                message = tokio::time::timeout(SILENCE, pushes.message()) => match message {
                    Ok(Ok(Some(push))) => self.to_enforcer.send(FromCluster::Push { number, push }).await?,
                    Ok(Ok(None)) => return Ok(format!("{address} ended the subscription")),
                    Ok(Err(status)) => return Ok(format!("{address}: {}", status.message())),
                    Err(_) => return Ok(format!("{address} is silent")),
                },
                ended = &mut reporting => {
                    let why = ended.err().map(|status| status.message().to_owned()).unwrap_or_default();
                    return Ok(format!("{address} takes no more reports: {why}"));
                }
                renewed = self.identity.changed() => {
                    renewed?;
                    return Ok("the certificate was renewed".to_owned());
                }
                () = restarted(&mut self.resume) => return Ok("it has to begin anew".to_owned()),
            }
        }
    }
}

/// Returns when the subscription that stands is given up.
async fn restarted(resume: &mut watch::Receiver<Resume>) {
    let before = resume.borrow().restart;
    if resume.wait_for(|resume| resume.restart != before).await.is_err() {
        // The enforcer is gone; sending to it tells so.
        std::future::pending::<()>().await;
    }
}
