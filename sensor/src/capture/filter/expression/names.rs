//! The words that stand before a value, by what they mean.

use super::{Direction, Family};

/// A protocol by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Named {
    Family(Family),
    Transport(u8),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sort {
    Host,
    Net,
    Port,
    PortRange,
}

pub(super) fn protocol_named(name: &str) -> Option<Named> {
    let number = match name {
        "tcp" => 6,
        "udp" => 17,
        "sctp" => 132,
        "icmp" => 1,
        "igmp" => 2,
        "icmp6" => 58,
        _ => return Family::named(name).map(Named::Family),
    };
    Some(Named::Transport(number))
}

pub(super) fn direction_named(name: &str) -> Option<Direction> {
    match name {
        "src" => Some(Direction::Source),
        "dst" => Some(Direction::Destination),
        _ => None,
    }
}

pub(super) fn sort_named(name: &str) -> Option<Sort> {
    Some(match name {
        "host" => Sort::Host,
        "net" => Sort::Net,
        "port" => Sort::Port,
        "portrange" => Sort::PortRange,
        _ => return None,
    })
}
