//! Who may call what: one table, checked on every RPC of both listeners before any handler runs.
//!
//! Invariants: a method without a row is refused. Role and id come from the one SPIFFE URI of a certificate of the
//! listener's own CA, nothing in a request can widen them. A stream ends within [`SWEEP`] of its caller's revocation or
//! of its certificate's end, in both directions, whatever its handler does. The caller learns no more than the code;
//! the reason is logged here, once.

mod caller;
mod cut;
mod layer;
mod registry;
mod sessions;
mod table;
mod verdict;

pub use caller::Caller;
pub use layer::{Authorise, AuthoriseLayer, ReadPresented};
pub use registry::{LedgerRegistry, Registry, Standing};
pub use sessions::{SWEEP, Sessions};
pub use table::{Access, ROLE_TABLE, Row, row};
pub use verdict::{Denied, Presented, decide};
