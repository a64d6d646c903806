//! What `nft -j -t list table` says about our table: is everything there as [`ruleset`](super::ruleset) builds it?

use super::ruleset::{Chain, Shape, rate_in, set_names};
use crate::backend::{BackendError, Counters};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// The table without its elements.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Listing {
    sets: BTreeSet<String>,
    chains: BTreeMap<String, FoundChain>,
    counters: Counters,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct FoundChain {
    hook: Option<(String, i64)>,
    policy: Option<String>,
    /// Comments of its rules, in order; empty for a rule that has none.
    rules: Vec<String>,
}

impl Listing {
    pub(super) fn parse(json: &[u8]) -> Result<Self, BackendError> {
        let listing: Value = serde_json::from_slice(json)
            .map_err(|error| BackendError::Unreadable(format!("`nft -j list table`: {error}")))?;
        let objects = listing
            .get("nftables")
            .and_then(Value::as_array)
            .ok_or_else(|| BackendError::Unreadable("`nft -j list table` shows no objects".into()))?;
        let text = |value: &Value, key: &str| value.get(key).and_then(Value::as_str).map(str::to_owned);
        let mut found = Self::default();
        for object in objects {
            if let Some(set) = object.get("set") {
                found.sets.extend(text(set, "name"));
            } else if let Some(counter) = object.get("counter") {
                let packets = counter.get("packets").and_then(Value::as_u64).unwrap_or(0);
                match text(counter, "name").as_deref() {
                    Some("blocked") => found.counters.blocked = packets,
                    Some("throttled") => found.counters.throttled = packets,
                    Some("shielded") => found.counters.shielded = packets,
                    Some("proxied") => found.counters.proxied = packets,
                    _ => {}
                }
            } else if let Some(chain) = object.get("chain") {
                let Some(name) = text(chain, "name") else { continue };
                let entry = found.chains.entry(name).or_default();
                let priority = chain.get("prio").and_then(Value::as_i64);
                entry.hook = text(chain, "hook").zip(priority);
                entry.policy = text(chain, "policy");
            } else if let Some(rule) = object.get("rule") {
                let Some(chain) = text(rule, "chain") else { continue };
                let comment = text(rule, "comment").unwrap_or_default();
                found.chains.entry(chain).or_default().rules.push(comment);
            }
        }
        Ok(found)
    }

    pub(super) fn counters(&self) -> Counters {
        self.counters
    }

    /// The rate that the throttle lets through.
    pub(super) fn throttle_per_minute(&self) -> Option<u32> {
        self.chains.get("throttle")?.rules.iter().find_map(|comment| rate_in(comment))
    }

    pub(super) fn has_chain(&self, chain: &Chain) -> bool {
        self.chains.contains_key(chain.name)
    }

    /// What is missing or altered, in words; empty when all stands.
    pub(super) fn faults(&self, shape: Shape) -> Vec<String> {
        let mut faults = Vec::new();
        for name in set_names() {
            if !self.sets.contains(name) {
                faults.push(format!("set {name} was missing"));
            }
        }
        for (chain, rules) in shape.expected() {
            let Some(found) = self.chains.get(chain.name) else {
                faults.push(format!("chain {} was missing", chain.name));
                continue;
            };
            let hook = chain.hook.map(|(hook, priority)| (hook.to_owned(), i64::from(priority)));
            if found.hook != hook || found.policy.as_deref().is_some_and(|policy| policy != "accept") {
                faults.push(format!("chain {} was hooked in otherwise", chain.name));
            }
            if found.rules != rules {
                faults.push(format!("the rules of chain {} were altered", chain.name));
            }
        }
        faults
    }
}
