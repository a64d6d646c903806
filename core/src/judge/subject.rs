//! What the judge holds of one subject.

use super::{
    seen::{self, Seen},
    window::{Counts, Rings},
};
use crate::{
    decision::{MAX_SAMPLE_FLOWS, Target, Verb},
    evidence::{EvidenceRecord, Fact},
    kind::Kind,
    net::Prefix,
    policy::{Mode, Policy},
    subject::{Service, Subject},
    time::Timestamp,
};
use std::{net::IpAddr, sync::Arc, time::Duration};

/// Addresses of a neighbourhood remembered one by one; that there are more than one is all that is asked.
const MAX_MEMBERS: usize = 8;
/// An IPv6 neighbourhood: what one subscriber is given at least (RFC 6177), and can change its address within.
const NEIGHBOURHOOD_LEN: u8 = 64;

/// What evidence is added up under: a subject, or the IPv6 neighbourhood of a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Key {
    Source(IpAddr),
    Neighbourhood(Prefix),
    Service(Service),
}

impl Key {
    pub(super) fn of(subject: &Subject) -> Self {
        match subject {
            Subject::Source(address) => Self::Source(crate::net::canonical(*address)),
            Subject::Service(service) => Self::Service(*service),
        }
    }

    pub(super) fn of_target(target: &Target) -> Self {
        match target {
            Target::Source(prefix) if prefix.is_host() => Self::Source(prefix.address()),
            Target::Source(prefix) => Self::Neighbourhood(*prefix),
            Target::Service(service) => Self::Service(*service),
        }
    }

    /// The /64 around an IPv6 source.
    pub(super) fn neighbourhood(&self) -> Option<Self> {
        match self {
            Self::Source(address @ IpAddr::V6(_)) => {
                Some(Self::Neighbourhood(Prefix::containing(*address, NEIGHBOURHOOD_LEN)))
            }
            _ => None,
        }
    }

    pub(super) fn target(&self) -> Target {
        match self {
            Self::Source(address) => Target::Source(Prefix::host(*address)),
            Self::Neighbourhood(prefix) => Target::Source(*prefix),
            Self::Service(service) => Target::Service(*service),
        }
    }
}

/// A proposal made, so that it is not made again at every further packet.
#[derive(Debug, Clone, Copy)]
pub(super) struct Proposed {
    pub(super) verb: Verb,
    /// The leading kind, and whether the policy only simulated it then.
    pub(super) kind: Kind,
    pub(super) simulated: bool,
    pub(super) at: Timestamp,
    pub(super) ttl: Duration,
}

/// Points a family of kinds once had, from which they decay.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Carried {
    pub(super) points_milli: u64,
    pub(super) at: Timestamp,
}

/// Everything held of one subject.
#[derive(Debug, Clone, Default)]
pub(super) struct SubjectState {
    pub(super) rings: Rings,
    pub(super) seen: Vec<Seen>,
    pub(super) flows: Vec<String>,
    pub(super) proposed: Vec<Proposed>,
    pub(super) carried: [Carried; super::score::FAMILIES],
    /// The login service asked last, for the words of a reason.
    pub(super) login_port: u16,
    /// Of a neighbourhood: addresses that lately brought evidence.
    pub(super) members: Vec<(IpAddr, Timestamp)>,
    pub(super) last: Timestamp,
    /// As counted in the judge's budget.
    pub(super) weight: usize,
}

impl SubjectState {
    /// Whether (sensor, epoch, sequence) is new here; then it counts as seen from now on.
    pub(super) fn take(
        &mut self,
        sensor: &Arc<str>,
        epoch: u64,
        sequence: u64,
        record: &EvidenceRecord,
        at: Timestamp,
    ) -> bool {
        let Some(seen) = seen::take(&mut self.seen, sensor, epoch, sequence) else { return false };
        seen.tell(&Counts::of(record), record.counters.get(Fact::PayloadSession), at);
        true
    }

    /// As [`Self::take`] where repetition was kept out before.
    pub(super) fn note_sensor(&mut self, sensor: &Arc<str>, record: &EvidenceRecord, at: Timestamp) {
        let seen = seen::entry(&mut self.seen, sensor, 0);
        seen.tell(&Counts::of(record), record.counters.get(Fact::PayloadSession), at);
    }

    pub(super) fn absorb(
        &mut self,
        record: &EvidenceRecord,
        at: Timestamp,
        now: Timestamp,
        longest: Duration,
    ) {
        self.rings.add(record, at, now, longest);
        self.last = self.last.max(at);
        if let Some(shape) = record.shapes.iter().max_by_key(|shape| shape.short_sessions)
            && shape.short_sessions > 0
        {
            self.login_port = shape.port;
        }
        if !record.flows.is_empty() && self.flows != record.flows {
            self.flows.extend(record.flows.iter().cloned());
            self.flows.sort_unstable();
            self.flows.dedup();
            self.flows.truncate(MAX_SAMPLE_FLOWS);
        }
    }

    /// Remembers an address of a neighbourhood.
    pub(super) fn add_member(&mut self, address: IpAddr, at: Timestamp) {
        if let Some(member) = self.members.iter_mut().find(|(member, _)| *member == address) {
            member.1 = member.1.max(at);
            return;
        }
        if self.members.len() >= MAX_MEMBERS
            && let Some(oldest) =
                (0..self.members.len()).min_by_key(|at| self.members.get(*at).map(|(_, at)| *at))
        {
            self.members.swap_remove(oldest);
        }
        self.members.push((address, at));
    }

    pub(super) fn members_since(&self, from: Timestamp) -> usize {
        self.members.iter().filter(|(_, at)| *at >= from).count()
    }

    /// Of `sensors`, how many saw the source's connections work more often than fail.
    pub(super) fn acquainted_sensors(&self, sensors: &[Arc<str>]) -> u64 {
        let acquainted = |name: &&Arc<str>| {
            let of_it = || self.seen.iter().filter(|seen| seen.sensor == **name);
            let working: u64 = of_it().fold(0, |sum, seen| sum.saturating_add(seen.working));
            let failed: u64 = of_it().fold(0, |sum, seen| sum.saturating_add(seen.failed));
            working > failed
        };
        sensors.iter().filter(acquainted).count() as u64
    }

    /// Whether `verb`, or a severer one, was proposed less than half its TTL ago. What was only simulated then and
    /// would be enforced by now does not count.
    pub(super) fn holds(&self, verb: Verb, policy: &Policy, now: Timestamp) -> bool {
        self.proposed.iter().any(|p| {
            p.verb >= verb
                && now < p.at.saturating_add(p.ttl / 2)
                && !(p.simulated && policy.mode_of(p.kind) == Mode::Enforce)
        })
    }

    pub(super) fn note(&mut self, proposed: Proposed) {
        self.forget(proposed.verb);
        self.proposed.push(proposed);
    }

    pub(super) fn forget(&mut self, verb: Verb) {
        self.proposed.retain(|proposed| proposed.verb != verb);
    }

    /// Lets go of what is over; true when nothing is left worth keeping.
    pub(super) fn expire(&mut self, now: Timestamp, longest: Duration) -> bool {
        self.rings.expire(now);
        self.proposed.retain(|p| now < p.at.saturating_add(p.ttl));
        let kept_since = now.saturating_sub(longest);
        self.seen.retain(|seen| seen.last >= kept_since);
        self.members.retain(|(_, at)| *at >= kept_since);
        self.seen.shrink_to_fit();
        self.rings.is_empty() && self.proposed.is_empty()
    }

    pub(super) fn weigh(&self) -> usize {
        size_of::<(Key, Self)>()
            + self.rings.weight()
            + self.seen.iter().map(Seen::weight).sum::<usize>()
            + self.flows.iter().map(|flow| size_of::<String>() + flow.capacity()).sum::<usize>()
            + self.members.capacity() * size_of::<(IpAddr, Timestamp)>()
            + self.proposed.capacity() * size_of::<Proposed>()
    }
}
