//! pcap and pcapng files, in their own time.

mod pcap;
mod pcapng;

use super::{Frame, FrameClock, FrameSource, Next};
use netguard_core::{packet::LinkType, time::Timestamp};
use pcapng::{Interface, SECTION_HEADER};
use std::{
    fs::File,
    io::{self, BufReader, Read},
    path::{Path, PathBuf},
};

/// What is wrong with a capture file, and where.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    #[error("cannot read {path}: {error}")]
    Open { path: PathBuf, error: io::Error },
    #[error("reading failed at offset {offset}: {error}")]
    Read { offset: u64, error: io::Error },
    #[error("neither a pcap nor a pcapng file: it begins with {magic:02x?}")]
    Magic { magic: Vec<u8> },
    #[error("cut off at offset {offset}: {missing} more bytes should follow")]
    CutOff { offset: u64, missing: usize },
    #[error("broken at offset {offset}: {what}")]
    Broken { offset: u64, what: String },
}

#[derive(Debug)]
enum Format {
    Pcap { link: LinkType, big_endian: bool, nanoseconds: bool, record_header: usize },
    PcapNg { big_endian: bool, interfaces: Vec<Interface> },
}

/// A frame in the block at hand.
#[derive(Debug)]
struct Found {
    recorded: Timestamp,
    link: LinkType,
    range: std::ops::Range<usize>,
    wire_length: u32,
}

/// A capture file being read.
#[derive(Debug)]
pub struct CaptureFile<R> {
    reader: R,
    format: Format,
    offset: u64,
    block: Vec<u8>,
    clock: FrameClock,
}

impl CaptureFile<BufReader<File>> {
    /// Errors: [`FileError`] when the file cannot be read or is no capture.
    pub fn open(path: &Path) -> Result<Self, FileError> {
        let failed = |error| FileError::Open { path: path.to_owned(), error };
        let file = File::open(path).map_err(failed)?;
        if file.metadata().map_err(failed)?.is_dir() {
            return Err(failed(io::ErrorKind::IsADirectory.into()));
        }
        Self::new(BufReader::with_capacity(256 << 10, file))
    }
}

impl<R: Read> CaptureFile<R> {
    /// Errors: [`FileError`] when what `reader` gives does not begin as a capture does.
    pub fn new(mut reader: R) -> Result<Self, FileError> {
        let mut start = [0; 4];
        let got =
            read_up_to(&mut reader, &mut start).map_err(|error| FileError::Read { offset: 0, error })?;
        let wrong = || FileError::Magic { magic: start[..got].to_vec() };
        if got < start.len() {
            return Err(wrong());
        }
        let mut file = Self {
            reader,
            format: Format::PcapNg { big_endian: false, interfaces: Vec::new() },
            offset: 0,
            block: start.to_vec(),
            clock: FrameClock::default(),
        };
        if start == SECTION_HEADER {
            file.section(8)?;
        } else {
            if !pcap::is_magic(start) {
                return Err(wrong());
            }
            file.header()?;
        }
        Ok(file)
    }

    /// Frames whose time was before that of an earlier one.
    pub fn went_back(&self) -> u64 {
        self.clock.went_back
    }

    fn broken(&self, what: impl Into<String>) -> FileError {
        FileError::Broken { offset: self.offset, what: what.into() }
    }

    /// Reads until `block` holds `length` bytes.
    fn fill(&mut self, length: usize) -> Result<(), FileError> {
        let have = self.block.len().min(length);
        self.block.resize(length, 0);
        let offset = self.offset;
        let rest = self.block.get_mut(have..).unwrap_or_default();
        let got = read_up_to(&mut self.reader, rest).map_err(|error| FileError::Read { offset, error })?;
        if have + got < length {
            return Err(FileError::CutOff { offset, missing: length - have - got });
        }
        Ok(())
    }

    /// Begins the next block or record with its header; false at the clean end of the file.
    fn begin(&mut self, header: usize) -> Result<bool, FileError> {
        self.block.resize(header, 0);
        let offset = self.offset;
        let got = read_up_to(&mut self.reader, &mut self.block)
            .map_err(|error| FileError::Read { offset, error })?;
        match got {
            0 => Ok(false),
            got if got < header => Err(FileError::CutOff { offset, missing: header - got }),
            _ => Ok(true),
        }
    }

    fn number(&self, at: usize, big_endian: bool) -> u32 {
        let bytes: [u8; 4] =
            self.block.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).unwrap_or_default();
        if big_endian { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) }
    }
}

impl<R: Read> FrameSource for CaptureFile<R> {
    type Error = FileError;

    fn next(&mut self) -> Result<Next<'_>, FileError> {
        let found = match self.format {
            Format::Pcap { link, big_endian, nanoseconds, record_header } => {
                self.next_record(link, big_endian, nanoseconds, record_header)?
            }
            Format::PcapNg { .. } => self.next_block()?,
        };
        let Some(Found { recorded, link, range, wire_length }) = found else { return Ok(Next::End) };
        let at = self.clock.tell(recorded);
        let bytes = self.block.get(range).unwrap_or_default();
        Ok(Next::Frame(Frame::new(at, link, bytes, wire_length)))
    }

    fn dropped(&mut self) -> Option<u64> {
        None
    }
}

/// Fills `buffer` as far as the reader gives.
fn read_up_to(reader: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut have = 0;
    while let Some(rest) = buffer.get_mut(have..).filter(|rest| !rest.is_empty()) {
        match reader.read(rest) {
            Ok(0) => break,
            Ok(got) => have += got,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(have)
}

#[cfg(test)]
mod tests;
