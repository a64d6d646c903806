//! What the running kernel can do of what not every kernel can.

use super::{Nftables, kernel};
use netguard_core::{net::Protocol, subject::Service};
use std::collections::BTreeSet;

impl Nftables {
    /// Whether something behind this host is shielded, and the kernel can answer for it.
    pub(super) async fn wants_synproxy(&mut self, shielded: &BTreeSet<Service>) -> bool {
        let behind = shielded.iter().any(|service| {
            service.protocol == Protocol::TCP
                && kernel::forwards(service.address)
                && !kernel::is_local(service.address)
        });
        behind && self.has_synproxy().await.is_ok()
    }

    pub(super) async fn has_synproxy(&mut self) -> Result<(), String> {
        if let Some(known) = &self.synproxy {
            return known.clone();
        }
        let probe = "add table inet netguard_probe\n\
            add chain inet netguard_probe forward { type filter hook forward priority -10; policy accept; }\n\
            add rule inet netguard_probe forward meta l4proto 6 ct state invalid,untracked synproxy mss 1460 wscale 7 timestamp sack-perm\n";
        let answer = self.nft.would_take(probe).await.map_err(|error| {
            format!(
                "the service is behind this host, and this kernel has no `synproxy` to answer for it \
                 (load it with `modprobe nft_synproxy`): {error}"
            )
        });
        self.synproxy.insert(answer).clone()
    }

    /// Whether a set can be kept in parts, which the kernel chooses by its own hash.
    pub(super) async fn takes_parts(&mut self) -> bool {
        if let Some(known) = self.takes_parts {
            return known;
        }
        let probe = "add table inet netguard_probe\n\
            add chain inet netguard_probe part\n\
            add chain inet netguard_probe input\n\
            add rule inet netguard_probe input jhash ip saddr mod 2 seed 1 vmap { 0 : jump part, 1 : jump part }\n";
        let answer = self.nft.would_take(probe).await;
        if let Err(error) = &answer {
            tracing::warn!(
                %error,
                "large sets stay in one piece and are slow to read: this kernel has no `jhash` for nftables \
                 (load it with `modprobe nft_hash`)"
            );
        }
        *self.takes_parts.insert(answer.is_ok())
    }

    pub(super) async fn shield_without_effect(&mut self, service: Service) -> Option<String> {
        if service.protocol == Protocol::UDP {
            // The rules are all there is to it.
            return None;
        }
        // Asked for first: packets to an address that is ours without being on an interface reach our stack too.
        let cookies = kernel::ensure_syn_cookies();
        if kernel::is_local(service.address) {
            return cookies.err();
        }
        if kernel::forwards(service.address) {
            return self.has_synproxy().await.err();
        }
        // Nothing of it passes here: there is nothing to do, and nothing lacks.
        None
    }
}
