//! pcapng (draft-ietf-opsawg-pcapng): blocks in sections, each section with its byte order and its interfaces.

use super::{CaptureFile, FileError, Format, Found};
use netguard_core::{packet::LinkType, time::Timestamp};
use pcap_parser::{Block, parse_block_be, parse_block_le, traits::PcapNGPacketBlock as _};
use std::io::Read;

/// The largest pcapng block: a frame with its options, or a block of names or secrets that we skip.
const MAX_BLOCK_BYTES: u32 = 16 << 20;
/// Interfaces one pcapng section may describe.
const MAX_INTERFACES: usize = 4_096;
pub(super) const SECTION_HEADER: [u8; 4] = [0x0a, 0x0d, 0x0d, 0x0a];

#[derive(Debug, Clone, Copy)]
pub(super) struct Interface {
    link: LinkType,
    snap_length: u32,
    units_per_second: u64,
    offset_seconds: i64,
}

impl<R: Read> CaptureFile<R> {
    /// A section header block, of which type and length are read; its byte-order magic decides for what follows.
    pub(super) fn section(&mut self, have: usize) -> Result<(), FileError> {
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

    pub(super) fn next_block(&mut self) -> Result<Option<Found>, FileError> {
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
