//! DNS (RFC 1035, 6891) over UDP and TCP, and its kin that speak the same format: mDNS, LLMNR, NetBIOS names.
//!
//! Invariants: a name is followed backwards only, so that no message loops; at most [`MAX_ANSWERS`] answers are listed,
//! of at most [`MAX_RECORDS`] looked at; what breaks the format is an anomaly, and nothing is told of the rest.

mod name;

pub use name::Name;

use super::{
    Anomaly, Fields, Service,
    parser::{Next, Out, Read},
    reader::Reader,
};
use name::name;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const MAX_ANSWERS: usize = 16;
/// Records of a message that are looked at; one of 64 KiB could have 4,000 with compressed names.
const MAX_RECORDS: u16 = 128;
const HEADER: usize = 12;

mod kind {
    pub(super) const A: u16 = 1;
    pub(super) const AAAA: u16 = 28;
    pub(super) const OPT: u16 = 41;
}

/// One message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dns {
    /// [`Service::Dns`], or which of its kin.
    pub service: Service,
    pub id: u16,
    /// An answer; else a question.
    pub is_response: bool,
    pub opcode: u8,
    pub rcode: u16,
    pub authoritative: bool,
    /// The answer did not fit (TC).
    pub truncated: bool,
    pub recursion_desired: bool,
    pub recursion_available: bool,
    /// How many of each the header states.
    pub questions: u16,
    pub answers: u16,
    pub authorities: u16,
    pub additionals: u16,
    /// The first of the questions.
    pub question: Option<Question>,
    /// The first of the answers.
    pub answer_list: Vec<Answer>,
    /// Bytes of data in all answers.
    pub answer_bytes: u32,
    /// Largest UDP payload that the sender takes (EDNS).
    pub edns_size: Option<u16>,
    /// Bytes of the message.
    pub size: u32,
    /// It was captured in part: answers are missing.
    pub cut: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    pub name: Name,
    pub kind: u16,
    /// Without the bit that mDNS puts in front.
    pub class: u16,
}

/// What an answer says, without its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer {
    pub kind: u16,
    pub ttl: u32,
    /// Bytes of its data.
    pub size: u16,
    /// Of A and AAAA.
    pub address: Option<IpAddr>,
}

/// Whether these bytes begin a message: used where the port does not say so.
pub(super) fn looks_like_dns(message: &[u8]) -> bool {
    let Some(&[_, _, flags, more, 0, questions, a, b, c, d, e, f]) = message.first_chunk::<HEADER>() else {
        return false;
    };
    let is_response = flags & 0x80 != 0;
    let count = |high, low| u16::from_be_bytes([high, low]);
    let (opcode, reserved) = (flags >> 3 & 0xf, more & 0x40);
    opcode == 0
        && reserved == 0
        && questions == 1
        && count(a, b) < 256
        && count(c, d) < 64
        && count(e, f) < 64
        && (is_response || count(a, b) == 0 && more & 0x0f == 0)
        && name(message, HEADER).is_ok_and(|(_, end)| {
            // A known class behind the type, and a message without more ends there.
            let plain = count(a, b) | count(c, d) | count(e, f) == 0;
            matches!(message.get(end + 2..end + 4), Some([0, 1 | 3 | 255]))
                && (!plain || message.len() == end + 4)
        })
}

/// Reads one message; `length` is what it had on the wire.
pub(super) fn message(service: Service, message: &[u8], length: usize) -> Result<Dns, Anomaly> {
    let mut reader = Reader::new(message);
    let mut number = || reader.u16().ok_or(Anomaly::DnsMalformed);
    let (id, flags) = (number()?, number()?);
    let mut dns = Dns {
        service,
        id,
        is_response: flags & 0x8000 != 0,
        opcode: u8::try_from(flags >> 11 & 0xf).unwrap_or_default(),
        rcode: flags & 0xf,
        authoritative: flags & 0x0400 != 0,
        truncated: flags & 0x0200 != 0,
        recursion_desired: flags & 0x0100 != 0,
        recursion_available: flags & 0x0080 != 0,
        questions: number()?,
        answers: number()?,
        authorities: number()?,
        additionals: number()?,
        question: None,
        answer_list: Vec::new(),
        answer_bytes: 0,
        edns_size: None,
        size: u32::try_from(length).unwrap_or(u32::MAX),
        cut: false,
    };
    let cut = message.len() < length;
    match dns.records(message) {
        // What is missing was not captured.
        Err(Anomaly::DnsMalformed) if cut => dns.cut = true,
        outcome => outcome?,
    }
    Ok(dns)
}

impl Dns {
    fn records(&mut self, message: &[u8]) -> Result<(), Anomaly> {
        let mut at = HEADER;
        for _ in 0..self.questions.min(MAX_RECORDS) {
            let (name, end) = name(message, at)?;
            let mut reader = Reader::new(message.get(end..).unwrap_or_default());
            let fixed = reader.u16().zip(reader.u16());
            let (kind, class) = fixed.ok_or(Anomaly::DnsMalformed)?;
            self.question.get_or_insert(Question { name, kind, class: class & 0x7fff });
            at = end + 4;
        }
        let records = [self.answers, self.authorities, self.additionals];
        let total = records.iter().map(|count| u32::from(*count)).sum::<u32>().min(MAX_RECORDS.into());
        for index in 0..total {
            let (_, end) = name(message, at)?;
            let mut reader = Reader::new(message.get(end..).unwrap_or_default());
            let fixed = reader.u16().zip(reader.u16()).zip(reader.u32());
            let ((kind, class), ttl) = fixed.ok_or(Anomaly::DnsMalformed)?;
            let data = reader.vector16().ok_or(Anomaly::DnsMalformed)?;
            at = end + 10 + data.len();
            if kind == kind::OPT {
                self.edns_size = Some(class);
                // The upper bits of the code (RFC 6891 section 6.1.3).
                self.rcode |= u16::try_from(ttl >> 24).unwrap_or_default() << 4;
            } else if index < u32::from(self.answers) {
                self.answer(kind, ttl, data);
            }
        }
        Ok(())
    }

    fn answer(&mut self, kind: u16, ttl: u32, data: &[u8]) {
        let size = u16::try_from(data.len()).unwrap_or(u16::MAX);
        self.answer_bytes += u32::from(size);
        if self.answer_list.len() < MAX_ANSWERS {
            let address = match kind {
                kind::A => data.try_into().ok().map(|bytes: [u8; 4]| Ipv4Addr::from(bytes).into()),
                kind::AAAA => data.try_into().ok().map(|bytes: [u8; 16]| Ipv6Addr::from(bytes).into()),
                _ => None,
            };
            if self.answer_list.is_empty() {
                self.answer_list.reserve_exact(usize::from(self.answers).min(MAX_ANSWERS));
            }
            self.answer_list.push(Answer { kind, ttl, size, address });
        }
    }
}

/// Tells of one message that came as a datagram.
pub(super) fn datagram(service: Service, bytes: &[u8], length: usize, out: &mut Out<'_>) {
    match message(service, bytes, length) {
        Ok(dns) => out.tell(Fields::Dns(dns)),
        Err(anomaly) => out.anomaly(anomaly),
    }
}

/// DNS over TCP: messages behind their length (RFC 1035 section 4.2.2). What is longer than this is passed over: an
/// answer that large is a zone's transfer, of which the first message tells.
const MAX_MESSAGE: usize = 16 << 10;

#[derive(Debug, Default)]
pub(super) struct DnsStream;

impl DnsStream {
    pub(super) fn read(&mut self, _: bool, data: &[u8], out: &mut Out<'_>) -> Read {
        let mut at = 0;
        loop {
            let mut reader = Reader::new(data.get(at..).unwrap_or_default());
            let Some(length) = reader.u16().map(usize::from) else {
                return Read { consumed: at, next: Next::More(2) };
            };
            // What is longer is looked at as far as this.
            let looked_at = length.min(MAX_MESSAGE);
            let Some(message) = reader.take(looked_at) else {
                return Read { consumed: at, next: Next::More(2 + looked_at) };
            };
            datagram(Service::Dns, message, length, out);
            at += 2 + looked_at;
            if length > looked_at {
                let rest = u64::try_from(length - looked_at).unwrap_or_default();
                return Read { consumed: at, next: Next::Skip(rest) };
            }
        }
    }

    /// Where the next message begins is not known.
    pub(super) fn gap(&mut self, _: bool, _: &[u8], out: &mut Out<'_>) -> Next {
        out.give_up();
        Next::Done
    }

    pub(super) fn end(&mut self, _: &mut Out<'_>) {}
}

#[cfg(test)]
mod tests;
