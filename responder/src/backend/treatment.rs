//! What a firewall does with what it stops, where that is this host's own choice.

use serde::Deserialize;

/// How blocked packets end, and whether the kernel logs them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Treatment {
    pub action: Refusal,
    /// Default: nothing is logged.
    pub log: Option<Log>,
}

/// How a blocked packet ends. Throttled packets over the rate are always dropped: an answer would tell a scanner more.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Refusal {
    /// Silently: the sender waits for its timeout.
    #[default]
    Drop,
    /// TCP with a reset, all else with an ICMP administratively prohibited.
    Reject,
}

/// Kernel log lines about blocked packets.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    /// Begins each line. At most 28 bytes (iptables takes no more), printable ASCII without quotes and backslashes.
    pub prefix: String,
    /// Lines a second at most, all blocked sources together; more are left out, so that a flood cannot fill the disk.
    pub per_second: u32,
}

/// Longest prefix that every firewall takes: iptables' LOG has 29 bytes with the final NUL.
const MAX_PREFIX_BYTES: usize = 28;

impl Default for Log {
    fn default() -> Self {
        Self { prefix: "netguard: ".to_owned(), per_second: 10 }
    }
}

impl Treatment {
    /// Errors: a prefix that a firewall would not take or that could be mistaken for its syntax, or a rate of 0.
    pub fn check(&self) -> anyhow::Result<()> {
        let Some(log) = &self.log else { return Ok(()) };
        anyhow::ensure!(
            log.prefix.len() <= MAX_PREFIX_BYTES
                && log
                    .prefix
                    .bytes()
                    .all(|byte| (b' '..=b'~').contains(&byte) && !b"\"'\\`$".contains(&byte)),
            "log.prefix `{}`: at most {MAX_PREFIX_BYTES} printable ASCII characters without quotes, backslash and $",
            log.prefix.escape_debug()
        );
        anyhow::ensure!(log.per_second > 0, "log.per_second is 0: leave `log` out to log nothing");
        Ok(())
    }
}
