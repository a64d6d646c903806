//! What flows add up to, from a capture thread to the coordinators: bounded in memory, and on the wire by what the
//! coordinator grants.
//!
//! Invariants: evidence always goes first; what cannot be sent in time is added up over a longer window, with less
//! detail, and takes no more room for it.

use netguard_core::{
    application::Service,
    conversations::{ConversationLimits, Conversations, Window},
    evidence::OwnNetworks,
    flow::FlowSummary,
    time::Timestamp,
};
use netguard_proto::v1;
use prost::Message as _;
use std::time::{Duration, Instant};

/// How long a thread adds up before it tells.
const WINDOW: Duration = Duration::from_secs(10);
/// Conversations that a thread tells of at once, and that wait in the uplink: what [`MOST_BYTES_PER_SECOND`] has room
/// for over a window.
const LISTED: usize = 512;
/// Encoded bytes a second that a sensor sends at most, whatever it is granted: a two-thousandth of a slow uplink.
const MOST_BYTES_PER_SECOND: u32 = 4_096;
/// What was saved up while nobody took anything counts for no longer than this.
const LONGEST_CREDIT: Duration = Duration::from_secs(60);

/// One capture thread's.
#[derive(Debug)]
pub struct Summaries {
    conversations: Conversations,
    own: OwnNetworks,
    due: Option<Timestamp>,
}

impl Summaries {
    /// `seed` keys the hash.
    #[must_use]
    pub fn new(own: OwnNetworks, seed: u64) -> Self {
        Self { conversations: Conversations::new(ConversationLimits::default(), seed), own, due: None }
    }

    pub fn set_own(&mut self, own: OwnNetworks) {
        self.own = own;
    }

    pub fn add(&mut self, flow: &FlowSummary) {
        let service = flow.application.and_then(|application| application.service).map(Service::name);
        self.conversations.add(flow, service, &self.own);
    }

    /// Whether a window is full. The first begins now.
    #[must_use]
    pub fn is_due(&self, at: Timestamp) -> bool {
        !self.conversations.is_empty() && self.due.is_none_or(|due| at >= due)
    }

    /// When the window will be full, if there is anything in it.
    #[must_use]
    pub fn due(&self) -> Option<Timestamp> {
        (!self.conversations.is_empty()).then(|| self.due.unwrap_or_default())
    }

    /// The window, if it is full.
    pub fn take(&mut self, at: Timestamp) -> Option<Window> {
        self.is_due(at).then(|| {
            self.due = Some(at.saturating_add(WINDOW));
            self.conversations.take(at, LISTED)
        })
    }
}

/// What waits for the coordinators.
#[derive(Debug)]
pub(super) struct Outbox {
    window: Option<Window>,
    /// Bytes a second that the coordinator takes; none until it said so.
    pub(super) budget: Option<u32>,
    sent: Instant,
}

impl Default for Outbox {
    fn default() -> Self {
        Self { window: None, budget: None, sent: Instant::now() }
    }
}

impl Outbox {
    pub(super) fn add(&mut self, window: Window) {
        match &mut self.window {
            Some(known) => known.merge(window, LISTED),
            None => self.window = Some(window),
        }
    }

    /// What is to be sent now, cut to what has been granted since the last time.
    pub(super) fn take(&mut self, now: Instant) -> Option<v1::FlowWindow> {
        let budget = self.budget?.min(MOST_BYTES_PER_SECOND);
        let mut window = self.window.take()?;
        let passed = now.saturating_duration_since(self.sent).min(LONGEST_CREDIT).max(WINDOW);
        self.sent = now;
        let room = u128::from(budget) * passed.as_millis() / 1_000;
        let room = usize::try_from(room).unwrap_or(usize::MAX);
        loop {
            let wire = v1::FlowWindow::from(&window);
            let listed = window.conversations.len();
            if wire.encoded_len() <= room || listed == 0 {
                return Some(wire);
            }
            window.keep((listed * room / wire.encoded_len().max(1)).min(listed - 1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use netguard_core::{
        conversations::{Conversation, Totals},
        net::Protocol,
    };

    fn window(from: u16, count: u16) -> Window {
        let entries = (from..from + count).map(|n| {
            let conversation = Conversation {
                source: std::net::Ipv4Addr::from(0x0a01_0000 + u32::from(n)).into(),
                destination: [10, 0, 0, 1].into(),
                port: 443,
                protocol: Protocol::TCP,
                service: Some("ssl"),
            };
            let at = Timestamp::from_secs(1_700_000_000);
            let totals = Totals {
                flows: 1,
                packets_to_server: 9,
                bytes_to_server: 1_000 + u64::from(n),
                first: at,
                last: at,
                ..Totals::default()
            };
            (conversation, totals)
        });
        let (start, end) = (Timestamp::from_secs(1_700_000_000), Timestamp::from_secs(1_700_000_010));
        Window { start, end, conversations: entries.collect(), other: Totals::default() }
    }

    fn flows(wire: &v1::FlowWindow) -> u64 {
        wire.conversations.iter().chain(&wire.other).map(|conversation| conversation.flows).sum()
    }

    #[test]
    fn nothing_goes_without_a_budget_and_no_more_than_it_grants() {
        let mut outbox = Outbox::default();
        outbox.add(window(0, 500));
        let later = outbox.sent + WINDOW;
        assert_eq!(outbox.take(later), None);
        outbox.budget = Some(1_000);
        let wire = outbox.take(later).unwrap();
        assert!(wire.encoded_len() <= 10_000 && wire.conversations.len() > 50, "{}", wire.encoded_len());
        assert_eq!(flows(&wire), 500, "what is not listed is added up");
        assert_eq!(wire.conversations[0].bytes_to_server, 1_499, "the largest are listed");
        assert_eq!(outbox.take(later), None);
    }

    #[test]
    fn a_long_silence_makes_one_longer_window_of_bounded_size() {
        let mut outbox = Outbox { budget: Some(u32::MAX), ..Outbox::default() };
        for n in 0..60 {
            outbox.add(window(n * 100, 500));
            assert!(outbox.window.as_ref().unwrap().conversations.len() <= LISTED);
        }
        let wire = outbox.take(outbox.sent + Duration::from_secs(3_600)).unwrap();
        assert!(wire.encoded_len() <= 60 * 4_096, "{}", wire.encoded_len());
        assert_eq!(flows(&wire), 60 * 500);
    }
}
