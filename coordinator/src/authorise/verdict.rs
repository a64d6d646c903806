use super::{Access, Registry, Standing, table};
use netguard_core::{
    identity::{IdentityError, Role, SpiffeId},
    time::Timestamp,
};
use tonic::{Code, Status};

/// What a connection showed in its TLS handshake.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Presented {
    /// The one URI SAN, and the end of the certificate, when there was one.
    pub certificate: Option<(String, Timestamp)>,
}

/// Decides one call. `None` stands for an anonymous caller of a method that anyone may call.
///
/// Errors: [`Denied`].
pub fn decide(
    method: &str,
    presented: &Presented,
    registry: &dyn Registry,
    now: Timestamp,
) -> Result<Option<(SpiffeId, Timestamp)>, Denied> {
    let row = table::row(method).ok_or(Denied::UnknownMethod)?;
    let roles = match row.access {
        Access::Anyone => return Ok(None),
        Access::Roles(roles) => roles,
    };
    let (uri, not_after) = presented.certificate.as_ref().ok_or(Denied::NoCertificate)?;
    let identity: SpiffeId = uri.parse().map_err(Denied::NotAnIdentity)?;
    if identity.cluster != registry.cluster() {
        return Err(Denied::OtherCluster { cluster: identity.cluster });
    }
    if *not_after <= now {
        return Err(Denied::Expired { identity });
    }
    if !roles.contains(&identity.role) {
        return Err(Denied::WrongRole { identity });
    }
    match registry.standing(identity.role, &identity.id) {
        standing if standing.may_act(identity.role) => Ok(Some((identity, *not_after))),
        Standing::Revoked => Err(Denied::Revoked { identity }),
        _ => Err(Denied::NotEnrolled { identity }),
    }
}

/// Why a call is refused. The text is for the log; [`Denied::status`] says what the caller may know.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    #[error("no row in the role table")]
    UnknownMethod,
    #[error("no client certificate")]
    NoCertificate,
    #[error("the certificate's name is no identity: {0}")]
    NotAnIdentity(IdentityError),
    #[error("an identity of another cluster ({cluster})")]
    OtherCluster { cluster: String },
    #[error("the certificate of {identity} has expired")]
    Expired { identity: SpiffeId },
    #[error("{identity} does not have the role")]
    WrongRole { identity: SpiffeId },
    #[error("{identity} is not enrolled")]
    NotEnrolled { identity: SpiffeId },
    #[error("{identity} is revoked")]
    Revoked { identity: SpiffeId },
}

impl Denied {
    /// The label of the metric, and of the log line.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::UnknownMethod => "unknown_method",
            Self::NoCertificate => "no_certificate",
            Self::NotAnIdentity(_) => "not_an_identity",
            Self::OtherCluster { .. } => "other_cluster",
            Self::Expired { .. } => "expired",
            Self::WrongRole { .. } => "wrong_role",
            Self::NotEnrolled { .. } => "not_enrolled",
            Self::Revoked { .. } => "revoked",
        }
    }

    /// What the caller is told: nothing it does not know already.
    #[must_use]
    pub fn status(&self) -> Status {
        match self {
            Self::WrongRole { identity } => {
                let needs = "its role does not include this call";
                Status::new(
                    Code::PermissionDenied,
                    format!("{} may not do this: {needs}", role_in_words(identity.role)),
                )
            }
            Self::UnknownMethod => Status::permission_denied("not allowed"),
            Self::NoCertificate
            | Self::NotAnIdentity(_)
            | Self::OtherCluster { .. }
            | Self::Expired { .. }
            | Self::NotEnrolled { .. }
            | Self::Revoked { .. } => Status::unauthenticated(
                "a valid certificate of this cluster is needed; the coordinator's log says what is wrong with this one",
            ),
        }
    }
}

const fn role_in_words(role: Role) -> &'static str {
    match role {
        Role::Sensor => "a sensor",
        Role::Responder => "a responder",
        Role::Coordinator => "a coordinator",
        Role::AdminViewer => "an admin with role admin:viewer",
        Role::AdminOperator => "an admin with role admin:operator",
        Role::AdminOwner => "an admin with role admin:owner",
        Role::Bouncer => "a bouncer",
    }
}

#[cfg(test)]
mod tests {
    use super::{super::ROLE_TABLE, *};
    use std::{future::Future, pin::Pin};

    struct Fixed(Standing);

    impl Registry for Fixed {
        fn cluster(&self) -> String {
            "prod".into()
        }
        fn standing(&self, _: Role, _: &str) -> Standing {
            self.0
        }
        fn catch_up(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
            Box::pin(async {})
        }
    }

    const NOW: Timestamp = Timestamp::from_secs(1_000);

    fn shows(uri: &str) -> Presented {
        Presented { certificate: Some((uri.to_owned(), Timestamp::from_secs(2_000))) }
    }

    fn call(method: &str, presented: &Presented, standing: Standing) -> Result<(), &'static str> {
        decide(method, presented, &Fixed(standing), NOW).map(|_| ()).map_err(|denied| denied.reason())
    }

    /// The authorisation matrix of the threat model, written down a second time by group.
    fn may(role: Role, method: &str) -> bool {
        use Role::{AdminOperator, AdminOwner, AdminViewer, Bouncer, Coordinator, Responder, Sensor};
        let (service, name) = method[1..].split_once('/').unwrap();
        match service {
            "netguard.v1.SensorService" => role == Sensor,
            "netguard.v1.ResponderService" => role == Responder,
            "netguard.v1.EnrollService" => name == "Enroll" || !matches!(role, Coordinator | Bouncer),
            "netguard.v1.AdminService" => match name {
                "Block" | "Unblock" | "AddAllowlist" | "RemoveAllowlist" | "Import" | "PromoteRollout"
                | "RevertRollout" | "ResetBreaker" => {
                    matches!(role, AdminOperator | AdminOwner)
                }
                "ApplyPolicy" | "RevokeAgent" | "CreateToken" | "ListTokens" | "RevokeToken"
                | "AddCoordinator" | "RemoveCoordinator" | "AddBouncer" | "RemoveBouncer" => {
                    role == AdminOwner
                }
                _ => matches!(role, AdminViewer | AdminOperator | AdminOwner),
            },
            "grpc.health.v1.Health" => true,
            "netguard.peer.v1.RaftService" | "netguard.peer.v1.ClusterService" => role == Coordinator,
            other => panic!("a service without a rule: {other}"),
        }
    }

    #[test]
    fn every_rpc_times_every_role_times_every_state_of_the_certificate() {
        let mut cells = 0;
        for row in ROLE_TABLE {
            let anyone = row.access == Access::Anyone;
            let or = |reason: &'static str| if anyone { Ok(()) } else { Err(reason) };
            assert_eq!(call(row.method, &Presented::default(), Standing::Unknown), or("no_certificate"));
            for &role in Role::ALL {
                let own = shows(&format!("spiffe://prod/{role}/a"));
                let allowed = may(role, row.method);
                let expected = |reason: &'static str| match (anyone, allowed) {
                    (true, _) => Ok(()),
                    (_, false) => Err("wrong_role"),
                    (_, true) => Err(reason),
                };
                let right = if allowed { Ok(()) } else { Err("wrong_role") };
                assert_eq!(call(row.method, &own, Standing::Enrolled), right, "{} as {role}", row.method);
                assert_eq!(call(row.method, &own, Standing::Revoked), expected("revoked"), "{}", row.method);
                let unknown = match role {
                    Role::Sensor | Role::Responder | Role::Bouncer => expected("not_enrolled"),
                    _ => right,
                };
                assert_eq!(call(row.method, &own, Standing::Unknown), unknown, "{} as {role}", row.method);
                let mut old = own.clone();
                old.certificate.as_mut().unwrap().1 = NOW;
                assert_eq!(call(row.method, &old, Standing::Enrolled), or("expired"));
                let foreign = shows(&format!("spiffe://other/{role}/a"));
                assert_eq!(call(row.method, &foreign, Standing::Enrolled), or("other_cluster"));
                cells += 6;
            }
        }
        assert_eq!(cells, ROLE_TABLE.len() * Role::ALL.len() * 6);
    }

    #[test]
    fn what_has_no_row_or_no_identity_is_refused() {
        let owner = shows("spiffe://prod/admin:owner/a");
        for method in ["", "/", "/netguard.v1.AdminService/Reboot", "/netguard.v1.AdminService/block", "//x"]
        {
            assert_eq!(call(method, &owner, Standing::Enrolled), Err("unknown_method"), "{method:?}");
        }
        for uri in
            ["", "CN=admin", "spiffe://prod/*/a", "spiffe://prod/admin/a", "spiffe://prod/admin:owner/a/b"]
        {
            let method = "/netguard.v1.AdminService/GetStatus";
            assert_eq!(call(method, &shows(uri), Standing::Enrolled), Err("not_an_identity"), "{uri:?}");
        }
    }

    #[test]
    fn the_caller_learns_nothing_it_does_not_know() {
        let identity: SpiffeId = "spiffe://prod/sensor/a".parse().unwrap();
        let told: Vec<_> = [
            Denied::NoCertificate,
            Denied::OtherCluster { cluster: "x".into() },
            Denied::Expired { identity: identity.clone() },
            Denied::NotEnrolled { identity: identity.clone() },
            Denied::Revoked { identity },
        ]
        .iter()
        .map(|denied| (denied.status().code(), denied.status().message().to_owned()))
        .collect();
        assert!(told.iter().all(|answer| *answer == told[0]), "{told:?}");
        assert_eq!(told[0].0, Code::Unauthenticated);
    }
}
