//! The rules that look for a packet's address in the sets, also where these are kept in parts.

use super::{Chain, Shape};
use crate::backend::nftables::{
    places::{Place, part_expression, parts},
    sets::Set,
};
use netguard_core::decision::Verb;

/// What is done with packets from or to the members of a verb's sets.
#[derive(Debug, Clone, Copy)]
pub(super) struct Matched {
    verb: Verb,
    /// Begins the names of its rules.
    name: &'static str,
    address: &'static str,
    statement: &'static str,
    /// Ends the names of its parts' chains.
    suffix: &'static str,
}

pub(super) const ANSWERED: Matched = Matched {
    verb: Verb::Throttle,
    name: "remember ",
    address: "daddr",
    statement: "jump remember",
    suffix: "_back",
};
pub(super) const BLOCKED: Matched =
    Matched { verb: Verb::Block, name: "", address: "saddr", statement: "goto stop", suffix: "" };
pub(super) const THROTTLED: Matched =
    Matched { verb: Verb::Throttle, name: "", address: "saddr", statement: "jump throttle", suffix: "" };

impl Matched {
    /// The name of a part's chain.
    fn chain(self, place: Place) -> String {
        format!("{place}{}", self.suffix)
    }
}

/// The chains of the parts of a set.
pub(super) fn chains_of_parts(set: Set) -> impl Iterator<Item = Chain> {
    let matched =
        [BLOCKED, THROTTLED, ANSWERED].into_iter().filter(move |matched| matched.verb == set.verb());
    matched.flat_map(move |matched| {
        parts(set).map(move |place| Chain { name: matched.chain(place).into(), hook: None })
    })
}

impl Shape {
    /// The sets that decisions of a verb live in: those of single addresses first.
    fn sets(&self, verb: Verb) -> impl Iterator<Item = Set> {
        let always = Set::ALWAYS.iter().copied();
        always.chain(self.prefixes.iter().copied()).filter(move |set| set.verb() == verb)
    }

    /// What is done with packets whose `address` is in a set of a verb: a rule for each set. A set that is split has one
    /// more, to the chain of the address' part; the set itself is empty then, but for the moment in which it is split.
    pub(super) fn for_each_set(&self, matched: Matched) -> Vec<(String, String)> {
        let Matched { verb, name, address, statement, .. } = matched;
        let mut rules = Vec::new();
        for set in self.sets(verb) {
            rules.push((
                format!("{} {statement}", Place::whole(set).lookup(address)),
                format!("{name}{}", set.name()),
            ));
            if self.split.contains(set) {
                let to: Vec<String> = parts(set)
                    .enumerate()
                    .map(|(part, place)| format!("{part} : jump {}", matched.chain(place)))
                    .collect();
                rules.push((
                    format!("{} vmap {{ {} }}", part_expression(set, address), to.join(", ")),
                    format!("{name}{} in parts", set.name()),
                ));
            }
        }
        rules
    }

    /// The chains of the parts of what is split.
    pub(super) fn part_chains(&self) -> impl Iterator<Item = Chain> + '_ {
        self.split.0.iter().flat_map(|set| chains_of_parts(*set))
    }

    /// The rule of a part's chain.
    pub(super) fn rule_of_part(chain: &Chain) -> Vec<(String, String)> {
        let found = [BLOCKED, THROTTLED, ANSWERED].into_iter().find_map(|matched| {
            let place = Place::named(chain.name.strip_suffix(matched.suffix)?)?;
            (place.part.is_some() && place.set.verb() == matched.verb).then_some((matched, place))
        });
        found.map_or_else(Vec::new, |(matched, place)| {
            vec![(format!("{} {}", place.lookup(matched.address), matched.statement), place.to_string())]
        })
    }
}
