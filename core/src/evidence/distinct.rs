use datasketches::hll::{HllSketch, HllType, HllUnion};
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// Values held exactly; one more and a sketch takes over.
const EXACT_MAX: usize = 64;
/// 2^11 registers of 4 bits: 1 KiB and a relative error of 1.04 / sqrt(2^11) = 2.3 % (Flajolet et al., 2007).
const LG_K: u8 = 11;
/// The largest serialised sketch taken from the wire: an 8-bit HLL of 2^11 registers with its preamble fits twice.
const MAX_SKETCH_BYTES: usize = 4096;

/// How many different values were seen: exact up to 64, a HyperLogLog sketch after. Merging is associative,
/// commutative and idempotent in the estimate.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(try_from = "DistinctWire", into = "DistinctWire")]
pub struct Distinct(State);

#[derive(Debug, Clone)]
enum State {
    /// In order.
    Exact(Vec<u64>),
    Sketch(Box<HllSketch>),
}

/// The serialised form, also the wire's.
#[derive(Serialize, Deserialize)]
struct DistinctWire {
    exact: Vec<u64>,
    sketch: Vec<u8>,
}

impl Default for Distinct {
    fn default() -> Self {
        Self(State::Exact(Vec::new()))
    }
}

impl PartialEq for Distinct {
    fn eq(&self, other: &Self) -> bool {
        self.exact_values() == other.exact_values() && self.sketch_bytes() == other.sketch_bytes()
    }
}
impl Eq for Distinct {}

impl Distinct {
    /// Sets memory aside for all values that are held exactly.
    pub(super) fn reserve(&mut self) {
        if let State::Exact(values) = &mut self.0 {
            // One more stands there for a moment, before a sketch takes over.
            values.reserve_exact((EXACT_MAX + 1).saturating_sub(values.len()));
        }
    }

    /// Begins anew, in the same memory.
    pub(super) fn clear(&mut self) {
        match &mut self.0 {
            State::Exact(values) => values.clear(),
            State::Sketch(_) => *self = Self::default(),
        }
    }

    /// Counts a port.
    pub fn insert_port(&mut self, port: u16) {
        self.insert(u64::from(port));
    }

    /// Counts an address.
    pub fn insert_address(&mut self, address: IpAddr) {
        self.insert(address_value(address));
    }

    /// What [`Self::insert`] counts an address as.
    #[inline]
    pub(super) fn value_of(address: IpAddr) -> u64 {
        address_value(address)
    }

    /// Counts an address with a port.
    pub fn insert_endpoint(&mut self, address: IpAddr, port: u16) {
        self.insert(mix(address_value(address) ^ mix(u64::from(port) | 1 << 32)));
    }

    /// Counts any 64-bit value; equal values count once.
    pub fn insert(&mut self, value: u64) {
        match &mut self.0 {
            State::Exact(values) => {
                if let Err(at) = values.binary_search(&value) {
                    values.insert(at, value);
                    self.shrink();
                }
            }
            State::Sketch(sketch) => sketch.update(value),
        }
    }

    pub fn merge(&mut self, other: &Self) {
        match (&mut self.0, &other.0) {
            (_, State::Exact(values)) => {
                for value in values {
                    self.insert(*value);
                }
            }
            (State::Exact(values), State::Sketch(theirs)) => {
                let mut sketch = theirs.clone();
                for value in values.iter() {
                    sketch.update(*value);
                }
                self.0 = State::Sketch(sketch);
            }
            (State::Sketch(mine), State::Sketch(theirs)) => {
                // `new` refuses only a K outside 4 to 21.
                let Ok(mut union) = HllUnion::new(LG_K) else { return };
                union.update(mine);
                union.update(theirs);
                self.0 = State::Sketch(Box::new(union.to_sketch(HllType::Hll8)));
            }
        }
    }

    /// The number of different values: exact up to 64, an estimate (standard error 2.3 %) above.
    #[must_use]
    pub fn count(&self) -> u64 {
        match &self.0 {
            State::Exact(values) => values.len() as u64,
            State::Sketch(sketch) => estimate(sketch.estimate()),
        }
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        matches!(&self.0, State::Exact(values) if values.is_empty())
    }

    /// The values while they are held exactly, in order; empty once a sketch took over.
    #[must_use]
    pub fn exact_values(&self) -> Vec<u64> {
        match &self.0 {
            State::Exact(values) => values.clone(),
            State::Sketch(_) => Vec::new(),
        }
    }

    /// The serialised sketch (Apache DataSketches HLL format), empty while values are held exactly.
    #[must_use]
    pub fn sketch_bytes(&self) -> Vec<u8> {
        match &self.0 {
            State::Exact(_) => Vec::new(),
            State::Sketch(sketch) => sketch.serialize(),
        }
    }

    /// Takes the two halves of the wire form.
    ///
    /// Errors: [`DistinctError`] when both halves are given, the list is too long or the sketch is not one of ours.
    pub fn from_parts(exact: &[u64], sketch: &[u8]) -> Result<Self, DistinctError> {
        if sketch.is_empty() {
            if exact.len() > EXACT_MAX {
                return Err(DistinctError::TooManyValues);
            }
            let mut values = exact.to_vec();
            values.sort_unstable();
            values.dedup();
            return Ok(Self(State::Exact(values)));
        }
        if !exact.is_empty() || sketch.len() > MAX_SKETCH_BYTES {
            return Err(DistinctError::Malformed);
        }
        let sketch = HllSketch::deserialize(sketch).map_err(|_| DistinctError::Malformed)?;
        if sketch.lg_config_k() != LG_K || !sketch.estimate().is_finite() {
            return Err(DistinctError::Malformed);
        }
        Ok(Self(State::Sketch(Box::new(sketch))))
    }

    fn shrink(&mut self) {
        let State::Exact(values) = &self.0 else { return };
        if values.len() > EXACT_MAX {
            let Ok(mut sketch) = HllSketch::new(LG_K, HllType::Hll8) else { return };
            for value in values {
                sketch.update(*value);
            }
            self.0 = State::Sketch(Box::new(sketch));
        }
    }
}

/// A finite, non-negative estimate as a count.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to what a u32 holds")]
fn estimate(value: f64) -> u64 {
    value.round().clamp(0.0, f64::from(u32::MAX)) as u64
}

/// The address itself for IPv4, a mix of both halves for IPv6.
fn address_value(address: IpAddr) -> u64 {
    match address {
        IpAddr::V4(address) => u64::from(u32::from(address)),
        IpAddr::V6(address) => {
            let bits = u128::from(address);
            let (high, low) = ((bits >> 64) & u128::from(u64::MAX), bits & u128::from(u64::MAX));
            mix(u64::try_from(high).unwrap_or(0)) ^ mix(u64::try_from(low).unwrap_or(0)).rotate_left(1)
        }
    }
}

/// The finaliser of SplitMix64 (Steele, Lea and Flood, 2014): a bijection of 64 bits.
const fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

impl From<Distinct> for DistinctWire {
    fn from(distinct: Distinct) -> Self {
        Self { exact: distinct.exact_values(), sketch: distinct.sketch_bytes() }
    }
}

impl TryFrom<DistinctWire> for Distinct {
    type Error = DistinctError;

    fn try_from(wire: DistinctWire) -> Result<Self, DistinctError> {
        Self::from_parts(&wire.exact, &wire.sketch)
    }
}

/// Why bytes are no distinct count of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DistinctError {
    #[error("more than 64 exact values")]
    TooManyValues,
    #[error("not a HyperLogLog sketch with 2^11 registers")]
    Malformed,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exact_while_small_and_close_when_large() {
        let mut small = Distinct::default();
        (0..64).chain(0..64).for_each(|port| small.insert_port(port));
        assert_eq!(small.count(), 64);
        let mut large = Distinct::default();
        (0..10_000).for_each(|port| large.insert_port(port));
        assert!((9_300..=10_700).contains(&large.count()), "{}", large.count());
        let back = Distinct::from_parts(&large.exact_values(), &large.sketch_bytes()).unwrap();
        assert_eq!(back.count(), large.count());
    }

    #[test]
    fn merging_counts_every_value_once() {
        let make = |range: std::ops::Range<u16>| {
            let mut distinct = Distinct::default();
            range.for_each(|port| distinct.insert_port(port));
            distinct
        };
        for (a, b) in [(0..40, 20..60), (0..40, 20..900), (0..700, 20..60), (0..700, 300..1000)] {
            let union = f64::from(a.end.max(b.end));
            let (mut ab, mut ba) = (make(a.clone()), make(b.clone()));
            ab.merge(&make(b));
            ba.merge(&make(a));
            assert_eq!(ab.count(), ba.count());
            let error = (f64::from(u32::try_from(ab.count()).unwrap()) - union).abs() / union;
            assert!(error < 0.08, "{} of {union}", ab.count());
        }
    }

    #[test]
    fn hostile_bytes_are_refused() {
        assert_eq!(Distinct::from_parts(&[0; 65], &[]), Err(DistinctError::TooManyValues));
        assert_eq!(Distinct::from_parts(&[1], &[1]), Err(DistinctError::Malformed));
        assert_eq!(Distinct::from_parts(&[], &[7; 40]), Err(DistinctError::Malformed));
        assert_eq!(Distinct::from_parts(&[], &[7; 5000]), Err(DistinctError::Malformed));
    }
}
