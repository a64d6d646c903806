use super::{Ledger, Refusal};
use crate::{
    decision::{Decision, Target},
    net::Prefix,
};

/// All IPv4 addresses.
const IPV4: u128 = 1 << 32;
/// The IPv6 addresses given out so far (2000::/3), counted in /64s: one is one customer.
const IPV6: u128 = 1 << 61;

/// How much of all addresses is blocked or throttled. What several decisions cover is counted for each of them, so
/// that it never comes out too small.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct AddressShare {
    ipv4: u128,
    ipv6: u128,
}

impl AddressShare {
    pub(super) fn of<'a>(decisions: impl Iterator<Item = &'a Decision>) -> Self {
        let mut share = Self::default();
        decisions.filter(|decision| !decision.simulated).for_each(|decision| share.insert(decision));
        share
    }

    pub(super) fn insert(&mut self, decision: &Decision) {
        if let Target::Source(prefix) = decision.target {
            let part = self.part(&prefix);
            *part = part.saturating_add(size(&prefix));
        }
    }

    pub(super) fn remove(&mut self, decision: &Decision) {
        if let Target::Source(prefix) = decision.target {
            let part = self.part(&prefix);
            *part = part.saturating_sub(size(&prefix));
        }
    }

    fn part(&mut self, prefix: &Prefix) -> &mut u128 {
        if prefix.is_ipv4() { &mut self.ipv4 } else { &mut self.ipv6 }
    }
}

/// In addresses for IPv4, in /64s for IPv6.
fn size(prefix: &Prefix) -> u128 {
    let whole: u8 = if prefix.is_ipv4() { 32 } else { 64 };
    1 << whole.saturating_sub(prefix.prefix_len())
}

impl Ledger {
    /// Whether a new decision about `prefix` leaves enough of the world reachable.
    ///
    /// Errors: [`Refusal::AddressShare`].
    pub(super) fn check_share(&self, prefix: &Prefix) -> Result<(), Refusal> {
        let percent = self.policy().max_address_share_percent;
        let mut share = self.derived.share;
        let (all, family) = if prefix.is_ipv4() { (IPV4, "IPv4") } else { (IPV6, "IPv6") };
        // One address more is never what makes the difference, and automatic decisions name no more.
        let narrow = size(prefix) == 1;
        if narrow || (*share.part(prefix) + size(prefix)) * 100 <= all * u128::from(percent) {
            return Ok(());
        }
        Err(Refusal::AddressShare { prefix: *prefix, family: family.to_owned(), percent })
    }
}
