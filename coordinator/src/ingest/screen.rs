//! What of a batch may go on: records about the sensor's own networks, in our time.

use super::clock::Offset;
use netguard_core::{evidence::EvidenceRecord, net::Prefix, subject::Subject, time::Timestamp};
use netguard_proto::convert::{Batch, FlowWindow, Hello};

/// Why a sensor's hello is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum BadHello {
    #[error("sensor_id is not the id in the certificate")]
    Impersonation,
    #[error(
        "networks holds {0}: name the networks attached to the captured interfaces (IPv4 up to /8, IPv6 up to /32)"
    )]
    TooWide(Prefix),
}

/// What one sensor may report, and how its clock stands.
#[derive(Debug)]
pub(super) struct Screen {
    networks: Vec<Prefix>,
    told: Offset,
}

/// A batch after screening.
#[derive(Debug)]
pub(super) struct Screened {
    pub(super) records: Vec<EvidenceRecord>,
    /// Records about services, or what was done to hosts, outside the sensor's networks.
    pub(super) foreign: u64,
    /// The sensor's clock turned out to be off, or right again.
    pub(super) clock: Option<Offset>,
}

impl Screen {
    /// Errors: see [`BadHello`].
    pub(super) fn of(hello: &Hello, certified_id: &str) -> Result<Self, BadHello> {
        if hello.sensor_id != certified_id {
            return Err(BadHello::Impersonation);
        }
        if let Some(wide) = hello.networks.iter().find(|network| network.prefix_len() < widest(network)) {
            return Err(BadHello::TooWide(*wide));
        }
        Ok(Self { networks: hello.networks.clone(), told: Offset::Right })
    }

    /// Takes out conversations of which neither end is on the sensor's networks; how many. What lies in the future ends
    /// now: a sensor's clock shall not keep its windows longer than others'.
    pub(super) fn screen_flows(&self, window: &mut FlowWindow, now: Timestamp) -> u64 {
        let before = window.entries.len();
        let is_own = |address| self.networks.iter().any(|network| network.contains(address));
        window.entries.retain(|entry| is_own(entry.source) || is_own(entry.destination));
        window.end = window.end.min(now);
        window.start = window.start.min(window.end);
        (before - window.entries.len()) as u64
    }

    pub(super) fn screen(&mut self, batch: &mut Batch, now: Timestamp) -> Screened {
        let offset = Offset::between(batch.sent_at, now);
        let clock = offset.is_news_after(self.told).then_some(offset);
        if clock.is_some() {
            self.told = offset;
        }
        let all = std::mem::take(&mut batch.records);
        let before = all.len();
        let mut records: Vec<_> = all.into_iter().filter(|record| self.may_report(record)).collect();
        for record in &mut records {
            offset.correct_record(record, now);
        }
        let foreign = u64::try_from(before - records.len()).unwrap_or(u64::MAX);
        Screened { records, foreign, clock }
    }

    /// A source may be anywhere, but what it did it did to an address on the sensor's networks; a service must be on one
    /// of them.
    fn may_report(&self, record: &EvidenceRecord) -> bool {
        let own = |address| self.networks.iter().any(|network| network.contains(address));
        match record.subject {
            Subject::Source(_) => {
                !record.destinations.is_empty() && record.destinations.iter().copied().all(own)
            }
            Subject::Service(service) => own(service.address),
        }
    }
}

/// Wider than any network an interface is attached to: 10.0.0.0/8, and what a registry gives a provider (RFC 6177 and
/// the registries' policies: a /32).
fn widest(network: &Prefix) -> u8 {
    if network.is_ipv4() { 8 } else { 32 }
}

/// How much nonsense a stream may carry. Good records earn back what bad ones cost, so that a sensor that is mostly
/// right is never cut off, and one that is mostly wrong soon is.
#[derive(Debug)]
pub(super) struct Patience {
    left: u64,
}

/// Bad records in a row before a stream is closed.
const PATIENCE: u64 = 1_000;
/// What a batch costs that could not be read at all.
pub(super) const UNREADABLE_BATCH: u64 = 100;

impl Default for Patience {
    fn default() -> Self {
        Self { left: PATIENCE }
    }
}

impl Patience {
    /// Whether the stream may go on.
    pub(super) fn judge(&mut self, good: u64, bad: u64) -> bool {
        self.left = self.left.saturating_add(good).min(PATIENCE).saturating_sub(bad);
        self.left > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use netguard_core::{net::Protocol, subject::Service};
    use std::{net::IpAddr, time::Duration};

    const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);

    fn hello(networks: &[&str]) -> Hello {
        Hello {
            sensor_id: "s1".into(),
            epoch: 1,
            version: String::new(),
            networks: networks.iter().map(|network| network.parse().unwrap()).collect(),
            interfaces: vec![],
            conditions: std::collections::BTreeSet::new(),
        }
    }

    fn service(address: &str) -> Subject {
        let address: IpAddr = address.parse().unwrap();
        Subject::Service(Service { address, protocol: Protocol::TCP, port: 80 })
    }

    fn batch(subjects: &[Subject]) -> Batch {
        let record = |subject: &Subject| {
            let mut record = EvidenceRecord::new(*subject, NOW, NOW);
            if matches!(subject, Subject::Source(_)) {
                record.seen_against("10.1.0.1".parse().unwrap());
            }
            record
        };
        let records = subjects.iter().map(record).collect();
        Batch { sequence: 1, cut_at: NOW, sent_at: Some(NOW), records, ..Batch::default() }
    }

    #[test]
    fn a_sensor_speaks_for_itself_and_its_networks() {
        assert_eq!(Screen::of(&hello(&[]), "s2").unwrap_err(), BadHello::Impersonation);
        for wide in ["::/0", "0.0.0.0/0", "0.0.0.0/1", "10.0.0.0/7", "2001:db8::/31"] {
            let refused = Screen::of(&hello(&["10.0.0.0/8", "2001:db8::/32", wide]), "s1").unwrap_err();
            assert_eq!(refused, BadHello::TooWide(wide.parse().unwrap()));
        }

        let mut screen = Screen::of(&hello(&["10.1.0.0/16"]), "s1").unwrap();
        let source = Subject::Source("203.0.113.9".parse().unwrap());
        let subjects = [service("10.1.2.3"), service("10.2.0.1"), source, service("2001:db8::1")];
        let screened = screen.screen(&mut batch(&subjects), NOW);
        let kept: Vec<_> = screened.records.iter().map(|record| record.subject).collect();
        assert_eq!((kept, screened.foreign), (vec![service("10.1.2.3"), source], 2));

        let against = |destinations: &[&str]| {
            let mut record = EvidenceRecord::new(source, NOW, NOW);
            destinations.iter().for_each(|address| record.seen_against(address.parse().unwrap()));
            record
        };
        let one = |record| Batch { records: vec![record], ..batch(&[]) };
        for (destinations, taken) in [
            (&["10.1.0.1", "10.1.255.254"][..], 1),
            (&["10.1.0.1", "10.2.0.1"], 0),
            (&["2001:db8::1"], 0),
            (&[], 0),
        ] {
            let screened = screen.screen(&mut one(against(destinations)), NOW);
            assert_eq!(
                (screened.records.len(), screened.foreign),
                (taken, 1 - taken as u64),
                "{destinations:?}"
            );
        }
    }

    #[test]
    fn a_wrong_clock_is_corrected_and_told_once() {
        let mut screen = Screen::of(&hello(&["10.1.0.0/16"]), "s1").unwrap();
        let wrong = NOW.saturating_add(Duration::from_secs(3600));
        let mut ahead = batch(&[Subject::Source("203.0.113.9".parse().unwrap())]);
        ahead.sent_at = Some(wrong);
        for record in &mut ahead.records {
            (record.start, record.end) = (wrong.saturating_sub(Duration::from_secs(1)), wrong);
        }
        let again = ahead.clone();
        let screened = screen.screen(&mut ahead, NOW);
        assert_eq!(screened.clock, Some(Offset::Ahead(Duration::from_secs(3600))));
        let times = screened.records.first().map(|record| (record.start, record.end));
        assert_eq!(times, Some((NOW.saturating_sub(Duration::from_secs(1)), NOW)));
        assert_eq!(screen.screen(&mut again.clone(), NOW).clock, None);
    }

    #[test]
    fn patience_ends_with_nonsense_and_returns_with_sense() {
        let mut patience = Patience::default();
        assert!(patience.judge(0, 999));
        assert!(patience.judge(500, 400));
        assert!(!patience.judge(0, 101));
        let mut mostly_right = Patience::default();
        assert!((0..10_000).all(|_| mostly_right.judge(20, 1)));
    }
}
