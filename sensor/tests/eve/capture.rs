//! Packets made by hand, and what is read out of them.

use etherparse::PacketBuilder;
use netguard_sensor::{
    read::{ReadOptions, read_file},
    records::RecordType,
};
use serde_json::Value;
use std::io::Write as _;

pub(crate) const CLIENT: [u8; 4] = [192, 0, 2, 9];
pub(crate) const SERVER: [u8; 4] = [198, 51, 100, 5];
/// 2023-11-14 22:13:20 UTC, as in all times below.
const BEGIN_SECONDS: u32 = 1_700_000_000;

/// A capture being written: each frame a millisecond after the one before, the first at the second itself.
#[derive(Default)]
pub(crate) struct Capture {
    pub(crate) frames: Vec<Vec<u8>>,
}

impl Capture {
    pub(crate) fn datagram(mut self, from: ([u8; 4], u16), to: ([u8; 4], u16), payload: &[u8]) -> Self {
        let builder = PacketBuilder::ethernet2([2; 6], [4; 6]).ipv4(from.0, to.0, 64).udp(from.1, to.1);
        let mut frame = Vec::new();
        builder.write(&mut frame, payload).unwrap();
        self.frames.push(frame);
        self
    }

    /// A connection to the server: three packets of a handshake, then what each side says (`true`: the client) in a
    /// segment of its own.
    pub(crate) fn connection(mut self, client_port: u16, port: u16, said: &[(bool, &[u8])]) -> Self {
        let (mut ours, mut theirs) = (1_000, 5_000);
        self.segment(true, (client_port, port), (ours, None, true), &[]);
        self.segment(false, (port, client_port), (theirs, Some(ours + 1), true), &[]);
        (ours, theirs) = (ours + 1, theirs + 1);
        self.segment(true, (client_port, port), (ours, Some(theirs), false), &[]);
        for (by_client, payload) in said {
            let length = payload.len() as u32;
            if *by_client {
                self.segment(true, (client_port, port), (ours, Some(theirs), false), payload);
                ours += length;
            } else {
                self.segment(false, (port, client_port), (theirs, Some(ours), false), payload);
                theirs += length;
            }
        }
        self
    }

    fn segment(
        &mut self,
        by_client: bool,
        ports: (u16, u16),
        numbers: (u32, Option<u32>, bool),
        payload: &[u8],
    ) {
        let (from, to) = if by_client { (CLIENT, SERVER) } else { (SERVER, CLIENT) };
        let (sequence, acknowledged, syn) = numbers;
        let builder = PacketBuilder::ethernet2([2; 6], [4; 6]).ipv4(from, to, 64);
        let mut builder = builder.tcp(ports.0, ports.1, sequence, 64_000);
        if syn {
            builder = builder.syn();
        }
        if let Some(number) = acknowledged {
            builder = builder.ack(number);
        }
        let mut frame = Vec::new();
        builder.write(&mut frame, payload).unwrap();
        self.frames.push(frame);
    }

    /// Every event of these types, in their order.
    pub(crate) fn events(&self, types: &[RecordType]) -> Vec<Value> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let header = [0xa1b2_c3d4, 4 << 16 | 2, 0, 0, 65_535, 1_u32];
        let mut put = |numbers: &[u32], frame: &[u8]| {
            numbers.iter().for_each(|number| file.write_all(&number.to_le_bytes()).unwrap());
            file.write_all(frame).unwrap();
        };
        put(&header, &[]);
        for (frame, milliseconds) in self.frames.iter().zip(0..) {
            let length = frame.len() as u32;
            put(&[BEGIN_SECONDS, milliseconds * 1_000, length, length], frame);
        }
        let options = ReadOptions { types: types.to_vec(), ..ReadOptions::default() };
        let mut lines = Vec::new();
        read_file(file.path(), &options, &mut lines).unwrap();
        String::from_utf8(lines).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// The events of this type, all of one flow, without its number, which the flow's own event has too.
    pub(crate) fn of_one_flow(&self, kind: RecordType) -> Vec<Value> {
        let mut events = self.events(&[kind, RecordType::Flow]);
        let flow = events.pop().unwrap();
        assert_eq!(flow["event_type"], "flow");
        for event in &mut events {
            let number = event.as_object_mut().unwrap().remove("flow_id");
            assert!(number.is_some() && number.as_ref() == flow.get("flow_id"), "{event} is not of {flow}");
        }
        events
    }

    pub(crate) fn event(&self, kind: RecordType) -> Value {
        let [event] = &self.of_one_flow(kind)[..] else { panic!("not one event: {:?}", self.events(&[])) };
        event.clone()
    }
}
