/// What a TCP header's options say (RFC 9293 section 3.2, RFC 7323, RFC 2018). Senders say most of it once, with SYN.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TcpOptions {
    /// The largest segment the sender takes.
    pub max_segment: Option<u16>,
    /// Bits by which its window is shifted; 14 at most, as receivers read it.
    pub window_scale: Option<u8>,
    pub selective_acknowledgement: bool,
    /// The sender's clock and the echo of the other's.
    pub timestamps: Option<(u32, u32)>,
    /// An option's length makes no sense: what stands behind it was not read.
    pub malformed: bool,
}

const END: u8 = 0;
const NOTHING: u8 = 1;
const MAX_SEGMENT: u8 = 2;
const WINDOW_SCALE: u8 = 3;
const SELECTIVE_ACKNOWLEDGEMENT: u8 = 4;
const TIMESTAMPS: u8 = 8;
/// RFC 7323 section 2.3.
const MAX_WINDOW_SCALE: u8 = 14;

impl TcpOptions {
    /// Reads options; each step takes at least one byte of the 40 there can be.
    pub(super) fn read(mut rest: &[u8]) -> Self {
        let mut options = Self::default();
        loop {
            rest = match rest {
                [] | [END, ..] => return options,
                [NOTHING, rest @ ..] => rest,
                [kind, length, ..] => {
                    // Kind and length count too: below 2 nothing would be taken off.
                    let length = usize::from(*length).max(1);
                    let (Some(value), Some(behind)) = (rest.get(2..length), rest.get(length..)) else {
                        return Self { malformed: true, ..options };
                    };
                    options.note(*kind, value);
                    behind
                }
                [_] => return Self { malformed: true, ..options },
            };
        }
    }

    fn note(&mut self, kind: u8, value: &[u8]) {
        match (kind, value) {
            (MAX_SEGMENT, [high, low]) => self.max_segment = Some(u16::from_be_bytes([*high, *low])),
            (WINDOW_SCALE, [shift]) => self.window_scale = Some((*shift).min(MAX_WINDOW_SCALE)),
            (SELECTIVE_ACKNOWLEDGEMENT, []) => self.selective_acknowledgement = true,
            (TIMESTAMPS, [a, b, c, d, e, f, g, h]) => {
                let number = |bytes| u32::from_be_bytes(bytes);
                self.timestamps = Some((number([*a, *b, *c, *d]), number([*e, *f, *g, *h])));
            }
            _ => {}
        }
    }
}
