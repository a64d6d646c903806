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

use super::sets::Set;
use crate::{
    backend::{Log, MAX_KEPT, Refusal, Treatment},
    probe::{SOURCE4, SOURCE6},
};
use netguard_core::{decision::Verb, policy::Policy};
use std::{collections::BTreeSet, fmt::Write as _};

/// Family and name of everything that is ours.
pub(super) const TABLE: &str = "netguard";
/// Stands while a person switched enforcement off on this host (`netguard-responder flush`).
pub(super) const OFF_TABLE: &str = "netguard_off";
/// Raised with every change of the rules below: an older ruleset is replaced at the next start.
const SCHEMA: u32 = 5;

/// New connections a throttled source may open at once before the rate counts.
const THROTTLE_BURST: u32 = 5;
/// New connections of a throttled source to a service that served it within the hour: a browser's, not a scanner's.
const SERVED_PER_MINUTE: u32 = 300;
const SERVED_BURST: u32 = 60;
/// Of a throttled source's rate, the part that passes at the first asking; the whole rate is for attempts that are
/// repeated. Measured with `nmap -sS` at 18 probes a second (it slows down by itself when nothing answers): one in 55
/// was answered with the whole rate at the first asking. Its other clients wait a second, and nothing more.
const AT_FIRST: u32 = 4;
/// Room in each set that packets fill by themselves. A full one costs a throttled source its connections and a
/// returning client its way past `synproxy`, never anybody else anything.
const DYNAMIC_SET_SIZE: u32 = 65_536;

/// Datagrams from sources never seen before that can be remembered at a time. One takes about 100 bytes of the kernel's
/// memory, and only while a UDP service is under attack.
const GREETED_SIZE: u32 = 1 << 20;
/// Datagrams a second from one source (IPv6: one /64) to a shielded service. More than a busy tunnel needs; a source
/// that sends more over time is one to be blocked, not shielded from.
const DATAGRAMS_PER_SOURCE: u32 = 5_000;
/// First datagrams a second that pass unseen when no more can be remembered: some of the innocent get through even then.
const UNSEEN_PER_SECOND: u32 = 1_000;

/// A chain with its hook, or without one.
#[derive(Debug, Clone, Copy)]
pub(super) struct Chain {
    pub name: &'static str,
    /// Hook and priority.
    pub hook: Option<(&'static str, i32)>,
}

const INPUT: Chain = Chain { name: "input", hook: Some(("input", -10)) };
const FORWARD: Chain = Chain { name: "forward", hook: Some(("forward", -10)) };
const OUTPUT: Chain = Chain { name: "output", hook: Some(("output", -10)) };
/// Where the packets of blocked sources go.
const STOP: Chain = Chain { name: "stop", hook: None };
/// What comes over loopback: only the responder's own probes go on.
const OWN: Chain = Chain { name: "own", hook: None };
/// Where probes end.
const PROBED: Chain = Chain { name: "probed", hook: None };
const SOURCES: Chain = Chain { name: "sources", hook: None };
const THROTTLE: Chain = Chain { name: "throttle", hook: None };
const REMEMBER: Chain = Chain { name: "remember", hook: None };
/// Where `synproxy` answers for services behind this host. (`synproxy` itself is a reserved word.)
const ANSWER: Chain = Chain { name: "answer", hook: None };
/// Where datagrams to shielded services show that their source is real.
const GREET: Chain = Chain { name: "greet", hook: None };
const PACE: Chain = Chain { name: "pace", hook: None };
/// Before connection tracking (priority -200), where `notrack` works.
pub(super) const UNTRACK: Chain = Chain { name: "untrack", hook: Some(("prerouting", -300)) };

const UNTRACK_OWN: Chain = Chain { name: "untrack_own", hook: Some(("output", -300)) };
/// What stands only while `synproxy` is wanted.
const SYNPROXY_CHAINS: &[Chain] = &[UNTRACK, UNTRACK_OWN];

/// The chains that always stand; jumped-to ones first.
pub(super) const CHAINS: &[Chain] =
    &[PACE, GREET, ANSWER, REMEMBER, THROTTLE, PROBED, STOP, SOURCES, OWN, INPUT, FORWARD, OUTPUT];

pub(super) const COUNTERS: &[&str] =
    &["blocked", "throttled", "shielded", "proxied", PROBED_COUNTERS[0], PROBED_COUNTERS[1]];
/// Probes that were stopped, of IPv4 and of IPv6.
pub(super) const PROBED_COUNTERS: [&str; 2] = ["probed4", "probed6"];

/// Sets that packets fill: name and declaration.
const DYNAMIC_SETS: &[(&str, &str)] = &[
    // Sources that a handshake of was completed lately: they were sent data over an open connection.
    ("proven4", "type ipv4_addr; flags dynamic, timeout; timeout 1h;"),
    ("proven6", "type ipv6_addr; flags dynamic, timeout; timeout 1h;"),
    // The services they were sent that data from.
    ("served4", "type ipv4_addr . inet_service; flags dynamic, timeout; timeout 1h;"),
    ("served6", "type ipv6_addr . inet_service; flags dynamic, timeout; timeout 1h;"),
    ("served_rate4", "type ipv4_addr; flags dynamic, timeout; timeout 10m;"),
    ("served_rate6", "type ipv6_addr; flags dynamic, timeout; timeout 10m;"),
    // Connection attempts of throttled sources that were dropped: a TCP stack sends the very same again after 1, 3 and
    // 7 s (RFC 6298 5), a scanner hardly ever does.
    ("asked4", "type ipv4_addr . inet_service . inet_service; flags dynamic, timeout; timeout 10s;"),
    ("asked6", "type ipv6_addr . inet_service . inet_service; flags dynamic, timeout; timeout 10s;"),
    ("again_rate4", "type ipv4_addr; flags dynamic, timeout; timeout 10m;"),
    ("again_rate6", "type ipv6_addr; flags dynamic, timeout; timeout 10m;"),
    // Rates of throttled sources, IPv6 per /64: whoever has one address there has them all.
    ("rate4", "type ipv4_addr; flags dynamic, timeout; timeout 10m;"),
    ("rate6", "type ipv6_addr; flags dynamic, timeout; timeout 10m;"),
    // What was sent to throttled sources lately: their answers belong to existing exchanges.
    (
        "sent4",
        "type ipv4_addr . inet_proto . inet_service . inet_service; flags dynamic, timeout; timeout 3m;",
    ),
    (
        "sent6",
        "type ipv6_addr . inet_proto . inet_service . inet_service; flags dynamic, timeout; timeout 3m;",
    ),
    // Sources that repeated a datagram that was held back, to a shielded service.
    ("known4", "type ipv4_addr; flags dynamic, timeout; timeout 1h;"),
    ("known6", "type ipv6_addr; flags dynamic, timeout; timeout 1h;"),
    ("datagrams4", "type ipv4_addr; flags dynamic, timeout; timeout 10s;"),
    ("datagrams6", "type ipv6_addr; flags dynamic, timeout; timeout 10s;"),
    ("sent4_other", "type ipv4_addr . inet_proto; flags dynamic, timeout; timeout 3m;"),
    ("sent6_other", "type ipv6_addr . inet_proto; flags dynamic, timeout; timeout 3m;"),
];

/// Sources whose first datagram to a shielded service was held back just now: longer than any usual client waits before
/// it sends again (resolv.conf(5): 5 s; QUIC, RFC 9002 6.2: 1 s; SIP, RFC 3261 17.1: 0.5 s).
const GREETED_SETS: &[(&str, &str)] = &[
    ("greeted4", "type ipv4_addr; flags dynamic, timeout; timeout 6s;"),
    ("greeted6", "type ipv6_addr; flags dynamic, timeout; timeout 6s;"),
];

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
            set_size: None,
            treatment: Treatment::default(),
        }
    }
}

impl Shape {
    /// The sets that decisions of a verb live in: those of single addresses first.
    fn sets(&self, verb: Verb) -> impl Iterator<Item = Set> {
        let always = Set::ALWAYS.iter().copied();
        always.chain(self.prefixes.iter().copied()).filter(move |set| set.verb() == verb)
    }

    /// How many elements a set takes.
    pub(super) fn set_size(&self) -> usize {
        self.set_size.map_or(usize::MAX, |size| usize::try_from(size).unwrap_or(usize::MAX))
    }

    /// All sets, those that packets fill included.
    pub(super) fn set_names(&self) -> impl Iterator<Item = String> {
        let ours = Set::ALWAYS.iter().chain(&self.prefixes).map(|set| set.name());
        let others = DYNAMIC_SETS.iter().chain(GREETED_SETS).chain(&KEPT_SETS);
        ours.chain(others.map(|(name, _)| (*name).to_owned()))
    }

    /// A rule for each set of a verb: `statement` on packets whose `address` is in it.
    fn for_each_set(&self, verb: Verb, name: &str, address: &str, statement: &str) -> Vec<(String, String)> {
        self.sets(verb)
            .map(|set| (format!("{} {statement}", set.lookup(address)), format!("{name}{}", set.name())))
            .collect()
    }

    /// How blocked packets end.
    fn stop(&self) -> Vec<(String, String)> {
        let mut rules = vec![("iifname \"lo\" goto probed".to_owned(), "probes".to_owned())];
        if let Some(Log { prefix, per_second }) = &self.treatment.log {
            rules.push((
                format!("limit rate {per_second}/second burst {per_second} packets log prefix \"{prefix}\""),
                format!("log {per_second}/second {prefix}"),
            ));
        }
        let counted = "counter name \"blocked\"";
        match self.treatment.action {
            Refusal::Drop => rules.push((format!("{counted} drop"), "drop".to_owned())),
            Refusal::Reject => rules.extend([
                (format!("meta l4proto 6 {counted} reject with tcp reset"), "reset".to_owned()),
                (format!("{counted} reject with icmpx type admin-prohibited"), "reject".to_owned()),
            ]),
        }
        rules
    }

    /// The rules of a chain, in order: statement and name. The comment of a rule is made from its name.
    fn rules(&self, chain: &Chain) -> Vec<(String, String)> {
        let rate = self.throttle_per_minute;
        let at_first = rate.div_ceil(AT_FIRST);
        let rule = |name: &str, statement: &str| (statement.to_owned(), name.to_owned());
        let remember = || self.for_each_set(Verb::Throttle, "remember ", "daddr", "jump remember");
        const OPEN_TCP: &str = "tcp flags & (syn | ack) != syn";
        const NEW_TCP: &str = "tcp flags & (syn | ack) == syn";
        // Data over an open connection: only a completed handshake brings the kernel to send any, and no spoofed packet
        // does (conntrack's own ESTABLISHED would take a repeated SYN for one).
        const DATA: &str = "tcp flags & (syn | rst | psh | ack) == psh | ack";
        const BARE_ACK: &str = "tcp flags & (fin | syn | rst | psh | ack) == ack";
        const TCP: &str = "meta l4proto 6";
        const UDP: &str = "meta l4proto 17";
        // By number, since nft looks names up in /etc/protocols, which small images lack: UDP, UDP-Lite, SCTP, DCCP;
        // and all but these, TCP, ICMP and ICMPv6.
        const PORTS: &str = "meta l4proto { 17, 136, 132, 33 }";
        const PORTLESS: &str = "meta l4proto != { 6, 17, 136, 132, 33, 1, 58 }";
        let limited = |set: &str, source: &str, per_minute: u32, burst: u32| {
            format!(
                "update @{set} {{ {source} limit rate {per_minute}/minute burst {burst} packets }} return"
            )
        };
        let over = |set: &str, source: &str| {
            format!(
                "update @{set} {{ {source} limit rate over {DATAGRAMS_PER_SOURCE}/second burst {DATAGRAMS_PER_SOURCE} packets }} counter name \"shielded\" drop"
            )
        };
        match chain.name {
            "input" => vec![
                rule("own traffic", "iifname \"lo\" jump own"),
                // Before anything of ours can drop: connections that are open, never new ones.
                rule("kept4", &format!("{OPEN_TCP} ip saddr . th sport @kept4 accept")),
                rule("kept6", &format!("{OPEN_TCP} ip6 saddr . th sport @kept6 accept")),
                rule("sources", "jump sources"),
                rule(
                    "shield4",
                    &format!(
                        "{NEW_TCP} ip daddr . meta l4proto . th dport @shield4 counter name \"shielded\""
                    ),
                ),
                rule(
                    "shield6",
                    &format!(
                        "{NEW_TCP} ip6 daddr . meta l4proto . th dport @shield6 counter name \"shielded\""
                    ),
                ),
                rule("datagrams4", &format!("{UDP} ip daddr . meta l4proto . th dport @shield4 jump greet")),
                rule("datagrams6", &format!("{UDP} ip6 daddr . meta l4proto . th dport @shield6 jump greet")),
            ],
            "forward" => vec![
                rule("sources", "jump sources"),
                rule("proven4", &format!("{DATA} update @proven4 {{ ip daddr }}")),
                rule("proven6", &format!("{DATA} update @proven6 {{ ip6 daddr & ffff:ffff:ffff:ffff:: }}")),
                rule("served4", &format!("{DATA} update @served4 {{ ip daddr . th sport }}")),
                rule(
                    "served6",
                    &format!("{DATA} update @served6 {{ ip6 daddr & ffff:ffff:ffff:ffff:: . th sport }}"),
                ),
            ]
            .into_iter()
            .chain(remember())
            .chain([
                rule("datagrams4", &format!("{UDP} ip daddr . meta l4proto . th dport @shield4 jump greet")),
                rule("datagrams6", &format!("{UDP} ip6 daddr . meta l4proto . th dport @shield6 jump greet")),
                rule("shield4", &format!("{TCP} ip daddr . meta l4proto . th dport @shield4 jump answer")),
                rule("shield6", &format!("{TCP} ip6 daddr . meta l4proto . th dport @shield6 jump answer")),
            ])
            .collect(),
            "output" => vec![
                rule("own traffic", "oifname \"lo\" accept"),
                rule("proven4", &format!("{DATA} update @proven4 {{ ip daddr }}")),
                rule("proven6", &format!("{DATA} update @proven6 {{ ip6 daddr & ffff:ffff:ffff:ffff:: }}")),
                rule("served4", &format!("{DATA} update @served4 {{ ip daddr . th sport }}")),
                rule(
                    "served6",
                    &format!("{DATA} update @served6 {{ ip6 daddr & ffff:ffff:ffff:ffff:: . th sport }}"),
                ),
            ]
            .into_iter()
            .chain(remember())
            .collect(),
            "sources" => [
                self.for_each_set(Verb::Block, "", "saddr", "goto stop"),
                self.for_each_set(Verb::Throttle, "", "saddr", "jump throttle"),
            ]
            .concat(),
            "own" => vec![
                rule("own traffic4", &format!("ip saddr != {SOURCE4} accept")),
                rule("own traffic6", &format!("ip6 saddr != {SOURCE6} accept")),
            ],
            "probed" => vec![
                rule("probed4", "meta nfproto ipv4 counter name \"probed4\" drop"),
                rule("probed6", "counter name \"probed6\" drop"),
            ],
            "stop" => self.stop(),
            "throttle" => vec![
                // NULL, FIN and XMAS probes: no connection ever has a segment without SYN, RST and ACK (RFC 9293 3.10.7).
                rule(
                    "tcp probes",
                    "meta l4proto 6 tcp flags & (syn | rst | ack) == 0x0 counter name \"throttled\" drop",
                ),
                rule("tcp existing", "meta l4proto 6 tcp flags & (syn | ack) != syn return"),
                rule(
                    "served4",
                    &format!(
                        "{TCP} ip saddr . th dport @served4 {}",
                        limited("served_rate4", "ip saddr", SERVED_PER_MINUTE, SERVED_BURST)
                    ),
                ),
                rule(
                    "served6",
                    &format!(
                        "{TCP} ip6 saddr & ffff:ffff:ffff:ffff:: . th dport @served6 {}",
                        limited(
                            "served_rate6",
                            "ip6 saddr & ffff:ffff:ffff:ffff::",
                            SERVED_PER_MINUTE,
                            SERVED_BURST
                        )
                    ),
                ),
                rule(
                    "again4",
                    &format!(
                        "{TCP} ip saddr . th sport . th dport @asked4 {}",
                        limited("again_rate4", "ip saddr", rate, THROTTLE_BURST)
                    ),
                ),
                rule(
                    "again6",
                    &format!(
                        "{TCP} ip6 saddr . th sport . th dport @asked6 {}",
                        limited("again_rate6", "ip6 saddr & ffff:ffff:ffff:ffff::", rate, THROTTLE_BURST)
                    ),
                ),
                rule(
                    "icmp answers",
                    "icmp type != { echo-request, timestamp-request, info-request, address-mask-request, router-solicitation } return",
                ),
                rule("icmpv6 answers", "icmpv6 type != echo-request return"),
                rule(
                    "existing4",
                    &format!("{PORTS} ip saddr . meta l4proto . th sport . th dport @sent4 return"),
                ),
                rule(
                    "existing6",
                    &format!("{PORTS} ip6 saddr . meta l4proto . th sport . th dport @sent6 return"),
                ),
                rule("existing4 other", &format!("{PORTLESS} ip saddr . meta l4proto @sent4_other return")),
                rule("existing6 other", &format!("{PORTLESS} ip6 saddr . meta l4proto @sent6_other return")),
                rule(
                    &format!("rate4 {rate}/minute"),
                    &limited("rate4", "ip saddr", at_first, THROTTLE_BURST),
                ),
                rule(
                    &format!("rate6 {rate}/minute"),
                    &limited("rate6", "ip6 saddr & ffff:ffff:ffff:ffff::", at_first, THROTTLE_BURST),
                ),
                rule("asked4", &format!("{TCP} add @asked4 {{ ip saddr . th sport . th dport }}")),
                rule("asked6", &format!("{TCP} add @asked6 {{ ip6 saddr . th sport . th dport }}")),
                rule("over rate", "counter name \"throttled\" drop"),
            ],
            "remember" => vec![
                rule(
                    "sent4",
                    &format!("{PORTS} update @sent4 {{ ip daddr . meta l4proto . th dport . th sport }}"),
                ),
                rule(
                    "sent6",
                    &format!("{PORTS} update @sent6 {{ ip6 daddr . meta l4proto . th dport . th sport }}"),
                ),
                rule("sent4 other", &format!("{PORTLESS} update @sent4_other {{ ip daddr . meta l4proto }}")),
                rule(
                    "sent6 other",
                    &format!("{PORTLESS} update @sent6_other {{ ip6 daddr . meta l4proto }}"),
                ),
            ],
            // A datagram proves nothing about its source, but whoever sends another one after the first was lost is there;
            // a flood from random sources hardly ever repeats one within the time that they are remembered. One that
            // repeats a single spoofed source is bounded by the rate.
            "greet" => vec![
                rule("proven4", "ip saddr @proven4 goto pace"),
                rule("proven6", "ip6 saddr & ffff:ffff:ffff:ffff:: @proven6 goto pace"),
                rule("known4", "ip saddr @known4 update @known4 { ip saddr } goto pace"),
                rule(
                    "known6",
                    "ip6 saddr & ffff:ffff:ffff:ffff:: @known6 update @known6 { ip6 saddr & ffff:ffff:ffff:ffff:: } goto pace",
                ),
                rule("again4", "ip saddr @greeted4 add @known4 { ip saddr } return"),
                rule(
                    "again6",
                    "ip6 saddr & ffff:ffff:ffff:ffff:: @greeted6 add @known6 { ip6 saddr & ffff:ffff:ffff:ffff:: } return",
                ),
                rule("first4", "add @greeted4 { ip saddr } counter name \"shielded\" drop"),
                rule(
                    "first6",
                    "add @greeted6 { ip6 saddr & ffff:ffff:ffff:ffff:: } counter name \"shielded\" drop",
                ),
                rule("unseen", &format!("limit rate {UNSEEN_PER_SECOND}/second return")),
                rule("too many", "counter name \"shielded\" drop"),
            ],
            "pace" => vec![
                rule("over4", &over("datagrams4", "ip saddr")),
                rule("over6", &over("datagrams6", "ip6 saddr & ffff:ffff:ffff:ffff::")),
            ],
            // Packets forwarded to a shielded service. A source that completed a handshake lately passes; all else has
            // to answer a SYN cookie first. The second rule is for nf_conntrack_tcp_loose=1 (the kernel's default), where
            // the client's ACK counts as new instead of invalid.
            "answer" if self.synproxy => vec![
                rule("proven4", "ip saddr @proven4 return"),
                rule("proven6", "ip6 saddr & ffff:ffff:ffff:ffff:: @proven6 return"),
                rule(
                    "handshake",
                    "ct state invalid,untracked counter name \"proxied\" synproxy mss 1460 wscale 7 timestamp sack-perm",
                ),
                rule(
                    "handshake, loose",
                    "ct state new tcp flags & (syn | rst | ack) == ack counter name \"proxied\" synproxy mss 1460 wscale 7 timestamp sack-perm",
                ),
                rule("stray", "ct state invalid drop"),
            ],
            // Unanswered SYNs must not fill the connection table either.
            "untrack" => vec![
                rule("proven4", &format!("{NEW_TCP} ip saddr @proven4 return")),
                rule("proven6", &format!("{NEW_TCP} ip6 saddr & ffff:ffff:ffff:ffff:: @proven6 return")),
                rule(
                    "shield4",
                    &format!(
                        "{NEW_TCP} ip daddr . meta l4proto . th dport @shield4 fib daddr type != local notrack"
                    ),
                ),
                rule(
                    "shield6",
                    &format!(
                        "{NEW_TCP} ip6 daddr . meta l4proto . th dport @shield6 fib daddr type != local notrack"
                    ),
                ),
            ],
            // The ACK by which `synproxy` itself completes the handshake with the service: were it tracked, the kernel would
            // shift its timestamp echo a second time, and a service on Linux 6.15 or later refuses it (TSEcrRejected) and
            // waits a second before it tries again. Measured on 6.18: 1,020 ms per new client with tracking, 0.3 ms without.
            // Nobody else sends such a segment from an address that is not this host's.
            "untrack_own" => vec![
                rule(
                    "own handshake4",
                    &format!(
                        "{BARE_ACK} ip daddr . meta l4proto . th dport @shield4 fib saddr type != local notrack"
                    ),
                ),
                rule(
                    "own handshake6",
                    &format!(
                        "{BARE_ACK} ip6 daddr . meta l4proto . th dport @shield6 fib saddr type != local notrack"
                    ),
                ),
            ],
            _ => Vec::new(),
        }
    }

    fn chains(&self) -> impl Iterator<Item = &'static Chain> {
        CHAINS.iter().chain(if self.synproxy { SYNPROXY_CHAINS } else { &[] })
    }

    /// The comments a listing has to show, chain by chain.
    pub(super) fn expected(&self) -> Vec<(&'static Chain, Vec<String>)> {
        self.chains()
            .map(|chain| (chain, self.rules(chain).into_iter().map(|(_, name)| comment(&name)).collect()))
            .collect()
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
        for set in Set::ALWAYS.iter().chain(&self.prefixes) {
            let size = self.set_size.map(|size| format!(" size {size};")).unwrap_or_default();
            let _ = writeln!(text, "add set inet {TABLE} {} {{ {}{size} }}", set.name(), set.declaration());
        }
        for (name, declaration) in KEPT_SETS {
            let _ = writeln!(text, "add set inet {TABLE} {name} {{ {declaration} size {MAX_KEPT}; }}");
        }
        let dynamic = DYNAMIC_SETS.iter().map(|set| (set, DYNAMIC_SET_SIZE));
        for ((name, declaration), size) in dynamic.chain(GREETED_SETS.iter().map(|set| (set, GREETED_SIZE))) {
            let _ = writeln!(text, "add set inet {TABLE} {name} {{ {declaration} size {size}; }}");
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
            Self::add_chain(chain, &mut text);
        }
        for chain in self.chains() {
            self.refill(chain, &mut text);
        }
        text
    }

    /// What removes sets of prefixes that nothing refers to any more, after [`Self::script`].
    pub(super) fn without(unused: impl IntoIterator<Item = Set>) -> String {
        unused.into_iter().fold(String::new(), |mut text, set| {
            let _ = writeln!(text, "delete set inet {TABLE} {}", set.name());
            text
        })
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
