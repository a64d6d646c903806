//! Services that people log in to, and how a refused login looks from outside.

use crate::flow::Session;
use std::time::Duration;

/// A login service. A session within all three bounds looks like a login that was refused; the bounds are what the
/// protocol needs to say no, some times over, and less than a session in which something was done.
#[derive(Debug, Clone, Copy)]
pub(super) struct LoginService {
    pub(super) port: u16,
    pub(super) max_source_bytes: u64,
    pub(super) max_service_bytes: u64,
    pub(super) max_duration: Duration,
}

const fn service(port: u16, source: u64, service: u64, seconds: u64) -> LoginService {
    LoginService {
        port,
        max_source_bytes: source,
        max_service_bytes: service,
        max_duration: Duration::from_secs(seconds),
    }
}

const LOGIN_SERVICES: &[LoginService] = &[
    // FTP: USER, PASS, QUIT and their three-digit answers (RFC 959), a banner of a few lines.
    service(21, 300, 1_500, 60),
    // SSH: key exchange and up to six refused passwords. See the bounds' derivation in the tests.
    service(22, 6_000, 4_200, 130),
    // Telnet: options, banner, three prompts.
    service(23, 600, 2_000, 90),
    // POP3 and IMAP: greeting, capabilities, one to three refused logins.
    service(110, 400, 1_500, 60),
    service(143, 600, 2_500, 60),
    // LDAP bind refused.
    service(389, 400, 600, 30),
    // SMTP submission: EHLO, AUTH, 535. Port 25 takes mail from anybody: a short session there is no login.
    service(587, 800, 2_000, 60),
    // SQL Server, PostgreSQL, MySQL: greeting, one login packet, one error.
    service(1433, 1_200, 1_500, 30),
    service(3306, 500, 400, 30),
    service(5432, 500, 300, 30),
    // RDP and VNC: negotiation and refusal; a desktop sends far more.
    service(3389, 4_000, 5_000, 60),
    service(5900, 200, 400, 60),
    // Redis: AUTH and -ERR or -WRONGPASS.
    service(6379, 200, 200, 30),
];

pub(super) fn login_service(port: u16) -> Option<&'static LoginService> {
    LOGIN_SERVICES.iter().find(|service| service.port == port)
}

impl LoginService {
    /// Whether a session with this service looks like a refused login.
    pub(super) fn is_short(&self, session: &Session) -> bool {
        session.source_bytes > 0
            && session.service_bytes > 0
            && session.source_bytes <= self.max_source_bytes
            && session.service_bytes <= self.max_service_bytes
            && session.duration <= self.max_duration
    }
}
