//! Our table as the kernel has it, without elements: is everything there as [`ruleset`](super::ruleset) builds it?
//!
//! Over netlink, since `nft list` loads every element first, even when asked for none of them.

use super::{
    legacy::{INTERVAL_SETS, IntervalSet},
    message::{attribute, be32, be64, text},
    netlink::{Netlink, Objects},
    places::{Place, Split},
    ruleset::{Chain, Shape, TABLE, hook_number, is_of_another_schema, rate_in},
    sets::Set,
};
use crate::backend::Counters;
use std::{
    collections::{BTreeMap, BTreeSet},
    io,
};

// linux/netfilter/nf_tables.h
const CHAIN_NAME: u16 = 3;
const CHAIN_HOOK: u16 = 4;
const CHAIN_POLICY: u16 = 5;
const HOOK_NUMBER: u16 = 1;
const HOOK_PRIORITY: u16 = 2;
const POLICY_ACCEPT: u32 = 1;
const RULE_CHAIN: u16 = 2;
const RULE_USERDATA: u16 = 7;
const SET_NAME: u16 = 2;
const OBJECT_NAME: u16 = 2;
const OBJECT_DATA: u16 = 4;
const COUNTER_PACKETS: u16 = 2;
/// libnftnl/udata.h: type and length in a byte each, then the value.
const USERDATA_COMMENT: u8 = 0;

/// The table without its elements.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Listing {
    sets: BTreeSet<String>,
    chains: BTreeMap<String, FoundChain>,
    counters: Counters,
    is_dormant: bool,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct FoundChain {
    /// Hook number and priority.
    hook: Option<(u32, i32)>,
    drops_by_default: bool,
    /// Comments of its rules, in order; empty for a rule that has none.
    rules: Vec<String>,
}

impl Listing {
    /// `None` when there is no such table.
    pub(super) fn read(netlink: &mut Netlink) -> io::Result<Option<Self>> {
        if !netlink.has_table(TABLE)? {
            return Ok(None);
        }
        let mut found = Self { is_dormant: netlink.is_dormant()?, ..Self::default() };
        for set in netlink.objects(Objects::Sets)? {
            found.sets.extend(text(&set, SET_NAME).map(str::to_owned));
        }
        for counter in netlink.objects(Objects::Stateful)? {
            match self::counter(&counter) {
                Some(("blocked", packets)) => found.counters.blocked = packets,
                Some(("throttled", packets)) => found.counters.throttled = packets,
                Some(("shielded", packets)) => found.counters.shielded = packets,
                Some(("proxied", packets)) => found.counters.proxied = packets,
                _ => {}
            }
        }
        for chain in netlink.objects(Objects::Chains)? {
            let Some(name) = text(&chain, CHAIN_NAME) else { continue };
            let number = |hook: &[u8], kind| attribute(hook, kind).and_then(be32);
            let hook = attribute(&chain, CHAIN_HOOK).and_then(|hook| {
                Some((number(hook, HOOK_NUMBER)?, number(hook, HOOK_PRIORITY)?.cast_signed()))
            });
            let policy = attribute(&chain, CHAIN_POLICY).and_then(be32);
            let drops_by_default = policy.is_some_and(|policy| policy != POLICY_ACCEPT);
            found.chains.insert(name.to_owned(), FoundChain { hook, drops_by_default, rules: Vec::new() });
        }
        for rule in netlink.objects(Objects::Rules)? {
            let Some(chain) = text(&rule, RULE_CHAIN) else { continue };
            let comment = attribute(&rule, RULE_USERDATA).and_then(comment).unwrap_or_default();
            found.chains.entry(chain.to_owned()).or_default().rules.push(comment.to_owned());
        }
        Ok(Some(found))
    }

    pub(super) fn counters(&self) -> Counters {
        self.counters
    }

    /// The rate that the throttle lets through.
    pub(super) fn throttle_per_minute(&self) -> Option<u32> {
        self.chains.get("throttle")?.rules.iter().find_map(|comment| rate_in(comment))
    }

    /// The sets of prefixes that stand, or of which parts do.
    pub(super) fn prefix_sets(&self) -> BTreeSet<Set> {
        let places = self.sets.iter().filter_map(|name| Place::named(name));
        places.map(|place| place.set).filter(|set| set.is_of_prefixes()).collect()
    }

    /// The sets of which parts stand.
    pub(super) fn split(&self) -> Split {
        let places = self.sets.iter().filter_map(|name| Place::named(name));
        Split(places.filter(|place| place.part.is_some()).map(|place| place.set).collect())
    }

    /// The interval sets that stand, if an older version made the table.
    pub(super) fn interval_sets(&self) -> impl Iterator<Item = IntervalSet> {
        INTERVAL_SETS.iter().copied().filter(|set| self.sets.contains(set.name))
    }

    /// Whether another version made the table: its sets may be of other types, which cannot be changed.
    pub(super) fn is_of_another_schema(&self) -> bool {
        self.interval_sets().next().is_some()
            || self.chains.values().flat_map(|chain| &chain.rules).any(|rule| is_of_another_schema(rule))
    }

    pub(super) fn has_chain(&self, chain: &Chain) -> bool {
        self.chains.contains_key(chain.name.as_ref())
    }

    /// What is missing or altered, in words; empty when all stands.
    pub(super) fn faults(&self, shape: &Shape) -> Vec<String> {
        let mut faults = Vec::new();
        if self.is_dormant {
            faults.push("the table was made dormant: its hooks were gone".to_owned());
        }
        for name in shape.set_names() {
            if !self.sets.contains(&name) {
                faults.push(format!("set {name} was missing"));
            }
        }
        for (chain, rules) in shape.expected() {
            let Some(found) = self.chains.get(chain.name.as_ref()) else {
                faults.push(format!("chain {} was missing", chain.name));
                continue;
            };
            let hook = chain.hook.map(|(hook, priority)| (hook_number(hook), priority));
            if found.hook != hook || found.drops_by_default {
                faults.push(format!("chain {} was hooked in otherwise", chain.name));
            }
            if found.rules != rules {
                faults.push(format!("the rules of chain {} were altered", chain.name));
            }
        }
        faults
    }
}

/// Name and packets of a counter.
pub(super) fn counter(object: &[u8]) -> Option<(&str, u64)> {
    let packets = attribute(object, OBJECT_DATA)
        .and_then(|data| attribute(data, COUNTER_PACKETS))
        .and_then(be64)
        .unwrap_or(0);
    Some((text(object, OBJECT_NAME)?, packets))
}

/// The comment in a rule's user data.
fn comment(mut data: &[u8]) -> Option<&str> {
    while let [kind, length, rest @ ..] = data {
        let value = rest.get(..usize::from(*length))?;
        if *kind == USERDATA_COMMENT {
            return std::str::from_utf8(value.strip_suffix(&[0]).unwrap_or(value)).ok();
        }
        data = rest.get(usize::from(*length)..)?;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::comment;

    #[test]
    fn comments_are_found_and_broken_data_is_not() {
        assert_eq!(comment(b"\x00\x03ab\x00"), Some("ab"));
        assert_eq!(comment(b"\x07\x01x\x00\x02a\x00"), Some("a"));
        for broken in [&b""[..], b"\x00", b"\x00\x05ab", b"\x07\x01", b"\x00\x01\xff"] {
            assert_eq!(comment(broken), None);
        }
    }
}
