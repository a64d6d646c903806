//! What happens in one schedule: drawn from a seed, the same whenever it is drawn.
//!
//! Invariant: only what can be carried out is drawn: nothing that runs is started, nothing that is whole is healed.
//! A responder that has not heard of the cluster since its start puts nothing back (fail-static), so nobody tampers
//! with the firewall then.

use super::dice::Dice;
use crate::world::COORDINATORS;
use std::{fmt, time::Duration};

/// Steps of one schedule.
const STEPS: std::ops::Range<usize> = 3..8;
/// Between two steps.
const PAUSE: std::ops::Range<Duration> = Duration::from_millis(50)..Duration::from_millis(1_000);
/// For how long the second attacker is blocked: it expires while all this goes on.
const BRIEFLY: std::ops::Range<usize> = 3..7;
/// Seconds by which the host's clock goes wrong: as a time server's client sets it, and as somebody sets it by hand. What
/// goes back further than a rule may outlive its decision lets rules outlive it on a host that is cut off.
const CLOCK_OFFSETS: [i32; 4] = [0, 3, -3, 30];

/// Which packets between the host and some coordinators are lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cut {
    /// The first so many coordinators, after turning the list by `from`.
    pub(super) from: usize,
    pub(super) count: usize,
    pub(super) lost: Lost,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lost {
    FromTheHost,
    ToTheHost,
    Both,
}

impl Cut {
    pub(super) fn hits(self, coordinator: usize) -> bool {
        (coordinator + COORDINATORS - self.from) % COORDINATORS < self.count
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// `kill -9` of the responder.
    Kill,
    /// SIGTERM.
    Terminate,
    Start,
    /// SIGTERM to the old program; the new one starts.
    Upgrade,
    Cut(Cut),
    Heal,
    /// `kill -9`, by place in the list.
    KillCoordinator(usize),
    RestartCoordinator(usize),
    /// The coordinator's cable is pulled.
    Unplug(usize),
    Plug(usize),
    /// Somebody else changes the firewall; which way, is up to the backend.
    Tamper(usize),
    /// `netguard-responder flush`: enforcement is switched off by hand.
    Flush,
    Resume,
    /// The host's clock is set: so many seconds ahead of everybody else's.
    SetClock(i32),
}

/// How a schedule ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// The decision is lifted; the responder takes its rules out.
    Lift,
    /// `panic` while the responder runs.
    Panic,
    /// The responder is stopped and uninstalled.
    Uninstall,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Script {
    pub(super) seed: u64,
    pub(super) briefly: Duration,
    pub(super) steps: Vec<(Duration, Step)>,
    pub(super) ending: Ending,
}

/// What the schedule has brought about so far.
#[derive(Debug, Clone, Copy)]
pub(super) struct State {
    pub(super) running: bool,
    /// Whether the responder heard of the cluster since it started.
    pub(super) informed: bool,
    /// Enforcement is switched off by hand.
    pub(super) off: bool,
    pub(super) cut: Option<Cut>,
    pub(super) killed: Option<usize>,
    pub(super) unplugged: Option<usize>,
    /// Seconds by which the host's clock is ahead.
    pub(super) clock: i32,
}

impl State {
    /// A responder that runs and holds what the cluster wants.
    pub(super) const CALM: Self = Self {
        running: true,
        informed: true,
        off: false,
        cut: None,
        killed: None,
        unplugged: None,
        clock: 0,
    };

    /// Whether the host reaches no coordinator that runs.
    pub(super) fn isolated(&self) -> bool {
        (0..COORDINATORS).all(|coordinator| {
            self.cut.is_some_and(|cut| cut.hits(coordinator))
                || self.killed == Some(coordinator)
                || self.unplugged == Some(coordinator)
        })
    }

    /// What is so after a step.
    pub(super) fn after(mut self, step: Step) -> Self {
        match step {
            Step::Kill | Step::Terminate => (self.running, self.informed) = (false, false),
            Step::Start | Step::Upgrade => (self.running, self.informed) = (true, false),
            Step::Cut(cut) => self.cut = Some(cut),
            Step::Heal => self.cut = None,
            Step::KillCoordinator(coordinator) => self.killed = Some(coordinator),
            Step::RestartCoordinator(_) => self.killed = None,
            Step::Unplug(coordinator) => self.unplugged = Some(coordinator),
            Step::Plug(_) => self.unplugged = None,
            Step::Flush => self.off = true,
            Step::Resume => self.off = false,
            Step::SetClock(ahead) => self.clock = ahead,
            Step::Tamper(_) => {}
        }
        self.informed |= self.running && !self.isolated();
        self
    }
}

impl Script {
    pub(super) fn of(seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let briefly = u64::try_from(BRIEFLY.start + dice.below(BRIEFLY.len())).unwrap_or(3);
        let mut state = State::CALM;
        let mut steps = Vec::new();
        for _ in 0..STEPS.start + dice.below(STEPS.len()) {
            let Some(step) = draw(&mut dice, state) else { break };
            steps.push((dice.pause(PAUSE.start, PAUSE.end), step));
            state = state.after(step);
        }
        let ending = dice.weighted(&[(2, Ending::Lift), (1, Ending::Panic), (2, Ending::Uninstall)]);
        Self { seed, briefly: Duration::from_secs(briefly), steps, ending: ending.unwrap_or(Ending::Lift) }
    }
}

fn draw(dice: &mut Dice, state: State) -> Option<Step> {
    let coordinator = dice.below(COORDINATORS);
    let cut = Cut {
        from: coordinator,
        // Losing all of them is what matters most.
        count: dice.weighted(&[(1, 1), (1, 2), (3, COORDINATORS)]).unwrap_or(1),
        lost: dice
            .weighted(&[(1, Lost::FromTheHost), (1, Lost::ToTheHost), (1, Lost::Both)])
            .unwrap_or(Lost::Both),
    };
    let tamper = Step::Tamper(dice.below(1 << 16));
    let others: Vec<_> = CLOCK_OFFSETS.into_iter().filter(|ahead| *ahead != state.clock).collect();
    let ahead = others.get(dice.below(others.len())).copied().unwrap_or(0);
    let mut choices = vec![(2, Step::SetClock(ahead))];
    if state.running {
        choices.extend([(3, Step::Kill), (2, Step::Terminate), (3, Step::Upgrade)]);
    } else {
        choices.push((8, Step::Start));
    }
    choices.push(state.cut.map_or((3, Step::Cut(cut)), |_| (3, Step::Heal)));
    match (state.killed, state.unplugged) {
        // Two of three have to be there, or nothing can be decided at all.
        (None, None) => {
            choices.extend([(2, Step::KillCoordinator(coordinator)), (1, Step::Unplug(coordinator))]);
        }
        (Some(killed), _) => choices.push((3, Step::RestartCoordinator(killed))),
        (None, Some(unplugged)) => choices.push((3, Step::Plug(unplugged))),
    }
    if state.off {
        choices.push((4, Step::Resume));
    } else {
        choices.push((1, Step::Flush));
        if state.running && state.informed {
            choices.push((4, tamper));
        }
    }
    dice.weighted(&choices)
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kill => write!(f, "kill -9 of the responder"),
            Self::Terminate => write!(f, "SIGTERM to the responder"),
            Self::Start => write!(f, "the responder starts"),
            Self::Upgrade => write!(f, "the responder is upgraded"),
            Self::Cut(cut) => {
                let hit: Vec<_> = (0..COORDINATORS)
                    .filter(|coordinator| cut.hits(*coordinator))
                    .map(|coordinator| (coordinator + 1).to_string())
                    .collect();
                let lost = match cut.lost {
                    Lost::FromTheHost => "packets to",
                    Lost::ToTheHost => "packets from",
                    Lost::Both => "all packets from and to",
                };
                write!(f, "{lost} coordinators {} are lost", hit.join(", "))
            }
            Self::Heal => write!(f, "packets arrive again"),
            Self::KillCoordinator(coordinator) => write!(f, "kill -9 of coordinator {}", coordinator + 1),
            Self::RestartCoordinator(coordinator) => write!(f, "coordinator {} starts", coordinator + 1),
            Self::Unplug(coordinator) => write!(f, "coordinator {} loses its link", coordinator + 1),
            Self::Plug(coordinator) => write!(f, "coordinator {} has its link again", coordinator + 1),
            Self::Tamper(which) => write!(f, "somebody else changes the firewall ({which})"),
            Self::Flush => write!(f, "netguard-responder flush"),
            Self::Resume => write!(f, "netguard-responder resume"),
            Self::SetClock(ahead) => write!(f, "the host's clock is set: {ahead:+} s"),
        }
    }
}

impl fmt::Display for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (pause, step) in &self.steps {
            writeln!(f, "  after {:>4} ms: {step}", pause.as_millis())?;
        }
        let ending = match self.ending {
            Ending::Lift => "the decision is lifted",
            Ending::Panic => "netguard-responder panic, with the responder running",
            Ending::Uninstall => "the responder is uninstalled",
        };
        write!(f, "  at the end: {ending}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn a_seed_is_a_script_and_only_what_can_be_done_is_drawn() {
        assert_eq!(Script::of(5), Script::of(5));
        let mut drawn = BTreeSet::new();
        for seed in 0..2_000 {
            let script = Script::of(seed);
            assert!(STEPS.contains(&script.steps.len()));
            let mut state = State::CALM;
            for (_, step) in &script.steps {
                let possible = match step {
                    Step::Kill | Step::Terminate | Step::Upgrade => state.running,
                    Step::Start => !state.running,
                    Step::Cut(cut) => state.cut.is_none() && (1..=COORDINATORS).contains(&cut.count),
                    Step::Heal => state.cut.is_some(),
                    Step::KillCoordinator(_) | Step::Unplug(_) => {
                        state.killed.is_none() && state.unplugged.is_none()
                    }
                    Step::RestartCoordinator(one) => state.killed == Some(*one),
                    Step::Plug(one) => state.unplugged == Some(*one),
                    Step::Tamper(_) => state.running && state.informed && !state.off,
                    Step::Flush => !state.off,
                    Step::Resume => state.off,
                    Step::SetClock(ahead) => *ahead != state.clock,
                };
                assert!(possible, "{step} in {state:?} of\n{script}");
                drawn.insert(step.to_string().split([' ', '(']).take(2).collect::<String>());
                state = state.after(*step);
            }
        }
        assert!(drawn.len() >= 13, "{drawn:?}");
    }

    #[test]
    fn a_host_is_isolated_when_it_reaches_no_coordinator_that_runs() {
        let cut = Cut { from: 1, count: 2, lost: Lost::Both };
        assert_eq!([0, 1, 2].map(|one| cut.hits(one)), [false, true, true]);
        let partly = State::CALM.after(Step::Cut(cut));
        assert!(!partly.isolated());
        assert!(partly.after(Step::KillCoordinator(0)).isolated());
        let started = partly.after(Step::Unplug(0)).after(Step::Kill).after(Step::Start);
        assert!(started.running && !started.informed);
        assert!(started.after(Step::Plug(0)).informed);
    }
}
