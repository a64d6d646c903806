//! Our table: what stands before any decision, as nft reads it.
//!
//! No conntrack: no rule here has a `ct` expression, because the first one makes the kernel track every connection of
//! the host. Measured with `hping3 --flood --rand-source` at 106,000 SYN/s on a host that had none before: 262,144
//! entries (the limit, some 80 MB) within three seconds, and a quarter of the packet rate gone. New connections are
//! told by TCP's flags, and for the other protocols by a short memory of what was *sent* to throttled sources.
//! Only `synproxy` needs it; its rules stand only while something behind this host is shielded.
//!
//! Invariants: everything is in `table inet netguard`; building it twice changes nothing; rules may be replaced, sets
//! and what they hold are kept; each rule carries a comment with the schema's number, so that a listing tells whether
//! the rules are these.

mod filled;
mod matched;
mod rules;

use super::{
    places::{Place, Split, parts},
    sets::Set,
};
use crate::backend::{MAX_KEPT, Treatment};
use filled::filled_sets;
use matched::chains_of_parts;
use netguard_core::policy::Policy;
use std::{borrow::Cow, collections::BTreeSet, fmt::Write as _};

/// Family and name of everything that is ours.
pub(super) const TABLE: &str = "netguard";
/// Stands while a person switched enforcement off on this host (`netguard-responder flush`).
pub(super) const OFF_TABLE: &str = "netguard_off";
/// Raised with every change of the rules below: an older ruleset is replaced at the next start.
const SCHEMA: u32 = 5;

/// A chain with its hook, or without one.
#[derive(Debug, Clone)]
pub(super) struct Chain {
    pub name: Cow<'static, str>,
    /// Hook and priority.
    pub hook: Option<(&'static str, i32)>,
}

impl Chain {
    const fn named(name: &'static str, hook: Option<(&'static str, i32)>) -> Self {
        Self { name: Cow::Borrowed(name), hook }
    }
}

const INPUT: Chain = Chain::named("input", Some(("input", -10)));
const FORWARD: Chain = Chain::named("forward", Some(("forward", -10)));
const OUTPUT: Chain = Chain::named("output", Some(("output", -10)));
/// Where the packets of blocked sources go.
const STOP: Chain = Chain::named("stop", None);
/// What comes over loopback: only the responder's own probes go on.
const OWN: Chain = Chain::named("own", None);
/// Where probes end.
const PROBED: Chain = Chain::named("probed", None);
const SOURCES: Chain = Chain::named("sources", None);
const THROTTLE: Chain = Chain::named("throttle", None);
const REMEMBER: Chain = Chain::named("remember", None);
/// Where `synproxy` answers for services behind this host. (`synproxy` itself is a reserved word.)
const ANSWER: Chain = Chain::named("answer", None);
/// Where datagrams to shielded services show that their source is real.
const GREET: Chain = Chain::named("greet", None);
const PACE: Chain = Chain::named("pace", None);
/// Before connection tracking (priority -200), where `notrack` works.
pub(super) const UNTRACK: Chain = Chain::named("untrack", Some(("prerouting", -300)));

const UNTRACK_OWN: Chain = Chain::named("untrack_own", Some(("output", -300)));
/// What stands only while `synproxy` is wanted.
const SYNPROXY_CHAINS: &[Chain] = &[UNTRACK, UNTRACK_OWN];

/// The chains that always stand, jumped-to ones first: those that the chains of parts jump to, and the others.
const CALLED_CHAINS: &[Chain] = &[PACE, GREET, ANSWER, REMEMBER, THROTTLE, PROBED, STOP];
const CHAINS: &[Chain] = &[SOURCES, OWN, INPUT, FORWARD, OUTPUT];

pub(super) const COUNTERS: &[&str] =
    &["blocked", "throttled", "shielded", "proxied", PROBED_COUNTERS[0], PROBED_COUNTERS[1]];
/// Probes that were stopped, of IPv4 and of IPv6.
pub(super) const PROBED_COUNTERS: [&str; 2] = ["probed4", "probed6"];

/// Ends of others (address and port) of connections that nothing of ours cuts: name and declaration.
pub(super) const KEPT_SETS: [(&str, &str); 2] =
    [("kept4", "type ipv4_addr . inet_service;"), ("kept6", "type ipv6_addr . inet_service;")];

/// What the rules depend on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Shape {
    pub throttle_per_minute: u32,
    /// Whether something behind this host is shielded, and `synproxy` has to answer for it.
    pub synproxy: bool,
    /// The sets of prefixes that stand: one for each length in use.
    pub prefixes: BTreeSet<Set>,
    /// Sets that are kept in parts.
    pub split: Split,
    /// Elements that each set takes; `None`: as many as there is memory for. What is wanted has a bound of its own, and
    /// a kernel may make room for all of them beforehand.
    pub set_size: Option<u32>,
    pub treatment: Treatment,
}

impl Default for Shape {
    fn default() -> Self {
        Self {
            throttle_per_minute: Policy::default().throttle_per_minute,
            synproxy: false,
            prefixes: BTreeSet::new(),
            split: Split::default(),
            set_size: None,
            treatment: Treatment::default(),
        }
    }
}

impl Shape {
    /// How many elements a set takes.
    pub(super) fn set_size(&self) -> usize {
        self.set_size.map_or(usize::MAX, |size| usize::try_from(size).unwrap_or(usize::MAX))
    }

    /// The sets that decisions live in, as the kernel has them.
    pub(super) fn places(&self) -> impl Iterator<Item = Place> + '_ {
        let sets = Set::ALWAYS.iter().chain(&self.prefixes).copied();
        sets.map(Place::whole).chain(self.split.0.iter().copied().flat_map(parts))
    }

    /// All sets, those that packets fill included.
    pub(super) fn set_names(&self) -> impl Iterator<Item = String> + '_ {
        let others = filled_sets().map(|(name, _)| name).chain(KEPT_SETS.map(|(name, _)| name));
        self.places().map(|place| place.to_string()).chain(others.map(str::to_owned))
    }

    fn chains(&self) -> impl Iterator<Item = Chain> + '_ {
        let others = CHAINS.iter().chain(if self.synproxy { SYNPROXY_CHAINS } else { &[] });
        CALLED_CHAINS.iter().cloned().chain(self.part_chains()).chain(others.cloned())
    }

    /// The comments a listing has to show, chain by chain.
    pub(super) fn expected(&self) -> Vec<(Chain, Vec<String>)> {
        let comments =
            |chain: &Chain| self.rules(chain).into_iter().map(|(_, name)| comment(&name)).collect();
        self.chains().map(|chain| (chain.clone(), comments(&chain))).collect()
    }

    /// One transaction's text that makes the table and everything in it stand as it should, whatever stands already:
    /// sets are made where they lack and never emptied, rules are put anew.
    pub(super) fn script(&self) -> String {
        let mut text = String::with_capacity(8 << 10);
        // Writing to a String cannot fail.
        let _ = writeln!(text, "add table inet {TABLE}");
        for name in COUNTERS {
            let _ = writeln!(text, "add counter inet {TABLE} {name}");
        }
        for place in self.places() {
            let size = self.set_size.map(|size| format!(" size {size};")).unwrap_or_default();
            let _ = writeln!(text, "add set inet {TABLE} {place} {{ {}{size} }}", place.set.declaration());
        }
        for (name, declaration) in KEPT_SETS {
            let _ = writeln!(text, "add set inet {TABLE} {name} {{ {declaration} size {MAX_KEPT}; }}");
        }
        for (name, declaration) in filled_sets() {
            let _ = writeln!(text, "add set inet {TABLE} {name} {{ {declaration} }}");
        }
        if !self.synproxy {
            // Whether they stand or not, they are gone afterwards.
            for chain in SYNPROXY_CHAINS {
                Self::add_chain(chain, &mut text);
                let _ = writeln!(text, "flush chain inet {TABLE} {}", chain.name);
                let _ = writeln!(text, "delete chain inet {TABLE} {}", chain.name);
            }
        }
        for chain in self.chains() {
            Self::add_chain(&chain, &mut text);
        }
        for chain in self.chains() {
            self.refill(&chain, &mut text);
        }
        text
    }

    /// What removes parts and sets of prefixes that nothing refers to any more, after [`Self::script`].
    pub(super) fn without(
        unsplit: impl IntoIterator<Item = Set>,
        unused: impl IntoIterator<Item = Set>,
    ) -> String {
        let mut text = String::new();
        for set in unsplit {
            for Chain { name, .. } in chains_of_parts(set) {
                // It may be a part's set only that stands.
                let _ = writeln!(text, "add chain inet {TABLE} {name}");
                let _ = writeln!(text, "flush chain inet {TABLE} {name}\ndelete chain inet {TABLE} {name}");
            }
            for place in parts(set) {
                let _ = writeln!(text, "add set inet {TABLE} {place} {{ {} }}", set.declaration());
                let _ = writeln!(text, "delete set inet {TABLE} {place}");
            }
        }
        for set in unused {
            let _ = writeln!(text, "delete set inet {TABLE} {}", set.name());
        }
        text
    }

    /// The text that gives throttled sources another rate. What they used up so far is forgotten.
    pub(super) fn rate_script(&self) -> String {
        let mut text = String::new();
        self.refill(&THROTTLE, &mut text);
        for set in ["rate4", "rate6", "again_rate4", "again_rate6"] {
            let _ = writeln!(text, "flush set inet {TABLE} {set}");
        }
        text
    }

    fn add_chain(chain: &Chain, text: &mut String) {
        let _ = match chain.hook {
            Some((hook, priority)) => writeln!(
                text,
                "add chain inet {TABLE} {} {{ type filter hook {hook} priority {priority}; policy accept; }}",
                chain.name
            ),
            None => writeln!(text, "add chain inet {TABLE} {}", chain.name),
        };
    }

    fn refill(&self, chain: &Chain, text: &mut String) {
        let _ = writeln!(text, "flush chain inet {TABLE} {}", chain.name);
        for (statement, name) in self.rules(chain) {
            let _ = writeln!(
                text,
                "add rule inet {TABLE} {} {statement} comment \"{}\"",
                chain.name,
                comment(&name)
            );
        }
    }
}

/// The kernel's number of a hook of the inet family (linux/netfilter.h).
pub(super) fn hook_number(hook: &str) -> u32 {
    match hook {
        "prerouting" => 0,
        "input" => 1,
        "forward" => 2,
        "output" => 3,
        _ => 4,
    }
}

fn comment(name: &str) -> String {
    format!("netguard {SCHEMA}: {name}")
}

/// Whether a rule's comment is one of another schema.
pub(super) fn is_of_another_schema(comment: &str) -> bool {
    let schema = comment.strip_prefix("netguard ").and_then(|rest| rest.split_once(": "));
    schema.is_some_and(|(schema, _)| schema != SCHEMA.to_string())
}

/// The rate in a rule's comment, if it is the rule that has it; of any schema.
pub(super) fn rate_in(comment: &str) -> Option<u32> {
    let (_, name) = comment.strip_prefix("netguard ")?.split_once(": ")?;
    name.strip_prefix("rate4 ")?.strip_suffix("/minute")?.parse().ok()
}
