//! Our chains: what stands before any decision, as `iptables-restore` reads it.
//!
//! The same semantics as the nftables table has, without connection tracking for the same reasons (ADR 5): new TCP
//! connections are told by their flags, and for other protocols sets remember what was *sent* to throttled sources.
//! Only `SYNPROXY` needs tracking; its rules stand only while something behind this host is shielded.
//!
//! Invariants: every chain is named `NETGUARD-…` and every rule carries a comment with the schema's number; no chain of
//! others is emptied, and in theirs stands one jump of ours, at the top. Our chains never accept: what they do not stop
//! goes on to the operator's own rules.

mod limits;

use super::sets::Family;
use crate::{
    backend::{Refusal, Treatment},
    probe::{SOURCE4, SOURCE6},
};

/// Begins the name of every chain of ours.
pub(super) const CHAIN_PREFIX: &str = "NETGUARD-";
/// Raised with every change of the rules below: older ones are replaced at the next start.
const SCHEMA: u32 = 3;

/// Room in each table that packets fill by themselves. A full one costs a throttled source its connections and a
/// returning client its way past `SYNPROXY`, never anybody else anything.
pub(super) const DYNAMIC_SIZE: u32 = 65_536;

/// Sources of datagrams that can be remembered at a time, while a UDP service is under attack.
pub(super) const GREETED_SIZE: u32 = 1 << 20;

const OPEN_TCP: &str = "-p tcp -m tcp ! --tcp-flags SYN,ACK SYN";
const NEW_TCP: &str = "-p tcp -m tcp --tcp-flags SYN,ACK SYN";
/// Data over an open connection: only a completed handshake brings the kernel to send any.
const DATA: &str = "-p tcp -m tcp --tcp-flags SYN,RST,PSH,ACK PSH,ACK";
const BARE_ACK: &str = "-p tcp -m tcp --tcp-flags FIN,SYN,RST,PSH,ACK ACK";
const SYNPROXY: &str = "-j SYNPROXY --sack-perm --timestamp --wscale 7 --mss 1460";

/// The name of the rule where the responder's own probes end.
pub(super) const PROBES: &str = "probes";

/// Where probes come from.
fn own_source(family: Family) -> String {
    match family {
        Family::V4 => format!("{SOURCE4}/32"),
        Family::V6 => format!("{SOURCE6}/128"),
    }
}

/// A table of iptables that we have chains in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Table {
    Filter,
    Raw,
}

impl Table {
    pub(super) const ALL: [Self; 2] = [Self::Filter, Self::Raw];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Filter => "filter",
            Self::Raw => "raw",
        }
    }
}

/// A chain of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Chain {
    pub table: Table,
    pub name: &'static str,
    /// The kernel's chain that jumps to it first of all.
    pub base: Option<&'static str>,
}

const fn chain(table: Table, name: &'static str, base: Option<&'static str>) -> Chain {
    Chain { table, name, base }
}

const CHAINS: &[Chain] = &[
    chain(Table::Filter, "NETGUARD-IN", Some("INPUT")),
    chain(Table::Filter, "NETGUARD-FWD", Some("FORWARD")),
    chain(Table::Filter, "NETGUARD-OUT", Some("OUTPUT")),
    chain(Table::Filter, "NETGUARD-SOURCES", None),
    chain(Table::Filter, "NETGUARD-STOP", None),
    chain(Table::Filter, "NETGUARD-THROTTLE", None),
    chain(Table::Filter, "NETGUARD-RATE", None),
    chain(Table::Filter, "NETGUARD-AGAIN", None),
    chain(Table::Filter, "NETGUARD-OVER", None),
    chain(Table::Filter, "NETGUARD-REMEMBER", None),
    chain(Table::Filter, "NETGUARD-GREET", None),
    chain(Table::Filter, "NETGUARD-PACE", None),
];

/// What stands only while `SYNPROXY` is wanted.
const SYNPROXY_CHAINS: &[Chain] = &[
    chain(Table::Filter, "NETGUARD-ANSWER", None),
    chain(Table::Raw, "NETGUARD-UNTRACK", Some("PREROUTING")),
    chain(Table::Raw, "NETGUARD-UNTROUT", Some("OUTPUT")),
];

/// A rule: what it matches, what it does, and its name, which its comment is made from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rule {
    pub matches: String,
    /// `-j` or `-g` with its options; empty when it only counts.
    pub action: String,
    pub name: String,
}

impl Rule {
    fn new(name: &str, matches: &str, action: &str) -> Self {
        Self { matches: matches.to_owned(), action: action.to_owned(), name: name.to_owned() }
    }

    pub(super) fn comment(&self) -> String {
        format!("netguard {SCHEMA}: {}", self.name)
    }

    /// As a line says it after the chain's name.
    pub(super) fn text(&self) -> String {
        [self.matches.as_str(), &format!("-m comment --comment \"{}\"", self.comment()), &self.action]
            .into_iter()
            .filter(|part| !part.is_empty())
            .collect::<Vec<_>>()
            .join(" ")
    }

    /// Where a packet goes that it matches.
    pub(super) fn target(&self) -> &str {
        self.action.split(' ').nth(1).unwrap_or_default()
    }
}

/// The name in a comment of ours, of any schema.
pub(super) fn name_in(comment: &str) -> Option<&str> {
    comment.strip_prefix("netguard ")?.split_once(": ").map(|(_, name)| name)
}

/// The rate in a rule's name, if it is the rule that has it.
pub(super) fn rate_in(name: &str) -> Option<u32> {
    name.strip_prefix("rate ")?.strip_suffix("/minute")?.parse().ok()
}

/// What the rules depend on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Shape {
    pub throttle_per_minute: u32,
    /// Whether something behind this host is shielded, and `SYNPROXY` has to answer for it.
    pub synproxy: bool,
    pub treatment: Treatment,
}

impl Shape {
    pub(super) fn chains(&self) -> impl Iterator<Item = &'static Chain> {
        CHAINS.iter().chain(if self.synproxy { SYNPROXY_CHAINS } else { &[] })
    }

    /// The jump to a chain of ours that stands at the top of the kernel's.
    pub(super) fn jump(chain: &Chain) -> Rule {
        Rule::new(chain.name, "", &format!("-j {}", chain.name))
    }

    /// The rules of a chain, in order.
    pub(super) fn rules(&self, chain: &Chain, family: Family) -> Vec<Rule> {
        let f = family.digit();
        let rule = Rule::new;
        let in_set = |set: &str, direction: &str| format!("-m set --match-set netguard-{set} {direction}");
        // Looked up without counting: counters of elements are of what was stopped.
        let looked_up =
            |set: &str, direction: &str| format!("{} ! --update-counters", in_set(set, direction));
        let sent_data = [
            rule("proven", DATA, &format!("-j SET --add-set netguard-proven{f} dst --exist")),
            rule("served", DATA, &format!("-j SET --add-set netguard-served{f} dst,src --exist")),
        ];
        let (block, block_net) = (format!("block{f}"), format!("block{f}-net"));
        let (throttle, throttle_net) = (format!("throttle{f}"), format!("throttle{f}-net"));
        let shield = looked_up(&format!("shield{f}"), "dst,dst");
        let datagrams = rule("datagrams", &format!("-p udp {shield}"), "-j NETGUARD-GREET");
        let remember = [
            rule("remember", &looked_up(&throttle, "dst"), "-g NETGUARD-REMEMBER"),
            rule("remember prefixes", &looked_up(&throttle_net, "dst"), "-g NETGUARD-REMEMBER"),
        ];
        match chain.name {
            "NETGUARD-IN" => vec![
                // All that comes over loopback but the responder's own probes.
                rule("own traffic", &format!("-i lo ! -s {}", own_source(family)), "-j RETURN"),
                // Before anything of ours can drop: connections that are open, never new ones.
                rule("kept", &format!("{OPEN_TCP} {}", in_set(&format!("kept{f}"), "src,src")), "-j RETURN"),
                rule("sources", "", "-j NETGUARD-SOURCES"),
                rule("shield", &format!("{NEW_TCP} {}", in_set(&format!("shield{f}"), "dst,dst")), ""),
                datagrams,
            ],
            "NETGUARD-FWD" => {
                let mut rules = vec![rule("sources", "", "-j NETGUARD-SOURCES")];
                rules.extend(sent_data);
                rules.push(datagrams);
                if self.synproxy {
                    rules.push(rule("shield", &format!("-p tcp {shield}"), "-j NETGUARD-ANSWER"));
                }
                rules.extend(remember);
                rules
            }
            "NETGUARD-OUT" => {
                let mut rules = vec![rule("own traffic", "-o lo", "-j RETURN")];
                rules.extend(sent_data);
                rules.extend(remember);
                rules
            }
            "NETGUARD-SOURCES" => vec![
                rule("block", &in_set(&block, "src"), "-g NETGUARD-STOP"),
                rule("block prefixes", &in_set(&block_net, "src"), "-g NETGUARD-STOP"),
                rule("throttle", &looked_up(&throttle, "src"), "-g NETGUARD-THROTTLE"),
                rule("throttle prefixes", &looked_up(&throttle_net, "src"), "-g NETGUARD-THROTTLE"),
            ],
            "NETGUARD-STOP" => self.stop(family),
            "NETGUARD-GREET" => limits::greet(family),
            "NETGUARD-PACE" => limits::pace(family),
            "NETGUARD-THROTTLE" => limits::throttle(family),
            "NETGUARD-RATE" => limits::rate(self.throttle_per_minute, family),
            "NETGUARD-AGAIN" => limits::again(self.throttle_per_minute, family),
            // Looked up once more, so that the element counts what was stopped.
            "NETGUARD-OVER" => vec![
                rule("throttled", &in_set(&throttle, "src"), "-j DROP"),
                rule("throttled prefixes", &in_set(&throttle_net, "src"), "-j DROP"),
                rule("throttled until now", "", "-j DROP"),
            ],
            // Where it was sent to and where it came from, in two sets, since no set has both ports: an answer has to
            // fit both.
            "NETGUARD-REMEMBER" => vec![
                rule("tcp", "-p tcp", "-j RETURN"),
                match family {
                    Family::V4 => rule("icmp", "-p icmp", "-j RETURN"),
                    Family::V6 => rule("icmp", "-p ipv6-icmp", "-j RETURN"),
                },
                rule("sent to", "", &format!("-j SET --add-set netguard-sent{f} dst,dst --exist")),
                rule("sent from", "", &format!("-j SET --add-set netguard-asked{f} dst,src --exist")),
            ],
            // Packets forwarded to a shielded service. A source that completed a handshake lately passes; all else has
            // to answer a SYN cookie first. The second SYNPROXY is for nf_conntrack_tcp_loose=1 (the kernel's default),
            // where the client's ACK counts as new instead of invalid.
            "NETGUARD-ANSWER" => vec![
                rule("proven", &in_set(&format!("proven{f}"), "src"), "-j RETURN"),
                rule("proxied", "-p tcp -m conntrack --ctstate INVALID,UNTRACKED", SYNPROXY),
                rule(
                    "proxied, loose",
                    "-p tcp -m conntrack --ctstate NEW -m tcp --tcp-flags SYN,RST,ACK ACK",
                    SYNPROXY,
                ),
                rule("stray", "-p tcp -m conntrack --ctstate INVALID", "-j DROP"),
            ],
            // Unanswered SYNs must not fill the connection table either.
            "NETGUARD-UNTRACK" => vec![
                rule("proven", &format!("{NEW_TCP} {}", in_set(&format!("proven{f}"), "src")), "-j RETURN"),
                rule(
                    "shield",
                    &format!("{NEW_TCP} {shield} -m addrtype ! --dst-type LOCAL"),
                    "-j CT --notrack",
                ),
            ],
            // The ACK by which SYNPROXY itself completes the handshake with the service (see the nftables ruleset).
            "NETGUARD-UNTROUT" => vec![rule(
                "own handshake",
                &format!("{BARE_ACK} {shield} -m addrtype ! --src-type LOCAL"),
                "-j CT --notrack",
            )],
            _ => Vec::new(),
        }
    }

    fn stop(&self, family: Family) -> Vec<Rule> {
        // Nothing else comes from loopback to here: neither logged, nor answered.
        let mut rules = vec![Rule::new(PROBES, "-i lo", "-j DROP")];
        if let Some(log) = &self.treatment.log {
            rules.push(Rule::new(
                &format!("log {}/s {}", log.per_second, log.prefix),
                &format!("-m limit --limit {0}/second --limit-burst {0}", log.per_second),
                &format!("-j LOG --log-prefix \"{}\"", log.prefix),
            ));
        }
        match self.treatment.action {
            Refusal::Drop => rules.push(Rule::new("blocked", "", "-j DROP")),
            Refusal::Reject => {
                let prohibited = match family {
                    Family::V4 => "icmp-admin-prohibited",
                    Family::V6 => "icmp6-adm-prohibited",
                };
                rules.push(Rule::new("blocked tcp", "-p tcp", "-j REJECT --reject-with tcp-reset"));
                rules.push(Rule::new("blocked", "", &format!("-j REJECT --reject-with {prohibited}")));
            }
        }
        rules
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rule_has_its_own_name_in_its_chain_and_a_comment_that_fits() {
        let treatment = Treatment { action: Refusal::Reject, log: Some(crate::backend::Log::default()) };
        let shape = Shape { throttle_per_minute: 60_000, synproxy: true, treatment };
        for family in Family::ALL {
            for chain in shape.chains() {
                assert!(chain.name.starts_with(CHAIN_PREFIX) && chain.name.len() <= 28);
                let rules = shape.rules(chain, family);
                assert!(!rules.is_empty(), "{}", chain.name);
                let names: std::collections::BTreeSet<_> = rules.iter().map(|rule| &rule.name).collect();
                assert_eq!(names.len(), rules.len(), "{}", chain.name);
                assert!(rules.iter().all(|rule| rule.comment().len() < 256));
            }
        }
    }

    #[test]
    fn a_rule_tells_where_it_sends_packets() {
        let rule = Rule::new("rate 20/minute", "-p tcp", "-g NETGUARD-OVER");
        assert_eq!(rule.target(), "NETGUARD-OVER");
        assert_eq!(Rule::new("x", "", "").target(), "");
        assert_eq!(
            rule.text(),
            format!("-p tcp -m comment --comment \"netguard {SCHEMA}: rate 20/minute\" -g NETGUARD-OVER")
        );
        assert_eq!(name_in(&rule.comment()).and_then(rate_in), Some(20));
    }
}
