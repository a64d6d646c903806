//! Programs as `tcpdump -ddd` prints them: the number of instructions, then one a line as four decimal numbers.

use super::{Instruction, MAX_INSTRUCTIONS, machine::MEMORY};

/// Why it is no program that the kernel would take.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotReady {
    #[error("line {line}: an instruction is four numbers, as `tcpdump -ddd` prints them")]
    Line { line: usize },
    #[error("it says {said} instructions and has {found}")]
    Count { said: usize, found: usize },
    #[error("instruction {at}: {what}")]
    Instruction { at: usize, what: &'static str },
}

/// Whether somebody meant a program, not an expression: its first line is one number, and more follow.
pub(super) fn is_program(text: &str) -> bool {
    let mut lines = text.lines();
    lines.next().is_some_and(|line| line.trim().parse::<usize>().is_ok()) && lines.next().is_some()
}

/// Errors: [`NotReady`].
pub(super) fn parse(text: &str) -> Result<Vec<Instruction>, NotReady> {
    let mut lines = text.lines().map(str::trim).zip(1..);
    let (first, _) = lines.next().unwrap_or_default();
    let said = first.parse().map_err(|_| NotReady::Line { line: 1 })?;
    let mut program = Vec::new();
    for (text, line) in lines.filter(|(text, _)| !text.is_empty()).take(MAX_INSTRUCTIONS + 1) {
        program.push(instruction(text).ok_or(NotReady::Line { line })?);
    }
    if program.len() != said {
        return Err(NotReady::Count { said, found: program.len() });
    }
    check(&program)?;
    Ok(program)
}

fn instruction(text: &str) -> Option<Instruction> {
    let mut words = text.split_ascii_whitespace();
    let instruction = Instruction {
        code: words.next()?.parse().ok()?,
        jt: words.next()?.parse().ok()?,
        jf: words.next()?.parse().ok()?,
        k: words.next()?.parse().ok()?,
    };
    words.next().is_none().then_some(instruction)
}

/// What the kernel checks too (`bpf_check_classic`), so that the operator is told at the start and by the place.
fn check(program: &[Instruction]) -> Result<(), NotReady> {
    let wrong = |at, what| Err(NotReady::Instruction { at, what });
    if program.is_empty() || program.len() > MAX_INSTRUCTIONS {
        return Err(NotReady::Count { said: MAX_INSTRUCTIONS, found: program.len() });
    }
    for (at, instruction) in program.iter().enumerate() {
        let Instruction { code, jt, jf, k } = *instruction;
        let after = (program.len() - at - 1) as u64;
        match code {
            // Loads of A and X; what is taken, moved, computed.
            0x00 | 0x20 | 0x28 | 0x30 | 0x40 | 0x48 | 0x50 | 0x80 | 0x01 | 0x81 | 0xb1 => {}
            0x06 | 0x16 | 0x07 | 0x87 => {}
            0x04 | 0x0c | 0x14 | 0x1c | 0x24 | 0x2c | 0x3c | 0x44 | 0x4c | 0x54 | 0x5c => {}
            0x6c | 0x7c | 0x84 | 0x9c | 0xa4 | 0xac => {}
            0x60 | 0x61 | 0x02 | 0x03 if (k as usize) < MEMORY => {}
            0x60 | 0x61 | 0x02 | 0x03 => return wrong(at, "there are 16 places in memory"),
            0x34 | 0x94 if k != 0 => {}
            0x34 | 0x94 => return wrong(at, "it divides by zero"),
            0x64 | 0x74 if k < 32 => {}
            0x64 | 0x74 => return wrong(at, "it shifts by 32 bits or more"),
            0x05 if u64::from(k) < after => {}
            0x15 | 0x1d | 0x25 | 0x2d | 0x35 | 0x3d | 0x45 | 0x4d if u64::from(jt.max(jf)) < after => {}
            0x05 | 0x15 | 0x1d | 0x25 | 0x2d | 0x35 | 0x3d | 0x45 | 0x4d => {
                return wrong(at, "it jumps past the end");
            }
            _ => return wrong(at, "no such instruction"),
        }
    }
    match program.last() {
        Some(Instruction { code: 0x06 | 0x16, .. }) => Ok(()),
        _ => wrong(program.len() - 1, "the last one has to return"),
    }
}
