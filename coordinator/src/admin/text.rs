//! Texts from operators, and texts for them.

use netguard_core::{
    net::{Prefix, Protocol, parse_address},
    subject::Service,
    time::Timestamp,
};
use std::time::Duration;
use time::OffsetDateTime;
use tonic::Status;

/// Longest text that could be an address, a prefix, a service or an id.
const MAX_WHAT: usize = 128;
/// Shown of a text that could not be read.
const MAX_ECHO: usize = 64;

/// What an operator typed, fit to be shown again.
pub(super) fn echo(text: &str) -> String {
    text.chars().take(MAX_ECHO).flat_map(char::escape_debug).collect()
}

#[allow(clippy::result_large_err, reason = "tonic's own error type")]
pub(super) fn prefix(text: &str) -> Result<Prefix, Status> {
    if text.len() > MAX_WHAT {
        return Err(Status::invalid_argument("that is too long for an address or prefix"));
    }
    text.parse().map_err(|error| Status::invalid_argument(format!("`{}`: {error}", echo(text))))
}

/// Reads `tcp/10.0.0.1:80`, `udp/[2001:db8::1]:53`.
pub(super) fn service(text: &str) -> Option<Service> {
    if text.len() > MAX_WHAT {
        return None;
    }
    let (protocol, place) = text.split_once('/')?;
    let protocol = match protocol {
        "tcp" => Protocol::TCP,
        "udp" => Protocol::UDP,
        "sctp" => Protocol::SCTP,
        _ => return None,
    };
    let (host, port) = place.rsplit_once(':')?;
    let port = port.bytes().all(|b| b.is_ascii_digit()).then(|| port.parse().ok())??;
    let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let address = parse_address(bracketed.unwrap_or(host)).ok()?;
    (address.is_ipv6() == bracketed.is_some()).then_some(Service { address, protocol, port })
}

/// A message of several lines, without any other control character.
pub(super) fn lines(text: &str) -> String {
    text.lines()
        .map(|line| line.chars().flat_map(escape_control).collect::<String>())
        .collect::<Vec<_>>()
        .join("\n")
}

fn escape_control(character: char) -> Vec<char> {
    if character.is_control() { character.escape_debug().collect() } else { vec![character] }
}

/// A time for people: `2026-11-20 12:00:05 UTC`.
pub(super) fn time(at: Timestamp) -> String {
    let format = time::macros::format_description!("[year]-[month]-[day] [hour]:[minute]:[second] UTC");
    i64::try_from(at.as_secs())
        .ok()
        .and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok())
        .and_then(|at| at.format(format).ok())
        .unwrap_or_else(|| "the end of time".to_owned())
}

/// A length of time for people, in whole seconds: `4h`, `1day 2h`.
pub(super) fn duration(length: Duration) -> String {
    humantime::format_duration(Duration::from_secs(length.as_secs())).to_string()
}

/// `1 decision`, `2 decisions`.
pub(super) fn count(number: usize, one: &str) -> String {
    if number == 1 { format!("1 {one}") } else { format!("{number} {one}s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_is_read_as_it_is_shown() {
        for good in ["tcp/10.0.0.1:80", "udp/[2001:db8::1]:53", "sctp/10.0.0.1:0"] {
            assert_eq!(service(good).unwrap().to_string(), good);
        }
        for bad in [
            "",
            "tcp",
            "tcp/10.0.0.1",
            "icmp/10.0.0.1:1",
            "tcp/2001:db8::1:53",
            "tcp/[10.0.0.1]:80",
            "tcp/010.0.0.1:80",
            "tcp/10.0.0.1:+80",
            "tcp/10.0.0.1:65536",
            "10.0.0.0/8",
        ] {
            assert_eq!(service(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn what_is_shown_again_cannot_play_with_the_terminal() {
        let refused = prefix("\u{1b}[2J\u{202e}").unwrap_err();
        assert_eq!(refused.code(), tonic::Code::InvalidArgument);
        assert!(
            refused.message().starts_with("`\\u{1b}[2J\\u{202e}`: not an address"),
            "{}",
            refused.message()
        );
        assert!(prefix(&"1".repeat(1 << 20)).unwrap_err().message().len() < 100);
    }

    #[test]
    fn times_are_written_for_people() {
        assert_eq!(time(Timestamp::from_secs(1_795_000_000)), "2026-11-18 11:06:40 UTC");
        assert_eq!(duration(Duration::from_millis(14_400_900)), "4h");
        assert_eq!((count(1, "decision"), count(0, "decision")), ("1 decision".into(), "0 decisions".into()));
    }
}
