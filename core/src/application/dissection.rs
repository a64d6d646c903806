//! One TCP connection being read: two streams, what waits in each, and the parser of both.

use super::{
    Application, ApplicationCounts, Service, Transaction,
    buffers::Buffers,
    identify::Identify,
    parser::{Next, Out, Parser},
    stream::{Findings, Given, Segment, Stream},
};
use crate::{flow::FlowId, packet::Tuple, time::Timestamp};
use foldhash::fast::FixedState;

/// What the dissections of one table share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) buffers: Buffers,
    pub(super) counts: ApplicationCounts,
    pub(super) digests: FixedState,
    pub(super) max_window: usize,
}

/// What a parser wants to see again with more behind it.
#[derive(Debug, Default)]
struct Waiting {
    bytes: Vec<u8>,
    needed: usize,
}

#[derive(Debug, Default)]
struct Direction {
    stream: Stream,
    waiting: Waiting,
}

#[derive(Debug)]
pub(super) struct Dissection {
    flow: FlowId,
    /// From the initiator to the service.
    tuple: Tuple,
    client: Direction,
    server: Direction,
    parser: Parser,
    anomalies: u16,
}

/// What became of a dissection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Unidentified,
    Identified,
    /// Nothing more is to be read.
    Finished,
}

impl Dissection {
    /// `starts` are the numbers of the first bytes of the initiator and of the service, where the handshake was seen.
    pub(super) fn new(flow: FlowId, tuple: Tuple, starts: Option<(u32, u32)>) -> Self {
        let direction = |start| Direction { stream: Stream::starting_at(start), waiting: Waiting::default() };
        let (client, server) =
            starts.map(|(client, server)| (direction(client), direction(server))).unwrap_or_default();
        let parser = Parser::Identify(Identify::new(tuple.destination_port));
        Self { flow, tuple, client, server, parser, anomalies: 0 }
    }

    pub(super) fn push(
        &mut self,
        from_initiator: bool,
        segment: &Segment<'_>,
        acknowledged: Option<u32>,
        (application, shared): (&mut Application, &mut Shared),
        sink: &mut dyn FnMut(Transaction),
    ) -> State {
        let Self { flow, tuple, client, server, parser, anomalies } = self;
        let (own, other) = if from_initiator { (client, server) } else { (server, client) };
        let Shared { buffers, counts, digests, max_window } = shared;
        let out = Out { at: segment.at, flow: (*flow, *tuple), application, counts, told: anomalies, sink };
        let mut turn = Turn { parser, out, finished: false, switched: false, full: false };
        if let Some(number) = acknowledged {
            let Direction { stream, waiting } = &mut *other;
            let mut give =
                |given: Given<'_>, buffers: &mut Buffers| turn.take(!from_initiator, waiting, given, buffers);
            stream.acknowledged(number, segment.at, (digests, buffers), &mut give);
        }
        let Direction { stream, waiting } = &mut *own;
        let mut give =
            |given: Given<'_>, buffers: &mut Buffers| turn.take(from_initiator, waiting, given, buffers);
        let findings = stream.push(segment, (*max_window, digests, buffers), &mut give);
        turn.found(findings);
        // Another parser took over: it gets what waits in the other direction, which may make another take over.
        for _ in 0..2 {
            if std::mem::take(&mut turn.switched) && !turn.finished {
                for (side, direction) in [(!from_initiator, &mut *other), (from_initiator, &mut *own)] {
                    if !direction.waiting.bytes.is_empty() {
                        let skip = turn.read(side, &mut direction.waiting, &[], buffers);
                        direction.stream.pass(skip);
                    }
                }
            }
        }
        if turn.full {
            turn.out.counts.no_buffer += 1;
            turn.out.application.given_up = true;
            turn.parser.end(&mut turn.out);
            return State::Finished;
        }
        if turn.finished || own.stream.is_unwanted() && other.stream.is_unwanted() {
            if !turn.finished {
                turn.parser.end(&mut turn.out);
            }
            return State::Finished;
        }
        match turn.parser {
            Parser::Identify(_) => State::Unidentified,
            _ => State::Identified,
        }
    }

    /// Whether an acknowledgement alone can mean anything.
    pub(super) fn awaits_segments(&self) -> bool {
        self.client.stream.has_early() || self.server.stream.has_early()
    }

    /// Nothing more comes, or there is no room: tells what is known, and gives its memory back.
    pub(super) fn end(
        mut self,
        at: Timestamp,
        (application, shared): (&mut Application, &mut Shared),
        sink: &mut dyn FnMut(Transaction),
    ) {
        let Self { flow, tuple, client, server, parser, anomalies } = &mut self;
        let Shared { buffers, counts, digests, .. } = &mut *shared;
        let out = Out { at, flow: (*flow, *tuple), application, counts, told: anomalies, sink };
        let mut turn = Turn { parser, out, finished: false, switched: false, full: false };
        for (side, direction) in [(true, client), (false, server)] {
            let Direction { stream, waiting } = direction;
            let mut give = |given: Given<'_>, buffers: &mut Buffers| turn.take(side, waiting, given, buffers);
            stream.finish((digests, buffers), &mut give);
        }
        if !turn.finished {
            turn.parser.end(&mut turn.out);
        }
        self.release(buffers);
    }

    pub(super) fn release(&mut self, buffers: &mut Buffers) {
        for direction in [&mut self.client, &mut self.server] {
            direction.stream.end(buffers);
            buffers.release(&mut direction.waiting.bytes);
        }
    }
}

/// One packet's way through a dissection.
struct Turn<'a> {
    parser: &'a mut Parser,
    out: Out<'a>,
    finished: bool,
    switched: bool,
    full: bool,
}

impl Turn<'_> {
    fn found(&mut self, findings: Findings) {
        if findings.conflict {
            self.out.application.overlap_conflict = true;
            self.out.anomaly(super::Anomaly::OverlapConflict);
        }
        self.out.counts.out_of_window += u64::from(findings.out_of_window);
        self.full |= findings.full;
    }

    /// Gives the parser what is next; says how many bytes after it are of no interest.
    fn take(
        &mut self,
        from_initiator: bool,
        waiting: &mut Waiting,
        given: Given<'_>,
        buffers: &mut Buffers,
    ) -> u64 {
        if self.finished || self.full {
            return u64::MAX;
        }
        match given {
            Given::Bytes(bytes) => self.read(from_initiator, waiting, bytes, buffers),
            Given::Gap(_) => {
                self.out.counts.gap += 1;
                self.out.application.gap = true;
                waiting.needed = 0;
                let mut lost = std::mem::take(&mut waiting.bytes);
                let next = self.parser.gap(from_initiator, &lost, &mut self.out);
                buffers.release(&mut lost);
                match next {
                    Next::More(_) => 0,
                    Next::Skip(length) => length,
                    Next::Done => u64::MAX,
                    Next::Finished | Next::Become(_) => {
                        self.finished = true;
                        u64::MAX
                    }
                }
            }
        }
    }

    fn read(
        &mut self,
        from_initiator: bool,
        waiting: &mut Waiting,
        bytes: &[u8],
        buffers: &mut Buffers,
    ) -> u64 {
        let mut held = std::mem::take(&mut waiting.bytes);
        let is_held = !held.is_empty();
        if is_held && buffers.extend(&mut held, bytes).is_err() {
            self.full = true;
            buffers.release(&mut held);
            return u64::MAX;
        }
        let data = if is_held { held.as_slice() } else { bytes };
        let (at, skip) = match data.len() < waiting.needed && !bytes.is_empty() {
            true => (0, 0),
            false => self.parse(from_initiator, waiting, data),
        };
        let rest = data.get(at..).unwrap_or_default();
        if rest.is_empty() {
            buffers.release(&mut held);
        } else if is_held {
            held.drain(..at);
            waiting.bytes = held;
        } else if buffers.extend(&mut waiting.bytes, rest).is_err() {
            self.full = true;
            return u64::MAX;
        }
        skip
    }

    /// Lets the parser read until it wants more than there is; says how far it came, and what is to be passed over.
    fn parse(&mut self, from_initiator: bool, waiting: &mut Waiting, data: &[u8]) -> (usize, u64) {
        let mut at = 0;
        waiting.needed = 0;
        loop {
            let rest = data.get(at..).unwrap_or_default();
            if rest.is_empty() {
                return (at, 0);
            }
            let read = self.parser.read(from_initiator, rest, &mut self.out);
            let taken = read.consumed.min(rest.len());
            at += taken;
            let left = rest.len() - taken;
            match read.next {
                Next::More(needed) => {
                    waiting.needed = needed.max(left + 1);
                    return (at, 0);
                }
                Next::Skip(length) => match usize::try_from(length).ok().filter(|length| *length <= left) {
                    // A parser that takes nothing and passes over nothing would be asked for ever.
                    Some(0) if taken == 0 => {
                        self.finished = true;
                        return (data.len(), u64::MAX);
                    }
                    Some(length) => at += length,
                    None => return (data.len(), length.saturating_sub(u64::try_from(left).unwrap_or(0))),
                },
                Next::Done => return (data.len(), u64::MAX),
                Next::Finished => {
                    self.finished = true;
                    return (data.len(), u64::MAX);
                }
                Next::Become(parser) => {
                    *self.parser = *parser;
                    self.switched = true;
                }
            }
        }
    }
}

impl Application {
    /// What there is to say of a flow that is known to speak this from its only datagram.
    pub(super) fn speaking(service: Service) -> Self {
        Self { service: Some(service), ..Self::default() }
    }
}
