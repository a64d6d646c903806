//! What packets have to meet, shown over loopback, where only the responder's own source is not let through.

use super::{after, bring, now};
use crate::{
    backend::Backend,
    enforcer::{Probed, probe_once},
    probe::{SOURCE4, SOURCES, element},
};
use netguard_core::plan::{Action, Desired};
use std::{collections::BTreeSet, net::Ipv4Addr, time::Duration};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpSocket, TcpStream},
    time::timeout,
};

/// Nothing comes within it.
const SILENCE: Duration = Duration::from_millis(400);
/// What was lost is sent again within it.
const REPEATED: Duration = Duration::from_secs(10);

/// A probe is stopped and counted where there is a kernel, and leaves nothing.
pub(super) async fn stops_probes(backend: &mut impl Backend) {
    bring(backend, &Desired::default()).await;
    match backend.probes_stopped().await.unwrap() {
        Some(before) => {
            assert_eq!(probe_once(backend, now()).await, Probed::Met);
            let after = backend.probes_stopped().await.unwrap().unwrap();
            assert_eq!((after[0] - before[0], after[1] - before[1]), (1, 1), "one of each IP version");
        }
        None => assert!(matches!(probe_once(backend, now()).await, Probed::Unknown(_))),
    }
    assert!(!backend.changed_by_others().await, "its own probe is nobody else's change");
    let held = backend.read(&SOURCES.map(element).into(), now()).await.unwrap();
    assert!(held.is_empty(), "{held:?}");
}

/// A block ends connections that are open, but not those that manage the host, and lets no new one in.
pub(super) async fn keeps_open_what_manages(backend: &mut impl Backend) {
    if backend.probes_stopped().await.unwrap().is_none() {
        // Nothing is stopped in memory.
        return;
    }
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let mut admin = connect(&listener).await.expect("nothing is blocked");
    let (mut here, end) = listener.accept().await.unwrap();
    assert!(hears(&mut admin, &mut here, 1, REPEATED).await);

    let element = element(SOURCE4.into());
    backend.apply(&[Action::Add { element, expires_at: after(100) }], now()).await.unwrap();
    assert!(!hears(&mut admin, &mut here, 2, SILENCE).await, "the block ends what is open");
    backend.keep_open(&BTreeSet::from([end, "[fd77::1]:22".parse().unwrap()])).await.unwrap();
    assert!(hears(&mut admin, &mut here, 3, REPEATED).await, "what manages the host goes on");
    assert!(connect(&listener).await.is_none(), "nothing new comes in from there");
    assert_eq!(backend.open(now()).await.unwrap().repaired, [""; 0]);
    assert!(hears(&mut admin, &mut here, 4, REPEATED).await);

    backend.keep_open(&BTreeSet::new()).await.unwrap();
    assert!(!hears(&mut admin, &mut here, 5, SILENCE).await, "it manages no more");
    backend.apply(&[Action::Remove { element }], now()).await.unwrap();
}

async fn connect(listener: &TcpListener) -> Option<TcpStream> {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((SOURCE4, 0).into()).unwrap();
    timeout(SILENCE, socket.connect(listener.local_addr().unwrap())).await.ok()?.ok()
}

/// Whether what is sent there comes in here, within `patience`; `mark` is another byte each time, as what was lost comes
/// later.
async fn hears(there: &mut TcpStream, here: &mut TcpStream, mark: u8, patience: Duration) -> bool {
    there.write_all(&[mark]).await.unwrap();
    let heard = async {
        let mut buffer = [0; 64];
        loop {
            let length = here.read(&mut buffer).await.unwrap();
            assert!(length > 0, "the connection was ended");
            if buffer[..length].contains(&mark) {
                return;
            }
        }
    };
    timeout(patience, heard).await.is_ok()
}
