//! Traffic control's filters, which see packets before (ingress) and after (egress) every firewall, as `tc -j` lists them.
//! Reading is pure; what does not parse is left out.

use serde::{Deserialize, Serialize};

/// A filter at a device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Filter {
    pub device: String,
    pub direction: Direction,
    /// `flower`, `u32`, `bpf` …
    pub kind: String,
    /// The network card does it: the kernel never sees what it takes away.
    pub in_hardware: bool,
    /// Where it sends packets, past everything else.
    pub redirects_to: Vec<String>,
    /// A program decides, and may send packets anywhere.
    pub program: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    Ingress,
    Egress,
}

impl Direction {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Ingress => "ingress",
            Self::Egress => "egress",
        }
    }
}

/// Devices with somewhere to put filters, from `tc -j qdisc show`.
pub(super) fn devices(json: &str) -> Vec<String> {
    #[derive(Deserialize)]
    struct Wire {
        kind: String,
        dev: String,
    }
    let all: Vec<Wire> = serde_json::from_str(json).unwrap_or_default();
    let mut found: Vec<String> = all
        .into_iter()
        .filter(|qdisc| matches!(qdisc.kind.as_str(), "clsact" | "ingress"))
        .map(|qdisc| qdisc.dev)
        .collect();
    found.sort_unstable();
    found.dedup();
    found
}

/// From `tc -j filter show dev DEVICE DIRECTION`. A filter's own line comes first without options: that is no filter yet.
pub(super) fn of_device(device: &str, direction: Direction, json: &str) -> Vec<Filter> {
    #[derive(Deserialize)]
    struct Wire {
        kind: String,
        options: Option<Options>,
    }
    #[derive(Deserialize)]
    struct Options {
        #[serde(default)]
        in_hw: bool,
        #[serde(default)]
        actions: Vec<Action>,
        /// Of a `u32` table, which holds filters and is none.
        ht_divisor: Option<u64>,
    }
    #[derive(Deserialize)]
    struct Action {
        kind: String,
        mirred_action: Option<String>,
        to_dev: Option<String>,
    }
    let all: Vec<Wire> = serde_json::from_str(json).unwrap_or_default();
    let filter = |wire: Wire| {
        let options = wire.options.filter(|options| options.ht_divisor.is_none())?;
        let program = wire.kind == "bpf" || options.actions.iter().any(|action| action.kind == "bpf");
        let redirects = options
            .actions
            .into_iter()
            .filter(|action| action.kind == "mirred" && action.mirred_action.as_deref() == Some("redirect"));
        Some(Filter {
            device: device.to_owned(),
            direction,
            in_hardware: options.in_hw,
            redirects_to: redirects.filter_map(|action| action.to_dev).collect(),
            program,
            kind: wire.kind,
        })
    };
    all.into_iter().filter_map(filter).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_read_as_tc_lists_them() {
        let qdiscs = r#"[{"kind":"noqueue","handle":"0:","dev":"lo","root":true},{"kind":"ingress","dev":"d1"},
            {"kind":"clsact","handle":"ffff:","dev":"d0","parent":"ffff:fff1","options":{}}]"#;
        assert_eq!(devices(qdiscs), ["d0", "d1"]);
        // iproute2 6.1 for u32 and bpf; a card with offload for flower (tc-flower(8)).
        let json = r#"[{"protocol":"ip","pref":1,"kind":"u32","chain":0},
            {"protocol":"ip","pref":1,"kind":"u32","chain":0,"options":{"fh":"800:","ht_divisor":1}},
            {"protocol":"ip","pref":1,"kind":"u32","chain":0,"options":{"fh":"800::800","not_in_hw":true,"match":{"value":"c0000201"},
             "actions":[{"order":1,"kind":"mirred","mirred_action":"redirect","direction":"egress","to_dev":"d1",
             "control_action":{"type":"stolen"}}]}},
            {"protocol":"all","pref":2,"kind":"bpf","chain":0,"options":{"handle":"0x1","bpf_name":"cil_from_netdev","direct-action":true}},
            {"protocol":"ip","pref":3,"kind":"flower","chain":0,"options":{"handle":1,"keys":{"eth_type":"ipv4"},"in_hw":true,"in_hw_count":1,
             "actions":[{"order":1,"kind":"gact","control_action":{"type":"drop"}}]}}]"#;
        let found = of_device("d0", Direction::Ingress, json);
        let told: Vec<_> = found
            .iter()
            .map(|one| (one.kind.as_str(), one.in_hardware, one.program, one.redirects_to.join(" ")))
            .collect();
        assert_eq!(
            told,
            [
                ("u32", false, false, "d1".to_owned()),
                ("bpf", false, true, String::new()),
                ("flower", true, false, String::new())
            ]
        );
        for broken in ["", "{", "[{}]", "[7]", r#"[{"kind":7}]"#] {
            assert!(devices(broken).is_empty() && of_device("d0", Direction::Egress, broken).is_empty());
        }
    }
}
