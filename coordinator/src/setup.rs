//! Making a node before it runs: a new cluster, a further coordinator, an admin's identity.
//!
//! Invariant: nothing that exists is written over; what could not be finished leaves no `node.json`.

mod join;

pub use join::{Join, JoinError, join};

use crate::{
    authority::{
        Authorities, AuthorityError, ServerIdentities, create_private_dir, public_key_of, server_identities,
    },
    node::{DataDir, HostPort, Node, NodeError},
};
use netguard_core::{
    identity::{Role, SpiffeId, is_name},
    shard::NodeId,
};
use netguard_daemon::identity::{Identity, IdentityDir, IdentityError, new_key};
use std::path::{Path, PathBuf};
use time::OffsetDateTime;

/// The node a cluster begins with.
const FIRST_NODE: NodeId = 1;

/// What a new cluster is made of.
#[derive(Debug, Clone)]
pub struct Init {
    pub cluster: String,
    pub data_dir: PathBuf,
    pub advertise_agents: HostPort,
    pub advertise_peers: HostPort,
    /// Where the first owner's identity goes.
    pub admin_dir: PathBuf,
    pub admin_name: String,
}

/// Makes both authorities, the first node's identities and the owner's.
///
/// Errors: [`SetupError`]; names that cannot be, or anything that exists already.
pub fn init(init: &Init) -> Result<Identity, SetupError> {
    check_name("the cluster", &init.cluster)?;
    check_name("the admin", &init.admin_name)?;
    refuse_leftovers(&init.data_dir)?;
    if IdentityDir::at(&init.admin_dir).exists() {
        return Err(SetupError::IdentityExists { dir: init.admin_dir.clone() });
    }
    let authorities = Authorities::create(&init.cluster)?;
    let node = Node {
        cluster: init.cluster.clone(),
        node_id: FIRST_NODE,
        advertise_agents: init.advertise_agents.clone(),
        advertise_peers: init.advertise_peers.clone(),
        first: true,
    };
    let own = server_identities(&authorities, &node.cluster, node.node_id, OffsetDateTime::now_utc())?;
    let owner = client_identity(&authorities, &node.cluster, Role::AdminOwner, &init.admin_name)?;
    store_node(&init.data_dir, &authorities, &own, &node)?;
    owner.store(&init.admin_dir)?;
    Ok(owner)
}

/// A further admin's identity, or a new certificate for one that is there.
///
/// Errors: [`SetupError`]; a role that is no admin's, another identity in `out`.
pub fn issue_admin(data_dir: &Path, role: Role, name: &str, out: &Path) -> Result<Identity, SetupError> {
    if !matches!(role, Role::AdminViewer | Role::AdminOperator | Role::AdminOwner) {
        return Err(SetupError::NoAdminRole { role });
    }
    check_name("the admin", name)?;
    issue(data_dir, role, name, out)
}

/// A certificate for a program that reads decisions as CrowdSec's bouncers do. It is worth something while the cluster
/// has a bouncer of that name.
///
/// Errors: [`SetupError`]; another identity in `out`.
pub fn issue_bouncer(data_dir: &Path, name: &str, out: &Path) -> Result<Identity, SetupError> {
    check_name("the bouncer", name)?;
    issue(data_dir, Role::Bouncer, name, out)
}

fn issue(data_dir: &Path, role: Role, name: &str, out: &Path) -> Result<Identity, SetupError> {
    let node = Node::load(data_dir)?;
    let authorities = Authorities::load(data_dir)?;
    let identity = client_identity(&authorities, &node.cluster, role, name)?;
    if IdentityDir::at(out).exists() {
        let same = Identity::load(out)
            .is_ok_and(|known| known.spiffe == identity.spiffe && known.ca_pem == identity.ca_pem);
        if !same {
            return Err(SetupError::IdentityExists { dir: out.to_owned() });
        }
    }
    identity.store(out)?;
    Ok(identity)
}

/// A new key with a client certificate for it, straight from the CA: for admins, and for the roles that share a
/// process with the coordinator.
///
/// Errors: see [`SetupError`].
pub fn client_identity(
    authorities: &Authorities,
    cluster: &str,
    role: Role,
    id: &str,
) -> Result<Identity, SetupError> {
    let key = new_key()?;
    let public_key = public_key_of(&key.csr_der).map_err(AuthorityError::from)?;
    let identity = SpiffeId { cluster: cluster.to_owned(), role, id: id.to_owned() };
    let issued = authorities.agents.issue_client(&identity, &public_key, OffsetDateTime::now_utc())?;
    Ok(Identity::from_pem(&issued.pem, &key.key_pem, authorities.agents.certificate_pem())?)
}

/// New keys and certificates for a coordinator that holds the authorities.
///
/// Errors: see [`SetupError`].
pub fn own_identities(
    authorities: &Authorities,
    cluster: &str,
    node_id: NodeId,
) -> Result<(Identity, Identity), SetupError> {
    let own = server_identities(authorities, cluster, node_id, OffsetDateTime::now_utc())?;
    as_identities(authorities, &own)
}

fn as_identities(
    authorities: &Authorities,
    own: &ServerIdentities,
) -> Result<(Identity, Identity), SetupError> {
    Ok((
        Identity::from_pem(
            &own.agents.issued.pem,
            &own.agents.key_pem,
            authorities.agents.certificate_pem(),
        )?,
        Identity::from_pem(&own.peers.issued.pem, &own.peers.key_pem, authorities.peers.certificate_pem())?,
    ))
}

fn store_node(
    data_dir: &Path,
    authorities: &Authorities,
    own: &ServerIdentities,
    node: &Node,
) -> Result<(), SetupError> {
    let (agents, peers) = as_identities(authorities, own)?;
    create_private_dir(data_dir).map_err(AuthorityError::from)?;
    authorities.store(data_dir)?;
    let dir = DataDir::at(data_dir);
    agents.store(&dir.agents_identity())?;
    peers.store(&dir.peers_identity())?;
    Ok(node.store(data_dir)?)
}

fn refuse_leftovers(data_dir: &Path) -> Result<(), SetupError> {
    match DataDir::at(data_dir).leftover() {
        None => Ok(()),
        Some(path) if path.ends_with("node.json") => {
            Err(SetupError::NodeExists { data_dir: data_dir.to_owned() })
        }
        Some(path) => Err(SetupError::Leftover { path }),
    }
}

fn check_name(what: &'static str, name: &str) -> Result<(), SetupError> {
    if is_name(name) { Ok(()) } else { Err(SetupError::Name { what, name: name.to_owned() }) }
}

/// Why a node or an identity was not made.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    #[error(
        "{name:?} cannot name {what}: 1 to 63 of a-z, 0-9, '.', '_', '-', starting with a letter or digit"
    )]
    Name { what: &'static str, name: String },
    #[error("{data_dir} holds a coordinator already: choose another directory; nothing was changed")]
    NodeExists { data_dir: PathBuf },
    #[error(
        "{path} is left from an earlier attempt that did not finish, or from another life: move it away first; \
         nothing was changed"
    )]
    Leftover { path: PathBuf },
    #[error("{dir} holds another identity already: choose another directory; nothing was changed")]
    IdentityExists { dir: PathBuf },
    #[error("{role} is no admin's role: use admin:viewer, admin:operator or admin:owner")]
    NoAdminRole { role: Role },
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    #[error(transparent)]
    Identity(#[from] IdentityError),
    #[error(transparent)]
    Node(#[from] NodeError),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(root: &Path) -> Init {
        Init {
            cluster: "prod".into(),
            data_dir: root.join("data"),
            advertise_agents: "10.0.0.1:7443".parse().unwrap(),
            advertise_peers: "10.0.0.1:7444".parse().unwrap(),
            admin_dir: root.join("admin"),
            admin_name: "owner".into(),
        }
    }

    #[test]
    fn a_new_cluster_has_all_it_needs_and_is_never_made_twice() {
        let root = tempfile::tempdir().unwrap();
        let settings = settings(root.path());
        let owner = init(&settings).unwrap();
        assert_eq!(owner.spiffe.uri, "spiffe://prod/admin:owner/owner");
        let node = Node::load(&settings.data_dir).unwrap();
        assert_eq!((node.node_id, node.first), (1, true));
        let dir = DataDir::at(&settings.data_dir);
        for place in [dir.agents_identity(), dir.peers_identity()] {
            assert_eq!(Identity::load(&place).unwrap().spiffe.uri, "spiffe://prod/coordinator/1");
        }
        let authorities = Authorities::load(&settings.data_dir).unwrap();
        assert_eq!(owner.ca_spki_sha256().unwrap(), authorities.agents.spki_sha256());

        assert!(matches!(init(&settings), Err(SetupError::NodeExists { .. })));
        let elsewhere = Init { data_dir: root.path().join("other"), ..settings.clone() };
        assert!(matches!(init(&elsewhere), Err(SetupError::IdentityExists { .. })));
        assert!(!elsewhere.data_dir.exists(), "nothing half made");
        std::fs::remove_file(settings.data_dir.join("node.json")).unwrap();
        assert!(matches!(init(&settings), Err(SetupError::Leftover { .. })));
    }

    #[test]
    fn names_that_cannot_be_are_refused_before_anything_is_made() {
        let root = tempfile::tempdir().unwrap();
        for bad in ["", "Prod", "../x", "a/b", "-a", "prod\u{202e}", &"a".repeat(64)] {
            let mut cluster = settings(root.path());
            cluster.cluster = bad.into();
            assert!(matches!(init(&cluster), Err(SetupError::Name { .. })), "{bad:?}");
            let mut admin = settings(root.path());
            admin.admin_name = bad.into();
            assert!(matches!(init(&admin), Err(SetupError::Name { .. })), "{bad:?}");
        }
        assert_eq!(std::fs::read_dir(root.path()).unwrap().count(), 0);
    }

    #[test]
    fn further_admins_are_issued_and_renewed_but_never_mixed_up() {
        let root = tempfile::tempdir().unwrap();
        let settings = settings(root.path());
        init(&settings).unwrap();
        let out = root.path().join("bob");
        let first = issue_admin(&settings.data_dir, Role::AdminViewer, "bob", &out).unwrap();
        let again = issue_admin(&settings.data_dir, Role::AdminViewer, "bob", &out).unwrap();
        assert_ne!(first.serial, again.serial);
        assert_eq!(Identity::load(&out).unwrap().serial, again.serial);
        assert!(matches!(
            issue_admin(&settings.data_dir, Role::AdminOwner, "bob", &out),
            Err(SetupError::IdentityExists { .. })
        ));
        assert!(matches!(
            issue_admin(&settings.data_dir, Role::Sensor, "bob", &out),
            Err(SetupError::NoAdminRole { .. })
        ));
        assert!(matches!(
            issue_admin(&root.path().join("none"), Role::AdminOwner, "bob", &out),
            Err(SetupError::Node(NodeError::Missing { .. }))
        ));
    }
}
