//! `records:` in `sensor.yaml`: what is written where, and in which form.

use netguard_daemon::config::{HumanDuration, HumanSize};
use serde::Deserialize;
use std::{collections::BTreeSet, path::PathBuf, time::Duration};

/// Outputs a sensor writes at most: each costs its own formatting of every record.
pub const MAX_OUTPUTS: usize = 16;
/// A file is rotated at no less than this: below, rotation itself is most of the work.
const ROTATE_SIZE: std::ops::RangeInclusive<u64> = 64 << 10..=1 << 40;
const ROTATE_EVERY: std::ops::RangeInclusive<Duration> =
    Duration::from_secs(60)..=Duration::from_secs(366 * 86_400);
const KEEP: std::ops::RangeInclusive<u32> = 0..=10_000;
/// Files that are kept where a rotation is asked for and no number is given.
pub(super) const KEEP_BY_DEFAULT: u32 = 7;
/// `sun_path` of `unix(7)`, with its closing zero.
const MAX_SOCKET_PATH: usize = 107;

/// How a record looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum RecordFormat {
    /// Suricata's EVE JSON, one object a line
    Eve,
    /// Zeek's conn.log, tab-separated with its header
    Zeek,
    /// Zeek's conn.log, one JSON object a line
    ZeekJson,
}

/// What a record is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum RecordType {
    Flow,
    Http,
    Dns,
    Tls,
    Ssh,
    Login,
    Dhcp,
    Arp,
    /// What no honest stack sends
    Anomaly,
    /// What goes to the coordinators as evidence
    Evidence,
    /// Counters, at the end of a file that was read
    Stats,
}

impl RecordType {
    /// Whether it is told by what flows say, which has to be read for it.
    #[must_use]
    pub fn is_said(self) -> bool {
        !matches!(self, Self::Flow | Self::Evidence | Self::Stats)
    }

    pub const ALL: [Self; 11] = [
        Self::Flow,
        Self::Http,
        Self::Dns,
        Self::Tls,
        Self::Ssh,
        Self::Login,
        Self::Dhcp,
        Self::Arp,
        Self::Anomaly,
        Self::Evidence,
        Self::Stats,
    ];
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Destination {
    File,
    Stdout,
    UnixStream,
    UnixDgram,
}

/// One output.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordsConfig {
    pub format: RecordFormat,
    /// Default: everything the format can say of a running sensor.
    #[serde(default)]
    pub types: Vec<RecordType>,
    pub to: Destination,
    /// Of the file or the socket.
    pub path: Option<PathBuf>,
    pub rotate_size: Option<HumanSize>,
    pub rotate_every: Option<HumanDuration>,
    pub keep: Option<u32>,
}

impl RecordsConfig {
    /// What is written.
    #[must_use]
    pub fn selected(&self) -> BTreeSet<RecordType> {
        if !self.types.is_empty() {
            return self.types.iter().copied().collect();
        }
        match self.format {
            RecordFormat::Eve => {
                RecordType::ALL.into_iter().filter(|record| *record != RecordType::Stats).collect()
            }
            RecordFormat::Zeek | RecordFormat::ZeekJson => [RecordType::Flow].into(),
        }
    }

    /// Errors: what does not go together, named as in the file.
    fn check(&self) -> anyhow::Result<()> {
        check_types(self.format, &self.types)?;
        anyhow::ensure!(
            !self.types.contains(&RecordType::Stats),
            "`types: [stats]` is only for `--read`: counters of a running sensor are its metrics"
        );
        let is_socket = matches!(self.to, Destination::UnixStream | Destination::UnixDgram);
        match (&self.path, self.to) {
            (Some(_), Destination::Stdout) => anyhow::bail!("`to: stdout` takes no `path`"),
            (None, Destination::Stdout) => {}
            (None, _) => anyhow::bail!(
                "`path` is missing: say where the {} is",
                if is_socket { "socket" } else { "file" }
            ),
            (Some(path), _) => {
                anyhow::ensure!(path.is_absolute(), "`path: {}` has to be absolute", path.display());
                anyhow::ensure!(
                    !is_socket || path.as_os_str().len() <= MAX_SOCKET_PATH,
                    "`path: {}` is longer than the {MAX_SOCKET_PATH} bytes that a socket's may have",
                    path.display()
                );
            }
        }
        anyhow::ensure!(
            !(is_socket && self.format == RecordFormat::Zeek),
            "`format: zeek` begins with a header, which a reader of a socket may miss: use zeek-json"
        );
        let rotates = self.rotate_size.is_some() || self.rotate_every.is_some();
        anyhow::ensure!(
            self.to == Destination::File || !(rotates || self.keep.is_some()),
            "`rotate_size`, `rotate_every` and `keep` are for `to: file`"
        );
        anyhow::ensure!(
            self.keep.is_none() || rotates,
            "`keep` needs `rotate_size` or `rotate_every`: without, nothing is rotated here"
        );
        anyhow::ensure!(
            self.rotate_size.is_none_or(|size| ROTATE_SIZE.contains(&size.0)),
            "`rotate_size` takes 64KiB to 1024GiB"
        );
        anyhow::ensure!(
            self.rotate_every.as_ref().is_none_or(|every| ROTATE_EVERY.contains(&every.0)),
            "`rotate_every` takes 1m to 366d"
        );
        anyhow::ensure!(self.keep.is_none_or(|keep| KEEP.contains(&keep)), "`keep` takes 0 to 10000");
        Ok(())
    }
}

/// Errors: types the format has no place for.
pub fn check_types(format: RecordFormat, types: &[RecordType]) -> anyhow::Result<()> {
    let wrong = types.iter().find(|record| format != RecordFormat::Eve && **record != RecordType::Flow);
    if let Some(wrong) = wrong {
        anyhow::bail!(
            "Zeek's formats hold conn.log alone, so only `flow`, not `{}`: use eve for it",
            format!("{wrong:?}").to_lowercase()
        );
    }
    Ok(())
}

/// All outputs of a configuration.
///
/// Errors: the first that is wrong, by its place.
pub fn check(outputs: &[RecordsConfig]) -> anyhow::Result<()> {
    use anyhow::Context as _;
    anyhow::ensure!(outputs.len() <= MAX_OUTPUTS, "records: at most {MAX_OUTPUTS} outputs");
    let mut files = BTreeSet::new();
    for (place, output) in outputs.iter().enumerate() {
        output.check().with_context(|| format!("records[{place}]"))?;
        if let (Destination::File, Some(path)) = (output.to, &output.path) {
            anyhow::ensure!(files.insert(path), "records[{place}]: {} is written twice", path.display());
        }
    }
    let stdout = outputs.iter().filter(|output| output.to == Destination::Stdout).count();
    anyhow::ensure!(stdout <= 1, "records: only one output can be `to: stdout`");
    Ok(())
}
