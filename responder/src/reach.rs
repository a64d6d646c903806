//! Whether this host still reaches what it must: its coordinators, by a connection of their own, and its gateways, by
//! an echo.
//!
//! A link-local gateway (IPv6) is not asked: link-local addresses are never blocked. What does not answer before a
//! change says nothing afterwards either: [`Reached::lost_since`] only looks at what did.

mod echo;

use crate::host::gateways;
use std::{collections::BTreeSet, net::IpAddr, time::Duration};
use tokio::{net::TcpStream, task::JoinSet};

/// What answered.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reached {
    pub coordinators: BTreeSet<String>,
    pub gateways: BTreeSet<IpAddr>,
}

impl Reached {
    /// What answered before and does not any more, in words. Of the coordinators one is enough.
    #[must_use]
    pub fn lost_since(&self, before: &Self) -> Vec<String> {
        let mut lost = Vec::new();
        if !before.coordinators.is_empty() && self.coordinators.is_disjoint(&before.coordinators) {
            let names: Vec<_> = before.coordinators.iter().cloned().collect();
            lost.push(format!("no new connection to a coordinator ({})", names.join(", ")));
        }
        let gateways = before.gateways.difference(&self.gateways);
        lost.extend(gateways.map(|gateway| format!("the default gateway {gateway} does not answer")));
        lost
    }

    /// What answered in either.
    pub fn join(&mut self, other: Self) {
        self.coordinators.extend(other.coordinators);
        self.gateways.extend(other.gateways);
    }
}

/// Asks all coordinators and gateways at once, and waits at most `patience` for their answers.
pub async fn look(coordinators: &[String], patience: Duration) -> Reached {
    let mut asked = JoinSet::new();
    for coordinator in coordinators {
        let coordinator = coordinator.clone();
        asked.spawn(async move {
            let connected = tokio::time::timeout(patience, TcpStream::connect(coordinator.as_str())).await;
            // Refused is an answer too, but of a host, not of a coordinator.
            let coordinators = matches!(connected, Ok(Ok(_))).then_some(coordinator);
            Reached { coordinators: coordinators.into_iter().collect(), ..Reached::default() }
        });
    }
    // Reading /proc and waiting for an echo blocks.
    let gateways = tokio::task::spawn_blocking(gateways).await.unwrap_or_default();
    for gateway in gateways {
        asked.spawn_blocking(move || Reached {
            gateways: echo::answers(gateway, patience).then_some(gateway).into_iter().collect(),
            ..Reached::default()
        });
    }
    let mut reached = Reached::default();
    while let Some(answer) = asked.join_next().await {
        reached.join(answer.unwrap_or_default());
    }
    reached
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_answered_before_can_be_lost() {
        let reached = |coordinators: &[&str], gateways: &[&str]| Reached {
            coordinators: coordinators.iter().map(|name| (*name).to_owned()).collect(),
            gateways: gateways.iter().map(|address| address.parse().unwrap()).collect(),
        };
        let before = reached(&["a:1", "b:1"], &["192.0.2.1"]);
        assert_eq!(reached(&["b:1"], &["192.0.2.1"]).lost_since(&before), [""; 0]);
        assert_eq!(
            reached(&[], &[]).lost_since(&before),
            [
                "no new connection to a coordinator (a:1, b:1)",
                "the default gateway 192.0.2.1 does not answer"
            ]
        );
        assert_eq!(reached(&[], &[]).lost_since(&Reached::default()), [""; 0]);
    }

    #[tokio::test]
    async fn who_listens_is_reached_and_who_does_not_is_not() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let listening = listener.local_addr().unwrap().to_string();
        let closed = {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            listener.local_addr().unwrap().to_string()
        };
        let reached = look(&[listening.clone(), closed], Duration::from_secs(1)).await;
        assert_eq!(reached.coordinators, [listening].into());
    }
}
