//! What would pass by our rules, or looks as if it did.

use super::{Note, Severity, bypass, surroundings::Surroundings};
use crate::config::BackendKind;

/// Whoever is known by the names of their chains: prefix of the name, and who.
const BY_CHAIN: &[(&str, &str)] = &[
    ("DOCKER", "Docker"),
    ("KUBE-", "Kubernetes (kube-proxy)"),
    ("cali-", "Calico"),
    ("CILIUM_", "Cilium"),
    ("FLANNEL-", "Flannel"),
    ("ufw-", "ufw"),
    ("f2b-", "fail2ban"),
    ("LIBVIRT_", "libvirt"),
];
/// The names of Cilium's own interfaces.
const CILIUM: &str = "cilium_";

/// What has to be known about this host before `kind` enforces on it.
pub(super) fn of(around: &Surroundings, kind: BackendKind) -> Vec<Note> {
    let mut notes = Vec::new();
    let mut note = |what: &str, severity, text: String| {
        notes.push(Note { what: what.to_owned(), severity, text });
    };
    for (prefix, who) in BY_CHAIN {
        if around.chain_names.iter().any(|name| name.starts_with(prefix)) {
            let text = match kind {
                BackendKind::Iptables | BackendKind::Ufw => format!(
                    "{who} has chains here: our jumps stand first in INPUT and FORWARD, before its own (DOCKER-USER \
                     included), so that what it accepts was not blocked before"
                ),
                _ => format!(
                    "{who} has chains here: harmless, since an accept there ends only its own table; our hooks \
                     (priority -10) are asked before it, for containers' and pods' traffic too"
                ),
            };
            note(who, Severity::Fine, text);
        }
    }
    let accepting: Vec<String> = around
        .chains
        .iter()
        .filter(|chain| chain.owner != "NetGuard" && chain.priority < -10)
        .filter(|chain| ["input", "forward"].contains(&chain.hook.as_str()))
        .map(|chain| format!("{} {} {}", chain.family, chain.table, chain.name))
        .collect();
    if !accepting.is_empty() {
        note(
            "earlier hooks",
            Severity::Fine,
            format!(
                "{} are asked before ours: what they drop never comes, what they accept does",
                accepting.join(", ")
            ),
        );
    }
    notes.extend(bypass::of(around));
    let mut note = |what: &str, severity, text: String| {
        notes.push(Note { what: what.to_owned(), severity, text });
    };
    if around.links.iter().any(|link| link.name.starts_with(CILIUM)) {
        note(
            "Cilium",
            Severity::Partly,
            "eBPF may carry pods' traffic past netfilter (host routing, kube-proxy replacement): set \
             `bpf.hostLegacyRouting=true`, or block in Cilium's own policy too"
                .to_owned(),
        );
    }
    let bridges: Vec<&str> =
        around.links.iter().filter(|link| link.kind == "bridge").map(|link| link.name.as_str()).collect();
    if !bridges.is_empty() && !around.bridged_traffic_is_filtered {
        note(
            "bridges",
            Severity::Partly,
            format!(
                "what is switched between the ports of {} meets no rule; what is routed to them does (`modprobe \
                 br_netfilter` and net.bridge.bridge-nf-call-iptables=1 filter the rest)",
                bridges.join(", ")
            ),
        );
    }
    match (around.ipv6, kind) {
        (false, _) => note("IPv6", Severity::Fine, "this kernel has none, or it is switched off".to_owned()),
        (true, BackendKind::Iptables | BackendKind::Ufw) if !around.ip6tables => note(
            "IPv6",
            Severity::Missing,
            "ip6tables is not here: nothing would stop IPv6 (apt-get install iptables)".to_owned(),
        ),
        (true, _) => note("IPv6", Severity::Fine, "covered by the same rules as IPv4".to_owned()),
    }
    let forwarding = if around.forwards {
        "this host passes packets on: blocks hold for containers, pods and hosts behind it too"
    } else {
        "this host passes nothing on"
    };
    note("forwarding", Severity::Fine, forwarding.to_owned());
    notes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preflight::surroundings::{Flowtable, Link, Xdp};

    #[test]
    fn what_leaks_is_told_and_what_only_looks_so_is_told_to_be_harmless() {
        let around = Surroundings {
            chain_names: ["DOCKER-USER", "KUBE-FORWARD", "INPUT"].map(String::from).to_vec(),
            flowtables: vec![Flowtable { name: "fast".into(), offload: true }],
            links: vec![
                Link { name: "eth0".into(), xdp: Some(Xdp::Native), ..Link::default() },
                Link { name: "docker0".into(), kind: "bridge".into(), xdp: None },
                Link { name: "cilium_host".into(), ..Link::default() },
            ],
            ipv6: true,
            ..Surroundings::default()
        };
        let told = |kind| -> Vec<(String, Severity)> {
            of(&around, kind).into_iter().map(|note| (note.what, note.severity)).collect()
        };
        let expected = [
            ("Docker", Severity::Fine),
            ("Kubernetes (kube-proxy)", Severity::Fine),
            ("hardware offload", Severity::Partly),
            ("XDP", Severity::Partly),
            ("Cilium", Severity::Partly),
            ("bridges", Severity::Partly),
            ("IPv6", Severity::Fine),
            ("forwarding", Severity::Fine),
        ]
        .map(|(what, severity)| (what.to_owned(), severity));
        assert_eq!(told(BackendKind::Nftables), expected);
        assert!(told(BackendKind::Iptables).contains(&("IPv6".to_owned(), Severity::Missing)));
    }
}
