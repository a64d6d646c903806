//! The table of kinds and the operator's settings over it.
//!
//! Policy is cluster state: versioned, shown, diffed and rolled back by `netguard-admin policy`. Its defaults stand in
//! [`KINDS`], from which docs/kinds.md is rendered.

mod reference;
mod rule;
mod settings;
mod table;

pub use reference::kinds_markdown;
pub use rule::Rule;
pub use settings::{CanarySettings, KindSettings, Mode, Policy, PolicyError};
pub use table::{KINDS, KindRow, Measure, Slow, row};
