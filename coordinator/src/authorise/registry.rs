use netguard_core::identity::Role;
use std::{future::Future, pin::Pin};

/// What the registry knows of an identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    Enrolled,
    Revoked,
    Unknown,
}

impl Standing {
    /// Whether somebody with `role` and this standing may act. Sensors and responders are in the registry from their
    /// enrolment on; admins and coordinators are certified by whoever holds the CA, and stand in it once revoked.
    #[must_use]
    pub const fn may_act(self, role: Role) -> bool {
        match (self, role) {
            (Self::Enrolled, _) => true,
            (Self::Revoked, _) | (Self::Unknown, Role::Sensor | Role::Responder) => false,
            (
                Self::Unknown,
                Role::Coordinator | Role::AdminViewer | Role::AdminOperator | Role::AdminOwner,
            ) => true,
        }
    }
}

/// The replicated registry, as far as authorisation needs it.
pub trait Registry: Send + Sync + 'static {
    fn cluster(&self) -> String;

    fn standing(&self, role: Role, id: &str) -> Standing;

    /// Waits, for a bounded time, until everything acknowledged so far is applied here: an agent may be enrolled at
    /// one coordinator and turn up at another before the news.
    fn catch_up(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>>;
}
