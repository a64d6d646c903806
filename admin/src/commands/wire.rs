//! Messages of the wire as people and programs read them. For showing only: nothing is decided from it.

use crate::{
    Failure,
    moment::{iso, left},
    output::table,
};
use netguard_proto::v1::{self, Origin, Proof, Verb, target};
use serde::Serialize;
use std::net::{IpAddr, Ipv6Addr};

/// A decision with all it carries.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Decision {
    pub(super) id: String,
    pub(super) verb: &'static str,
    pub(super) target: String,
    pub(super) simulated: bool,
    /// The rollout that keeps it to its canaries for now; 0: none does.
    pub(super) held_by_rollout: u64,
    pub(super) origin: &'static str,
    pub(super) kinds: Vec<String>,
    pub(super) reason: String,
    pub(super) proof: &'static str,
    pub(super) score: f64,
    pub(super) score_parts: Vec<ScorePart>,
    pub(super) sensors: Vec<String>,
    pub(super) sample_flows: Vec<String>,
    pub(super) revision: u64,
    pub(super) trace_id: Option<String>,
    pub(super) traceparent: String,
    pub(super) created_at: Option<String>,
    pub(super) created_at_us: u64,
    pub(super) expires_at: Option<String>,
    pub(super) expires_at_us: u64,
    pub(super) first_packet_at: Option<String>,
    pub(super) first_packet_at_us: u64,
    pub(super) threshold_at: Option<String>,
    pub(super) threshold_at_us: u64,
    /// What it stopped, on all connected hosts together.
    pub(super) packets: u64,
    pub(super) bytes: u64,
}

/// What one kind added to the score.
#[derive(Debug, Clone, Serialize)]
pub(super) struct ScorePart {
    pub(super) kind: String,
    pub(super) measured: u64,
    pub(super) threshold: u64,
    pub(super) weight: u32,
    pub(super) sensors: u32,
    pub(super) points: f64,
}

impl From<v1::Decision> for Decision {
    fn from(decision: v1::Decision) -> Self {
        let (verb, origin, proof) = (decision.verb(), decision.origin(), decision.proof());
        let score = decision.score.unwrap_or_default();
        Self {
            id: hex(&decision.id),
            verb: verb_name(verb),
            target: target(decision.target.as_ref()),
            simulated: decision.simulated,
            held_by_rollout: decision.held_by_rollout,
            origin: match origin {
                Origin::Unspecified => "unknown",
                Origin::Detector => "detector",
                Origin::Admin => "admin",
                Origin::Feed => "feed",
                Origin::Decoy => "decoy",
                Origin::Import => "import",
            },
            kinds: decision.kinds,
            reason: decision.reason,
            proof: match proof {
                Proof::Unspecified | Proof::None => "none",
                Proof::Handshake => "handshake",
                Proof::Application => "application",
                Proof::Decoy => "decoy",
            },
            score: points(score.total_milli),
            score_parts: score.parts.into_iter().map(ScorePart::from).collect(),
            sensors: decision.sensors,
            sample_flows: decision.sample_flows,
            revision: decision.revision,
            // version-traceid-spanid-flags
            trace_id: decision.traceparent.split('-').nth(1).map(str::to_owned),
            traceparent: decision.traceparent,
            created_at: iso(decision.created_at),
            created_at_us: decision.created_at,
            expires_at: iso(decision.expires_at),
            expires_at_us: decision.expires_at,
            first_packet_at: iso(decision.first_packet_at),
            first_packet_at_us: decision.first_packet_at,
            threshold_at: iso(decision.threshold_at),
            threshold_at_us: decision.threshold_at,
            packets: 0,
            bytes: 0,
        }
    }
}

impl From<v1::ScorePart> for ScorePart {
    fn from(part: v1::ScorePart) -> Self {
        Self {
            kind: part.kind,
            measured: part.measured,
            threshold: part.threshold,
            weight: part.weight,
            sensors: part.sensors,
            points: points(part.points_milli),
        }
    }
}

/// Thousandths of a point as points. A score is far below 2^52.
#[allow(clippy::cast_precision_loss, reason = "shown, not calculated with")]
fn points(milli: u64) -> f64 {
    milli as f64 / 1_000.0
}

pub(super) const fn verb_name(verb: Verb) -> &'static str {
    match verb {
        Verb::Unspecified => "unknown",
        Verb::Block => "block",
        Verb::Throttle => "throttle",
        Verb::Shield => "shield",
    }
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    <[u8; 4]>::try_from(bytes)
        .map(IpAddr::from)
        .or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from))
        .ok()
}

/// An address alone when the prefix is one; `?` when it is none.
pub(super) fn prefix(prefix: &v1::Prefix) -> String {
    match address(&prefix.address) {
        Some(address) if prefix.length == if address.is_ipv4() { 32 } else { 128 } => address.to_string(),
        Some(address) => format!("{address}/{}", prefix.length),
        None => "?".to_owned(),
    }
}

pub(super) fn target(target: Option<&v1::Target>) -> String {
    match target.and_then(|target| target.of.as_ref()) {
        Some(target::Of::Source(source)) => prefix(source),
        Some(target::Of::Service(service)) => {
            let protocol = match service.protocol {
                1 => "icmp".to_owned(),
                6 => "tcp".to_owned(),
                17 => "udp".to_owned(),
                58 => "icmpv6".to_owned(),
                132 => "sctp".to_owned(),
                other => format!("ip-{other}"),
            };
            match address(&service.address) {
                Some(IpAddr::V4(address)) => format!("{protocol}/{address}:{}", service.port),
                Some(IpAddr::V6(address)) => format!("{protocol}/[{address}]:{}", service.port),
                None => "?".to_owned(),
            }
        }
        None => "?".to_owned(),
    }
}

/// An address or prefix as strictly as the coordinator reads one: no octal, no host bits, IPv4 not in IPv6.
pub(super) fn parse_prefix(text: &str) -> Result<v1::Prefix, Failure> {
    let bad = |why: &str| Failure::usage(format!("`{text}` is not an address or prefix: {why}"));
    let (address, length) = match text.split_once('/') {
        Some((address, length)) => (address, Some(length)),
        None => (text, None),
    };
    let address: IpAddr =
        address.parse().map_err(|_| bad("write it like 203.0.113.7, 10.0.0.0/8 or 2001:db8::/32"))?;
    if matches!(address, IpAddr::V6(v6) if is_mapped(v6)) {
        return Err(bad("it is IPv4 inside IPv6; write the IPv4 address"));
    }
    let longest: u32 = if address.is_ipv4() { 32 } else { 128 };
    let length = match length {
        None => longest,
        Some(digits) if digits.len() <= 3 && digits.bytes().all(|byte| byte.is_ascii_digit()) => digits
            .parse()
            .ok()
            .filter(|length| *length <= longest)
            .ok_or_else(|| bad("its length is too long"))?,
        Some(_) => return Err(bad("its length is not a number")),
    };
    let (bits, bytes) = match address {
        IpAddr::V4(v4) => (u128::from(v4.to_bits()), v4.octets().to_vec()),
        IpAddr::V6(v6) => (v6.to_bits(), v6.octets().to_vec()),
    };
    if bits & 1_u128.checked_shl(longest - length).map_or(u128::MAX, |bit| bit - 1) != 0 {
        return Err(bad("bits are set behind its length; did you mean one address?"));
    }
    Ok(v1::Prefix { address: bytes, length })
}

fn is_mapped(address: Ipv6Addr) -> bool {
    address.to_ipv4_mapped().is_some()
}

/// A random id, so that a write that is sent again acts once.
pub(super) fn request_id() -> Result<Vec<u8>, Failure> {
    use rustls::crypto::ring::default_provider;
    let mut id = vec![0; 16];
    default_provider()
        .secure_random
        .fill(&mut id)
        .map_err(|_| Failure::Output(std::io::Error::other("the system gives no random numbers")))?;
    Ok(id)
}

const DECISION_COLUMNS: [&str; 8] = ["TARGET", "VERB", "STATE", "LEFT", "ORIGIN", "KINDS", "ID", "REASON"];

impl Decision {
    fn state(&self) -> &'static str {
        match (self.simulated, self.held_by_rollout) {
            (true, _) => "simulated",
            (false, 0) => "enforced",
            (false, _) => "canary",
        }
    }

    fn row(&self, state: &str, now: u64) -> [String; 8] {
        [
            self.target.clone(),
            self.verb.to_owned(),
            state.to_owned(),
            left(self.expires_at_us, now),
            self.origin.to_owned(),
            self.kinds.join(","),
            self.id.clone(),
            self.reason.clone(),
        ]
    }
}

pub(super) fn decisions_table(decisions: &[Decision], now: u64) -> String {
    let rows = decisions.iter().map(|decision| {
        let [target, verb, state, left, rest @ ..] = decision.row(decision.state(), now);
        let [origin, kinds, id, reason] = rest;
        let (packets, bytes) = (decision.packets.to_string(), decision.bytes.to_string());
        [target, verb, state, left, packets, bytes, origin, kinds, id, reason]
    });
    let [target, verb, state, left, origin, kinds, id, reason] = DECISION_COLUMNS;
    table([target, verb, state, left, "PACKETS", "BYTES", origin, kinds, id, reason], rows)
}

/// What a write did.
#[derive(Debug, Serialize)]
pub(super) struct Written {
    pub(super) outcome: String,
    pub(super) revision: u64,
    pub(super) log_index: u64,
    pub(super) decisions: Vec<Decision>,
    /// The decisions are those that ended, not those that were made.
    pub(super) lifted: bool,
}

impl Written {
    /// For a write that ends decisions.
    pub(super) fn lifting(response: v1::WriteResponse) -> Self {
        Self { lifted: true, ..response.into() }
    }
}

impl From<v1::WriteResponse> for Written {
    fn from(response: v1::WriteResponse) -> Self {
        Self {
            outcome: response.outcome,
            revision: response.revision,
            log_index: response.log_index,
            decisions: response.decisions.into_iter().map(Decision::from).collect(),
            lifted: false,
        }
    }
}

impl crate::output::View for Written {
    fn text(&self, now: u64) -> String {
        let outcome = if self.outcome.is_empty() { "done" } else { &self.outcome };
        let outcome = crate::escape::lines(outcome);
        if self.decisions.is_empty() {
            return outcome;
        }
        let rows = self.decisions.iter().map(|decision| {
            let state = if self.lifted { "lifted" } else { decision.state() };
            decision.row(state, now)
        });
        format!("{outcome}\n{}", table(DECISION_COLUMNS, rows))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_are_read_strictly_and_shown_shortly() {
        for (text, shown) in [
            ("203.0.113.7", "203.0.113.7"),
            ("203.0.113.7/32", "203.0.113.7"),
            ("10.0.0.0/8", "10.0.0.0/8"),
            ("0.0.0.0/0", "0.0.0.0/0"),
            ("2001:db8::/32", "2001:db8::/32"),
            ("::1", "::1"),
            ("::/0", "::/0"),
        ] {
            assert_eq!(prefix(&parse_prefix(text).unwrap()), shown);
        }
        for bad in [
            "",
            "010.0.0.1",
            "1.2.3",
            "::ffff:10.0.0.1",
            "fe80::1%eth0",
            "10.0.0.1/8",
            "10.0.0.0/33",
            "::/129",
            "10.0.0.0/+8",
            "10.0.0.0/",
            "0x7f.1",
            "2001:db8::1/32",
        ] {
            assert!(matches!(parse_prefix(bad), Err(Failure::Usage(_))), "{bad}");
        }
    }

    #[test]
    fn what_is_malformed_is_shown_as_such() {
        assert_eq!(prefix(&v1::Prefix { address: vec![1, 2], length: 3 }), "?");
        assert_eq!(target(None), "?");
        let service = v1::Service { address: vec![10, 0, 0, 1], protocol: 6, port: 80 };
        assert_eq!(target(Some(&v1::Target { of: Some(target::Of::Service(service)) })), "tcp/10.0.0.1:80");
        let decision =
            Decision::from(v1::Decision { verb: 99, traceparent: "x".into(), ..Default::default() });
        assert_eq!((decision.verb, decision.trace_id, decision.created_at), ("unknown", None, None));
    }
}
