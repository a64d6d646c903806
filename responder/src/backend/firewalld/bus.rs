//! firewalld on the system's message bus: whether it runs, and when it does something.
//!
//! Invariant: what it tells is kept until it is asked for, whoever stops waiting meanwhile.

use crate::backend::BackendError;
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::{sync::Notify, task::JoinHandle};
use tokio_stream::StreamExt as _;
use zbus::{Connection, MatchRule, MessageStream, OwnedVariant, message::Type};

const NAME: &str = "org.fedoraproject.FirewallD1";
const PATH: &str = "/org/fedoraproject/FirewallD1";
const BUS: &str = "org.freedesktop.DBus";
/// The bus itself answers at once; firewalld does not while it reloads.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);

/// A connection to the bus, made when it is first needed and again after it was lost.
#[derive(Debug, Default)]
pub(super) struct Bus {
    /// Another bus than the system's.
    address: Option<String>,
    link: Option<Link>,
    heard: Arc<Heard>,
}

/// What firewalld told.
#[derive(Debug, Default)]
struct Heard {
    waker: Notify,
    changed: AtomicBool,
}

#[derive(Debug)]
struct Link {
    connection: Connection,
    listener: JoinHandle<()>,
}

impl Drop for Link {
    fn drop(&mut self) {
        self.listener.abort();
    }
}

impl Bus {
    /// Another bus than the system's.
    pub(super) fn at(address: String) -> Self {
        Self { address: Some(address), ..Self::default() }
    }

    /// Whether firewalld runs: asks the bus alone, which answers also while firewalld is busy.
    ///
    /// Errors: the bus cannot be reached, or does not answer.
    pub(super) async fn runs(&mut self) -> Result<bool, BackendError> {
        let known = self.link.is_some();
        let mut asked = self.name_has_owner().await;
        if asked.is_err() && known {
            // The bus was restarted: once more over a new connection.
            self.link = None;
            asked = self.name_has_owner().await;
        }
        asked.map_err(|error| BackendError::Bus(error.to_string()))
    }

    async fn name_has_owner(&mut self) -> zbus::Result<bool> {
        let connection = self.connection().await?;
        let answer = connection
            .call_method(Some(BUS), "/org/freedesktop/DBus", Some(BUS), "NameHasOwner", &(NAME,))
            .await?;
        answer.body().deserialize()
    }

    /// What firewalld says of itself, `RUNNING` or for example `FAILED`.
    ///
    /// Errors: it does not answer in time, as while it reloads.
    pub(super) async fn state(&mut self) -> zbus::Result<String> {
        const PROPERTIES: &str = "org.freedesktop.DBus.Properties";
        let connection = self.connection().await?;
        let answer =
            connection.call_method(Some(NAME), PATH, Some(PROPERTIES), "Get", &(NAME, "state")).await?;
        let state: OwnedVariant = answer.body().deserialize()?;
        String::try_from(state)
    }

    async fn connection(&mut self) -> zbus::Result<&Connection> {
        if self.link.as_ref().is_some_and(|link| link.listener.is_finished()) {
            self.link = None;
        }
        match &mut self.link {
            Some(link) => Ok(&link.connection),
            empty => {
                let builder = match &self.address {
                    Some(address) => zbus::connection::Builder::address(address.as_str()),
                    None => zbus::connection::Builder::system(),
                };
                let connection = builder.method_timeout(ANSWER_TIMEOUT).build().await?;
                let listener = listen(&connection, Arc::clone(&self.heard)).await?;
                Ok(&empty.insert(Link { connection, listener }).connection)
            }
        }
    }

    /// Whether firewalld did anything since this was last asked, as far as its signals told.
    pub(super) fn take_changed(&self) -> bool {
        self.heard.changed.swap(false, Ordering::AcqRel)
    }

    /// Returns as soon as firewalld tells of something.
    pub(super) async fn changed(&self) {
        self.heard.waker.notified().await;
    }
}

/// Hears of reloads and of firewalld's coming and going; ends with the connection.
async fn listen(connection: &Connection, heard: Arc<Heard>) -> zbus::Result<JoinHandle<()>> {
    let reloaded = MatchRule::builder().msg_type(Type::Signal).interface(NAME).member("Reloaded").build()?;
    let owner = MatchRule::builder()
        .msg_type(Type::Signal)
        .sender(BUS)
        .interface(BUS)
        .member("NameOwnerChanged")
        .add_arg(NAME)
        .build()?;
    let reloaded = MessageStream::for_match_rule(reloaded, connection, None).await?;
    let owner = MessageStream::for_match_rule(owner, connection, None).await?;
    let mut signals = reloaded.merge(owner);
    Ok(tokio::spawn(async move {
        while signals.next().await.is_some() {
            heard.changed.store(true, Ordering::Release);
            heard.waker.notify_one();
        }
        // The bus is gone, and perhaps firewalld with it.
        heard.changed.store(true, Ordering::Release);
        heard.waker.notify_one();
    }))
}
