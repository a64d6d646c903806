use super::{Service, Text};

/// User names are cut to this: RFC 5321 allows 64 bytes before the `@`, systems 32; what is longer is no name.
pub(super) const MAX_USER: usize = 128;

/// How one try to log in went, where it travels in clear. Never the password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login {
    pub service: Service,
    /// As sent; empty where it could not be read.
    pub user: Text,
    pub success: bool,
}
