use super::{FlowSummaries, Kept};
use netguard_core::{
    conversations::Totals,
    net::{Prefix, Protocol},
    time::Timestamp,
};
use netguard_proto::{
    convert::{self, ConvertError, FlowEntry},
    v1,
};
use std::{cmp::Reverse, collections::HashMap, net::IpAddr, sync::Arc};

/// What is asked.
#[derive(Debug, Clone, Default)]
pub struct Query {
    pub source: Option<Prefix>,
    pub destination: Option<Prefix>,
    pub port: Option<u16>,
    pub sensor: Option<String>,
    pub since: Timestamp,
    pub top: usize,
    pub by_flows: bool,
}

/// What is known.
#[derive(Debug, Default)]
pub struct Answer {
    /// By sensor, largest first.
    pub rows: Vec<(Arc<str>, FlowEntry)>,
    /// What fits and is not among them.
    pub rest: Totals,
    /// What sensors had no room to list.
    pub other: Totals,
    /// The beginning of the oldest window held, whether it fits or not.
    pub oldest: Option<Timestamp>,
}

#[derive(PartialEq, Eq, Hash)]
struct Key {
    sensor: Arc<str>,
    source: IpAddr,
    destination: IpAddr,
    port: u16,
    protocol: Protocol,
    service: String,
}

impl Query {
    fn takes(&self, kept: &Kept) -> bool {
        kept.window.end >= self.since && self.sensor.as_ref().is_none_or(|sensor| **sensor == *kept.sensor)
    }

    fn fits(&self, entry: &FlowEntry) -> bool {
        self.source.is_none_or(|prefix| prefix.contains(entry.source))
            && self.destination.is_none_or(|prefix| prefix.contains(entry.destination))
            && self.port.is_none_or(|port| entry.port == port)
    }

    /// Adds up what two answers say, as of a sensor that moved from one coordinator to the other.
    #[must_use]
    pub fn join(&self, answers: impl IntoIterator<Item = Answer>) -> Answer {
        let mut joined = Answer::default();
        let mut rows: HashMap<Key, Totals> = HashMap::new();
        for answer in answers {
            joined.rest.add(&answer.rest);
            joined.other.add(&answer.other);
            joined.oldest = [joined.oldest, answer.oldest].into_iter().flatten().min();
            for (sensor, entry) in answer.rows {
                let (key, totals) = split(sensor, entry);
                rows.entry(key).or_default().add(&totals);
            }
        }
        self.order(rows, &mut joined);
        joined
    }

    fn order(&self, rows: HashMap<Key, Totals>, answer: &mut Answer) {
        let mut rows: Vec<_> = rows.into_iter().collect();
        let size = |totals: &Totals| match self.by_flows {
            true => (totals.flows, totals.bytes()),
            false => (totals.bytes(), totals.flows),
        };
        rows.sort_unstable_by(|(a, of_a), (b, of_b)| {
            let name = |key: &Key| (key.sensor.clone(), key.source, key.destination, key.port, key.protocol);
            Reverse(size(of_a)).cmp(&Reverse(size(of_b))).then_with(|| name(a).cmp(&name(b)))
        });
        for (_, totals) in rows.drain(self.top.min(rows.len())..) {
            answer.rest.add(&totals);
        }
        answer.rows = rows
            .into_iter()
            .map(|(key, totals)| {
                let Key { sensor, source, destination, port, protocol, service } = key;
                (sensor, FlowEntry { source, destination, port, protocol, service, totals })
            })
            .collect();
    }
}

fn split(sensor: Arc<str>, entry: FlowEntry) -> (Key, Totals) {
    let FlowEntry { source, destination, port, protocol, service, totals } = entry;
    (Key { sensor, source, destination, port, protocol, service }, totals)
}

impl FlowSummaries {
    /// Answers from what is held here. Takes time with what is held: not for a thread that serves others.
    #[must_use]
    pub fn answer(&self, query: &Query) -> Answer {
        let windows = self.windows();
        let mut answer =
            Answer { oldest: windows.iter().map(|kept| kept.window.start).min(), ..Answer::default() };
        let mut rows: HashMap<Key, Totals> = HashMap::new();
        for kept in windows.iter().filter(|kept| query.takes(kept)) {
            answer.other.add(&kept.window.other);
            for entry in kept.window.entries.iter().filter(|entry| query.fits(entry)) {
                let (key, totals) = split(kept.sensor.clone(), entry.clone());
                rows.entry(key).or_default().add(&totals);
            }
        }
        query.order(rows, &mut answer);
        answer
    }
}

impl FlowSummaries {
    /// The same on a thread of its own.
    pub async fn list(self, query: Query) -> Answer {
        let asked = tokio::task::spawn_blocking(move || self.answer(&query)).await;
        // It neither panics nor is it cancelled but with the whole process.
        asked.unwrap_or_default()
    }
}

impl From<Answer> for v1::ListFlowsResponse {
    fn from(answer: Answer) -> Self {
        let rows = answer.rows.into_iter().map(|(sensor, entry)| v1::SensorConversation {
            sensor: sensor.to_string(),
            conversation: Some(entry.into()),
        });
        Self {
            conversations: rows.collect(),
            rest: Some((&answer.rest).into()),
            other: Some((&answer.other).into()),
            since: convert::wire_time(answer.oldest),
            silent: Vec::new(),
        }
    }
}

impl TryFrom<v1::ListFlowsResponse> for Answer {
    type Error = ConvertError;

    fn try_from(wire: v1::ListFlowsResponse) -> Result<Self, ConvertError> {
        let rows = wire
            .conversations
            .into_iter()
            .map(|row| convert::sensor_conversation(row).map(|(sensor, entry)| (Arc::from(sensor), entry)));
        Ok(Self {
            rows: rows.collect::<Result<_, _>>()?,
            rest: convert::flow_totals(wire.rest)?,
            other: convert::flow_totals(wire.other)?,
            oldest: convert::optional_time("since", wire.since)?,
        })
    }
}
