use super::*;
use crate::identity::Role;

const SECRET: [u8; 32] = [7; 32];

fn create(id: u64, role: Role, name: Option<&str>) -> Command {
    Command::TokenCreate {
        id: TokenId(id),
        secret_sha256: SECRET,
        role,
        name: name.map(str::to_owned),
        ttl_seconds: 3600,
    }
}

fn enrol(token: u64, secret_sha256: [u8; 32], agent: &str) -> Command {
    Command::Enrol {
        token: TokenId(token),
        secret_sha256,
        agent: agent.into(),
        certificate_expires_at: Timestamp::from_secs(2_000_000),
    }
}

fn revoke(role: Role, agent: &str) -> Command {
    Command::AgentRevoke { role, agent: agent.into(), reason: "stolen".into() }
}

fn renewed(role: Role, agent: &str) -> Command {
    Command::Renewed { role, agent: agent.into(), certificate_expires_at: Timestamp::from_secs(3_000_000) }
}

#[test]
fn a_token_is_spent_once_by_whoever_knows_its_secret() {
    let mut asked = Asked::new();
    asked.done(create(1, Role::Sensor, None));
    assert_eq!(asked.refused(enrol(1, [8; 32], "web-1")), Refusal::Token);
    assert_eq!(asked.refused(enrol(2, SECRET, "web-1")), Refusal::Token);
    assert!(matches!(asked.refused(enrol(1, SECRET, "../x")), Refusal::BadValue { .. }));
    let enrolled = Outcome::Enrolled { role: Role::Sensor, agent: "web-1".into(), node_id: None };
    assert_eq!(asked.done(enrol(1, SECRET, "web-1")), enrolled, "refused attempts spent nothing");
    assert_eq!(asked.refused(enrol(1, SECRET, "web-2")), Refusal::Token);
    assert_eq!(asked.ledger.token(TokenId(1)).unwrap().state.name(), "used");
    assert_eq!(asked.ledger.agent(Role::Sensor, "web-1").unwrap().token, Some(TokenId(1)));
    assert_eq!(asked.ledger.agent(Role::Responder, "web-1"), None);
    assert_eq!(asked.ledger.next_expiry(), None, "a spent token does not expire");
}

#[test]
fn a_token_is_bound_to_its_name_and_to_its_time() {
    let mut asked = Asked::new();
    asked.done(create(1, Role::Responder, Some("web-17")));
    assert_eq!(asked.refused(enrol(1, SECRET, "web-18")), Refusal::Token);
    let Outcome::Enrolled { agent, .. } = asked.done(enrol(1, SECRET, "")) else { panic!() };
    assert_eq!(agent, "web-17");

    asked.done(create(2, Role::Sensor, None));
    asked.done(create(3, Role::Sensor, None));
    asked.done(Command::TokenRevoke { id: TokenId(3) });
    assert_eq!(asked.done(Command::TokenRevoke { id: TokenId(3) }), Outcome::Unchanged);
    assert_eq!(asked.refused(enrol(3, SECRET, "web-3")), Refusal::Token);
    asked.now += 3600;
    assert_eq!(asked.refused(enrol(2, SECRET, "web-2")), Refusal::Token, "over, also before anybody said so");
    assert_eq!(asked.done(Command::Expire), Outcome::Expired { decisions: 0, allowlist: 0, tokens: 1 });
    assert_eq!(asked.ledger.token(TokenId(2)).unwrap().state, TokenState::Expired);
    assert_eq!(asked.refused(Command::TokenRevoke { id: TokenId(2) }), Refusal::Token);
}

#[test]
fn tokens_are_made_for_what_can_join() {
    let mut asked = Asked::new();
    let bad = [
        create(1, Role::AdminOwner, None),
        create(1, Role::Coordinator, Some("4")),
        create(1, Role::Sensor, Some("Not A Name")),
        Command::TokenCreate {
            id: TokenId(1),
            secret_sha256: SECRET,
            role: Role::Sensor,
            name: None,
            ttl_seconds: 0,
        },
    ];
    for command in bad {
        assert!(matches!(asked.refused(command), Refusal::BadValue { .. }));
    }
    asked.done(create(1, Role::Sensor, None));
    assert!(
        matches!(asked.refused(create(1, Role::Sensor, None)), Refusal::BadValue { .. }),
        "the id is taken"
    );
}

#[test]
fn node_ids_are_given_once() {
    let mut asked = Asked::new();
    for wanted in [2, 3] {
        asked.done(create(wanted, Role::Coordinator, None));
        let outcome = asked.done(enrol(wanted, SECRET, "anything"));
        let (role, agent) = (Role::Coordinator, wanted.to_string());
        assert_eq!(outcome, Outcome::Enrolled { role, agent, node_id: Some(wanted) });
    }
    asked.done(revoke(Role::Coordinator, "3"));
    asked.done(create(4, Role::Coordinator, None));
    let Outcome::Enrolled { node_id, .. } = asked.done(enrol(4, SECRET, "3")) else { panic!() };
    assert_eq!(node_id, Some(4));
}

#[test]
fn a_revoked_name_stays_taken_while_its_certificate_could_count_again() {
    let mut asked = Asked::new();
    asked.done(create(1, Role::Sensor, None));
    asked.done(create(2, Role::Sensor, None));
    asked.done(enrol(1, SECRET, "web-1"));
    assert!(matches!(asked.refused(enrol(2, SECRET, "web-1")), Refusal::AgentExists { .. }));
    asked.done(renewed(Role::Sensor, "web-1"));
    asked.done(revoke(Role::Sensor, "web-1"));
    assert_eq!(asked.done(revoke(Role::Sensor, "web-1")), Outcome::Unchanged);
    assert!(matches!(asked.refused(renewed(Role::Sensor, "web-1")), Refusal::Revoked { .. }));
    assert!(matches!(asked.refused(enrol(2, SECRET, "web-1")), Refusal::Revoked { .. }));
    asked.done(enrol(2, SECRET, "web-1b"));

    asked.now = 3_000_000 + 72 * 3600;
    asked.done(create(3, Role::Sensor, None));
    asked.done(enrol(3, SECRET, "web-1"));
    let row = asked.ledger.agent(Role::Sensor, "web-1").unwrap();
    assert_eq!((row.revoked.clone(), row.enrolled_at), (None, Timestamp::from_secs(asked.now)));
}

#[test]
fn admins_come_without_enrolling_and_can_be_revoked() {
    let mut asked = Asked::new();
    for command in [revoke(Role::Sensor, "nobody"), renewed(Role::Sensor, "nobody")] {
        assert!(matches!(asked.refused(command), Refusal::NoAgent { .. }));
    }
    asked.done(renewed(Role::AdminOwner, "alice"));
    asked.done(revoke(Role::AdminViewer, "bob"));
    assert!(asked.ledger.agent(Role::AdminOwner, "alice").unwrap().revoked.is_none());
    assert!(asked.ledger.agent(Role::AdminViewer, "bob").unwrap().revoked.is_some());
}

#[test]
fn refused_attempts_to_enrol_are_for_the_record_and_change_nothing_else() {
    let mut asked = Asked::new();
    let before = (asked.ledger.revision(), asked.ledger.agents().count(), asked.ledger.audit_last());
    let refused = NotEnrolled {
        why: WhyNotEnrolled::WrongSecret,
        source: None,
        sources: 3,
        attempts: 40,
        token: Some(TokenId(7)),
        since: Timestamp::from_secs(999_000),
    };
    assert_eq!(asked.done(Command::NotEnrolled(refused)), Outcome::Done);
    let after = (asked.ledger.revision(), asked.ledger.agents().count(), before.2);
    assert_eq!(after, before);
    let entry = asked.ledger.audit(before.2, 10).next().unwrap();
    assert_eq!(
        (entry.action.as_str(), entry.subject.as_str()),
        ("enrol.refused", "40 attempts from 3 sources: wrong secret (0000000000000007)")
    );
}
