//! A source of frames without those that a filter leaves out: for files, which no kernel filters.

use super::{Filter, FilterError, Frame, FrameSource, Next, filter::Matcher};
use netguard_core::{packet::LinkType, time::Timestamp};

/// Kinds of link in one file of which the filter's program is kept; a file may name as many as it likes.
const MAX_LINKS: usize = 64;

/// Why there are no more frames.
#[derive(Debug, thiserror::Error)]
pub enum FilteredError<E> {
    #[error(transparent)]
    Source(E),
    #[error(transparent)]
    Filter(#[from] FilterError),
}

/// What a source gives and the filter takes.
#[derive(Debug)]
pub struct Filtered<S> {
    source: S,
    filter: Filter,
    matchers: Vec<(LinkType, Matcher)>,
    /// The frame given last.
    bytes: Vec<u8>,
}

impl<S: FrameSource> Filtered<S> {
    #[must_use]
    pub fn new(source: S, filter: Filter) -> Self {
        Self { source, filter, matchers: Vec::new(), bytes: Vec::new() }
    }

    /// The source, for what it alone knows.
    pub fn source(&self) -> &S {
        &self.source
    }
}

/// Whether the filter takes the frame; its program is made with the first frame of each kind of link.
fn takes(
    matchers: &mut Vec<(LinkType, Matcher)>,
    filter: &Filter,
    frame: &Frame<'_>,
) -> Result<bool, FilterError> {
    if let Some((_, matcher)) = matchers.iter().find(|(link, _)| *link == frame.link) {
        return Ok(matcher.takes(frame));
    }
    let matcher = Matcher::new(filter, frame.link, &[])?;
    let takes = matcher.takes(frame);
    matchers.truncate(MAX_LINKS - 1);
    matchers.push((frame.link, matcher));
    Ok(takes)
}

impl<S: FrameSource> FrameSource for Filtered<S> {
    type Error = FilteredError<S::Error>;

    fn next(&mut self) -> Result<Next<'_>, Self::Error> {
        let Self { source, filter, matchers, bytes } = self;
        // The frame outlives the search for it in a buffer of our own.
        let (at, link, wire_length, vlan, checksum): (Timestamp, _, _, _, _) = loop {
            match source.next().map_err(FilteredError::Source)? {
                Next::Frame(frame) if takes(matchers, filter, &frame)? => {
                    bytes.clear();
                    bytes.extend_from_slice(frame.bytes);
                    break (frame.at, frame.link, frame.wire_length, frame.vlan, frame.checksum);
                }
                Next::Frame(_) => {}
                Next::Quiet => return Ok(Next::Quiet),
                Next::End => return Ok(Next::End),
            }
        };
        Ok(Next::Frame(Frame { at, link, bytes, wire_length, vlan, checksum }))
    }

    fn dropped(&mut self) -> Option<u64> {
        self.source.dropped()
    }
}
