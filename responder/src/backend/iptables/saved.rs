//! A table as `iptables-save -c` prints it: are our chains and jumps there as [`rules`](super::rules) has them?

use super::{
    rules::{CHAIN_PREFIX, Chain, PROBES, Shape, Table, name_in, rate_in},
    sets::Family,
};
use crate::backend::Counters;
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

/// One table, whoever's chains they are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Saved {
    chains: BTreeMap<String, Vec<SavedRule>>,
}

/// One rule of a listing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct SavedRule {
    packets: u64,
    comment: Option<String>,
    target: String,
    /// What follows the chain's name, as `iptables-restore` takes it again.
    text: String,
}

impl Saved {
    /// Reads the part of a listing that is about `table`. Lines that it does not understand belong to others.
    pub(super) fn parse(listing: &str, table: Table) -> Self {
        let mut saved = Self::default();
        let mut within = false;
        for line in listing.lines() {
            if let Some(name) = line.strip_prefix('*') {
                within = name.trim() == table.name();
            } else if !within {
            } else if let Some(declared) = line.strip_prefix(':') {
                if let Some(name) = declared.split(' ').next() {
                    saved.chains.entry(name.to_owned()).or_default();
                }
            } else if let Some((chain, rule)) = parse_rule(line) {
                saved.chains.entry(chain.to_owned()).or_default().push(rule);
            }
        }
        saved
    }

    /// Rules that are not ours, for telling which variant a host uses.
    pub(super) fn foreign_rules(&self) -> usize {
        self.chains
            .iter()
            .filter(|(name, _)| !name.starts_with(CHAIN_PREFIX))
            .flat_map(|(_, rules)| rules)
            .filter(|rule| !rule.target.starts_with(CHAIN_PREFIX))
            .count()
    }

    /// Whether any chain of ours is here.
    pub(super) fn has_ours(&self) -> bool {
        self.chains.keys().any(|name| name.starts_with(CHAIN_PREFIX))
    }

    /// The throttle's rate, as the rules have it.
    pub(super) fn throttle_per_minute(&self) -> Option<u32> {
        self.chains.get("NETGUARD-RATE")?.iter().find_map(|rule| rate_in(name_in(rule.comment.as_deref()?)?))
    }

    /// Packets that the rules of these names in our chains took.
    fn counted(&self, beginnings: &str) -> u64 {
        self.chains
            .iter()
            .filter(|(name, _)| name.starts_with(CHAIN_PREFIX))
            .flat_map(|(_, rules)| rules)
            .filter(|rule| {
                rule.comment.as_deref().and_then(name_in).is_some_and(|name| name.starts_with(beginnings))
            })
            .map(|rule| rule.packets)
            .fold(0, u64::saturating_add)
    }

    /// Probes that ended at our rule for them.
    pub(super) fn probes(&self) -> u64 {
        self.counted(PROBES)
    }

    pub(super) fn add_counters(&self, counters: &mut Counters) {
        counters.blocked = counters.blocked.saturating_add(self.counted("blocked"));
        counters.throttled = counters.throttled.saturating_add(self.counted("throttled"));
        counters.shielded = counters.shielded.saturating_add(self.counted("held back"));
        let to_this_host = self.chains.get("NETGUARD-IN").into_iter().flatten();
        let shielded = to_this_host
            .filter(|rule| rule.comment.as_deref().and_then(name_in) == Some("shield"))
            .map(|rule| rule.packets);
        counters.shielded = shielded.fold(counters.shielded, u64::saturating_add);
        counters.proxied = counters.proxied.saturating_add(self.counted("proxied"));
    }

    /// What is not as it should be, in words.
    pub(super) fn faults(&self, shape: &Shape, table: Table, family: Family) -> Vec<String> {
        let mut faults = Vec::new();
        if !self.has_ours() {
            if shape.chains().any(|chain| chain.table == table) {
                faults.push(format!(
                    "our chains in the table {} of {} were missing",
                    table.name(),
                    family.name()
                ));
            }
            return faults;
        }
        let wanted: BTreeSet<_> =
            shape.chains().filter(|chain| chain.table == table).map(|chain| chain.name).collect();
        for chain in shape.chains().filter(|chain| chain.table == table) {
            faults.extend(self.fault_of(chain, shape, family));
            if let Some(base) = chain.base {
                faults.extend(self.fault_of_jump(chain, base, family));
            }
        }
        let left = self.chains.keys().filter(|name| name.starts_with(CHAIN_PREFIX));
        for name in left.filter(|name| !wanted.contains(name.as_str())) {
            faults.push(format!("chain {name} ({}) is no longer used", family.name()));
        }
        faults
    }

    fn fault_of(&self, chain: &Chain, shape: &Shape, family: Family) -> Option<String> {
        let Some(found) = self.chains.get(chain.name) else {
            return Some(format!("chain {} ({}) was missing", chain.name, family.name()));
        };
        let expected = shape.rules(chain, family);
        let same = found.len() == expected.len()
            && found.iter().zip(&expected).all(|(found, rule)| {
                found.comment.as_deref() == Some(&rule.comment()) && found.target == rule.target()
            });
        (!same).then(|| format!("the rules of chain {} ({}) were altered", chain.name, family.name()))
    }

    fn fault_of_jump(&self, chain: &Chain, base: &str, family: Family) -> Option<String> {
        let rules = self.chains.get(base).map(Vec::as_slice).unwrap_or_default();
        let jump = Shape::jump(chain).text();
        let places: Vec<_> = (0..).zip(rules).filter(|(_, rule)| rule.target == chain.name).collect();
        let what = match places.as_slice() {
            [(0, rule)] if rule.text == jump => return None,
            [] => "was missing",
            [(0, _)] => "was altered",
            [_] => "was not the first rule any more",
            _ => "stood there several times",
        };
        Some(format!("the jump from {base} to {} ({}) {what}", chain.name, family.name()))
    }

    /// The text for `iptables-restore --noflush` that makes `table` stand as it should in one transaction. It names
    /// jumps by their text, never by their place, so that it never hits another's rule: when somebody changed them
    /// meanwhile, all of it is refused.
    pub(super) fn build(&self, shape: &Shape, table: Table, family: Family) -> String {
        let wanted: Vec<_> = shape.chains().filter(|chain| chain.table == table).collect();
        if wanted.is_empty() {
            return self.demolish(table);
        }
        // Writing to a String cannot fail.
        let mut text = format!("*{}\n", table.name());
        for chain in &wanted {
            let _ = writeln!(text, ":{} - [0:0]", chain.name);
        }
        self.remove_jumps(&mut text);
        for chain in &wanted {
            for rule in shape.rules(chain, family) {
                let _ = writeln!(text, "-A {} {}", chain.name, rule.text());
            }
        }
        for chain in &wanted {
            if let Some(base) = chain.base {
                let _ = writeln!(text, "-I {base} 1 {}", Shape::jump(chain).text());
            }
        }
        self.remove_chains(|name| !wanted.iter().any(|chain| chain.name == name), &mut text);
        text.push_str("COMMIT\n");
        text
    }

    /// The text that removes all of ours from `table`; empty when there is nothing.
    pub(super) fn demolish(&self, table: Table) -> String {
        if !self.has_ours() {
            return String::new();
        }
        let mut text = format!("*{}\n", table.name());
        self.remove_jumps(&mut text);
        self.remove_chains(|_| true, &mut text);
        text.push_str("COMMIT\n");
        text
    }

    /// All rules in others' chains that lead to ours.
    fn remove_jumps(&self, text: &mut String) {
        for (chain, rules) in self.chains.iter().filter(|(name, _)| !name.starts_with(CHAIN_PREFIX)) {
            for rule in rules.iter().filter(|rule| rule.target.starts_with(CHAIN_PREFIX)) {
                let _ = writeln!(text, "-D {chain} {}", rule.text);
            }
        }
    }

    fn remove_chains(&self, which: impl Fn(&str) -> bool, text: &mut String) {
        let going =
            || self.chains.keys().filter(|name| name.starts_with(CHAIN_PREFIX)).filter(|name| which(name));
        for name in going() {
            let _ = writeln!(text, "-F {name}");
        }
        for name in going() {
            let _ = writeln!(text, "-X {name}");
        }
    }
}

/// `[packets:bytes] -A CHAIN …`; the counters may lack.
fn parse_rule(line: &str) -> Option<(&str, SavedRule)> {
    let (packets, rest) = match line.strip_prefix('[') {
        Some(counted) => {
            let (counters, rest) = counted.split_once("] ")?;
            (counters.split_once(':')?.0.parse().ok()?, rest)
        }
        None => (0, line),
    };
    let (chain, text) = match rest.strip_prefix("-A ")?.split_once(' ') {
        Some(both) => both,
        None => (rest.strip_prefix("-A ")?, ""),
    };
    let words = words(text);
    let after = |options: &[&str]| {
        let at = words.iter().position(|word| options.contains(&word.as_str()))?;
        words.get(at + 1).cloned()
    };
    Some((
        chain,
        SavedRule {
            packets,
            comment: after(&["--comment"]),
            target: after(&["-j", "-g", "--jump", "--goto"]).unwrap_or_default(),
            text: text.to_owned(),
        },
    ))
}

/// Words as iptables quotes them: in double quotes, with backslashes before quotes and backslashes.
fn words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quoted = false;
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '"' => {
                quoted = !quoted;
                word.get_or_insert_default();
            }
            '\\' => word.get_or_insert_default().extend(letters.next()),
            ' ' if !quoted => words.extend(word.take()),
            letter => word.get_or_insert_default().push(letter),
        }
    }
    words.extend(word);
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::Treatment;
    use proptest::prelude::*;

    const FOREIGN: &str = "# Generated by iptables-save\n*raw\n:PREROUTING ACCEPT [1:2]\nCOMMIT\n*filter\n\
        :INPUT ACCEPT [0:0]\n:FORWARD DROP [7:9]\n:OUTPUT ACCEPT [0:0]\n:DOCKER-USER - [0:0]\n\
        [3:180] -A INPUT -s 192.0.2.1/32 -m comment --comment \"say \\\"-j NETGUARD-IN\\\"\" -j DROP\n\
        [0:0] -A FORWARD -j DOCKER-USER\nCOMMIT\n";

    fn shape() -> Shape {
        Shape { throttle_per_minute: 7, synproxy: false, treatment: Treatment::default() }
    }

    /// What iptables would hold after `text`, as far as our own transactions go.
    fn carry_out(saved: &mut Saved, text: &str) {
        for line in text.lines() {
            if let Some(chain) = line.strip_prefix(':') {
                saved.chains.insert(chain.split(' ').next().unwrap().to_owned(), Vec::new());
            } else if let Some(rest) = line.strip_prefix("-I ") {
                let (chain, rest) = rest.split_once(" 1 ").unwrap();
                let rule = parse_rule(&format!("-A {chain} {rest}")).unwrap().1;
                saved.chains.get_mut(chain).unwrap().insert(0, rule);
            } else if let Some(rest) = line.strip_prefix("-D ") {
                let (chain, rest) = rest.split_once(' ').unwrap();
                let rules = saved.chains.get_mut(chain).unwrap();
                let at = rules.iter().position(|rule| rule.text == rest).unwrap();
                rules.remove(at);
            } else if let Some(chain) = line.strip_prefix("-F ") {
                saved.chains.get_mut(chain).unwrap().clear();
            } else if let Some(chain) = line.strip_prefix("-X ") {
                saved.chains.remove(chain).unwrap();
            } else if let Some((chain, rule)) = parse_rule(line) {
                saved.chains.get_mut(chain).unwrap().push(rule);
            }
        }
    }

    #[test]
    fn it_is_built_found_whole_and_demolished_beside_others() {
        let before = Saved::parse(FOREIGN, Table::Filter);
        assert_eq!(before.foreign_rules(), 2);
        assert!(!before.has_ours());
        let mut saved = before.clone();
        let missing = saved.faults(&shape(), Table::Filter, Family::V4);
        assert_eq!(missing, ["our chains in the table filter of IPv4 were missing"]);
        for _ in 0..2 {
            let text = saved.build(&shape(), Table::Filter, Family::V4);
            carry_out(&mut saved, &text);
            assert_eq!(saved.faults(&shape(), Table::Filter, Family::V4), [""; 0]);
            assert_eq!(saved.throttle_per_minute(), Some(7));
        }
        let faster = Shape { throttle_per_minute: 9, ..shape() };
        assert_eq!(
            saved.faults(&faster, Table::Filter, Family::V4),
            ["the rules of chain NETGUARD-RATE (IPv4) were altered"]
        );
        let text = saved.demolish(Table::Filter);
        carry_out(&mut saved, &text);
        assert_eq!(saved, before);
        assert_eq!(saved.demolish(Table::Filter), "");
    }

    #[test]
    fn a_jump_that_is_not_first_or_not_alone_is_a_fault() {
        let mut whole = Saved::parse(FOREIGN, Table::Filter);
        let text = whole.build(&shape(), Table::Filter, Family::V4);
        carry_out(&mut whole, &text);
        let faults = |change: &dyn Fn(&mut Vec<SavedRule>)| {
            let mut saved = whole.clone();
            change(saved.chains.get_mut("INPUT").unwrap());
            let faults = saved.faults(&shape(), Table::Filter, Family::V4);
            let text = saved.build(&shape(), Table::Filter, Family::V4);
            carry_out(&mut saved, &text);
            assert_eq!(saved.faults(&shape(), Table::Filter, Family::V4), [""; 0]);
            faults
        };
        for (change, what) in [
            (&|rules: &mut Vec<SavedRule>| rules.swap(0, 1) as _, "was not the first rule any more"),
            (&|rules: &mut Vec<SavedRule>| rules.push(rules[0].clone()) as _, "stood there several times"),
            (&|rules: &mut Vec<SavedRule>| drop(rules.remove(0)) as _, "was missing"),
            (&|rules: &mut Vec<SavedRule>| rules[0].text.insert_str(0, "-i eth0 ") as _, "was altered"),
        ] as [(&dyn Fn(&mut Vec<SavedRule>), &str); 4]
        {
            assert_eq!(faults(change), [format!("the jump from INPUT to NETGUARD-IN (IPv4) {what}")]);
        }
    }

    proptest! {
        #[test]
        fn any_listing_is_read_without_panic(listing in "(\\*filter\n|:[A-Z-]{0,12} |-A [A-Z]{1,9} |\\[[0-9:]{0,30}\\] |[ -~]|\n|-j NETGUARD-IN\n){0,60}") {
            let saved = Saved::parse(&listing, Table::Filter);
            let _ = saved.faults(&shape(), Table::Filter, Family::V6);
            let _ = saved.build(&shape(), Table::Filter, Family::V6);
            saved.add_counters(&mut Counters::default());
        }
    }
}
