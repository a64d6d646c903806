//! Services that people log in to, and how a refused login looks from outside.
//!
//! Only services are listed of which a shape tells: POP3, LDAP, Redis and SMTP refuse and accept with sessions of the
//! same sizes, and a client that asks often would be taken for one that guesses. Their own logs tell.

use crate::flow::Session;
use std::time::Duration;

/// How a session with a refused login looks. All bounds must hold; they leave room for what the protocol needs to say
/// no, and none for a session in which something was done.
#[derive(Debug, Clone, Copy)]
pub(super) struct LoginService {
    pub(super) port: u16,
    max_source_bytes: u64,
    max_service_bytes: u64,
    /// Segments with payload of the source: what an application asks comes in many.
    max_source_segments: u32,
    max_duration: Duration,
    how: How,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum How {
    /// By the sizes of its answers, see [`crate::flow::Dialogue`].
    Ssh,
    /// The service hangs up on who is refused; who was let in says goodbye first.
    ServiceCloses,
    Any,
}

const fn service(
    port: u16,
    max_source_bytes: u64,
    max_service_bytes: u64,
    max_source_segments: u32,
    max_seconds: u64,
    how: How,
) -> LoginService {
    let max_duration = Duration::from_secs(max_seconds);
    LoginService { port, max_source_bytes, max_service_bytes, max_source_segments, max_duration, how }
}

const LOGIN_SERVICES: &[LoginService] = &[
    // FTP: a banner, then USER and PASS with a three-digit answer each (RFC 959), four times and QUIT. A session that
    // lists or fetches anything says more.
    service(21, 250, 1_500, 9, 90, How::Any),
    // SSH: sshd allows 120 s and six tries; six keys of 4,096 bits make 5 KB.
    service(22, 10_000, 10_000, 40, 130, How::Ssh),
    service(2222, 10_000, 10_000, 40, 130, How::Ssh),
    // Telnet: options, a banner, three prompts; whoever is let in gets a message of the day and a prompt at least.
    service(23, 400, 1_000, 80, 90, How::Any),
    // IMAP: greeting, capabilities, up to three times NO, LOGOUT. SELECT alone answers with 300 bytes more.
    service(143, 300, 700, 6, 60, How::Any),
    // SQL Server: prelogin and login, both inside TLS, then an error and the end.
    service(1433, 2_000, 3_000, 8, 30, How::ServiceCloses),
    // MySQL: greeting, one login and perhaps one more exchange of the plugin, error 1045 and the end.
    service(3306, 600, 600, 4, 30, How::ServiceCloses),
    // RDP: negotiation, TLS, CredSSP and a refusal; a desktop is more by far.
    service(3389, 4_000, 5_000, 12, 60, How::ServiceCloses),
    // PostgreSQL: perhaps "no TLS", start-up, SCRAM in two exchanges, FATAL and the end.
    service(5432, 500, 500, 5, 30, How::ServiceCloses),
    // VNC: version, type, challenge, result (RFC 6143 section 7.1); a screen is more by far.
    service(5900, 80, 200, 4, 60, How::Any),
];

pub(super) fn login_service(port: u16) -> Option<&'static LoginService> {
    LOGIN_SERVICES.iter().find(|service| service.port == port)
}

/// Passwords a person may mistype in one session before each more counts as a session of its own: OpenSSH asks three
/// times. A tool that makes the most of a session is not slower to be seen than one that opens many.
const FORGIVEN_PASSWORDS: u8 = 3;

/// Tries no server grants in one session (OpenSSH: 6, dropbear: 10): what is answered more often is no login.
const MOST_TRIES: u8 = 16;

impl LoginService {
    /// How many refused logins a session looks like: none, mostly one.
    pub(super) fn refused_logins(&self, session: &Session) -> u64 {
        let within = session.source_bytes > 0
            && session.service_bytes > 0
            && session.source_bytes <= self.max_source_bytes
            && session.service_bytes <= self.max_service_bytes
            && session.source_segments <= self.max_source_segments
            && session.duration <= self.max_duration;
        let refused = match self.how {
            How::Any => true,
            How::ServiceCloses => !session.source_closed_first,
            // Who only looks at the keys was refused nothing.
            How::Ssh => !session.dialogue.held && (1..=MOST_TRIES).contains(&session.dialogue.refusals),
        };
        if !within || !refused {
            return 0;
        }
        1 + u64::from(session.dialogue.refused_passwords.saturating_sub(FORGIVEN_PASSWORDS))
            * u64::from(self.how == How::Ssh)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::Dialogue;

    fn session(source: (u64, u32), service: (u64, u32), source_closed_first: bool) -> Session {
        Session {
            source_closed_first,
            reset: false,
            source_bytes: source.0,
            service_bytes: service.0,
            source_segments: source.1,
            service_segments: service.1,
            duration: Duration::from_secs(3),
            dialogue: Dialogue::default(),
        }
    }

    fn refused(port: u16, session: &Session) -> u64 {
        login_service(port).map_or(0, |service| service.refused_logins(session))
    }

    #[test]
    fn a_client_that_works_is_not_one_that_guesses() {
        // MySQL: greeting, login, error and the end; against login, a query and goodbye.
        assert_eq!(refused(3306, &session((190, 1), (170, 2), false)), 1);
        assert_eq!(refused(3306, &session((260, 3), (340, 3), true)), 0);
        // PostgreSQL: wrong password; against a pool's check.
        assert_eq!(refused(5432, &session((150, 3), (280, 4), false)), 1);
        assert_eq!(refused(5432, &session((170, 4), (420, 4), true)), 0);
        // FTP: four refused logins; against a listing.
        assert_eq!(refused(21, &session((120, 8), (600, 9), true)), 1);
        assert_eq!(refused(21, &session((186, 20), (900, 22), true)), 0);
        // A check that a web server is there is not about a login at all.
        assert_eq!(refused(80, &session((100, 1), (300, 1), true)), 0);
    }

    #[test]
    fn ssh_is_told_by_its_dialogue() {
        let ssh = |dialogue: Dialogue| Session { dialogue, ..session((1_500, 12), (2_200, 12), true) };
        let refusals =
            |refusals, refused_passwords, held| ssh(Dialogue { refusals, refused_passwords, held });
        assert_eq!(refused(22, &refusals(0, 0, false)), 0, "ssh-keyscan");
        assert_eq!(refused(22, &refusals(1, 0, true)), 0, "ssh host true");
        assert_eq!(refused(22, &refusals(4, 3, false)), 1, "a person");
        assert_eq!(refused(22, &refusals(7, 6, false)), 4, "hydra");
        assert_eq!(refused(22, &refusals(7, 0, false)), 1, "an agent full of keys");
        assert_eq!(refused(22, &refusals(60, 50, false)), 0, "no server refuses so often");
    }
}
