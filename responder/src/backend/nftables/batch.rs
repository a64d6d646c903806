//! Writing set elements over netlink: one batch is one kernel transaction, however large.
//!
//! A batch is one `sendmsg`: what is sent by several is several transactions. The kernel takes as much at once as the
//! socket's send buffer is long; a million IPv4 addresses are 28 MB. The kernel carries a batch out before `sendmsg`
//! returns, so that its answers are there already; it names each message it refuses, and refuses all with one.
//!
//! Formats: linux/netfilter/nfnetlink.h, linux/netfilter/nf_tables.h.

use super::{
    message::{put, put_message, put_nested, write_at},
    netlink::{
        DATA_VALUE, ELEMENT_EXPIRATION, ELEMENT_KEY, FAMILY_INET, LIST_ELEMENT, LIST_ELEMENTS,
        NEW_SET_ELEMENTS, Netlink, SUBSYSTEM_NFTABLES, list_of,
    },
    places::{Place, Split},
    script::timeout,
    sets::Set,
};
use crate::backend::nfnetlink::{FLAG_ACK, FLAG_REQUEST, MESSAGE_ERROR};
use netguard_core::{
    plan::{Action, Element},
    time::Timestamp,
};
use rustix::io::Errno;
use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, IoSlice},
};

const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const BATCH_GENERATION: u16 = 1;
const DELETE_SET_ELEMENTS: u16 = SUBSYSTEM_NFTABLES | 14;
/// As a deletion, but of what is gone already too (Linux 6.3).
const DESTROY_SET_ELEMENTS: u16 = SUBSYSTEM_NFTABLES | 30;
const FLAG_CREATE: u16 = 0x400;
const RESOURCE_NFTABLES: u16 = 10;
const ELEMENT_TIMEOUT: u16 = 4;
/// Bytes of elements in one message: a list's length is told in 16 bits, and hundreds of sets are written to at a time.
const MAX_LIST_BYTES: usize = 16_000;
/// Where a message's flags stand in it.
const FLAGS_AT: usize = 6;

/// What a kernel can do with elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kernel {
    /// Since Linux 6.12 adding an element again gives it the new timeout; it goes on counting.
    Updates,
    /// Before, an element has to go to get another timeout. In one transaction no packet sees the gap.
    Replaces,
}

impl Kernel {
    /// The running one, by its release; an older one where it does not tell.
    pub(super) fn running() -> Self {
        let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        Self::of_release(&release)
    }

    fn of_release(release: &str) -> Self {
        let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse::<u32>);
        match (numbers.next(), numbers.next()) {
            (Some(Ok(major)), Some(Ok(minor))) if (major, minor) >= (6, 12) => Self::Updates,
            _ => Self::Replaces,
        }
    }
}

/// The messages of one transaction, without its begin and end.
#[derive(Debug, Default)]
pub(super) struct Batch {
    bytes: Vec<u8>,
    /// The set that each message is about, in order.
    places: Vec<Place>,
    /// Lists of elements that have room for more.
    open: BTreeMap<(u16, Place), Vec<u8>>,
    split: Split,
    /// Where the last message begins in `bytes`.
    last: usize,
}

impl Batch {
    /// The elements' part of `actions`, after what are the whole contents of `emptied`.
    ///
    /// What goes is taken out first, so that it leaves its room in a set of limited size to what comes.
    pub(super) fn of<'a>(
        actions: impl Iterator<Item = &'a Action> + Clone,
        now: Timestamp,
        kernel: Kernel,
        (split, emptied): (&Split, &BTreeSet<Set>),
    ) -> Self {
        let mut batch = Self { split: split.clone(), ..Self::default() };
        for set in emptied {
            batch.message(DELETE_SET_ELEMENTS, Place::whole(*set), &[]);
        }
        let gone = |action: &'a Action| match action {
            Action::Remove { element } => Some(*element),
            Action::Extend { element, .. } if kernel == Kernel::Replaces => Some(*element),
            Action::Add { .. } | Action::Extend { .. } | Action::SetThrottle { .. } => None,
        };
        if kernel == Kernel::Replaces {
            // Deleting what expired a moment ago would fail all of the transaction: so it is made sure to be there.
            for element in actions.clone().filter_map(gone) {
                batch.push(NEW_SET_ELEMENTS, &element, None);
            }
            batch.close();
        }
        let delete = if kernel == Kernel::Replaces { DELETE_SET_ELEMENTS } else { DESTROY_SET_ELEMENTS };
        for element in actions.clone().filter_map(gone) {
            batch.push(delete, &element, None);
        }
        batch.close();
        for action in actions {
            match action {
                Action::Add { element, expires_at } => {
                    batch.push(NEW_SET_ELEMENTS, element, Some((timeout(*expires_at, now), false)));
                }
                Action::Extend { element, expires_at } => {
                    let update = kernel == Kernel::Updates;
                    batch.push(NEW_SET_ELEMENTS, element, Some((timeout(*expires_at, now), update)));
                }
                Action::Remove { .. } | Action::SetThrottle { .. } => {}
            }
        }
        batch.close();
        batch
    }

    pub(super) fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// `timeout`: in milliseconds, and whether an element that is held begins it anew.
    fn push(&mut self, kind: u16, element: &Element, timeout: Option<(u64, bool)>) {
        let Some(place) = self.split.place(element) else { return };
        let list = self.open.entry((kind, place)).or_default();
        put_nested(list, LIST_ELEMENT, |into| {
            put_nested(into, ELEMENT_KEY, |into| put(into, DATA_VALUE, &Set::key(element)));
            if let Some((milliseconds, update)) = timeout {
                put(into, ELEMENT_TIMEOUT, &milliseconds.to_be_bytes());
                if update {
                    put(into, ELEMENT_EXPIRATION, &milliseconds.to_be_bytes());
                }
            }
        });
        if list.len() >= MAX_LIST_BYTES {
            let list = std::mem::take(list);
            self.message(kind, place, &list);
        }
    }

    /// Whatever follows comes after all that was pushed so far.
    fn close(&mut self) {
        for ((kind, place), list) in std::mem::take(&mut self.open) {
            if !list.is_empty() {
                self.message(kind, place, &list);
            }
        }
    }

    /// Without a list it is about all elements.
    fn message(&mut self, kind: u16, place: Place, list: &[u8]) {
        // One acknowledgement is enough to know that all of it was taken: the last one's.
        write_at(&mut self.bytes, self.last + FLAGS_AT, &flags(0).to_ne_bytes());
        self.last = self.bytes.len();
        self.places.push(place);
        let header = (kind, flags(FLAG_ACK), sequence(self.places.len()));
        put_message(&mut self.bytes, header, (FAMILY_INET, 0), |into| {
            into.extend_from_slice(&list_of(&place.to_string()));
            if !list.is_empty() {
                put_nested(into, LIST_ELEMENTS, |into| into.extend_from_slice(list));
            }
        });
    }
}

const fn flags(more: u16) -> u16 {
    FLAG_REQUEST | FLAG_CREATE | more
}

/// Of the messages of a batch, its begin being number 0. No request for a single answer ever has such a number.
fn sequence(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(0) | 1 << 31
}

/// Why a batch changed nothing.
#[derive(Debug)]
pub(super) enum Unwritten {
    /// The ruleset is not of the generation that was told: somebody changed it.
    Moved,
    /// The kernel refuses an element of this set, or the batch as a whole.
    Refused(io::Error, Option<Place>),
    /// It could not be handed over, or its answer was lost.
    Unsent(io::Error),
}

impl Netlink {
    /// Carries `batch` out in one transaction; with `generation`, only when the ruleset is still of that generation.
    pub(super) fn commit(&mut self, batch: &Batch, generation: Option<u32>) -> Result<(), Unwritten> {
        // Answers to what was given up on.
        let _ = self.socket.answers(|_, _| {});
        let mut begin = Vec::new();
        put_message(&mut begin, (BATCH_BEGIN, FLAG_REQUEST, sequence(0)), (0, RESOURCE_NFTABLES), |into| {
            if let Some(generation) = generation {
                put(into, BATCH_GENERATION, &generation.to_be_bytes());
            }
        });
        let mut end = Vec::new();
        let last = sequence(batch.places.len() + 1);
        put_message(&mut end, (BATCH_END, FLAG_REQUEST, last), (0, RESOURCE_NFTABLES), |_| {});
        let parts = [IoSlice::new(&begin), IoSlice::new(&batch.bytes), IoSlice::new(&end)];
        self.socket.send(&parts).map_err(Unwritten::Unsent)?;
        self.verdict(batch)
    }

    /// What the kernel said of a batch. The first complaint counts: others follow from it.
    fn verdict(&mut self, batch: &Batch) -> Result<(), Unwritten> {
        let mut complaint = None;
        let mut acknowledged = false;
        let all_there = self.socket.answers(|header, payload| {
            if header.kind != MESSAGE_ERROR || complaint.is_some() {
                return;
            }
            let code = payload.first_chunk().map_or(0, |bytes| i32::from_ne_bytes(*bytes));
            let number = usize::try_from(header.sequence & !(1 << 31)).unwrap_or(0);
            if code == 0 {
                acknowledged = true;
            } else if -code == Errno::RESTART.raw_os_error() {
                complaint = Some(Unwritten::Moved);
            } else {
                let place = number.checked_sub(1).and_then(|at| batch.places.get(at)).copied();
                complaint = Some(Unwritten::Refused(io::Error::from_raw_os_error(-code), place));
            }
        });
        match (complaint, all_there) {
            (Some(complaint), _) => Err(complaint),
            (None, Err(error)) => Err(Unwritten::Unsent(error)),
            (None, Ok(())) if acknowledged => Ok(()),
            (None, Ok(())) => Err(Unwritten::Unsent(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "the kernel did not acknowledge the transaction",
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::nfnetlink::message::split_message;

    #[test]
    fn only_kernels_that_say_so_update_elements() {
        for (release, kernel) in [
            ("6.12.0-amd64", Kernel::Updates),
            ("6.18.44", Kernel::Updates),
            ("7.0-rc1", Kernel::Updates),
            ("6.1.0-30-amd64", Kernel::Replaces),
            ("5.15.0", Kernel::Replaces),
            ("", Kernel::Replaces),
            ("linux", Kernel::Replaces),
        ] {
            assert_eq!(Kernel::of_release(release), kernel, "{release}");
        }
    }

    #[test]
    fn a_batch_asks_for_one_acknowledgement_and_keeps_within_what_a_list_can_tell() {
        let now = Timestamp::from_secs(1000);
        let actions: Vec<_> = (0..5000u32)
            .map(|number| Action::Add {
                element: Element::block(netguard_core::net::Prefix::host(
                    std::net::Ipv4Addr::from(0x0b00_0000 + number).into(),
                )),
                expires_at: Timestamp::from_secs(1060),
            })
            .collect();
        let nothing = (&Split::default(), &BTreeSet::new());
        let batch = Batch::of(actions.iter(), now, Kernel::Replaces, nothing);
        let (mut rest, mut flags) = (&batch.bytes[..], Vec::new());
        while let Some((header, payload, next)) = split_message(rest) {
            assert!(payload.len() <= usize::from(u16::MAX));
            assert_eq!(header.sequence, sequence(flags.len() + 1));
            flags.push(header.flags & FLAG_ACK);
            rest = next;
        }
        assert_eq!(flags.pop(), Some(FLAG_ACK));
        assert_eq!(flags, vec![0; 5000 * 28 / MAX_LIST_BYTES]);
        assert!(Batch::of([].iter(), now, Kernel::Updates, nothing).is_empty());
    }
}
