//! What a coordinator is: `<data_dir>/node.json`, and where its other files lie.
//!
//! Invariant: `node.json` is written last, so where it stands everything else does too.

use crate::authority::{FileError, read_public, write_public};
use netguard_core::{identity::is_name, shard::NodeId};
use serde::{Deserialize, Serialize};
use std::{
    fmt,
    net::IpAddr,
    path::{Path, PathBuf},
    str::FromStr,
};

/// Who this coordinator is. Written by `init` or `join`, and never changed after.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Node {
    pub cluster: String,
    pub node_id: NodeId,
    /// Where agents and admins reach it.
    pub advertise_agents: HostPort,
    /// Where other coordinators reach it.
    pub advertise_peers: HostPort,
    /// The cluster begins with it; any other waits until it is added.
    pub first: bool,
}

impl Node {
    /// Errors: there is no node in `data_dir`, or its file is broken.
    pub fn load(data_dir: &Path) -> Result<Self, NodeError> {
        let path = DataDir::at(data_dir).node_file();
        if !path.exists() {
            return Err(NodeError::Missing { data_dir: data_dir.to_owned() });
        }
        let text = read_public(&path)?;
        let node: Self = serde_json::from_str(&text)
            .map_err(|error| NodeError::Broken { path: path.clone(), what: error.to_string() })?;
        if !is_name(&node.cluster) || node.node_id == 0 {
            return Err(NodeError::Broken { path, what: "its cluster or node_id cannot be".to_owned() });
        }
        Ok(node)
    }

    /// Errors: whatever the file system says.
    pub(crate) fn store(&self, data_dir: &Path) -> Result<(), NodeError> {
        let path = DataDir::at(data_dir).node_file();
        let text = serde_json::to_string_pretty(self)
            .map_err(|error| NodeError::Broken { path: path.clone(), what: error.to_string() })?;
        Ok(write_public(&path, format!("{text}\n").as_bytes())?)
    }
}

/// The places in a coordinator's data directory.
#[derive(Debug, Clone)]
pub struct DataDir(PathBuf);

impl DataDir {
    #[must_use]
    pub fn at(path: &Path) -> Self {
        Self(path.to_owned())
    }

    #[must_use]
    pub fn node_file(&self) -> PathBuf {
        self.0.join("node.json")
    }

    /// What the agents' listener shows.
    #[must_use]
    pub fn agents_identity(&self) -> PathBuf {
        self.0.join("identity/agents")
    }

    /// What other coordinators are shown.
    #[must_use]
    pub fn peers_identity(&self) -> PathBuf {
        self.0.join("identity/peers")
    }

    /// Something of an earlier life that must not be written over.
    #[must_use]
    pub fn leftover(&self) -> Option<PathBuf> {
        ["node.json", "ca", "identity", "raft"]
            .iter()
            .map(|name| self.0.join(name))
            .find(|path| path.exists())
    }
}

/// `host:port`, the host an address (IPv6 in brackets) or a DNS name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HostPort {
    host: String,
    port: u16,
}

/// Longest DNS name (RFC 1035 section 2.3.4).
const MAX_HOST_LEN: usize = 253;

impl HostPort {
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Port 0 stands for "whatever was bound", where a process of ours picks the port itself.
    #[must_use]
    pub fn with_port_if_open(self, bound: u16) -> Self {
        if self.port == 0 { Self { port: bound, ..self } } else { self }
    }

    /// The host, where it is an address.
    #[must_use]
    pub fn address(&self) -> Option<IpAddr> {
        self.host.parse().ok()
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl FromStr for HostPort {
    type Err = BadHostPort;

    fn from_str(text: &str) -> Result<Self, BadHostPort> {
        let (host, port) = text.rsplit_once(':').ok_or(BadHostPort::Port)?;
        let digits = port.bytes().all(|b| b.is_ascii_digit());
        let port = if digits {
            port.parse().map_err(|_| BadHostPort::Port)?
        } else {
            return Err(BadHostPort::Port);
        };
        let (host, bracketed) = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
            Some(inner) => (inner, true),
            None => (host, false),
        };
        if let Ok(address) = host.parse::<IpAddr>() {
            if address.is_ipv6() != bracketed {
                return Err(BadHostPort::Host);
            }
            if address.is_unspecified() {
                return Err(BadHostPort::Unspecified);
            }
            return Ok(Self { host: address.to_string(), port });
        }
        let label = |label: &str| {
            !label.is_empty()
                && label.len() <= 63
                && !label.starts_with('-')
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        };
        // A last label of digits alone is a mistyped address: the URL standard refuses such names too.
        let like_an_address =
            host.rsplit('.').next().is_some_and(|last| last.bytes().all(|b| b.is_ascii_digit()));
        if bracketed || host.len() > MAX_HOST_LEN || like_an_address || !host.split('.').all(label) {
            return Err(BadHostPort::Host);
        }
        Ok(Self { host: host.to_ascii_lowercase(), port })
    }
}

impl TryFrom<String> for HostPort {
    type Error = BadHostPort;

    fn try_from(text: String) -> Result<Self, BadHostPort> {
        text.parse()
    }
}

impl From<HostPort> for String {
    fn from(address: HostPort) -> Self {
        address.to_string()
    }
}

/// Why a text is no `host:port`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadHostPort {
    #[error("write host:port, the port from 1 to 65535")]
    Port,
    #[error(
        "the host is neither a DNS name nor an address (an IPv6 address goes in brackets: [2001:db8::1]:7443)"
    )]
    Host,
    #[error("0.0.0.0 and :: are nowhere others can reach: name this host's own address or DNS name")]
    Unspecified,
}

/// Why a data directory does not hold a usable node.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    #[error(
        "{data_dir} holds no coordinator: make a new cluster with `netguard-coordinator init`, or join one with \
         `netguard-coordinator join`"
    )]
    Missing { data_dir: PathBuf },
    #[error("{path} is broken: {what}")]
    Broken { path: PathBuf, what: String },
    #[error(transparent)]
    File(#[from] FileError),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_places_others_can_reach_are_advertised() {
        let read = |text: &str| text.parse::<HostPort>().map(|address| address.to_string());
        for good in ["10.0.0.1:7443", "[2001:db8::1]:7443", "coordinator-0.netguard.svc:7443", "localhost:1"]
        {
            assert_eq!(read(good).as_deref(), Ok(good));
        }
        assert_eq!(read("HOST.example:7443").as_deref(), Ok("host.example:7443"));
        for (bad, why) in [
            ("", BadHostPort::Port),
            ("10.0.0.1", BadHostPort::Port),
            ("10.0.0.1:", BadHostPort::Port),
            ("10.0.0.1:65536", BadHostPort::Port),
            ("10.0.0.1:+1", BadHostPort::Port),
            (":7443", BadHostPort::Host),
            ("2001:db8::1:7443", BadHostPort::Host),
            ("[10.0.0.1]:7443", BadHostPort::Host),
            ("010.0.0.1:7443", BadHostPort::Host),
            ("10.0.0.256:7443", BadHostPort::Host),
            ("a b:7443", BadHostPort::Host),
            ("https://a:7443", BadHostPort::Host),
            ("0.0.0.0:7443", BadHostPort::Unspecified),
            ("[::]:7443", BadHostPort::Unspecified),
        ] {
            assert_eq!(read(bad), Err(why), "{bad:?}");
        }
    }

    #[test]
    fn a_node_reads_back_and_a_broken_file_is_named() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(Node::load(dir.path()), Err(NodeError::Missing { .. })));
        let node = Node {
            cluster: "prod".into(),
            node_id: 3,
            advertise_agents: "a:7443".parse().unwrap(),
            advertise_peers: "a:7444".parse().unwrap(),
            first: false,
        };
        node.store(dir.path()).unwrap();
        assert_eq!(Node::load(dir.path()).unwrap(), node);
        let path = dir.path().join("node.json");
        let text = std::fs::read_to_string(&path).unwrap();
        for broken in [text.replace("prod", "../x"), text.replace("3", "0"), text.replace("first", "frist")] {
            std::fs::write(&path, broken).unwrap();
            assert!(matches!(Node::load(dir.path()), Err(NodeError::Broken { .. })));
        }
    }
}
