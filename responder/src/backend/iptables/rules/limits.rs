//! Rules that count: how many new connections throttled sources have, and how many datagrams reach shielded services.

use super::{DYNAMIC_SIZE, Rule};
use crate::backend::iptables::sets::Family;

/// New connections a throttled source may open at once before the rate counts.
const THROTTLE_BURST: u32 = 5;
/// New connections of a throttled source to a service that served it within the hour: a browser's, not a scanner's.
const SERVED_PER_MINUTE: u32 = 300;
const SERVED_BURST: u32 = 60;
/// Of a throttled source's rate, the part that passes at the first asking; the whole rate is for attempts that are
/// repeated (as in the nftables ruleset).
const AT_FIRST: u32 = 4;
/// How long an unused rate is remembered.
const RATE_EXPIRES_MS: u32 = 600_000;
/// How long an attempt that was dropped is remembered: a TCP stack sends the very same again after 1, 3 and 7 s
/// (RFC 6298 5), a scanner hardly ever does.
const ASKED_EXPIRES_MS: u32 = 10_000;
/// Datagrams a second from one source (IPv6: one /64) to a shielded service, as in the nftables ruleset.
const DATAGRAMS_PER_SOURCE: u32 = 5_000;
/// Sources whose datagrams are counted at a time.
const DATAGRAM_SOURCES: u32 = 1 << 18;
/// First datagrams a second that pass unseen when no more can be remembered: some of the innocent get through even then.
const UNSEEN_PER_SECOND: u32 = 1_000;
/// The rate is that of attempts that are repeated; what is asked for the first time has a part of it.
pub(super) fn rate(per_minute: u32, family: Family) -> Vec<Rule> {
    vec![
        Rule::new(
            &format!("rate {per_minute}/minute"),
            &per_source("rate", per_minute.div_ceil(AT_FIRST), family),
            "-j RETURN",
        ),
        Rule::new("asked before", &asked_before(family), "-g NETGUARD-AGAIN"),
        Rule::new("over rate", "", "-g NETGUARD-OVER"),
    ]
}

pub(super) fn again(per_minute: u32, family: Family) -> Vec<Rule> {
    vec![
        Rule::new("again", &per_source("again", per_minute, family), "-j RETURN"),
        Rule::new("over rate", "", "-g NETGUARD-OVER"),
    ]
}

/// Below a rate of new connections of each source. Its table has the rate in its name: another rate is another
/// table, since the kernel keeps the rate of one that stands.
fn per_source(name: &str, per_minute: u32, family: Family) -> String {
    format!(
        "-m hashlimit --hashlimit-upto {per_minute}/minute --hashlimit-burst {THROTTLE_BURST} {}",
        table(&format!("{name}{}-{per_minute}", family.digit()), DYNAMIC_SIZE, RATE_EXPIRES_MS, family)
    )
}

/// Options of a table of hashlimit by source. IPv6 counts per /64: whoever has one address there has them all.
fn table(name: &str, size: u32, expires_ms: u32, family: Family) -> String {
    let mask = match family {
        Family::V4 => "",
        Family::V6 => " --hashlimit-srcmask 64",
    };
    format!(
        "--hashlimit-mode srcip --hashlimit-name netguard-{name} --hashlimit-htable-max {size} \
         --hashlimit-htable-expire {expires_ms}{mask}"
    )
}

/// The very same connection was asked for within the last seconds: the first asking takes all its tuple has.
fn asked_before(family: Family) -> String {
    format!(
        "-p tcp -m hashlimit --hashlimit-above 1/minute --hashlimit-burst 1 \
         --hashlimit-mode srcip,srcport,dstport --hashlimit-name netguard-asked{} \
         --hashlimit-htable-max {DYNAMIC_SIZE} --hashlimit-htable-expire {ASKED_EXPIRES_MS}",
        family.digit()
    )
}

/// A datagram proves nothing about its source, but whoever sends another one after the first was lost is there; a flood
/// from random sources hardly ever repeats one within the time that they are remembered. One that repeats a single
/// spoofed source is bounded by the rate.
pub(super) fn greet(family: Family) -> Vec<Rule> {
    let f = family.digit();
    let from = |set: &str| format!("-m set --match-set netguard-{set}{f} src");
    let into = |set: &str, how: &str| format!("-j SET --add-set netguard-{set}{f} src{how}");
    vec![
        Rule::new("proven", &from("proven"), "-g NETGUARD-PACE"),
        Rule::new("known again", &from("known"), &into("known", " --exist")),
        Rule::new("known", &from("known"), "-g NETGUARD-PACE"),
        Rule::new("repeated", &from("greeted"), &into("known", "")),
        Rule::new("known now", &from("known"), "-j RETURN"),
        Rule::new("first", "", &into("greeted", "")),
        Rule::new("held back", &from("greeted"), "-j DROP"),
        Rule::new(
            "unseen",
            &format!("-m limit --limit {UNSEEN_PER_SECOND}/second --limit-burst {UNSEEN_PER_SECOND}"),
            "-j RETURN",
        ),
        Rule::new("held back, too many", "", "-j DROP"),
    ]
}

pub(super) fn pace(family: Family) -> Vec<Rule> {
    let limit = format!(
        "-m hashlimit --hashlimit-above {DATAGRAMS_PER_SOURCE}/second --hashlimit-burst {DATAGRAMS_PER_SOURCE} {}",
        table(&format!("datagrams{}", family.digit()), DATAGRAM_SOURCES, ASKED_EXPIRES_MS, family)
    );
    vec![Rule::new("held back, too fast", &limit, "-j DROP")]
}

pub(super) fn throttle(family: Family) -> Vec<Rule> {
    let f = family.digit();
    let mut rules = vec![
        // NULL, FIN and XMAS probes: no connection ever has a segment without SYN, RST and ACK (RFC 9293 3.10.7).
        Rule::new("tcp probes", "-p tcp -m tcp --tcp-flags SYN,RST,ACK NONE", "-g NETGUARD-OVER"),
        Rule::new("tcp existing", "-p tcp -m tcp ! --tcp-flags SYN,ACK SYN", "-j RETURN"),
    ];
    rules.push(Rule::new(
        "served",
        &format!(
            "-p tcp -m set --match-set netguard-served{f} src,dst -m hashlimit \
             --hashlimit-upto {SERVED_PER_MINUTE}/minute --hashlimit-burst {SERVED_BURST} {}",
            table(&format!("served{f}"), DYNAMIC_SIZE, RATE_EXPIRES_MS, family)
        ),
        "-j RETURN",
    ));
    // Echo, router solicitation, timestamp, information and address mask requests are new; all else answers.
    match family {
        Family::V4 => {
            for kind in [8, 10, 13, 15, 17] {
                rules.push(Rule::new(
                    &format!("icmp request {kind}"),
                    &format!("-p icmp -m icmp --icmp-type {kind}"),
                    "-g NETGUARD-RATE",
                ));
            }
            rules.push(Rule::new("icmp answers", "-p icmp", "-j RETURN"));
        }
        Family::V6 => {
            rules.push(Rule::new("icmp answers", "-p ipv6-icmp -m icmp6 ! --icmpv6-type 128", "-j RETURN"));
        }
    }
    rules.push(Rule::new(
        "existing",
        &format!("-m set --match-set netguard-sent{f} src,src -m set --match-set netguard-asked{f} src,dst"),
        "-j RETURN",
    ));
    rules.push(Rule::new("new", "", "-g NETGUARD-RATE"));
    rules
}
