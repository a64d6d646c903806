//! The numbers of one TCP connection.

use super::frame::{self, ACK, End, FIN, SYN, Segment};

/// Both ends of a connection, and what each will send next.
#[derive(Debug, Clone)]
pub(in crate::bench) struct Connection {
    client: End,
    server: End,
    client_next: u32,
    server_next: u32,
}

impl Connection {
    /// With these initial sequence numbers, of the client and of the server.
    pub(in crate::bench) fn new(client: End, server: End, numbers: [u32; 2]) -> Self {
        let [client_next, server_next] = numbers;
        Self { client, server, client_next, server_next }
    }

    /// Sender and receiver.
    pub(in crate::bench) fn ends(&self, from_client: bool) -> (End, End) {
        if from_client { (self.client, self.server) } else { (self.server, self.client) }
    }

    /// Puts the next segment of one end in place of what is in `out`; it acknowledges all that the other has sent.
    pub(in crate::bench) fn send(
        &mut self,
        from_client: bool,
        flags: u8,
        options: &'static [u8],
        payload: &[u8],
        out: &mut Vec<u8>,
    ) {
        let (from, to) = self.ends(from_client);
        let (sequence, other) = if from_client {
            (self.client_next, self.server_next)
        } else {
            (self.server_next, self.client_next)
        };
        let acknowledgement = if flags & ACK == 0 { 0 } else { other };
        frame::tcp(out, from, to, &Segment { flags, sequence, acknowledgement, options }, payload);
        // SYN and FIN take a number each.
        let taken = u32::try_from(payload.len()).unwrap_or(0) + u32::from(flags & (SYN | FIN) != 0);
        let next = if from_client { &mut self.client_next } else { &mut self.server_next };
        *next = next.wrapping_add(taken);
    }
}
