//! A unix socket that somebody else listens on, as Suricata's `unix_stream` and `unix_dgram`: one record a line, or one a
//! datagram.
//!
//! Invariants: nothing waits for the reader: what it does not take waits in a bounded buffer, and past it is lost and
//! counted; a reader that comes back gets whole lines from the oldest kept one on.

use super::{Outcome, Sink};
use netguard_daemon::backoff::Backoff;
use std::{
    collections::VecDeque,
    io::{self, Write as _},
    os::unix::net::{UnixDatagram, UnixStream},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// Bytes that wait for a reader: some thousand records, the seconds of a reader's restart.
const MAX_WAITING: usize = 4 << 20;
/// Between two tries to connect, at first and at most.
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(10);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SocketKind {
    Stream,
    Datagram,
}

/// See the module.
#[derive(Debug)]
pub struct SocketSink {
    path: PathBuf,
    kind: SocketKind,
    peer: Option<Peer>,
    waiting: VecDeque<Vec<u8>>,
    bytes: usize,
    /// Of the first line that waits, how much the peer has already.
    sent: usize,
    retry: Option<Instant>,
    backoff: Backoff,
    outcome: Outcome,
}

#[derive(Debug)]
enum Peer {
    Stream(UnixStream),
    Datagram(UnixDatagram),
}

impl Peer {
    fn connect(path: &Path, kind: SocketKind) -> io::Result<Self> {
        match kind {
            SocketKind::Stream => {
                let stream = UnixStream::connect(path)?;
                stream.set_nonblocking(true)?;
                Ok(Self::Stream(stream))
            }
            SocketKind::Datagram => {
                let socket = UnixDatagram::unbound()?;
                socket.set_nonblocking(true)?;
                socket.connect(path)?;
                Ok(Self::Datagram(socket))
            }
        }
    }

    fn send(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Stream(stream) => stream.write(bytes),
            Self::Datagram(socket) => socket.send(bytes),
        }
    }
}

impl SocketSink {
    /// A reader need not be there yet.
    #[must_use]
    pub fn new(path: &Path, kind: SocketKind) -> Self {
        Self {
            path: path.to_owned(),
            kind,
            peer: None,
            waiting: VecDeque::new(),
            bytes: 0,
            sent: 0,
            retry: None,
            backoff: Backoff::between(FIRST_WAIT, LONGEST_WAIT),
            outcome: Outcome::default(),
        }
    }

    fn connect(&mut self) {
        if self.peer.is_some() || self.retry.is_some_and(|at| Instant::now() < at) {
            return;
        }
        match Peer::connect(&self.path, self.kind) {
            Ok(peer) => {
                self.peer = Some(peer);
                self.retry = None;
            }
            Err(error) => self.lose_peer(error),
        }
    }

    fn lose_peer(&mut self, error: io::Error) {
        self.peer = None;
        self.retry = Some(Instant::now() + self.backoff.next_delay());
        self.outcome.error = Some(error);
        // The next reader would get the end of a line of which it never saw the beginning.
        if self.sent > 0 {
            self.drop_first();
        }
    }

    fn pop(&mut self) {
        if let Some(line) = self.waiting.pop_front() {
            self.bytes -= line.len();
        }
        self.sent = 0;
    }

    fn drop_first(&mut self) {
        self.pop();
        self.outcome.lost += 1;
    }

    /// Gives the peer what it takes without waiting.
    fn give(&mut self) {
        self.connect();
        while let (Some(peer), Some(line)) = (&mut self.peer, self.waiting.front()) {
            let rest = line.get(self.sent..).unwrap_or_default();
            let whole = rest.len();
            match peer.send(rest) {
                Ok(0) => return self.lose_peer(io::ErrorKind::WriteZero.into()),
                Ok(count) if count < whole => self.sent += count,
                Ok(_) => {
                    self.pop();
                    self.outcome.written += 1;
                    self.backoff = Backoff::between(FIRST_WAIT, LONGEST_WAIT);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if is_too_long(&error) => {
                    self.drop_first();
                    self.outcome.error = Some(error);
                }
                Err(error) => return self.lose_peer(error),
            }
        }
    }
}

/// A datagram larger than the socket's buffers (`net.core.wmem_default`): no other try would change that.
fn is_too_long(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::EMSGSIZE)
}

impl Sink for SocketSink {
    fn line(&mut self, line: &[u8]) {
        if self.bytes + line.len() > MAX_WAITING {
            self.give();
        }
        if self.bytes + line.len() > MAX_WAITING {
            self.outcome.lost += 1;
            return;
        }
        self.bytes += line.len();
        self.waiting.push_back(line.to_vec());
    }

    fn flush(&mut self) -> Outcome {
        self.give();
        std::mem::take(&mut self.outcome)
    }

    fn tick(&mut self) {
        self.give();
    }

    fn reopen(&mut self) {
        self.peer = None;
        self.retry = None;
        if self.sent > 0 {
            self.drop_first();
        }
    }

    fn close(&mut self) -> Outcome {
        self.give();
        self.outcome.lost += self.waiting.len() as u64;
        self.waiting.clear();
        self.bytes = 0;
        std::mem::take(&mut self.outcome)
    }
}
