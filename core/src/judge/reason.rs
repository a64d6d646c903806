//! Why, in words for people.

use super::measure::{PROVING_ENDPOINTS, Reading};
use crate::{policy::Measure, subject::Service};
use std::{fmt::Write, time::Duration};

/// The readings that led to a proposal, the strongest first.
pub(super) fn sentence(readings: &[&Reading], service: Option<Service>, login_port: u16) -> String {
    let parts: Vec<_> = readings.iter().map(|reading| part(reading, service, login_port)).collect();
    parts.join("; ")
}

fn part(reading: &Reading, service: Option<Service>, login_port: u16) -> String {
    let kind = reading.rule.row.kind;
    let mut text = what(reading, service, login_port);
    let _ = write!(text, " within {}", rounded(reading.last_packet.since(reading.first_packet)));
    if reading.sensors.len() > 1 {
        let _ = write!(text, ", seen by {} sensors", reading.sensors.len());
    }
    let _ = write!(text, " ({kind}{})", proof(reading));
    text
}

fn what(reading: &Reading, service: Option<Service>, login_port: u16) -> String {
    match reading.rule.row.measure {
        Measure::FailedPorts | Measure::FailedHosts => {
            format!("tried {} in vain on {}", count(reading.ports, "port"), count(reading.hosts, "host"))
        }
        Measure::ShortLoginSessions => {
            format!("had {} refused on port {login_port}", count(reading.measured, "login"))
        }
        Measure::EmptySessions => {
            let connections = count(reading.handshakes, "connection");
            format!("opened {connections} to {} and said nothing", count(reading.hosts, "endpoint"))
        }
        Measure::UnansweredSyns => {
            let service = service.map(|service| format!(" to {service}")).unwrap_or_default();
            let handshakes = count(reading.counts.handshakes, "handshake");
            format!(
                "{} of {}{service} never completed, {handshakes} done",
                reading.measured,
                count(reading.counts.syns, "SYN"),
            )
        }
    }
}

fn proof(reading: &Reading) -> String {
    match reading.rule.row.measure {
        Measure::UnansweredSyns => String::new(),
        Measure::ShortLoginSessions if reading.proven => ", proven by completed handshakes".to_owned(),
        _ if reading.proven => {
            format!(", proven by {}", count(reading.handshakes, "completed handshake"))
        }
        _ => ", not proven: the address may be forged".to_owned(),
    }
}

/// A reading below its threshold or held back, for `explain`.
pub(super) fn state_of(reading: &Reading, points_milli: u64, login_port: u16) -> String {
    let kind = reading.rule.row.kind;
    let unit = match reading.rule.row.measure {
        Measure::FailedPorts => "ports tried in vain",
        Measure::FailedHosts => "hosts tried in vain",
        Measure::ShortLoginSessions => "logins refused",
        Measure::EmptySessions => "connections per endpoint left without a word",
        Measure::UnansweredSyns => "SYNs not completed",
    };
    let mut text = format!(
        "{kind}: {} of {} {unit} within {}, {}.{} points",
        reading.measured,
        reading.threshold,
        rounded(reading.window),
        points_milli / 1000,
        points_milli % 1000 / 100,
    );
    match reading.rule.row.measure {
        Measure::FailedPorts | Measure::FailedHosts if !reading.proven => {
            let _ = write!(
                text,
                "; not proven ({} of {PROVING_ENDPOINTS} handshakes of its own): no more than a throttle",
                reading.handshakes
            );
        }
        Measure::ShortLoginSessions => {
            let _ = write!(text, ", last on port {login_port}");
        }
        _ => {}
    }
    text
}

fn count(number: u64, unit: &str) -> String {
    format!("{number} {unit}{}", if number == 1 { "" } else { "s" })
}

/// Whole seconds up to two minutes, whole minutes up to two hours, hours after; never zero.
pub(super) fn rounded(duration: Duration) -> String {
    let seconds = duration.as_millis().div_ceil(1000).max(1);
    match seconds {
        0..=119 => format!("{seconds} s"),
        120..=7199 => format!("{} min", seconds.div_ceil(60)),
        _ => format!("{} h", seconds.div_ceil(3600)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_short_and_never_zero() {
        let texts = [0, 900, 1_000, 1_001, 119_000, 120_000, 7_100_000, 7_200_000]
            .map(|millis| rounded(Duration::from_millis(millis)));
        assert_eq!(texts, ["1 s", "1 s", "1 s", "2 s", "119 s", "2 min", "119 min", "2 h"]);
    }
}
