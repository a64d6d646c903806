//! The classic packet filter's machine, as the kernel has it (net/core/filter.c).

use super::{Instruction, op};

/// Places in its scratch memory.
pub(super) const MEMORY: usize = 16;

/// How much of the frame a checked program takes: 0 is nothing of it. A load from beyond its end takes nothing, nor does
/// what is no program.
pub(super) fn run(program: &[Instruction], frame: &[u8], wire_length: u32, vlan: Option<u16>) -> u32 {
    let mut machine = Machine { a: 0, x: 0, memory: [0; MEMORY], frame, wire_length, vlan };
    let mut rest = program;
    while let Some((&instruction, after)) = rest.split_first() {
        rest = match machine.step(instruction) {
            Some(Step::On(skipped)) => after.get(skipped..).unwrap_or_default(),
            Some(Step::Take(bytes)) => return bytes,
            None => return 0,
        };
    }
    0
}

enum Step {
    /// Past so many instructions.
    On(usize),
    Take(u32),
}

struct Machine<'a> {
    a: u32,
    x: u32,
    memory: [u32; MEMORY],
    frame: &'a [u8],
    wire_length: u32,
    vlan: Option<u16>,
}

impl Machine<'_> {
    /// None: nothing is taken.
    fn step(&mut self, instruction: Instruction) -> Option<Step> {
        let Instruction { code, jt, jf, k } = instruction;
        match code & 0x07 {
            0 => self.a = self.load(code, k)?,
            1 => {
                self.x = match code {
                    op::LOAD_HEADER_LENGTH => 4 * (self.bytes(k, 1)? & 15),
                    0x01 => k,
                    0x61 => *self.memory.get(usize::try_from(k).ok()?)?,
                    0x81 => self.wire_length,
                    _ => return None,
                }
            }
            2 => *self.memory.get_mut(usize::try_from(k).ok()?)? = self.a,
            3 => *self.memory.get_mut(usize::try_from(k).ok()?)? = self.x,
            4 => self.a = self.compute(code, k)?,
            5 => {
                if code == op::JUMP {
                    return Some(Step::On(usize::try_from(k).ok()?));
                }
                let other = if code & 0x08 == 0 { k } else { self.x };
                let holds = match code & 0xf0 {
                    0x10 => self.a == other,
                    0x20 => self.a > other,
                    0x30 => self.a >= other,
                    0x40 => self.a & other != 0,
                    _ => return None,
                };
                return Some(Step::On(usize::from(if holds { jt } else { jf })));
            }
            6 => return Some(Step::Take(if code == op::RETURN_A { self.a } else { k })),
            _ => match code {
                op::A_TO_X => self.x = self.a,
                0x87 => self.a = self.x,
                _ => return None,
            },
        }
        Some(Step::On(0))
    }

    fn load(&self, code: u16, k: u32) -> Option<u32> {
        let size = match code & 0x18 {
            0x00 => 4,
            0x08 => 2,
            0x10 => 1,
            _ => return None,
        };
        match code & 0xe0 {
            0x00 => Some(k),
            0x20 => match k {
                op::KNOWN_TAG => Some(u32::from(self.vlan.unwrap_or(0))),
                op::KNOWN_TAG_PRESENT => Some(u32::from(self.vlan.is_some())),
                _ => self.bytes(k, size),
            },
            0x40 => self.bytes(self.x.checked_add(k)?, size),
            0x60 => self.memory.get(usize::try_from(k).ok()?).copied(),
            0x80 => Some(self.wire_length),
            _ => None,
        }
    }

    fn bytes(&self, from: u32, size: usize) -> Option<u32> {
        let from = usize::try_from(from).ok()?;
        let found = self.frame.get(from..from.checked_add(size)?)?;
        Some(found.iter().fold(0, |sum, byte| sum << 8 | u32::from(*byte)))
    }

    fn compute(&self, code: u16, k: u32) -> Option<u32> {
        let (a, other) = (self.a, if code & 0x08 == 0 { k } else { self.x });
        Some(match code & 0xf0 {
            0x00 => a.wrapping_add(other),
            0x10 => a.wrapping_sub(other),
            0x20 => a.wrapping_mul(other),
            0x30 => a.checked_div(other)?,
            0x40 => a | other,
            0x50 => a & other,
            0x60 => a.wrapping_shl(other),
            0x70 => a.wrapping_shr(other),
            0x80 => a.wrapping_neg(),
            0x90 => a.checked_rem(other)?,
            0xa0 => a ^ other,
            _ => return None,
        })
    }
}
