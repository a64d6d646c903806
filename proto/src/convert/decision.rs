//! Decisions, their scores, and the enumerations they carry.

use super::{
    ConvertError, MAX_FLOW_ID_BYTES, at_most, decision_id, known_time, name, optional_time, required,
    scalar::visible, text, wire_time,
};
use crate::v1;
use netguard_core::{
    decision::{Decision, MAX_SAMPLE_FLOWS, MAX_SENSORS, Origin, Proof, Score, ScorePart, Target, Verb},
    kind::Kind,
    trace::TraceParent,
};

macro_rules! enumeration {
    ($function:ident, $domain:ident, $field:literal, $($variant:ident),+) => {
        impl From<$domain> for v1::$domain {
            fn from(value: $domain) -> Self {
                match value { $($domain::$variant => Self::$variant),+ }
            }
        }

        impl TryFrom<v1::$domain> for $domain {
            type Error = ConvertError;

            fn try_from(wire: v1::$domain) -> Result<Self, ConvertError> {
                match wire {
                    v1::$domain::Unspecified => Err(ConvertError::Missing { field: $field }),
                    $(v1::$domain::$variant => Ok(Self::$variant)),+
                }
            }
        }

        /// The number as prost hands it over.
        ///
        /// Errors: [`ConvertError::Missing`] for 0, [`ConvertError::UnknownNumber`] for one not in the `.proto` file.
        pub fn $function(number: i32) -> Result<$domain, ConvertError> {
            v1::$domain::try_from(number)
                .map_err(|_| ConvertError::UnknownNumber { field: $field, value: number })?
                .try_into()
        }
    };
}

enumeration!(verb, Verb, "verb", Block, Throttle, Shield);
enumeration!(origin, Origin, "origin", Detector, Admin, Feed, Decoy, Import);
enumeration!(proof, Proof, "proof", None, Handshake, Application, Decoy);

pub(super) fn kind(name: &str) -> Result<Kind, ConvertError> {
    name.parse().map_err(|_| ConvertError::UnknownName {
        field: "kind",
        name: name.chars().take(netguard_core::identity::MAX_NAME_LEN).collect(),
    })
}

/// A shield names a service of ours, the other verbs a source.
pub(super) fn verb_fits(verb: Verb, target: &Target) -> Result<(), ConvertError> {
    match (verb, target) {
        (Verb::Shield, Target::Service(_)) | (Verb::Block | Verb::Throttle, Target::Source(_)) => Ok(()),
        _ => Err(ConvertError::VerbTarget),
    }
}

impl TryFrom<v1::Score> for Score {
    type Error = ConvertError;

    fn try_from(wire: v1::Score) -> Result<Self, ConvertError> {
        at_most("score.parts", wire.parts.len(), Kind::ALL.len())?;
        let parts = wire.parts.into_iter().map(ScorePart::try_from).collect::<Result<_, _>>()?;
        Ok(Self { total_milli: wire.total_milli, parts })
    }
}

impl From<Score> for v1::Score {
    fn from(score: Score) -> Self {
        Self { total_milli: score.total_milli, parts: score.parts.into_iter().map(Into::into).collect() }
    }
}

impl TryFrom<v1::ScorePart> for ScorePart {
    type Error = ConvertError;

    fn try_from(wire: v1::ScorePart) -> Result<Self, ConvertError> {
        Ok(Self {
            kind: kind(&wire.kind)?,
            measured: wire.measured,
            threshold: wire.threshold,
            weight: wire.weight,
            sensors: wire.sensors,
            points_milli: wire.points_milli,
        })
    }
}

impl From<ScorePart> for v1::ScorePart {
    fn from(part: ScorePart) -> Self {
        Self {
            kind: part.kind.name().to_owned(),
            measured: part.measured,
            threshold: part.threshold,
            weight: part.weight,
            sensors: part.sensors,
            points_milli: part.points_milli,
        }
    }
}

impl TryFrom<v1::Decision> for Decision {
    type Error = ConvertError;

    fn try_from(wire: v1::Decision) -> Result<Self, ConvertError> {
        at_most("decision.kinds", wire.kinds.len(), Kind::ALL.len())?;
        at_most("decision.sensors", wire.sensors.len(), MAX_SENSORS)?;
        let verb = verb(wire.verb)?;
        let target = Target::try_from(required("decision.target", wire.target)?)?;
        verb_fits(verb, &target)?;
        let created_at = known_time("decision.created_at", wire.created_at)?;
        let expires_at = known_time("decision.expires_at", wire.expires_at)?;
        if expires_at < created_at {
            return Err(ConvertError::Order { field: "decision.expires_at", other: "decision.created_at" });
        }
        Ok(Self {
            id: decision_id("decision.id", &wire.id)?,
            verb,
            target,
            origin: origin(wire.origin)?,
            kinds: wire.kinds.iter().map(|name| kind(name)).collect::<Result<_, _>>()?,
            score: wire.score.unwrap_or_default().try_into()?,
            proof: proof(wire.proof)?,
            sensors: wire
                .sensors
                .into_iter()
                .map(|sensor| name("decision.sensors", sensor))
                .collect::<Result<_, _>>()?,
            sample_flows: sample_flows(wire.sample_flows)?,
            reason: text("decision.reason", wire.reason)?,
            created_at,
            expires_at,
            revision: wire.revision,
            trace: TraceParent::parse(&wire.traceparent),
            simulated: wire.simulated,
            first_packet_at: optional_time("decision.first_packet_at", wire.first_packet_at)?,
            threshold_at: optional_time("decision.threshold_at", wire.threshold_at)?,
        })
    }
}

pub(super) fn sample_flows(flows: Vec<String>) -> Result<Vec<String>, ConvertError> {
    at_most("flows", flows.len(), MAX_SAMPLE_FLOWS)?;
    flows.into_iter().map(|flow| visible("flows", flow, MAX_FLOW_ID_BYTES)).collect()
}

impl From<Decision> for v1::Decision {
    fn from(decision: Decision) -> Self {
        Self {
            id: decision.id.0.to_be_bytes().to_vec(),
            verb: v1::Verb::from(decision.verb).into(),
            target: Some(decision.target.into()),
            origin: v1::Origin::from(decision.origin).into(),
            kinds: decision.kinds.iter().map(|kind| kind.name().to_owned()).collect(),
            score: Some(decision.score.into()),
            proof: v1::Proof::from(decision.proof).into(),
            sensors: decision.sensors,
            sample_flows: decision.sample_flows,
            reason: decision.reason,
            created_at: decision.created_at.as_micros(),
            expires_at: decision.expires_at.as_micros(),
            revision: decision.revision,
            traceparent: decision.trace.as_str().to_owned(),
            simulated: decision.simulated,
            first_packet_at: wire_time(decision.first_packet_at),
            threshold_at: wire_time(decision.threshold_at),
            held_by_rollout: 0,
        }
    }
}
