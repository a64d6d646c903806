//! Payload → what is said: which service a flow speaks, told by its bytes, and its requests, answers, names, logins and
//! claims as fields.
//!
//! Invariants: bytes are read in order, each once, the first that came for its place; everything that grows with traffic
//! is bounded by [`ApplicationLimits`], and what does not fit is given up and counted; a flow of which nothing more is to
//! be found out costs one look at a table; a packet that completes nothing allocates nothing in steady state. Fields
//! leave, payload does not: passwords are not even looked at. Texts are bytes as sent, to be escaped where they are shown.

mod anomaly;
mod arp;
mod buffers;
mod dhcp;
mod dialog;
mod dissection;
mod dns;
mod ftp;
mod http;
mod identify;
mod imap;
mod limits;
mod lines;
mod login;
mod mysql;
mod parser;
mod pop3;
mod reader;
mod service;
mod smtp;
mod ssh;
mod stream;
mod table;
mod telnet;
mod text;
mod tls;
mod transaction;

pub use anomaly::Anomaly;
pub use arp::Arp;
pub use dhcp::Dhcp;
pub use dns::{Answer, Dns, Name, Question};
pub use http::{Http, HttpFlags};
pub use limits::{ApplicationCounts, ApplicationLimits};
pub use login::Login;
pub use service::Service;
pub use ssh::Ssh;
pub use table::{Applications, Said};
pub use text::Text;
pub use tls::{Ja4, NameFlags, Tls};
pub use transaction::{Application, Fields, Transaction};

#[cfg(test)]
mod tests;
