//! pcap (draft-ietf-opsawg-pcap): one header, then a record a frame.

use super::{CaptureFile, FileError, Format, Found};
use netguard_core::{packet::LinkType, time::Timestamp};
use pcap_parser::{PcapHeader, parse_pcap_header};
use std::io::Read;

/// The largest frame in a file: libpcap's MAXIMUM_SNAPLEN.
const MAX_FRAME_BYTES: u32 = 262_144;
const PCAP_HEADER: usize = 24;

/// Whether a file that begins with these bytes is a pcap: either byte order, micro- or nanoseconds, or Kuznetzov's form.
pub(super) fn is_magic(start: [u8; 4]) -> bool {
    matches!(
        u32::from_be_bytes(start),
        0xa1b2_c3d4 | 0xd4c3_b2a1 | 0xa1b2_3c4d | 0x4d3c_b2a1 | 0xa1b2_cd34 | 0x34cd_b2a1
    )
}

impl<R: Read> CaptureFile<R> {
    /// The header, of which the magic is read.
    pub(super) fn header(&mut self) -> Result<(), FileError> {
        self.offset = 4;
        self.fill(PCAP_HEADER)?;
        let (_, header) =
            parse_pcap_header(&self.block).map_err(|_| self.broken("its header cannot be read"))?;
        self.format = pcap_format(&header);
        self.offset = PCAP_HEADER as u64;
        Ok(())
    }

    pub(super) fn next_record(
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
