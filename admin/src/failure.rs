//! How a command fails, and what the shell is told.

use std::{error::Error, io};
use tonic::{Code, Status};

/// Why a command was not done.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The cluster understood and said no.
    #[error("refused: {0}")]
    Refused(String),
    /// The command line, a file it names, or the identity is not usable.
    #[error("{0}")]
    Usage(String),
    /// No coordinator answered.
    #[error("{0}")]
    Unreachable(String),
    #[error("cannot write the result: {0}")]
    Output(#[from] io::Error),
}

impl Failure {
    pub(crate) const USAGE: u8 = 2;

    /// 1 refused, 2 usage, 3 unreachable.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Refused(_) => 1,
            Self::Usage(_) => Self::USAGE,
            Self::Unreachable(_) => 3,
            Self::Output(_) if self.is_closed_pipe() => 0,
            Self::Output(_) => 1,
        }
    }

    /// The reader (`head`, `less`) has seen enough.
    #[must_use]
    pub fn is_closed_pipe(&self) -> bool {
        matches!(self, Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }

    pub(crate) fn usage(text: impl Into<String>) -> Self {
        Self::Usage(text.into())
    }
}

/// Whether asking another coordinator may help.
pub(crate) fn is_unreachable(status: &Status) -> bool {
    // A refused certificate comes as a broken connection in TLS 1.3, but no other coordinator would take it either.
    if tls_refusal(status).is_some() {
        return false;
    }
    match status.code() {
        Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled => true,
        // With a source it was made here, of a connection that broke; without one the coordinator sent it.
        Code::Unknown | Code::Internal => status.source().is_some(),
        _ => false,
    }
}

/// What the TLS layer said, if it was TLS that failed.
pub(crate) fn tls_refusal(error: &(dyn Error + 'static)) -> Option<String> {
    let mut next = Some(error);
    while let Some(error) = next {
        let inside = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        let tls = error
            .downcast_ref::<rustls::Error>()
            .or_else(|| inside.and_then(|inside| inside.downcast_ref::<rustls::Error>()));
        if let Some(tls) = tls {
            return Some(tls.to_string());
        }
        next = error.source();
    }
    None
}

/// The last, and most telling, text of a chain of errors.
pub(crate) fn root_cause(error: &(dyn Error + 'static)) -> String {
    let mut last = error;
    while let Some(next) = last.source() {
        last = next;
    }
    last.to_string()
}

/// A status of the cluster as a failure, for `server`.
pub(crate) fn of_status(server: &str, status: &Status) -> Failure {
    if let Some(tls) = tls_refusal(status) {
        return Failure::Refused(format!(
            "{server} does not take this identity ({tls}); check that it belongs to this cluster and has not expired"
        ));
    }
    if is_unreachable(status) {
        let why = if status.message().is_empty() { root_cause(status) } else { status.message().to_owned() };
        return Failure::Unreachable(format!("{server}: {why}"));
    }
    let text = if status.message().is_empty() { status.code().description() } else { status.message() };
    match status.code() {
        Code::PermissionDenied => Failure::Refused(format!("{text} (this identity's role may not do it)")),
        Code::Unauthenticated => Failure::Refused(format!("{text} (check --identity)")),
        Code::Unimplemented => {
            Failure::Refused(format!("{server} does not know this command; is it older than this program?"))
        }
        _ => Failure::Refused(text.to_owned()),
    }
}
