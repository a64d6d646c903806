//! Frames in memory, one record after the other, as a capture ring and a capture file lay them out.

use anyhow::Context;
use netguard_core::{packet::LinkType, time::Timestamp};
use netguard_sensor::capture::{CaptureFile, Checksum, Frame, FrameSource, Next};
use std::{
    io::{self, Write},
    path::Path,
    time::Duration,
};

/// Time in microseconds (8 bytes), captured length with the kind of link in its highest byte (4), length on the wire
/// (4).
const HEADER: usize = 16;
/// Records begin at multiples of this, as in the ring (`TPACKET_ALIGNMENT`).
const ALIGNMENT: usize = 16;
/// The links that have a number in a record; others are no traffic of IP that we decode.
const LINKS: [LinkType; 5] =
    [LinkType::Ethernet, LinkType::RawIp, LinkType::LinuxSll, LinkType::LinuxSll2, LinkType::Loopback];

/// Frames to be read again and again.
#[derive(Debug, Default)]
pub struct Image {
    bytes: Vec<u8>,
    frames: u64,
    first: Option<Timestamp>,
    last: Timestamp,
}

impl Image {
    /// With room for so many bytes of frames, so that growing copies nothing.
    #[must_use]
    pub fn with_capacity(frames: usize, bytes: usize) -> Self {
        Self { bytes: Vec::with_capacity(bytes + frames * (HEADER + ALIGNMENT)), ..Self::default() }
    }

    /// Reads a capture file of ours or of anybody else.
    ///
    /// Errors: the file is no capture, or broken before its first frame; a torn tail ends it.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let size = std::fs::metadata(path).map_or(0, |file| file.len());
        let mut file = CaptureFile::open(path)?;
        let mut image = Self::with_capacity(0, usize::try_from(size).unwrap_or(0).saturating_mul(2));
        loop {
            match file.next() {
                Ok(Next::Frame(frame)) => image.push(&frame),
                Ok(Next::Quiet) => {}
                Ok(Next::End) => break,
                Err(error) if image.frames > 0 => {
                    eprintln!("{}: {error}; going on with what came before", path.display());
                    break;
                }
                Err(error) => return Err(error).context(path.display().to_string()),
            }
        }
        anyhow::ensure!(image.frames > 0, "{} holds no frame that can be decoded", path.display());
        Ok(image)
    }

    /// Appends a frame. One of a link that nobody decodes is left out.
    pub fn push(&mut self, frame: &Frame<'_>) {
        let Some(link) = LINKS.iter().position(|link| *link == frame.link) else { return };
        let Ok(length) = u32::try_from(frame.bytes.len()) else { return };
        let link = u32::try_from(link).unwrap_or_default() << 24;
        self.bytes.extend_from_slice(&frame.at.as_micros().to_le_bytes());
        self.bytes.extend_from_slice(&(length | link).to_le_bytes());
        self.bytes.extend_from_slice(&frame.wire_length.to_le_bytes());
        self.bytes.extend_from_slice(frame.bytes);
        self.bytes.resize(self.bytes.len().next_multiple_of(ALIGNMENT), 0);
        self.frames += 1;
        self.first.get_or_insert(frame.at);
        self.last = self.last.max(frame.at);
    }

    #[must_use]
    pub fn frames(&self) -> u64 {
        self.frames
    }

    /// From the first frame to the last.
    #[must_use]
    pub fn span(&self) -> Duration {
        self.last.since(self.first.unwrap_or_default())
    }

    /// All frames in order, each so much later than it was.
    #[must_use]
    pub fn walk(&self, later: Duration) -> Walk<'_> {
        Walk { rest: &self.bytes, later: u64::try_from(later.as_micros()).unwrap_or(u64::MAX) }
    }

    /// Writes a pcap file (microseconds, little endian; tcpdump.org's pcap-savefile(5)) that other engines read.
    ///
    /// Errors: writing failed, or frames are of several links, for which this format has no room.
    pub fn write_pcap(&self, out: &mut impl Write) -> anyhow::Result<()> {
        let link = self.walk(Duration::ZERO).next().map_or(LinkType::Ethernet, |frame| frame.link);
        let number: u32 = match link {
            LinkType::Ethernet => 1,
            LinkType::RawIp => 101,
            LinkType::LinuxSll => 113,
            LinkType::LinuxSll2 => 276,
            _ => anyhow::bail!("frames of this kind of link cannot be written"),
        };
        let words = [0xa1b2_c3d4, 4 << 16 | 2, 0, 0, 262_144, number];
        write_words(out, &words)?;
        for frame in self.walk(Duration::ZERO) {
            anyhow::ensure!(
                frame.link == link,
                "a pcap file holds one kind of link, and these frames have more"
            );
            let micros = frame.at.as_micros();
            let seconds = u32::try_from(micros / 1_000_000).context("a time after 2106")?;
            let fraction = u32::try_from(micros % 1_000_000)?;
            let length = u32::try_from(frame.bytes.len())?;
            write_words(out, &[seconds, fraction, length, frame.wire_length])?;
            out.write_all(frame.bytes)?;
        }
        Ok(())
    }
}

fn write_words(out: &mut impl Write, words: &[u32]) -> io::Result<()> {
    words.iter().try_for_each(|word| out.write_all(&word.to_le_bytes()))
}

/// The frames of an [`Image`], by following the lengths in its records.
#[derive(Debug, Clone)]
pub struct Walk<'a> {
    rest: &'a [u8],
    later: u64,
}

impl<'a> Iterator for Walk<'a> {
    type Item = Frame<'a>;

    fn next(&mut self) -> Option<Frame<'a>> {
        let (micros, rest) = self.rest.split_first_chunk::<8>()?;
        let (length, rest) = rest.split_first_chunk::<4>()?;
        let (wire, rest) = rest.split_first_chunk::<4>()?;
        let word = u32::from_le_bytes(*length);
        let length = usize::try_from(word & 0x00ff_ffff).ok()?;
        let bytes = rest.get(..length)?;
        self.rest = rest.get(length.next_multiple_of(ALIGNMENT)..)?;
        let at = Timestamp::from_micros(u64::from_le_bytes(*micros) + self.later);
        let link = *LINKS.get(usize::try_from(word >> 24).ok()?)?;
        // As cards hand frames over that they have verified.
        let checksum = Checksum::Trusted;
        Some(Frame { checksum, ..Frame::new(at, link, bytes, u32::from_le_bytes(*wire)) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let mut image = Image::default();
        for (seconds, length) in [(1_700_000_000, 60), (1_700_000_001, 61), (1_700_000_004, 1_454)] {
            let bytes = vec![u8::try_from(length % 251).unwrap(); length];
            let at = Timestamp::from_micros(seconds * 1_000_000 + 7);
            let wire_length = u32::try_from(length).unwrap() + 1;
            image.push(&Frame::new(at, LinkType::Ethernet, &bytes, wire_length));
        }
        let file = tempfile::NamedTempFile::new().unwrap();
        image.write_pcap(&mut file.as_file()).unwrap();
        let back = Image::read(file.path()).unwrap();
        assert_eq!((back.frames(), back.span()), (3, Duration::from_secs(4)));
        for (ours, theirs) in image.walk(Duration::ZERO).zip(back.walk(Duration::from_secs(1))) {
            assert_eq!(theirs.at.since(ours.at), Duration::from_secs(1));
            assert_eq!((ours.bytes, ours.wire_length), (theirs.bytes, theirs.wire_length));
        }
    }

    #[test]
    fn frames_of_two_links_have_no_place_in_one_pcap() {
        let mut image = Image::default();
        for link in [LinkType::Ethernet, LinkType::RawIp] {
            image.push(&Frame::new(Timestamp::from_secs(1), link, &[0; 40], 40));
        }
        assert!(image.write_pcap(&mut io::sink()).is_err());
    }
}
