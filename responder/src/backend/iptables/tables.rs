//! The programs that read and write whole tables: which of iptables' two variants, for which IP versions.

use super::{
    rules::{Shape, Table},
    saved::Saved,
    sets::Family,
};
use crate::backend::{BackendError, process::Program};
use std::{
    net::{Ipv6Addr, UdpSocket},
    path::Path,
    sync::OnceLock,
};

const PACKAGE: &str = "iptables";
/// Seconds to wait for whoever else changes rules (`/run/xtables.lock`): decisions wait as long. It is tried again later.
const LOCK_WAIT_SECONDS: &str = "2";
/// A transaction refused because somebody changed the same rules meanwhile is read and written anew this often.
const WRITE_ATTEMPTS: usize = 3;
/// There with IPv6, whatever the host's addresses.
const IPV6: &str = "/proc/sys/net/ipv6";

/// Which of the kernel's two packet filters iptables writes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Variant {
    /// `iptables-legacy`: x_tables.
    Legacy,
    /// `iptables-nft`: nf_tables, in tables that belong to iptables.
    Nft,
}

impl Variant {
    pub(super) const ALL: [Self; 2] = [Self::Legacy, Self::Nft];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Legacy => "iptables-legacy",
            Self::Nft => "iptables-nft",
        }
    }

    const fn save(self, family: Family) -> &'static str {
        match (self, family) {
            (Self::Legacy, Family::V4) => "iptables-legacy-save",
            (Self::Legacy, Family::V6) => "ip6tables-legacy-save",
            (Self::Nft, Family::V4) => "iptables-nft-save",
            (Self::Nft, Family::V6) => "ip6tables-nft-save",
        }
    }

    const fn restore(self, family: Family) -> &'static str {
        match (self, family) {
            (Self::Legacy, Family::V4) => "iptables-legacy-restore",
            (Self::Legacy, Family::V6) => "ip6tables-legacy-restore",
            (Self::Nft, Family::V4) => "iptables-nft-restore",
            (Self::Nft, Family::V6) => "ip6tables-nft-restore",
        }
    }
}

/// One table of one IP version.
#[derive(Debug)]
pub(super) struct Listing {
    pub family: Family,
    pub table: Table,
    pub saved: Saved,
}

/// The tables of one variant.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tables {
    pub variant: Variant,
}

impl Tables {
    /// The variant this host uses: the one with more rules of others; where both have as many, the one that `iptables`
    /// is.
    ///
    /// Errors: iptables is not here.
    pub(super) async fn in_use() -> Result<Self, BackendError> {
        let version = Program::new("iptables", PACKAGE).run(&["--version"], "").await?;
        let default = if String::from_utf8_lossy(&version).contains("nf_tables") {
            Variant::Nft
        } else {
            Variant::Legacy
        };
        let mut rules = [0, 0];
        for (count, variant) in rules.iter_mut().zip(Variant::ALL) {
            for family in Self::families() {
                // A variant that is not installed is not used.
                if let Ok(listing) = (Self { variant }).listing(family, None).await {
                    *count += Table::ALL
                        .iter()
                        .map(|table| Saved::parse(&listing, *table).foreign_rules())
                        .sum::<usize>();
                }
            }
        }
        let [legacy, nft] = rules;
        let variant = match legacy.cmp(&nft) {
            std::cmp::Ordering::Greater => Variant::Legacy,
            std::cmp::Ordering::Less => Variant::Nft,
            std::cmp::Ordering::Equal => default,
        };
        tracing::info!(variant = variant.name(), legacy, nft, "the variant of iptables this host uses");
        Ok(Self { variant })
    }

    /// The IP versions of this host.
    pub(super) fn families() -> impl Iterator<Item = Family> {
        let ipv6 = has_ipv6();
        Family::ALL.into_iter().filter(move |family| *family == Family::V4 || ipv6)
    }

    async fn listing(self, family: Family, table: Option<Table>) -> Result<String, BackendError> {
        let save = Program::new(self.variant.save(family), PACKAGE);
        let mut arguments = vec!["-c"];
        if let Some(table) = table {
            arguments.extend(["-t", table.name()]);
        }
        Ok(String::from_utf8_lossy(&save.run(&arguments, "").await?).into_owned())
    }

    /// The tables we have chains in, or one of them, of all IP versions.
    pub(super) async fn read_all(self, only: Option<Table>) -> Result<Vec<Listing>, BackendError> {
        let mut listings = Vec::new();
        for family in Self::families() {
            listings.extend(self.read(family, only).await?);
        }
        Ok(listings)
    }

    async fn read(self, family: Family, only: Option<Table>) -> Result<Vec<Listing>, BackendError> {
        let listing = self.listing(family, only).await?;
        Ok(Table::ALL
            .into_iter()
            .filter(|table| only.is_none_or(|only| only == *table))
            .map(|table| Listing { family, table, saved: Saved::parse(&listing, table) })
            .collect())
    }

    /// Makes our chains stand as `shape` says, each table in one transaction.
    pub(super) async fn build(self, shape: &Shape) -> Result<(), BackendError> {
        self.write(|saved, table, family| saved.build(shape, table, family)).await
    }

    /// Removes our chains and the jumps to them.
    pub(super) async fn demolish(self) -> Result<(), BackendError> {
        self.write(|saved, table, _| saved.demolish(table)).await
    }

    async fn write(self, text: impl Fn(&Saved, Table, Family) -> String) -> Result<(), BackendError> {
        for family in Self::families() {
            let mut attempt = 1;
            loop {
                let whole: String = self
                    .read(family, None)
                    .await?
                    .iter()
                    .map(|listing| text(&listing.saved, listing.table, family))
                    .collect();
                if whole.is_empty() {
                    break;
                }
                match self.restore(family, &whole).await {
                    Ok(()) => break,
                    Err(error @ BackendError::Refused { .. }) if attempt < WRITE_ATTEMPTS => {
                        tracing::warn!(%error, attempt, "rules were not written: once more, from what is there now");
                        attempt += 1;
                    }
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(())
    }

    async fn restore(self, family: Family, text: &str) -> Result<(), BackendError> {
        let restore = Program::new(self.variant.restore(family), PACKAGE);
        restore.run(&["--noflush", "-w", LOCK_WAIT_SECONDS], text).await.map(|_| ())
    }
}

pub(super) fn has_ipv6() -> bool {
    // Where `/proc` is hidden, a socket tells.
    static TOLD: OnceLock<bool> = OnceLock::new();
    Path::new(IPV6).exists() || *TOLD.get_or_init(|| UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)).is_ok())
}
