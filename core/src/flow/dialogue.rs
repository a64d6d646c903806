//! How an SSH login goes, told from the sizes of its segments alone.
//!
//! Once keys are exchanged, the server confirms the service (`SERVICE_ACCEPT`, 17 bytes before padding), then answers
//! each try. A refusal carries the list of methods left and is never shorter than that confirmation; `SUCCESS` is one
//! byte and always shorter (RFC 4252 sections 5.1 and 6, RFC 4253 section 6). Zeek's SSH analyser uses the same fact.
//! A client that takes segments apart by a tiny window hides from this, not from the service's own log.

/// Server segments of key exchange are larger: it carries a host key and a signature.
const SMALLEST_KEY_EXCHANGE: u32 = 120;
/// `NEWKEYS` may come in a segment of its own.
const NEW_KEYS: u32 = 16;
/// The shortest confirmation: 17 bytes, a length, at least 4 of padding, in blocks of 8. What is shorter is SSH 1.
const SHORTEST_CONFIRMATION: u32 = 32;
/// A refusal lists some methods; more is a banner or a session.
const LARGEST_REFUSAL: u32 = 200;
/// A request shorter than this carries no public key (the shortest, Ed25519, makes some 130 bytes), so it is a
/// password, or asks for the methods. Refused keys are not counted as tries: an agent full of keys guesses nothing.
const SHORTEST_KEY_OFFER: u32 = 112;

/// How the tries of a session were answered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Dialogue {
    /// Answers that refuse.
    pub refusals: u8,
    /// Refused requests without a public key, beyond the first, which asks for the methods.
    pub refused_passwords: u8,
    /// A try succeeded.
    pub held: bool,
}

/// Follows a session segment by segment.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Listener {
    saw_key_exchange: bool,
    /// Not SSH 2: nothing is read out of it.
    is_other: bool,
    /// Size of the server's confirmation; 0 before it came.
    confirmation: u16,
    last_request: u16,
    pub(super) dialogue: Dialogue,
}

impl Listener {
    pub(super) fn client_said(&mut self, size: u32) {
        self.last_request = u16::try_from(size).unwrap_or(u16::MAX);
    }

    pub(super) fn server_said(&mut self, size: u32) {
        let Self { confirmation, dialogue, .. } = self;
        match (*confirmation, size) {
            _ if dialogue.held || self.is_other => {}
            (0, SMALLEST_KEY_EXCHANGE..) => self.saw_key_exchange = true,
            (0, NEW_KEYS) => {}
            (0, _) if !self.saw_key_exchange => {}
            (0, ..SHORTEST_CONFIRMATION) => self.is_other = true,
            (0, _) => *confirmation = u16::try_from(size).unwrap_or(u16::MAX),
            (confirmation, _) if size < u32::from(confirmation) => dialogue.held = true,
            (_, ..LARGEST_REFUSAL) => {
                if dialogue.refusals > 0 && u32::from(self.last_request) < SHORTEST_KEY_OFFER {
                    dialogue.refused_passwords = dialogue.refused_passwords.saturating_add(1);
                }
                dialogue.refusals = dialogue.refusals.saturating_add(1);
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Positive sizes are the client's, negative ones the server's.
    fn run(sizes: &[i32]) -> (u8, u8, bool) {
        let mut listener = Listener::default();
        for size in sizes {
            if *size > 0 {
                listener.client_said(size.unsigned_abs());
            } else {
                listener.server_said(size.unsigned_abs());
            }
        }
        let dialogue = listener.dialogue;
        (dialogue.refusals, dialogue.refused_passwords, dialogue.held)
    }

    #[test]
    fn sizes_measured_on_the_wire() {
        // hydra (libssh) against OpenSSH 9: the methods, then six passwords.
        let opening = [23, -41, 904, -1088, 48, -524, 16, 44, -44, 60, -76];
        let six: Vec<i32> = opening.into_iter().chain([76, -76].repeat(6)).collect();
        assert_eq!(run(&six), (7, 6, false));
        // OpenSSH 5 guessing with its own client: a key first, three passwords of padded length.
        let sizes = [21, -32, 1448, 144, -952, 24, -280, 272, -848, 16, 56, -56, 72, -56, 376, -56];
        let three: Vec<i32> = sizes.into_iter().chain([152, -56].repeat(3)).collect();
        assert_eq!(run(&three), (5, 0, false));
        // `ssh host true` with a key, with chacha20-poly1305 and with AES-CTR.
        let key = [41, -41, 1560, -1088, 1208, -1564, 16, 44, -44, 60, -76, 140, -100, 308, -28, 112, -256];
        assert!(run(&key).2);
        let old =
            [31, -63, 1448, 520, -544, 24, -424, 416, -736, 16, 48, -48, 64, -96, 144, -96, 144, -32, 64];
        assert!(run(&old).2);
        // `NEWKEYS` by itself, then in.
        assert!(run(&[21, -21, 900, -900, 48, -400, -16, 16, 44, -44, 60, -76, 148, -28, 112]).2);
        // SSH 1, somebody typing.
        let typed: Vec<i32> = [-41, 20, -436, 284, -12, 20].into_iter().chain([-12, 20].repeat(40)).collect();
        assert_eq!(run(&typed), (0, 0, false));
        // ssh-keyscan never gets so far as to be refused.
        assert_eq!(run(&[-41, 25, 1056, -1088, 1208, -1248]), (0, 0, false));
    }

    proptest::proptest! {
        #[test]
        fn no_sizes_break_it(sizes in proptest::collection::vec(proptest::prelude::any::<i32>(), 0..600)) {
            let (refusals, refused_passwords, _) = run(&sizes);
            proptest::prop_assert!(refused_passwords <= refusals);
        }
    }
}
