//! A tree of tests as instructions, from the last to the first: all jumps go forward, so each knows how far.

use super::{Instruction, op, step, test};

/// What has to hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Test {
    All(Vec<Test>),
    Any(Vec<Test>),
    Not(Box<Test>),
    Always(bool),
    /// After `loads`, A compares with `k` as `code`, a conditional jump, says.
    Compare {
        loads: Vec<Instruction>,
        code: u16,
        k: u32,
    },
}

impl Test {
    pub(super) fn compare(loads: impl Into<Vec<Instruction>>, code: u16, k: u32) -> Self {
        Self::Compare { loads: loads.into(), code, k }
    }

    pub(super) fn equal(loads: impl Into<Vec<Instruction>>, k: u32) -> Self {
        Self::compare(loads, op::JUMP_EQUAL, k)
    }

    pub(super) fn not(self) -> Self {
        Self::Not(Box::new(self))
    }
}

/// The program that takes `snap` bytes where the test holds, and nothing else.
pub(super) fn assemble(test: &Test, snap: u32) -> Vec<Instruction> {
    let mut assembly = Assembly { reversed: vec![step(op::RETURN, 0)] };
    let leave = assembly.here();
    assembly.reversed.push(step(op::RETURN, snap));
    assembly.jump_if(test, false, leave);
    assembly.reversed.reverse();
    assembly.reversed
}

/// A place, by how many instructions there are from it to the end.
#[derive(Debug, Clone, Copy)]
struct Label(usize);

struct Assembly {
    reversed: Vec<Instruction>,
}

impl Assembly {
    /// The instruction put last, which the next one put falls through to.
    fn here(&self) -> Label {
        Label(self.reversed.len())
    }

    /// How many instructions one put now has to skip.
    fn distance(&self, label: Label) -> usize {
        self.reversed.len() - label.0
    }

    fn jump(&mut self, label: Label) {
        let distance = u32::try_from(self.distance(label)).unwrap_or(u32::MAX);
        if distance > 0 {
            self.reversed.push(step(op::JUMP, distance));
        }
    }

    /// Jumps to `label` when the outcome of `what` is `wanted`, and falls through otherwise.
    fn jump_if(&mut self, what: &Test, wanted: bool, label: Label) {
        match what {
            Test::Always(outcome) if *outcome == wanted => self.jump(label),
            Test::Always(_) => {}
            Test::Not(inner) => self.jump_if(inner, !wanted, label),
            // The first outcome that decides ends it: false of all, true of any.
            Test::All(tests) | Test::Any(tests) if matches!(what, Test::Any(_)) == wanted => {
                for test in tests.iter().rev() {
                    self.jump_if(test, wanted, label);
                }
            }
            Test::All(tests) | Test::Any(tests) => {
                let past = self.here();
                let mut reversed = tests.iter().rev();
                match reversed.next() {
                    Some(last) => self.jump_if(last, wanted, label),
                    // All of nothing holds, any of nothing does not.
                    None => self.jump(label),
                }
                for test in reversed {
                    self.jump_if(test, !wanted, past);
                }
            }
            Test::Compare { loads, code, k } => {
                let jump = match u8::try_from(self.distance(label)) {
                    Ok(near) if wanted => test(*code, *k, near, 0),
                    Ok(near) => test(*code, *k, 0, near),
                    Err(_) => {
                        self.jump(label);
                        if wanted { test(*code, *k, 0, 1) } else { test(*code, *k, 1, 0) }
                    }
                };
                self.reversed.push(jump);
                self.reversed.extend(loads.iter().rev());
            }
        }
    }
}
