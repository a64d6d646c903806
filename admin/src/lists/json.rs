//! Our own export, and CrowdSec's `cscli decisions list -o json`.

use super::{List, ListError, document, seconds};
use crate::moment;
use serde::Deserialize;

/// `{"decisions": […]}`.
#[derive(Deserialize)]
struct Document {
    decisions: Option<Vec<Item>>,
}

/// A decision of ours, one of CrowdSec's, or one of its alerts with the decisions it led to.
#[derive(Default, Deserialize)]
struct Item {
    #[serde(alias = "address", alias = "value", alias = "ip")]
    target: Option<String>,
    #[serde(alias = "type")]
    verb: Option<String>,
    duration: Option<String>,
    /// In ours: when it ends, microseconds since the Unix epoch.
    expires_at_us: Option<u64>,
    #[serde(alias = "scenario")]
    reason: Option<String>,
    scope: Option<String>,
    #[serde(default)]
    simulated: Option<bool>,
    /// Of an alert. One level, so that depth is bounded by the types.
    decisions: Option<Vec<Decision>>,
}

#[derive(Deserialize)]
struct Decision {
    value: Option<String>,
    #[serde(rename = "type")]
    verb: Option<String>,
    duration: Option<String>,
    scenario: Option<String>,
    scope: Option<String>,
    #[serde(default)]
    simulated: Option<bool>,
}

impl From<Decision> for Item {
    fn from(decision: Decision) -> Self {
        Self {
            target: decision.value,
            verb: decision.verb,
            duration: decision.duration,
            reason: decision.scenario,
            scope: decision.scope,
            simulated: decision.simulated,
            ..Self::default()
        }
    }
}

pub(super) fn read(input: &str) -> Result<List, ListError> {
    let items = match input.trim_start().chars().next() {
        Some('[') => document::<Vec<Item>>(input)?,
        Some('{') => document::<Document>(input)?.decisions.unwrap_or_default(),
        // What `cscli` prints when there is nothing.
        _ => document::<Option<Vec<Item>>>(input)?.unwrap_or_default(),
    };
    let mut list = List::default();
    let now = moment::now();
    for (place, item) in (1_u32..).zip(items) {
        match item.decisions {
            Some(decisions) => {
                decisions.into_iter().try_for_each(|decision| one(&mut list, place, decision.into(), now))?;
            }
            None => one(&mut list, place, item, now)?,
        }
    }
    Ok(list)
}

fn one(list: &mut List, place: u32, item: Item, now: u64) -> Result<(), ListError> {
    if item.simulated == Some(true) {
        list.complain(place, "only simulated where it comes from");
        return Ok(());
    }
    if let Some(verb) = item.verb.as_deref()
        && !matches!(verb, "ban" | "block")
    {
        list.complain(place, "neither a ban nor a block");
        return Ok(());
    }
    if let Some(scope) = item.scope.as_deref()
        && !["ip", "range"].iter().any(|known| scope.eq_ignore_ascii_case(known))
    {
        list.complain(place, "about something else than an address or a range");
        return Ok(());
    }
    let Some(target) = item.target else {
        list.complain(place, "no address in it");
        return Ok(());
    };
    let ttl = match (item.duration.as_deref(), item.expires_at_us.filter(|end| *end > 0)) {
        (Some(text), _) => seconds(text),
        (None, Some(end)) => Some(end.saturating_sub(now) / 1_000_000).filter(|left| *left > 0),
        (None, None) => return list.add(place, &target, None, item.reason.as_deref()),
    };
    match ttl {
        Some(ttl) => list.add(place, &target, Some(ttl), item.reason.as_deref()),
        None => {
            list.complain(place, "it has run out, or its duration is none");
            Ok(())
        }
    }
}
