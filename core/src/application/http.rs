//! HTTP/1 (RFC 9112): heads as fields, bodies passed over by their framing so that the next head is found.
//!
//! Invariants: at most [`MAX_OUTSTANDING`] requests wait for an answer; a body is never kept; where two readers may
//! see different messages, the shape is flagged, and reading goes on at the next segment that begins like a message.

mod head;
mod record;

pub use record::{Http, HttpFlags};

use super::{
    Anomaly, Fields, Service,
    lines::Lines,
    parser::{Next, Out, Read},
};
use head::{Body, Head, chunk_size, is_token};
use std::collections::VecDeque;

/// Requests sent ahead of their answers; browsers that pipelined sent up to 8.
const MAX_OUTSTANDING: usize = 16;
/// Beyond any file: a size that is meant to overflow a number.
const MAX_CHUNK: u64 = 1 << 48;

/// What is read next in a direction.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum State {
    #[default]
    Start,
    Headers,
    ChunkSize,
    /// The end of line behind a chunk.
    ChunkEnd,
    Trailers,
    /// Until a segment begins like a message.
    Lost,
}

#[derive(Debug, Default)]
struct Side {
    state: State,
    lines: Lines,
    head: Head,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct HttpParser {
    requests: Side,
    responses: Side,
    outstanding: VecDeque<Http>,
    ordinal: u32,
}

impl HttpParser {
    pub(super) fn read(&mut self, from_initiator: bool, data: &[u8], out: &mut Out<'_>) -> Read {
        let mut at = 0;
        loop {
            let rest = data.get(at..).unwrap_or_default();
            let side = if from_initiator { &mut self.requests } else { &mut self.responses };
            if side.state == State::Lost {
                if !begins_message(rest, from_initiator) {
                    return Read::more(data.len());
                }
                (side.state, side.head) = (State::Start, Head::default());
                side.lines.restart();
            }
            let line = match side.lines.next(rest) {
                Ok(line) => line,
                Err(passed) => return Read::more(at + passed),
            };
            at += line.consumed;
            match side.state {
                // A server ignores empty lines before a request (RFC 9112 section 2.2).
                State::Start if line.text.is_empty() => {}
                State::Start => {
                    let is_one = match from_initiator {
                        true => side.head.request_line(&line),
                        false => side.head.status_line(&line),
                    };
                    side.state = State::Headers;
                    if !is_one {
                        out.anomaly(Anomaly::HttpMalformed);
                        *side = Side { state: State::Lost, ..Side::default() };
                        return Read::more(data.len());
                    }
                    if from_initiator && side.head.version == (2, 0) && side.head.method.bytes() == b"PRI" {
                        out.speaks(Service::Http2);
                        return Read::finished();
                    }
                    if from_initiator && side.head.version == (0, 9) {
                        self.request_complete(out);
                    }
                }
                State::Headers if !line.text.is_empty() => side.head.header(&line),
                State::Headers => {
                    let next = match from_initiator {
                        true => self.request_complete(out),
                        false => self.response_complete(out),
                    };
                    if !matches!(next, Next::More(_) | Next::Skip(0)) {
                        return Read { consumed: at, next };
                    }
                }
                State::ChunkSize => match chunk_size(line.text) {
                    Some(0) => side.state = State::Trailers,
                    Some(size) if size < MAX_CHUNK => {
                        side.state = State::ChunkEnd;
                        return Read { consumed: at, next: Next::Skip(size) };
                    }
                    size => {
                        let flag = size.map_or(HttpFlags::BAD_CHUNK, |_| HttpFlags::CHUNK_OVERFLOW);
                        self.lose_framing(from_initiator, flag, out);
                    }
                },
                State::ChunkEnd if line.text.is_empty() => side.state = State::ChunkSize,
                State::ChunkEnd => self.lose_framing(from_initiator, HttpFlags::BAD_CHUNK, out),
                State::Trailers if line.text.is_empty() => {
                    (side.state, side.head) = (State::Start, Head::default());
                }
                State::Trailers | State::Lost => {}
            }
        }
    }

    pub(super) fn gap(&mut self, from_initiator: bool, _: &[u8], _: &mut Out<'_>) -> Next {
        let side = if from_initiator { &mut self.requests } else { &mut self.responses };
        let reads_until_lost = side.state != State::Lost;
        // What was read of a head stands: it is told when its answer or the end comes.
        if from_initiator && reads_until_lost && side.state == State::Headers {
            self.request_is_outstanding();
        }
        let side = if from_initiator { &mut self.requests } else { &mut self.responses };
        *side = Side { state: State::Lost, ..Side::default() };
        Next::More(0)
    }

    pub(super) fn end(&mut self, out: &mut Out<'_>) {
        if self.requests.state == State::Headers {
            self.request_is_outstanding();
        }
        for http in self.outstanding.drain(..) {
            out.tell(Fields::Http(http));
        }
    }

    /// Puts the request that was read among those that wait for an answer.
    fn request_is_outstanding(&mut self) {
        let head = std::mem::take(&mut self.requests.head);
        self.ordinal = self.ordinal.saturating_add(1);
        let mut flags = head.flags;
        flags.set_if(!self.outstanding.is_empty(), HttpFlags::PIPELINED);
        self.outstanding.push_back(Http {
            ordinal: self.ordinal,
            method: head.method,
            target: head.target,
            version: head.version,
            host: head.host,
            user_agent: head.user_agent,
            request_content_type: head.content_type,
            request_length: head.length,
            request_headers: head.headers,
            flags,
            ..Http::default()
        });
    }

    fn request_complete(&mut self, out: &mut Out<'_>) -> Next {
        let body = self.requests.head.body(true);
        self.request_is_outstanding();
        if self.outstanding.len() > MAX_OUTSTANDING
            && let Some(oldest) = self.outstanding.pop_front()
        {
            out.tell(Fields::Http(oldest));
        }
        self.requests.follow(body)
    }

    fn response_complete(&mut self, out: &mut Out<'_>) -> Next {
        // The answer to a request that is not complete: refused while it was being sent.
        if self.outstanding.is_empty() && self.requests.state == State::Headers {
            self.request_is_outstanding();
            self.requests.state = State::Lost;
        }
        let body = self.responses.head.body(false);
        let head = std::mem::take(&mut self.responses.head);
        let upgrades = head.status == 101;
        if (100..200).contains(&head.status) && !upgrades {
            self.responses.state = State::Start;
            return Next::More(0);
        }
        let asked = self.outstanding.pop_front();
        let mut http = asked.unwrap_or_else(|| {
            self.ordinal = self.ordinal.saturating_add(1);
            Http {
                ordinal: self.ordinal,
                version: head.version,
                flags: HttpFlags::NO_REQUEST,
                ..Http::default()
            }
        });
        http.status = Some(head.status);
        http.response_content_type = head.content_type;
        http.response_length = head.length;
        http.flags = HttpFlags(http.flags.0 | head.flags.0);
        let tunnel = http.method.bytes() == b"CONNECT" && (200..300).contains(&head.status);
        let empty = http.method.bytes() == b"HEAD" || matches!(head.status, 204 | 304);
        http.flags.set_if(upgrades || tunnel, HttpFlags::UPGRADED);
        out.tell(Fields::Http(http));
        if upgrades || tunnel {
            return Next::Finished;
        }
        self.responses.follow(if empty { Body::Length(0) } else { body })
    }

    /// From here on nobody can tell where a message begins.
    fn lose_framing(&mut self, from_initiator: bool, flag: HttpFlags, out: &mut Out<'_>) {
        out.anomaly(Anomaly::HttpMalformed);
        let side = if from_initiator { &mut self.requests } else { &mut self.responses };
        *side = Side { state: State::Lost, ..Side::default() };
        // The head of a message whose answer came already was told: the anomaly says the rest.
        if from_initiator && let Some(http) = self.outstanding.back_mut() {
            http.flags.set(flag);
        }
    }
}

impl Side {
    fn follow(&mut self, body: Body) -> Next {
        self.head = Head::default();
        self.state = match body {
            Body::Chunked => State::ChunkSize,
            Body::Unknown => State::Lost,
            Body::Length(_) | Body::UntilClose => State::Start,
        };
        match body {
            Body::Length(length) => Next::Skip(length),
            Body::UntilClose => Next::Done,
            Body::Chunked | Body::Unknown => Next::More(0),
        }
    }
}

/// Whether bytes at the begin of a segment are the begin of a message.
fn begins_message(data: &[u8], from_initiator: bool) -> bool {
    if !from_initiator {
        return data.starts_with(b"HTTP/1.");
    }
    let end = memchr::memchr(b'\n', data).unwrap_or(data.len());
    let line = data.get(..end).unwrap_or_default();
    let method = line.iter().position(|byte| *byte == b' ').unwrap_or(0);
    (3..=32).contains(&method)
        && line.get(..method).is_some_and(|method| method.iter().all(|byte| is_token(*byte)))
        && memchr::memmem::find(line, b" HTTP/1.").is_some()
}

#[cfg(test)]
mod tests;
