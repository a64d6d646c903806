use super::{KINDS, KindRow, Policy};
use crate::{decision::Verb, kind::Kind};
use std::fmt::Write;

/// The reference page of all kinds, docs/kinds.md, rendered from the table.
#[must_use]
pub fn kinds_markdown() -> String {
    let policy = Policy::default();
    let mut page = String::from(INTRODUCTION);
    let _ = write!(
        page,
        "A decision is proposed at {} points. Points that are past their window halve every {}.\n\n",
        policy.act_score,
        span(u64::from(policy.half_life_seconds)),
    );
    page.push_str("| kind | counts | fast | slow | weight | confidence | spoofable | proven | not proven | TTL | technique |\n");
    page.push_str("|---|---|---|---|---|---|---|---|---|---|---|\n");
    for row in KINDS {
        table_row(&mut page, row);
    }
    for row in KINDS {
        let first = super::row(row.kind).is_some_and(|first| first.measure == row.measure);
        if first {
            let _ = write!(page, "\n## {}\n", row.kind);
        }
        let _ = write!(page, "\n{}\n", row.about);
    }
    let waiting: Vec<_> = Kind::ALL
        .iter()
        .filter(|kind| super::row(**kind).is_none())
        .map(|kind| format!("`{kind}`"))
        .collect();
    let _ = write!(page, "\n## Names kept for kinds to come\n\n{}\n", waiting.join(", "));
    page
}

const INTRODUCTION: &str = "\
# Kinds of detection

Rendered from the table in `core/src/policy/table.rs`: change it there, then run
`NETGUARD_BLESS=1 cargo test -p netguard-core kinds_page`.

An operator sets threshold, window, weight, TTL, mode or `enabled` of each kind by `netguard-admin policy apply`, under
`kinds:` and the kind's name; what is not set stays as below.

Points are `measured / threshold * weight`, ten times the weight at most. Every further sensor that saw it adds a tenth,
five at most (scans and logins; a sweep's hosts are its sensors already). The strongest kind counts in full, the
strongest of every other family by half; `port_scan` and `port_sweep` are one family, since they look at the same
packets. A block needs its points from proven evidence alone: completed handshakes that are part of the evidence itself,
for scans with at least two endpoints. Whatever anybody could have sent under a foreign address throttles at most.

";

fn table_row(page: &mut String, row: &KindRow) {
    let verb = |verb: Option<Verb>| verb.map_or("nothing", Verb::name);
    let slow = row.slow.map_or_else(
        || "-".to_owned(),
        |slow| format!("{} in {}", slow.threshold, span(slow.window_seconds)),
    );
    let _ = writeln!(
        page,
        "| `{}` | {} | {} in {} | {slow} | {} | {} | {} | {} | {} | {} | [{}](https://attack.mitre.org/techniques/{}/) |",
        row.kind,
        row.measure.name(),
        row.threshold,
        span(row.window_seconds),
        row.weight,
        row.confidence,
        if row.spoofable { "yes" } else { "no" },
        verb(Some(row.verb_proven)),
        verb(row.verb_unproven),
        span(row.ttl_seconds),
        row.technique,
        row.technique.replace('.', "/"),
    );
}

fn span(seconds: u64) -> String {
    match seconds {
        0..=119 => format!("{seconds} s"),
        120..=7199 if seconds.is_multiple_of(60) => format!("{} min", seconds / 60),
        _ if seconds.is_multiple_of(3600) => format!("{} h", seconds / 3600),
        _ => format!("{seconds} s"),
    }
}
