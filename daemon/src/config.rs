//! Configuration files: strict YAML into the caller's types.
//!
//! Invariants: a file is taken whole or not at all; what is not understood (unknown or repeated key, anchor, second
//! document) is an error that names the file, the line and what to check. Nothing is expanded, so nothing explodes.

mod duration;
mod file;
mod size;
mod strict;

pub use duration::{HumanDuration, parse_duration};
pub use file::read_secret;
pub use size::HumanSize;

use serde::de::DeserializeOwned;
use std::{
    io,
    path::{Path, PathBuf},
};

/// The largest configuration file taken, in bytes.
pub const MAX_FILE_BYTES: u64 = 1 << 20;

/// Why a file was not taken. Every message says which file and what to check.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("{}: cannot be read: {source}; check the path and its permissions", path.display())]
    Unreadable { path: PathBuf, source: io::Error },
    #[error("{}: {problem}", path.display())]
    Unfit { path: PathBuf, problem: String },
    #[error("{}:{line}: {problem}", path.display())]
    Invalid { path: PathBuf, line: usize, problem: String },
}

impl ConfigError {
    /// The line at fault, from 1, where there is one.
    #[must_use]
    pub fn line(&self) -> Option<usize> {
        match self {
            Self::Invalid { line, .. } => Some(*line),
            Self::Unreadable { .. } | Self::Unfit { .. } => None,
        }
    }
}

/// Reads `path` into `T`. Give `T` and everything in it `#[serde(deny_unknown_fields)]`.
pub fn load<T: DeserializeOwned>(path: &Path) -> Result<T, ConfigError> {
    let text = file::read(path, file::Secrecy::Public)?;
    parse(path, &text)
}

/// Like [`load`], for a file that holds a secret: refused when group or others may read it.
pub fn load_secret<T: DeserializeOwned>(path: &Path) -> Result<T, ConfigError> {
    let text = file::read(path, file::Secrecy::Secret)?;
    parse(path, &text)
}

/// Takes `text` as the content of `path`, which only errors name.
pub fn parse<T: DeserializeOwned>(path: &Path, text: &str) -> Result<T, ConfigError> {
    strict::parse(text).map_err(|fault| match fault.line {
        Some(line) => ConfigError::Invalid { path: path.to_owned(), line, problem: fault.problem },
        None => ConfigError::Unfit { path: path.to_owned(), problem: fault.problem },
    })
}

#[cfg(test)]
mod tests;
