//! What this coordinator sees that nobody may ever block: computed from the host, not only configured.
//!
//! Invariants: of an interface its *address* counts, never its network, or no attacker on the same network could be
//! blocked. What cannot be read is left out and said, never guessed.

mod host;
mod keeper;
mod presence;

pub use host::host_entries;
pub(crate) use keeper::Keeper;
pub use presence::{Presence, WHO_ADMIN, WHO_COORDINATOR};

use netguard_core::{
    ledger::MAX_NEVER_BLOCK_PER_OWNER,
    net::{NeverBlock, NeverBlockEntry, Prefix},
    shard::NodeId,
};
use std::net::IpAddr;

/// Under which name the ledger keeps what a coordinator computed.
#[must_use]
pub fn owner_name(node: NodeId) -> String {
    format!("coordinator/{node}")
}

/// Under which name it keeps from where admins called there.
#[must_use]
pub fn admins_name(node: NodeId) -> String {
    format!("admins at coordinator/{node}")
}

/// Puts a list into the form the ledger takes: no entry twice, none that the built-in list holds already, at most
/// [`MAX_NEVER_BLOCK_PER_OWNER`]; the first of the given ones stay. Returns how many found no room.
#[must_use]
pub fn tidy(entries: impl IntoIterator<Item = NeverBlockEntry>) -> (Vec<NeverBlockEntry>, usize) {
    let builtin = NeverBlock::with_builtin([]);
    let mut kept: Vec<NeverBlockEntry> = Vec::new();
    let mut left_out = 0;
    for entry in entries {
        if within_builtin(&builtin, &entry.prefix) || kept.iter().any(|known| known.prefix == entry.prefix) {
            continue;
        }
        if kept.len() < MAX_NEVER_BLOCK_PER_OWNER {
            kept.push(entry);
        } else {
            left_out += 1;
        }
    }
    kept.sort_by_key(|entry| entry.prefix);
    (kept, left_out)
}

fn within_builtin(builtin: &NeverBlock, prefix: &Prefix) -> bool {
    builtin
        .entries()
        .iter()
        .any(|entry| entry.prefix.prefix_len() <= prefix.prefix_len() && entry.prefix.overlaps(prefix))
}

/// An entry for one address.
#[must_use]
pub fn address_entry(address: IpAddr, why: impl Into<String>) -> NeverBlockEntry {
    NeverBlockEntry { prefix: Prefix::host(address), why: why.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_bounded_sorted_and_says_nothing_twice() {
        let entry = |text: &str| address_entry(text.parse().unwrap(), "test");
        let (kept, left_out) =
            tidy(["10.0.0.2", "127.0.0.1", "10.0.0.1", "10.0.0.2", "::ffff:10.0.0.1", "fe80::1"].map(entry));
        assert_eq!(kept, ["10.0.0.1", "10.0.0.2"].map(entry));
        assert_eq!(left_out, 0);
        let many = (0..300u32).map(|i| address_entry(IpAddr::V4((0x0a00_0000 + i).into()), "test"));
        let (kept, left_out) = tidy(many);
        assert_eq!((kept.len(), left_out), (MAX_NEVER_BLOCK_PER_OWNER, 44));
    }
}
