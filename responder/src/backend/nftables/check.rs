//! What `netguard-responder preflight` asks about nftables: can this host enforce, and does it?

use super::{Nftables, kernel, ruleset::Shape};
use crate::backend::BackendError;

/// One thing looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    pub what: &'static str,
    /// How it is, or what is wrong and what to do.
    pub state: Result<String, String>,
    /// Without it nothing can be enforced; else only a part cannot.
    pub essential: bool,
}

/// Looks at everything the nftables backend needs, without changing anything.
pub async fn check(nftables: &mut Nftables) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut note = |what, essential, state| findings.push(Finding { what, essential, state });

    let version = nftables.nft.version().await;
    let present = version.is_ok();
    note(
        "nft",
        true,
        version
            .map(|text| String::from_utf8_lossy(&text).trim().to_owned())
            .map_err(|error| error.to_string()),
    );
    note(
        "privileges",
        true,
        match kernel::may_administer() {
            Ok(true) => Ok("CAP_NET_ADMIN".to_owned()),
            Ok(false) => Err(BackendError::NotPermitted.to_string()),
            Err(error) => Err(format!("cannot be told ({error}): mount /proc")),
        },
    );
    if present {
        let shape = Shape::default();
        let takes = nftables.nft.would_take(&shape.script()).await;
        note(
            "kernel",
            true,
            takes
                .map(|()| "takes our sets with timeouts and our rules".to_owned())
                .map_err(|error| error.to_string()),
        );
        let synproxy = nftables.has_synproxy().await;
        note(
            "synproxy",
            false,
            synproxy.map(|()| "there, for shielded services behind this host".to_owned()),
        );
        note("table inet netguard", false, table(nftables));
    }
    note(
        "SYN cookies",
        false,
        kernel::syn_cookies().map(|on| {
            let state = if on { "on" } else { "off: switched on with the first shield" };
            format!("{state}, for shielded services of this host")
        }),
    );
    findings
}

fn table(nftables: &mut Nftables) -> Result<String, String> {
    if nftables.is_switched_off().map_err(|error| error.to_string())? {
        return Err(BackendError::SwitchedOff.to_string());
    }
    let Some(listing) = nftables.list().map_err(|error| error.to_string())? else {
        return Ok("not there yet: `netguard-responder run` makes it".to_owned());
    };
    let shape = Shape {
        throttle_per_minute: listing.throttle_per_minute().unwrap_or(20),
        synproxy: listing.has_chain(&super::UNTRACK),
        prefixes: listing.prefix_sets(),
        split: listing.split(),
        ..nftables.shape.clone()
    };
    let faults = listing.faults(&shape);
    if faults.is_empty() {
        let counters = listing.counters();
        Ok(format!(
            "stands, with its hooks in place (packets: {} blocked, {} over the rate, {} to shielded services)",
            counters.blocked, counters.throttled, counters.shielded
        ))
    } else {
        Err(format!("{}: a running responder puts it right", faults.join("; ")))
    }
}
