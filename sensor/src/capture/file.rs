//! pcap and pcapng files, in their own time.

use super::{Frame, FrameClock, FrameSource, Next};
use netguard_core::{packet::LinkType, time::Timestamp};
use pcap_parser::{
    Block, PcapHeader, parse_block_be, parse_block_le, parse_pcap_header, traits::PcapNGPacketBlock as _,
};
use std::{
    fs::File,
    io::{self, BufReader, Read},
    path::{Path, PathBuf},
};

/// The largest frame in a file: libpcap's MAXIMUM_SNAPLEN.
const MAX_FRAME_BYTES: u32 = 262_144;
/// The largest pcapng block: a frame with its options, or a block of names or secrets that we skip.
const MAX_BLOCK_BYTES: u32 = 16 << 20;
/// Interfaces one pcapng section may describe.
const MAX_INTERFACES: usize = 4_096;
const PCAP_HEADER: usize = 24;
const SECTION_HEADER: [u8; 4] = [0x0a, 0x0d, 0x0d, 0x0a];

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

#[derive(Debug, Clone, Copy)]
struct Interface {
    link: LinkType,
    snap_length: u32,
    units_per_second: u64,
    offset_seconds: i64,
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
            offset: 4,
            block: start.to_vec(),
            clock: FrameClock::default(),
        };
        if start == SECTION_HEADER {
            file.offset = 0;
            file.section(8)?;
        } else {
            let is_magic = matches!(
                u32::from_be_bytes(start),
                0xa1b2_c3d4 | 0xd4c3_b2a1 | 0xa1b2_3c4d | 0x4d3c_b2a1 | 0xa1b2_cd34 | 0x34cd_b2a1
            );
            if !is_magic {
                return Err(wrong());
            }
            file.fill(PCAP_HEADER)?;
            let (_, header) =
                parse_pcap_header(&file.block).map_err(|_| file.broken("its header cannot be read"))?;
            file.format = pcap_format(&header);
            file.offset = PCAP_HEADER as u64;
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

    /// A section header block, of which type and length are read; its byte-order magic decides for what follows.
    fn section(&mut self, have: usize) -> Result<(), FileError> {
        self.fill(have.max(12))?;
        let big_endian = match self.block.get(8..12) {
            Some([0x1a, 0x2b, 0x3c, 0x4d]) => true,
            Some([0x4d, 0x3c, 0x2b, 0x1a]) => false,
            _ => return Err(self.broken("the section header has no byte-order magic")),
        };
        self.format = Format::PcapNg { big_endian, interfaces: Vec::new() };
        let length = self.block_length(big_endian)?;
        self.fill(length)?;
        self.offset += length as u64;
        Ok(())
    }

    /// The length that stands at the head of a pcapng block.
    fn block_length(&self, big_endian: bool) -> Result<usize, FileError> {
        let length = self.number(4, big_endian);
        if length < 12 || !length.is_multiple_of(4) {
            return Err(self.broken(format!("a block of {length} bytes")));
        }
        if length > MAX_BLOCK_BYTES {
            return Err(self.broken(format!("a block of {length} bytes, more than {MAX_BLOCK_BYTES}")));
        }
        usize::try_from(length).map_err(|_| self.broken("a block too large for this machine"))
    }

    fn number(&self, at: usize, big_endian: bool) -> u32 {
        let bytes: [u8; 4] =
            self.block.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).unwrap_or_default();
        if big_endian { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) }
    }

    fn next_record(
        &mut self,
        link: LinkType,
        big_endian: bool,
        nanoseconds: bool,
        header: usize,
    ) -> Result<Option<Found>, FileError> {
        if !self.begin(header)? {
            return Ok(None);
        }
        let [seconds, fraction, captured] = [0, 4, 8].map(|at| self.number(at, big_endian));
        if captured > MAX_FRAME_BYTES {
            return Err(self.broken(format!("a frame of {captured} bytes, more than {MAX_FRAME_BYTES}")));
        }
        let end = header + usize::try_from(captured).unwrap_or(0);
        self.fill(end)?;
        self.offset += end as u64;
        let micros = u64::from(fraction) / if nanoseconds { 1_000 } else { 1 };
        let at = Timestamp::from_micros(u64::from(seconds) * 1_000_000 + micros);
        let wire_length = self.number(12, big_endian);
        Ok(Some(Found { recorded: at, link, range: header..end, wire_length }))
    }

    fn next_block(&mut self) -> Result<Option<Found>, FileError> {
        loop {
            if !self.begin(8)? {
                return Ok(None);
            }
            if self.block.starts_with(&SECTION_HEADER) {
                self.section(8)?;
                continue;
            }
            let Format::PcapNg { big_endian, .. } = self.format else { return Ok(None) };
            let length = self.block_length(big_endian)?;
            self.fill(length)?;
            let found = self.block_content(big_endian)?;
            self.offset += length as u64;
            if found.is_some() {
                return Ok(found);
            }
        }
    }

    fn block_content(&mut self, big_endian: bool) -> Result<Option<Found>, FileError> {
        let parsed = if big_endian { parse_block_be(&self.block) } else { parse_block_le(&self.block) };
        let Ok((_, block)) = parsed else {
            return Err(self.broken("a block whose content does not fit its length"));
        };
        let Format::PcapNg { interfaces, .. } = &mut self.format else { return Ok(None) };
        let unknown = |offset, interface| FileError::Broken {
            offset,
            what: format!("a frame of interface {interface}, which is not described"),
        };
        match block {
            Block::InterfaceDescription(description) => {
                if interfaces.len() >= MAX_INTERFACES {
                    return Err(self.broken(format!("more than {MAX_INTERFACES} interfaces")));
                }
                let link = u32::try_from(description.linktype.0).unwrap_or(u32::MAX);
                let offset_seconds =
                    if big_endian { description.if_tsoffset.swap_bytes() } else { description.if_tsoffset };
                interfaces.push(Interface {
                    link: LinkType::from_pcap(link),
                    snap_length: description.snaplen,
                    units_per_second: units_per_second(description.if_tsresol),
                    offset_seconds,
                });
                Ok(None)
            }
            Block::EnhancedPacket(packet) => {
                let Some(interface) =
                    usize::try_from(packet.if_id).ok().and_then(|id| interfaces.get(id)).copied()
                else {
                    return Err(unknown(self.offset, packet.if_id));
                };
                let ticks = (u64::from(packet.ts_high) << 32) | u64::from(packet.ts_low);
                // Type, length, interface, time and two lengths stand before the frame.
                let range = 28..28 + packet.packet_data().len();
                let (recorded, link) = (interface.time(ticks), interface.link);
                Ok(Some(Found { recorded, link, range, wire_length: packet.origlen }))
            }
            Block::SimplePacket(packet) => {
                let Some(interface) = interfaces.first().copied() else {
                    return Err(unknown(self.offset, 0));
                };
                let snap = if interface.snap_length == 0 { u32::MAX } else { interface.snap_length };
                let wanted = usize::try_from(packet.origlen.min(snap)).unwrap_or(usize::MAX);
                let length = wanted.min(self.block.len().saturating_sub(16));
                // It carries no time: whatever it is now.
                Ok(Some(Found {
                    recorded: Timestamp::default(),
                    link: interface.link,
                    range: 12..12 + length,
                    wire_length: packet.origlen,
                }))
            }
            _ => Ok(None),
        }
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

impl Interface {
    fn time(&self, ticks: u64) -> Timestamp {
        let micros = u128::from(ticks) * 1_000_000 / u128::from(self.units_per_second.max(1));
        let offset = i128::from(self.offset_seconds).saturating_mul(1_000_000);
        let micros = i128::try_from(micros).unwrap_or(i128::MAX).saturating_add(offset).max(0);
        Timestamp::from_micros(u64::try_from(micros).unwrap_or(u64::MAX))
    }
}

/// pcapng's if_tsresol: a negative power of ten, or of two when the highest bit is set. What nobody can mean becomes
/// the default, microseconds.
fn units_per_second(resolution: u8) -> u64 {
    let exponent = u32::from(resolution & 0x7f);
    let units = if resolution & 0x80 == 0 { 10u64.checked_pow(exponent) } else { 1u64.checked_shl(exponent) };
    units.unwrap_or(1_000_000)
}

fn pcap_format(header: &PcapHeader) -> Format {
    Format::Pcap {
        // The upper bits of the link type carry the length of a frame check sequence.
        link: LinkType::from_pcap(u32::try_from(header.network.0).unwrap_or(u32::MAX) & 0x03ff_ffff),
        big_endian: header.is_bigendian(),
        nanoseconds: header.is_nanosecond_precision(),
        record_header: if header.is_modified_format() { 24 } else { 16 },
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
