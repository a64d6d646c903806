//! What the kernel leaves out before a frame reaches the sensor: what the operator does not want (`capture.filter`), and
//! the sensor's own talk with the coordinators, which would otherwise grow with every report it causes.
//!
//! All of it becomes one program for the classic packet filter (Documentation/networking/filter.rst), which the kernel
//! runs for the ring, and [`Matcher`] where there is none: the portable source and files.
//!
//! Invariants: a program ends for every frame and reads nothing outside of it; what cannot be expressed is refused with
//! its place, never guessed.

mod assemble;
mod compile;
mod expression;
mod machine;
mod ready;
mod uplinks;

pub use expression::Mistake;
pub use ready::NotReady;
pub use uplinks::MAX_UPLINKS;

use super::Frame;
use netguard_core::packet::LinkType;
use serde::Deserialize;
use std::{net::SocketAddr, str::FromStr};

/// One instruction of the filter, as `struct sock_filter` has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Instruction {
    pub code: u16,
    pub jt: u8,
    pub jf: u8,
    pub k: u32,
}

/// `BPF_MAXINSNS`: what the kernel takes.
pub const MAX_INSTRUCTIONS: usize = 4_096;

/// Opcodes (linux/bpf_common.h): class, size and mode in one number.
mod op {
    pub(super) const LOAD_WORD: u16 = 0x20;
    pub(super) const LOAD_HALF: u16 = 0x28;
    pub(super) const LOAD_BYTE: u16 = 0x30;
    pub(super) const LOAD_LENGTH: u16 = 0x80;
    pub(super) const LOAD_NUMBER: u16 = 0x00;
    pub(super) const LOAD_HALF_INDEXED: u16 = 0x48;
    /// X = 4 × (byte & 15): the length of an IPv4 header.
    pub(super) const LOAD_HEADER_LENGTH: u16 = 0xb1;
    pub(super) const A_TO_X: u16 = 0x07;
    pub(super) const AND: u16 = 0x54;
    pub(super) const JUMP: u16 = 0x05;
    pub(super) const JUMP_EQUAL: u16 = 0x15;
    pub(super) const JUMP_GREATER: u16 = 0x25;
    pub(super) const JUMP_GREATER_EQUAL: u16 = 0x35;
    pub(super) const JUMP_ANY_BIT: u16 = 0x45;
    pub(super) const RETURN: u16 = 0x06;
    pub(super) const RETURN_A: u16 = 0x16;
    /// Loads from here on ask the kernel for what it knows of the packet (linux/filter.h).
    pub(super) const KNOWN: u32 = 0xffff_f000;
    pub(super) const KNOWN_TAG: u32 = KNOWN + 44;
    pub(super) const KNOWN_TAG_PRESENT: u32 = KNOWN + 48;
}

fn step(code: u16, k: u32) -> Instruction {
    Instruction { code, jt: 0, jf: 0, k }
}

fn test(code: u16, k: u32, jt: u8, jf: u8) -> Instruction {
    Instruction { code, jt, jf, k }
}

fn length(section: &[Instruction]) -> u32 {
    u32::try_from(section.len()).unwrap_or(u32::MAX)
}

/// Why a filter cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    #[error(transparent)]
    Mistake(#[from] Mistake),
    #[error(transparent)]
    NotReady(#[from] NotReady),
    #[error(
        "it becomes a program of {instructions} instructions, and the kernel takes {MAX_INSTRUCTIONS}: join networks and ports"
    )]
    TooLong { instructions: usize },
    #[error("frames of this kind of link ({0:?}) cannot be filtered by an expression")]
    Link(LinkType),
}

/// What the operator wants to be captured.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Filter(Wanted);

impl TryFrom<String> for Filter {
    type Error = FilterError;

    fn try_from(text: String) -> Result<Self, FilterError> {
        text.parse()
    }
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
enum Wanted {
    #[default]
    Everything,
    Expression(expression::Node),
    Program(Vec<Instruction>),
}

impl FromStr for Filter {
    type Err = FilterError;

    /// An expression in the syntax of pcap-filter(7), or a program as `tcpdump -ddd` prints one.
    fn from_str(text: &str) -> Result<Self, FilterError> {
        let text = text.trim();
        if text.is_empty() {
            return Ok(Self(Wanted::Everything));
        }
        if ready::is_program(text) {
            return Ok(Self(Wanted::Program(ready::parse(text)?)));
        }
        Ok(Self(Wanted::Expression(expression::parse(text)?)))
    }
}

impl Filter {
    /// The program that takes up to `snap` bytes of each frame that is wanted, and nothing of TCP with `uplinks` (at most
    /// [`MAX_UPLINKS`]).
    ///
    /// Errors: [`FilterError::TooLong`], [`FilterError::Link`].
    pub fn program(
        &self,
        link: LinkType,
        uplinks: &[SocketAddr],
        snap: u32,
    ) -> Result<Vec<Instruction>, FilterError> {
        let mut wanted = match &self.0 {
            Wanted::Everything => return Ok(uplinks::program(link, uplinks, snap)),
            Wanted::Expression(root) => assemble::assemble(&compile::compile(root, link)?, snap),
            Wanted::Program(program) => program.clone(),
        };
        for instruction in &mut wanted {
            if instruction.code == op::RETURN {
                instruction.k = instruction.k.min(snap);
            }
        }
        let mut program = uplinks::program(link, uplinks, snap);
        // What is not left out goes on to what is wanted, which finds both registers as at its start.
        let end = program.len();
        for (at, instruction) in program.iter_mut().enumerate() {
            if *instruction == step(op::RETURN, snap) {
                *instruction = step(op::JUMP, u32::try_from(end - at - 1).unwrap_or(u32::MAX));
            }
        }
        program.extend([step(op::LOAD_NUMBER, 0), step(op::A_TO_X, 0)]);
        program.extend(wanted);
        if program.len() > MAX_INSTRUCTIONS {
            return Err(FilterError::TooLong { instructions: program.len() });
        }
        Ok(program)
    }
}

/// Runs a program where no kernel does.
#[derive(Debug, Clone)]
pub struct Matcher(Vec<Instruction>);

impl Matcher {
    /// Errors: as [`Filter::program`].
    pub fn new(filter: &Filter, link: LinkType, uplinks: &[SocketAddr]) -> Result<Self, FilterError> {
        filter.program(link, uplinks, u32::MAX).map(Self)
    }

    /// Whether the frame is taken.
    #[must_use]
    pub fn takes(&self, frame: &Frame<'_>) -> bool {
        machine::run(&self.0, frame.bytes, frame.wire_length, frame.vlan) > 0
    }
}

#[cfg(test)]
mod tests;
