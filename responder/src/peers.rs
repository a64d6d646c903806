//! This host's TCP connections, looked at every few seconds.
//!
//! Invariant: whoever has very many connections costs a bounded part of a CPU: a look that takes long is followed by a
//! longer pause.

pub(crate) mod diag;
mod file;

use crate::service::now;
use diag::Diag;
pub(crate) use file::GoodPeersFile;
use netguard_core::{
    peers::{MAX_CONNECTIONS, Sampled},
    time::Timestamp,
};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// Between two looks.
const EVERY: Duration = Duration::from_secs(2);
/// A look may take this part of the time at most.
const SHARE: u32 = 50;

/// What a look found and when, or why it could not be had.
pub(crate) type Sample = Result<(Timestamp, Vec<Sampled>), String>;

/// Looks at the connections of the calling thread's network namespace until nobody takes them. Ends when the kernel
/// cannot tell.
pub(crate) fn keep() -> (impl Future<Output = ()> + Send, mpsc::Receiver<Sample>) {
    let (samples, taken) = mpsc::channel(1);
    let opened = Diag::open();
    let looking = async move {
        let mut diag = match opened {
            Ok(diag) => diag,
            Err(error) => {
                let _ = samples.send(Err(format!("the kernel cannot be asked: {error}"))).await;
                return;
            }
        };
        loop {
            let looked = tokio::task::spawn_blocking(move || {
                let began = Instant::now();
                let found = diag.established(MAX_CONNECTIONS);
                (diag, found, began.elapsed())
            });
            let Ok((returned, found, took)) = looked.await else { return };
            diag = returned;
            let sample = found.map(|found| (now(), found)).map_err(|error| {
                format!("the kernel does not tell ({error}): is the module tcp_diag there?")
            });
            if samples.send(sample).await.is_err() {
                return;
            }
            tokio::time::sleep(EVERY.max(took * SHARE)).await;
        }
    };
    (looking, taken)
}
