//! What else has a hand in this host's packets, as its own programs list it. Reading is pure; what does not parse is
//! left out.

use super::filters::Filter;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A chain that packets come through, of any table of nf_tables.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BaseChain {
    pub family: String,
    pub table: String,
    pub name: String,
    pub hook: String,
    pub priority: i64,
    pub policy: String,
    /// Who is known to make such a table.
    pub owner: &'static str,
}

/// Flows that the kernel passes on without asking the forward hook.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Flowtable {
    pub name: String,
    /// In the network card.
    pub offload: bool,
}

/// A network interface, as far as it matters here.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Link {
    pub name: String,
    pub kind: String,
    /// A program looks at packets before any firewall does.
    pub xdp: Option<Xdp>,
}

/// Where a device's XDP program runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Xdp {
    /// In the driver.
    Native,
    /// In the kernel, for any driver.
    Generic,
    /// In the network card.
    Hardware,
}

/// A program that would have told more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Tool {
    pub name: &'static str,
    /// The Debian package it comes with.
    pub package: &'static str,
    pub shows: &'static str,
}

/// Everything gathered.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Surroundings {
    pub chains: Vec<BaseChain>,
    /// Names of all chains, of nf_tables and of iptables-legacy.
    pub chain_names: Vec<String>,
    pub flowtables: Vec<Flowtable>,
    pub links: Vec<Link>,
    /// Of traffic control.
    pub filters: Vec<Filter>,
    /// Devices with filters past those that were asked for theirs.
    pub devices_not_looked_at: usize,
    /// A rule at an interface sends packets to another one.
    pub netdev_forwards: bool,
    pub missing_tools: Vec<Tool>,
    /// Packets between ports of one bridge meet the firewall.
    pub bridged_traffic_is_filtered: bool,
    pub forwards: bool,
    pub ipv6: bool,
    pub ip6tables: bool,
}

/// Base chains and the names of all chains, from `nft -j list chains`.
pub(super) fn chains(json: &str) -> (Vec<BaseChain>, Vec<String>) {
    #[derive(Deserialize)]
    struct Wire {
        family: String,
        table: String,
        name: String,
        hook: Option<String>,
        prio: Option<i64>,
        policy: Option<String>,
    }
    let Ok(Value::Object(mut all)) = serde_json::from_str(json) else { return Default::default() };
    let Some(Value::Array(items)) = all.remove("nftables") else { return Default::default() };
    let found = items
        .into_iter()
        .filter_map(|mut item| serde_json::from_value::<Wire>(item.get_mut("chain")?.take()).ok());
    let (mut base, mut names) = (Vec::new(), Vec::new());
    for chain in found {
        names.push(chain.name.clone());
        if let Some(hook) = chain.hook {
            base.push(BaseChain {
                owner: owner(&chain.family, &chain.table),
                family: chain.family,
                table: chain.table,
                name: chain.name,
                hook,
                priority: chain.prio.unwrap_or_default(),
                policy: chain.policy.unwrap_or_default(),
            });
        }
    }
    base.sort_by(|a, b| (&a.hook, a.priority, &a.table).cmp(&(&b.hook, b.priority, &b.table)));
    (base, names)
}

/// Who makes a table of this name.
fn owner(family: &str, table: &str) -> &'static str {
    match (family, table) {
        ("inet", "netguard") => "NetGuard",
        (_, "firewalld") => "firewalld",
        (_, "kube-proxy") => "kube-proxy",
        (_, "docker-bridges") => "Docker",
        (_, "calico" | "calico-v6") => "Calico",
        (_, "cilium") => "Cilium",
        ("ip" | "ip6", "filter" | "nat" | "mangle" | "raw" | "security") => "iptables-nft",
        _ => "others",
    }
}

/// From `nft list flowtables`.
pub(super) fn flowtables(text: &str) -> Vec<Flowtable> {
    let mut found: Vec<Flowtable> = Vec::new();
    for line in text.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix("flowtable ").and_then(|rest| rest.split_whitespace().next()) {
            found.push(Flowtable { name: name.to_owned(), offload: false });
        } else if line.starts_with("flags")
            && line.contains("offload")
            && let Some(last) = found.last_mut()
        {
            last.offload = true;
        }
    }
    found
}

/// From `ip -d -j link show`.
pub(super) fn links(json: &str) -> Vec<Link> {
    let Ok(Value::Array(items)) = serde_json::from_str(json) else { return Vec::new() };
    items
        .iter()
        .filter_map(|item| {
            Some(Link {
                name: item.get("ifname")?.as_str()?.to_owned(),
                kind: item
                    .pointer("/linkinfo/info_kind")
                    .and_then(Value::as_str)
                    .unwrap_or_default()
                    .to_owned(),
                xdp: item.get("xdp").map(xdp),
            })
        })
        .collect()
}

/// The kernel's `IFLA_XDP_ATTACHED`: 1 driver, 2 generic, 3 hardware, 4 several of them. The card's comes first.
fn xdp(attached: &Value) -> Xdp {
    let modes: Vec<u64> = match attached.get("attached").and_then(Value::as_array) {
        Some(all) => all.iter().filter_map(|one| one.get("mode")?.as_u64()).collect(),
        None => attached.get("mode").and_then(Value::as_u64).into_iter().collect(),
    };
    if modes.contains(&3) {
        Xdp::Hardware
    } else if modes.contains(&1) {
        Xdp::Native
    } else {
        Xdp::Generic
    }
}

/// Whether any rule sends packets to another interface, from `nft list ruleset netdev`.
pub(super) fn forwards(text: &str) -> bool {
    text.lines().any(|line| line.split_whitespace().any(|word| word == "fwd"))
}

/// Chains in what `iptables-save` writes.
pub(super) fn saved_chains(saved: &str) -> impl Iterator<Item = String> + '_ {
    saved.lines().filter_map(|line| Some(line.strip_prefix(':')?.split(' ').next()?.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_programs_list_is_read_and_what_is_broken_left_out() {
        let json = r#"{"nftables":[{"metainfo":{}},
            {"chain":{"family":"ip","table":"filter","name":"FORWARD","handle":1,"type":"filter","hook":"forward","prio":0,"policy":"drop"}},
            {"chain":{"family":"ip","table":"filter","name":"DOCKER-USER","handle":2}},{"chain":{"family":1}}]}"#;
        let (base, names) = chains(json);
        assert_eq!((base[0].owner, base[0].policy.as_str()), ("iptables-nft", "drop"));
        assert_eq!(names, ["FORWARD", "DOCKER-USER"]);
        for broken in ["", "{", "[]", r#"{"nftables":7}"#] {
            assert_eq!(chains(broken), Default::default());
            assert_eq!(links(broken), []);
        }
        let text = "table inet x {\n\tflowtable f {\n\t\thook ingress priority filter\n\t\tflags offload\n\t}\n\tflowtable g {\n\t}\n}\n";
        let offload: Vec<_> = flowtables(text).into_iter().map(|one| (one.name, one.offload)).collect();
        assert_eq!(offload, [("f".to_owned(), true), ("g".to_owned(), false)]);
        let found = links(
            r#"[{"ifname":"eth0","xdp":{"mode":1}},{"ifname":"br0","linkinfo":{"info_kind":"bridge"}},
                {"ifname":"eth1","xdp":{"mode":4,"attached":[{"mode":2},{"mode":3}]}}]"#,
        );
        assert_eq!((found[0].xdp, found[1].kind.as_str()), (Some(Xdp::Native), "bridge"));
        assert_eq!(found[2].xdp, Some(Xdp::Hardware));
        assert!(forwards("\t\tip saddr 192.0.2.1 fwd to \"d1\"\n") && !forwards("chain fwds { }"));
        assert_eq!(saved_chains("*filter\n:INPUT ACCEPT [0:0]\n:cali-FORWARD - [0:0]\n").count(), 2);
    }
}
