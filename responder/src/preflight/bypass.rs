//! What takes packets away before any of our hooks is asked.

use super::{
    Note, Severity,
    filters::Filter,
    surroundings::{Surroundings, Xdp},
};

/// Names told at most; a host with thousands of interfaces is told how many there are.
const NAMES: usize = 8;

/// What passes by the hooks, or could.
pub(super) fn of(around: &Surroundings) -> Vec<Note> {
    let mut notes = Vec::new();
    let mut note = |what: &str, severity, text: String| {
        notes.push(Note { what: what.to_owned(), severity, text });
    };
    for flowtable in &around.flowtables {
        let (what, place) = match flowtable.offload {
            true => ("hardware offload", "in the network card"),
            false => ("flowtable", "at ingress"),
        };
        note(
            what,
            Severity::Partly,
            format!(
                "flowtable {} passes established flows on {place}, past every forward hook: a block stops a source's \
                 new flows at once, its open ones only when they end (`conntrack -D -s ADDRESS` ends them)",
                flowtable.name
            ),
        );
    }
    xdp(around, &mut note);
    filters(around, &mut note);
    let netdev: Vec<String> = around
        .chains
        .iter()
        .filter(|chain| chain.family == "netdev")
        .map(|chain| format!("{} {}", chain.table, chain.name))
        .collect();
    if !netdev.is_empty() {
        let (severity, text) = if around.netdev_forwards {
            (Severity::Partly, "have rules that send packets to another interface (fwd to), past our hooks")
        } else {
            (Severity::Fine, "are asked at the interface, before ours: what they drop never comes")
        };
        note("netdev chains", severity, format!("{} {text}", names(&netdev)));
    }
    let beside = ["macvlan", "macvtap", "ipvlan", "ipvtap", "openvswitch"];
    let past: Vec<String> = around
        .links
        .iter()
        .filter(|link| beside.contains(&link.kind.as_str()))
        .map(|link| format!("{} ({})", link.name, link.kind))
        .collect();
    if !past.is_empty() {
        note(
            "virtual interfaces",
            Severity::Partly,
            format!(
                "{} hand packets to guests and containers without this host's firewall: enforce inside them, or on \
                 the switch",
                names(&past)
            ),
        );
    }
    for tool in &around.missing_tools {
        note(
            tool.name,
            Severity::Partly,
            format!("is not here, so {} cannot be seen: `apt-get install {}`", tool.shows, tool.package),
        );
    }
    notes
}

fn xdp(around: &Surroundings, note: &mut impl FnMut(&str, Severity, String)) {
    let with = |mode: fn(&Xdp) -> bool| -> Vec<String> {
        let found = around.links.iter().filter(|link| link.xdp.as_ref().is_some_and(mode));
        found.map(|link| link.name.clone()).collect()
    };
    let offloaded = with(|xdp| *xdp == Xdp::Hardware);
    if !offloaded.is_empty() {
        note(
            "hardware offload",
            Severity::Partly,
            format!(
                "an XDP program runs in the network card of {}: what it passes on by itself never reaches this kernel",
                names(&offloaded)
            ),
        );
    }
    let seen = with(|xdp| *xdp != Xdp::Hardware);
    if !seen.is_empty() {
        note(
            "XDP",
            Severity::Partly,
            format!(
                "a program looks at the packets of {} before any firewall: what it passes on by itself (XDP_TX, \
                 XDP_REDIRECT) is not stopped; what it passes up is",
                names(&seen)
            ),
        );
    }
}

fn filters(around: &Surroundings, note: &mut impl FnMut(&str, Severity, String)) {
    let told = |which: &dyn Fn(&Filter) -> bool| -> Vec<String> {
        let found = around.filters.iter().filter(|filter| which(filter));
        let text = |filter: &Filter| {
            let to = match filter.redirects_to.as_slice() {
                [] => String::new(),
                devices => format!(" to {}", devices.join(" and ")),
            };
            format!("{} {} ({}){to}", filter.device, filter.direction.name(), filter.kind)
        };
        found.map(text).collect()
    };
    let in_card = told(&|filter| filter.in_hardware);
    if !in_card.is_empty() {
        note(
            "hardware offload",
            Severity::Partly,
            format!(
                "filters of traffic control are in the network card: {}; what they pass on never reaches this kernel \
                 (`ethtool -K DEVICE hw-tc-offload off` takes them out)",
                names(&in_card)
            ),
        );
    }
    let redirecting = told(&|filter| !filter.in_hardware && !filter.redirects_to.is_empty());
    if !redirecting.is_empty() {
        note(
            "traffic control",
            Severity::Partly,
            format!("packets are sent on past our hooks: {}", names(&redirecting)),
        );
    }
    let programs = told(&|filter| !filter.in_hardware && filter.redirects_to.is_empty() && filter.program);
    if !programs.is_empty() {
        note(
            "traffic control",
            Severity::Partly,
            format!("programs may send packets on past our hooks (bpf_redirect): {}", names(&programs)),
        );
    }
    let others = told(&|filter| !filter.in_hardware && filter.redirects_to.is_empty() && !filter.program);
    if !others.is_empty() {
        note(
            "traffic control",
            Severity::Fine,
            format!("filters that only drop, mark or count: {}", names(&others)),
        );
    }
    if around.devices_not_looked_at > 0 {
        note(
            "traffic control",
            Severity::Partly,
            format!("{} more interfaces have filters that were not looked at", around.devices_not_looked_at),
        );
    }
}

/// The first names, and how many more there are.
fn names(all: &[String]) -> String {
    let more = all.len().saturating_sub(NAMES);
    let first = all.iter().take(NAMES).map(String::as_str).collect::<Vec<_>>().join(", ");
    if more == 0 { first } else { format!("{first} and {more} more") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preflight::{
        filters::Direction,
        surroundings::{Flowtable, Link, Tool},
    };

    #[test]
    fn what_passes_by_is_told_with_where() {
        let filter = |device: &str, kind: &str, in_hardware, to: &[&str]| Filter {
            device: device.into(),
            direction: Direction::Ingress,
            kind: kind.into(),
            in_hardware,
            redirects_to: to.iter().map(|device| (*device).to_owned()).collect(),
            program: kind == "bpf",
        };
        let link = |name: &str, kind: &str, xdp| Link { name: name.into(), kind: kind.into(), xdp };
        let around = Surroundings {
            flowtables: vec![Flowtable { name: "fast".into(), offload: true }],
            links: vec![
                link("eth0", "", Some(Xdp::Hardware)),
                link("eth1", "", Some(Xdp::Native)),
                link("mv0", "macvlan", None),
            ],
            filters: vec![
                filter("eth0", "flower", true, &[]),
                filter("eth1", "u32", false, &["eth2"]),
                filter("eth2", "bpf", false, &[]),
                filter("eth3", "matchall", false, &[]),
            ],
            missing_tools: vec![Tool { name: "tc", package: "iproute2", shows: "filters" }],
            ..Surroundings::default()
        };
        let told: Vec<String> = of(&around)
            .into_iter()
            .map(|note| format!("{} {:?} {}", note.what, note.severity, note.text))
            .collect();
        let expected = [
            ("hardware offload Partly", "flowtable fast"),
            ("hardware offload Partly", "eth0"),
            ("XDP Partly", "eth1"),
            ("hardware offload Partly", "eth0 ingress (flower)"),
            ("traffic control Partly", "eth1 ingress (u32) to eth2"),
            ("traffic control Partly", "eth2 ingress (bpf)"),
            ("traffic control Fine", "eth3 ingress (matchall)"),
            ("virtual interfaces Partly", "mv0 (macvlan)"),
            ("tc Partly", "apt-get install iproute2"),
        ];
        assert_eq!(told.len(), expected.len(), "{told:#?}");
        for (text, (start, part)) in told.iter().zip(expected) {
            assert!(text.starts_with(start) && text.contains(part), "{text}");
        }
    }

    #[test]
    fn a_host_of_many_interfaces_is_told_in_one_line() {
        let all: Vec<String> = (0..10_000).map(|n| format!("veth{n}")).collect();
        assert!(names(&all).ends_with("veth7 and 9992 more"));
    }
}
