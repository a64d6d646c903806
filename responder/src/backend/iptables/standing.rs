//! What has to stand before rules can: sets as they should be, and our chains in one variant of iptables only.

use super::{
    content::Content,
    ipset::{Head, Make, error},
    rules::{DYNAMIC_SIZE, GREETED_SIZE},
    sets::Family,
    tables::{Tables, Variant},
    unread,
    writing::next,
};
use crate::backend::BackendError;
use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

/// Ends of kept connections: as many of each IP version as of both together.
const KEPT_SIZE: u32 = 4_096;
/// How long sets are still in use after the rules that used them are gone: nf_tables frees rules later.
const RELEASE: Duration = Duration::from_secs(5);
const RELEASE_POLL: Duration = Duration::from_millis(10);

/// Removes our chains from variants that are not in use. Says what stood there.
pub(super) async fn leave_other_variants(tables: Tables) -> Vec<String> {
    let mut left = Vec::new();
    for variant in Variant::ALL.into_iter().filter(|variant| *variant != tables.variant) {
        let other = Tables { variant };
        // A variant that is not here holds nothing of ours.
        let stands = other.read_all(None).await.unwrap_or_default().iter().any(|one| one.saved.has_ours());
        if !stands {
            continue;
        }
        match other.demolish().await {
            Ok(()) => left.push(format!("our chains stood in {} too", variant.name())),
            Err(error) => {
                tracing::warn!(%error, variant = variant.name(), "our chains stand there too, and stay");
            }
        }
    }
    left
}

/// Sets that packets fill: `proven` has sources that completed a handshake lately, `served` with the services that they
/// were sent data from; `sent` and `asked` what was sent to throttled sources, by their port and by ours; `greeted` sources
/// whose first datagram to a shielded service was held back just now, `known` those that repeated it.
///
/// And `kept`, which the responder fills: ends of connections that nothing of ours cuts.
fn dynamic_sets(family: Family) -> [(String, Make); 7] {
    // The kernel lets no packet enlarge a set's table (ipset(8), `hashsize`): it is as large as it may have to be, which
    // takes 2 bytes an element.
    let make = |kind, timeout| Make {
        kind,
        family,
        timeout,
        counters: false,
        max_elements: DYNAMIC_SIZE,
        hash_size: DYNAMIC_SIZE / 4,
        netmask: None,
    };
    let digit = family.digit();
    // Whoever has one IPv6 address of a /64 has them all.
    let netmask = (family == Family::V6).then_some(64);
    [
        (
            kept_set(family),
            Make { max_elements: KEPT_SIZE, hash_size: KEPT_SIZE / 4, ..make("hash:ip,port", 0) },
        ),
        (format!("netguard-proven{digit}"), Make { netmask, ..make("hash:ip", 3600) }),
        (format!("netguard-served{digit}"), make("hash:ip,port", 3600)),
        (format!("netguard-sent{digit}"), make("hash:ip,port", 180)),
        (format!("netguard-asked{digit}"), make("hash:ip,port", 180)),
        (format!("netguard-known{digit}"), Make { netmask, ..make("hash:ip", 3600) }),
        (
            format!("netguard-greeted{digit}"),
            Make { netmask, max_elements: GREETED_SIZE, hash_size: GREETED_SIZE / 4, ..make("hash:ip", 6) },
        ),
    ]
}

/// Makes all our sets stand as they should, with what they hold. Says what did not.
pub(super) async fn ensure_sets(content: &mut Content, tables: Tables) -> Result<Vec<String>, BackendError> {
    let mut faults = Vec::new();
    let mut missing = Vec::new();
    let names: BTreeSet<String> = content.ipset.names().map_err(unread)?.into_iter().collect();
    for set in content.sets.clone() {
        // Left by one that was stopped while it wrote.
        if names.contains(&next(set)) {
            content.ipset.destroy(&next(set)).map_err(unread)?;
        }
        let make = content.make(set, 0);
        match content.ipset.head(set.name()).map_err(unread)? {
            None => {
                content.ipset.create(set.name(), &make).map_err(unread)?;
                missing.push(set.name().to_owned());
            }
            Some(head) if is_as(&head, &make) => {}
            Some(head) if head.kind == make.kind && head.family == make.family.number() => {
                content.remake(set).map_err(unread)?;
                faults.push(format!("the set {} had other properties", set.name()));
            }
            Some(_) => {
                replace(content, tables, set.name(), &make).await?;
                faults.push(format!("the set {} was of another type", set.name()));
            }
        }
    }
    for (name, make) in Tables::families().flat_map(dynamic_sets) {
        match content.ipset.head(&name).map_err(unread)? {
            None => {
                content.ipset.create(&name, &make).map_err(unread)?;
                missing.push(name);
            }
            Some(head) if is_as(&head, &make) => {}
            Some(_) => {
                replace(content, tables, &name, &make).await?;
                faults.push(format!("the set {name} was of another type"));
            }
        }
    }
    if !missing.is_empty() {
        faults.push(format!("the sets {} were missing", missing.join(", ")));
    }
    Ok(faults)
}

/// The set of ends of connections that nothing of ours cuts.
pub(super) fn kept_set(family: Family) -> String {
    format!("netguard-kept{}", family.digit())
}

fn is_as(head: &Head, make: &Make) -> bool {
    head.kind == make.kind
        && head.family == make.family.number()
        && head.has_timeouts
        && head.counters == make.counters
        && head.max_elements == make.max_elements
}

/// Puts a set in the place of one of another type. The kernel lets no set go that a rule names, so that ours are gone
/// until they are built anew.
async fn replace(content: &mut Content, tables: Tables, name: &str, make: &Make) -> Result<(), BackendError> {
    tables.demolish().await?;
    let deadline = Instant::now() + RELEASE;
    release(content, name, deadline).await?;
    content.ipset.create(name, make).map_err(unread)
}

/// Destroys a set that no rule of ours names any more.
pub(super) async fn release(
    content: &mut Content,
    name: &str,
    deadline: Instant,
) -> Result<(), BackendError> {
    while let Err(error) = content.ipset.destroy(name) {
        let in_use = matches!(error.raw_os_error(), Some(error::BUSY | error::REFERENCED));
        if !in_use || Instant::now() >= deadline {
            return Err(unread(error));
        }
        tokio::time::sleep(RELEASE_POLL).await;
    }
    Ok(())
}

/// Removes all our sets, after the rules.
pub(super) async fn release_all(content: &mut Content) -> Result<(), BackendError> {
    let deadline = Instant::now() + RELEASE;
    for name in content.ipset.names().map_err(unread)? {
        release(content, &name, deadline).await?;
    }
    Ok(())
}
