use netguard_core::flow::FlowId;

/// Names flows for readers: EVE's `flow_id`, Zeek's `uid`. The same flow has the same names in all its records, other
/// flows of this and of other threads and starts others.
#[derive(Debug, Clone, Copy)]
pub struct Identifiers {
    salt: u64,
}

/// Of numbers below 2^51, as Suricata does: readers in JavaScript keep 53 bits.
const FLOW_ID_BITS: u64 = (1 << 51) - 1;
const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
/// Zeek's have 96 bits, 17 digits.
const UID_DIGITS: usize = 17;

impl Identifiers {
    /// `start` is random for a live sensor, fixed for a file; `thread` among those of the sensor.
    #[must_use]
    pub fn new(start: u64, thread: usize) -> Self {
        Self { salt: mix(start ^ (thread as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)) }
    }

    #[must_use]
    pub fn flow_id(&self, flow: FlowId) -> u64 {
        mix(self.salt ^ flow.get()) & FLOW_ID_BITS
    }

    #[must_use]
    pub fn uid(&self, flow: FlowId) -> String {
        let low = mix(self.salt.rotate_left(32) ^ flow.get());
        let mut number = u128::from(mix(self.salt ^ flow.get())) << 64 | u128::from(low);
        let mut uid = String::with_capacity(1 + UID_DIGITS);
        uid.push('C');
        for _ in 0..UID_DIGITS {
            let digit = usize::try_from(number % 62).ok().and_then(|digit| DIGITS.get(digit));
            uid.push(char::from(digit.copied().unwrap_or(b'0')));
            number /= 62;
        }
        uid
    }
}

/// The finaliser of SplitMix64 (Steele, Lea, Flood, "Fast Splittable Pseudorandom Number Generators", 2014): one to one,
/// so that two flows of a thread never share all bits.
fn mix(mut value: u64) -> u64 {
    value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}
