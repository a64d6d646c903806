//! The rules of each chain.

use super::{
    Chain, Shape,
    matched::{ANSWERED, BLOCKED, THROTTLED},
};
use crate::{
    backend::{Log, Refusal},
    probe::{SOURCE4, SOURCE6},
};

/// New connections a throttled source may open at once before the rate counts.
const THROTTLE_BURST: u32 = 5;
/// New connections of a throttled source to a service that served it within the hour: a browser's, not a scanner's.
const SERVED_PER_MINUTE: u32 = 300;
const SERVED_BURST: u32 = 60;
/// Of a throttled source's rate, the part that passes at the first asking; the whole rate is for attempts that are
/// repeated. Measured with `nmap -sS` at 18 probes a second (it slows down by itself when nothing answers): one in 55
/// was answered with the whole rate at the first asking. Its other clients wait a second, and nothing more.
const AT_FIRST: u32 = 4;
/// Datagrams a second from one source (IPv6: one /64) to a shielded service. More than a busy tunnel needs; a source
/// that sends more over time is one to be blocked, not shielded from.
const DATAGRAMS_PER_SOURCE: u32 = 5_000;
/// First datagrams a second that pass unseen when no more can be remembered: some of the innocent get through even then.
const UNSEEN_PER_SECOND: u32 = 1_000;

impl Shape {
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
    pub(super) fn rules(&self, chain: &Chain) -> Vec<(String, String)> {
        let rate = self.throttle_per_minute;
        let at_first = rate.div_ceil(AT_FIRST);
        let rule = |name: &str, statement: &str| (statement.to_owned(), name.to_owned());
        let remember = || self.for_each_set(ANSWERED);
        const OPEN_TCP: &str = "tcp flags & (syn | ack) != syn";
        const NEW_TCP: &str = "tcp flags & (syn | ack) == syn";
        // Data over an open connection: only a completed handshake brings the kernel to send any, and no spoofed packet
        // does (conntrack's own ESTABLISHED would take a repeated SYN for one).
        const DATA: &str = "tcp flags & (syn | rst | psh | ack) == psh | ack";
        // Who is sent data is proven, and served by the port that sends it.
        let acquaint = || {
            [
                ("proven4", "ip daddr"),
                ("proven6", "ip6 daddr & ffff:ffff:ffff:ffff::"),
                ("served4", "ip daddr . th sport"),
                ("served6", "ip6 daddr & ffff:ffff:ffff:ffff:: . th sport"),
            ]
            .map(|(set, key)| rule(set, &format!("{DATA} update @{set} {{ {key} }}")))
        };
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
        match chain.name.as_ref() {
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
            "forward" => vec![rule("sources", "jump sources")]
                .into_iter()
                .chain(acquaint())
                .chain(remember())
                .chain([
                    rule(
                        "datagrams4",
                        &format!("{UDP} ip daddr . meta l4proto . th dport @shield4 jump greet"),
                    ),
                    rule(
                        "datagrams6",
                        &format!("{UDP} ip6 daddr . meta l4proto . th dport @shield6 jump greet"),
                    ),
                    rule(
                        "shield4",
                        &format!("{TCP} ip daddr . meta l4proto . th dport @shield4 jump answer"),
                    ),
                    rule(
                        "shield6",
                        &format!("{TCP} ip6 daddr . meta l4proto . th dport @shield6 jump answer"),
                    ),
                ])
                .collect(),
            "output" => vec![rule("own traffic", "oifname \"lo\" accept")]
                .into_iter()
                .chain(acquaint())
                .chain(remember())
                .collect(),
            "sources" => [self.for_each_set(BLOCKED), self.for_each_set(THROTTLED)].concat(),
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
            _ => Self::rule_of_part(chain),
        }
    }
}
