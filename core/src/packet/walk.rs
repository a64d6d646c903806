//! Layer by layer from the frame to the innermost packet; a loop, so that depth costs no stack.

use super::{
    DecodeError, Decoded, Header, LinkType, MAX_LAYERS, Packet, Transport, Tunnel, TunnelKind, arp,
    link::{self, Layer, ethertype},
    mpls,
    network::Envelope,
    read::be16,
    transport, tunnel,
};

/// What was looked through so far.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Walk {
    pub(super) layers: u32,
    pub(super) vlan: Option<u16>,
    pub(super) tunnel: Option<Tunnel>,
    pub(super) frame_source: Option<[u8; 6]>,
}

/// What a layer leads to.
enum Step<'a> {
    Down(Layer, &'a [u8]),
    /// A packet that carries another one.
    Carrier(Packet<'a>, Inside<'a>),
    Done(Decoded<'a>),
}

/// What is inside a packet of a tunnel.
#[derive(Debug, Clone, Copy)]
pub(super) struct Inside<'a> {
    pub(super) kind: TunnelKind,
    pub(super) id: u32,
    pub(super) layer: Layer,
    pub(super) bytes: &'a [u8],
}

pub(super) fn frame(frame: &[u8], link: LinkType) -> Result<Decoded<'_>, DecodeError> {
    let (layer, rest) = link::begin(frame, link)?;
    Walk::default().run(Step::Down(layer, rest))
}

pub(super) fn reassembled<'a>(
    header: &Header,
    payload: &'a [u8],
    length: u32,
) -> Result<Decoded<'a>, DecodeError> {
    // Tunnels within tunnels stay bounded when each of them is in parts.
    let layers = header.tunnel.map_or(0, |tunnel| u32::from(tunnel.depth));
    let mut walk = Walk { layers, vlan: header.vlan, tunnel: header.tunnel, frame_source: None };
    let envelope = Envelope::reassembled(header, payload, length, &mut walk)?;
    let step = walk.behind_ip(envelope)?;
    walk.run(step)
}

impl Walk {
    /// One layer more.
    pub(super) fn deeper(&mut self) -> Result<(), DecodeError> {
        self.layers += 1;
        if self.layers > MAX_LAYERS { Err(DecodeError::TooDeep) } else { Ok(()) }
    }

    fn run<'a>(&mut self, mut step: Step<'a>) -> Result<Decoded<'a>, DecodeError> {
        let mut carrier = None;
        loop {
            let (layer, rest) = match step {
                Step::Done(decoded) => return Ok(decoded),
                Step::Down(layer, rest) => (layer, rest),
                Step::Carrier(packet, inside) => {
                    self.enter(&packet, &inside);
                    carrier = Some(packet);
                    (inside.layer, inside.bytes)
                }
            };
            step = match (self.step(layer, rest), carrier) {
                (Ok(step), _) => step,
                (Err(error @ DecodeError::TooDeep), _) | (Err(error), None) => return Err(error),
                // It may be no tunnel at all: what carries it was there in any case.
                (Err(error), Some(packet)) => {
                    return Ok(Decoded::Packet(Packet { unread: Some(error), ..packet }));
                }
            };
        }
    }

    fn enter(&mut self, packet: &Packet<'_>, inside: &Inside<'_>) {
        self.tunnel = Some(match self.tunnel {
            Some(outermost) => Tunnel { depth: outermost.depth.saturating_add(1), ..outermost },
            None => Tunnel {
                kind: inside.kind,
                id: inside.id,
                source: packet.header.source,
                destination: packet.header.destination,
                depth: 1,
            },
        });
        self.frame_source = None;
    }

    fn step<'a>(&mut self, layer: Layer, rest: &'a [u8]) -> Result<Step<'a>, DecodeError> {
        match layer {
            Layer::Ethernet => self.ethernet(rest),
            Layer::Typed(ethertype) => self.typed(ethertype, rest),
            Layer::Mpls => mpls::behind_labels(rest, self).map(|(layer, rest)| Step::Down(layer, rest)),
            Layer::Ip => {
                let envelope = Envelope::open(rest, self)?;
                self.behind_ip(envelope)
            }
        }
    }

    fn ethernet<'a>(&mut self, frame: &'a [u8]) -> Result<Step<'a>, DecodeError> {
        let (addresses, rest) = frame.split_first_chunk::<12>().ok_or(DecodeError::TooShort)?;
        let [_, _, _, _, _, _, source @ ..] = addresses;
        self.frame_source = Some(*source);
        let kind = be16(rest, 0).ok_or(DecodeError::TooShort)?;
        Ok(Step::Down(Layer::Typed(kind), rest.get(2..).ok_or(DecodeError::TooShort)?))
    }

    fn typed<'a>(&mut self, kind: u16, rest: &'a [u8]) -> Result<Step<'a>, DecodeError> {
        let expect = |version: u8| match rest.first() {
            None => Err(DecodeError::TooShort),
            Some(first) if first >> 4 == version => Ok(Step::Down(Layer::Ip, rest)),
            Some(_) => Err(DecodeError::BadIp),
        };
        match kind {
            ethertype::IPV4 => expect(4),
            ethertype::IPV6 => expect(6),
            ethertype::ARP => arp::decode(rest, self).map(|arp| Step::Done(Decoded::Arp(arp))),
            ethertype::VLAN | ethertype::PROVIDER_VLAN | ethertype::QINQ => {
                self.deeper()?;
                let tag = be16(rest, 0).ok_or(DecodeError::TooShort)?;
                let kind = be16(rest, 2).ok_or(DecodeError::TooShort)?;
                // Priority and drop eligibility stand above the id.
                self.vlan = self.vlan.or(Some(tag & 0x0fff));
                Ok(Step::Down(Layer::Typed(kind), rest.get(4..).ok_or(DecodeError::TooShort)?))
            }
            ethertype::MPLS | ethertype::MPLS_UPSTREAM => Ok(Step::Down(Layer::Mpls, rest)),
            ethertype::PPPOE_SESSION => self.pppoe(rest),
            ethertype::ETHERNET => {
                self.deeper()?;
                Ok(Step::Down(Layer::Ethernet, rest))
            }
            length if length < ethertype::FIRST => self.snap(rest),
            _ => Err(DecodeError::NotIp),
        }
    }

    /// A session's frame (RFC 2516 section 4): six bytes, then a PPP protocol (RFC 1661 section 2), whose first byte
    /// some leave out.
    fn pppoe<'a>(&mut self, rest: &'a [u8]) -> Result<Step<'a>, DecodeError> {
        self.deeper()?;
        let [version, code, ..] = rest else { return Err(DecodeError::TooShort) };
        if (*version, *code) != (0x11, 0) {
            return Err(DecodeError::NotIp);
        }
        let frame = rest.get(6..).ok_or(DecodeError::TooShort)?;
        let (ipv4, packet) = match frame {
            [0x00, 0x21, packet @ ..] | [0x21, packet @ ..] => (true, packet),
            [0x00, 0x57, packet @ ..] | [0x57, packet @ ..] => (false, packet),
            [] | [0x00] => return Err(DecodeError::TooShort),
            _ => return Err(DecodeError::NotIp),
        };
        self.typed(if ipv4 { ethertype::IPV4 } else { ethertype::IPV6 }, packet)
    }

    /// An 802.3 frame with an ethertype behind its LLC and SNAP headers (RFC 1042).
    fn snap<'a>(&mut self, rest: &'a [u8]) -> Result<Step<'a>, DecodeError> {
        self.deeper()?;
        match rest {
            [0xaa, 0xaa, 3, 0, 0, 0, high, low, rest @ ..] => {
                let kind = u16::from_be_bytes([*high, *low]);
                if kind < ethertype::FIRST {
                    return Err(DecodeError::NotIp);
                }
                Ok(Step::Down(Layer::Typed(kind), rest))
            }
            _ => Err(DecodeError::NotIp),
        }
    }

    fn behind_ip<'a>(&mut self, envelope: Envelope<'a>) -> Result<Step<'a>, DecodeError> {
        if let Some(fragment) = envelope.fragment {
            let packet = envelope.packet(Transport::Fragment(fragment), 0, fragment.length, self);
            return Ok(Step::Done(Decoded::Packet(packet)));
        }
        let segment = transport::decode(&envelope)?;
        let packet = envelope.packet(segment.transport, segment.header, segment.payload, self);
        match tunnel::inside(&packet) {
            Ok(None) => Ok(Step::Done(Decoded::Packet(packet))),
            Ok(Some(inside)) => {
                self.deeper()?;
                Ok(Step::Carrier(packet, inside))
            }
            Err(error) => Ok(Step::Done(Decoded::Packet(Packet { unread: Some(error), ..packet }))),
        }
    }
}
