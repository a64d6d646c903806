//! Plays one schedule: carries its steps out, waits for what has to come of each, and notes what is to hold when.

use super::{
    host::Host,
    probe::Probes,
    record::{Expected, OUTLIVES, RESUMED, Record, Window},
    script::{Cut, Ending, Lost, Script, State, Step},
};
use crate::{
    firewalls::{names, ours},
    fleet::{
        LOOK_INTERVAL,
        control::{Control, request_id},
        coordinators::{Coordinators, agents_address},
    },
    world::{World, namespace::Namespace},
};
use anyhow::{Context, bail};
use netguard_proto::v1;
use std::{
    net::IpAddr,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

/// How long the decision about the first attacker would last by itself.
const LONG: Duration = Duration::from_secs(600);
/// Nothing got through for so long: the source is blocked again. Thirty datagrams of the probe.
const QUIET: Duration = Duration::from_millis(150);
/// How long a running responder is watched after `panic`: longer than it takes to look at its firewall.
const STAYS_OFF: Duration = Duration::from_secs(3);
/// A datagram may be sent before a decision ends and meet the firewall after it: a busy machine lets it wait that long.
const ON_ITS_WAY: Duration = Duration::from_millis(100);
/// How long a condition of the probes may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// The lab's own table in a coordinator's namespace.
const CUT_TABLE: &str = "inet lab_cut";

/// What one schedule is played with.
pub(super) struct Stage<'a> {
    pub(super) world: &'a World,
    pub(super) coordinators: &'a mut Coordinators,
    pub(super) host: &'a mut Host,
}

/// What was to hold, what was seen, and what was found wrong while it was played.
#[derive(Debug, Default)]
pub(super) struct Played {
    pub(super) expected: Expected,
    pub(super) record: Record,
    pub(super) broken: Vec<String>,
}

struct Player<'a, 'b> {
    stage: &'b mut Stage<'a>,
    control: Control,
    probes: Probes,
    state: State,
    expected: Expected,
    broken: Vec<String>,
    /// The attacker that stays blocked, in both families; and the one whose decision expires.
    lasting: [IpAddr; 2],
    brief: IpAddr,
    off_since: Option<Duration>,
    isolated_since: Option<Duration>,
    /// Since when the host's clock was ahead at some time.
    ahead_since: Option<Duration>,
}

/// Plays it and puts everything back. A failure on the way is part of what was found.
pub(super) async fn play(mut stage: Stage<'_>, script: &Script) -> anyhow::Result<Played> {
    let [lasting, brief] = [0, 1].map(|which| stage.world.attackers.get(which));
    let (lasting, brief) = (lasting.context("no attacker")?, brief.context("no second attacker")?);
    stage.host.start().await?;
    let coordinators: Vec<_> =
        stage.world.coordinators.iter().map(|one| agents_address(one).parse()).collect::<Result<_, _>>()?;
    let senders = [lasting, brief, &stage.world.innocent];
    let probes = Probes::start(&stage.host.namespace, &senders, &stage.world.control, &coordinators)?;
    let control = stage.coordinators.control.clone();
    let innocent = stage.world.innocent.address().into();
    let mut player = Player {
        control,
        probes,
        state: State::CALM,
        expected: Expected { innocent: vec![innocent], ..Expected::default() },
        broken: Vec::new(),
        lasting: [lasting.address().into(), lasting.address6().into()],
        brief: brief.address().into(),
        off_since: None,
        isolated_since: None,
        ahead_since: None,
        stage: &mut stage,
    };
    if let Err(error) = player.through(script).await {
        player.broken.push(format!("{error:#}"));
    }
    player.put_back().await?;
    let Player { expected, broken, probes, .. } = player;
    Ok(Played { expected, broken, record: probes.finish() })
}

impl Player<'_, '_> {
    async fn through(&mut self, script: &Script) -> anyhow::Result<()> {
        self.stage.host.until_ready().await?;
        for source in self.lasting.into_iter().chain([self.brief]) {
            self.until_through(source).await?;
        }
        let [lasting, lasting6] = self.lasting;
        self.block(lasting, LONG).await?;
        self.block(lasting6, LONG).await?;
        self.until_held(lasting).await?;
        self.until_held(lasting6).await?;
        let in_force = self.probes.now();
        let (brief_from, brief_to) = self.block_briefly(script.briefly).await?;

        let played = self.steps(script).await;
        // Whatever happened: up to here it was to hold.
        let enforced = match played {
            Ok(()) => self.end(script.ending).await,
            Err(error) => Err(error),
        };
        let until = match enforced {
            Ok(until) => until,
            Err(error) => {
                self.broken.push(format!("{error:#}"));
                self.probes.now()
            }
        };
        for source in self.lasting {
            self.expected.blocked.push((source, Window { from: in_force, to: until }));
        }
        let brief_until =
            brief_to.saturating_sub(ON_ITS_WAY).min(until).min(self.ahead_since.unwrap_or(until));
        let window = Window { from: brief_from, to: brief_until };
        self.expected.blocked.push((self.brief, window));
        self.after(until, brief_to).await
    }

    async fn steps(&mut self, script: &Script) -> anyhow::Result<()> {
        for (pause, step) in &script.steps {
            tokio::time::sleep(*pause).await;
            self.step(*step).await.with_context(|| format!("after the step \"{step}\""))?;
            self.stage.coordinators.check()?;
            self.stage.host.check()?;
        }
        Ok(())
    }

    async fn step(&mut self, step: Step) -> anyhow::Result<()> {
        let before = self.state;
        self.carry_out(step).await?;
        self.state = before.after(step);
        self.note_isolation();
        let started = matches!(step, Step::Start | Step::Upgrade);
        if started && !self.state.informed {
            self.stage.host.until_up().await?;
        }
        if self.state.informed && (started || !before.informed) {
            if self.state.off {
                self.stage.host.until_connected().await?;
            } else {
                self.stage.host.until_ready().await?;
            }
        }
        if self.off_since.is_some() && self.state.informed && !self.state.off {
            self.until_on_again(step == Step::Resume && before.informed).await?;
        }
        if matches!(step, Step::Tamper(_)) {
            let changed = self.probes.now();
            while self.probes.now() < changed + QUIET
                || self.any_since(self.probes.now().saturating_sub(QUIET))
            {
                if self.probes.now() > changed + PATIENCE {
                    bail!("the firewall was changed by somebody else and is not put right");
                }
                tokio::time::sleep(LOOK_INTERVAL).await;
            }
        }
        Ok(())
    }

    async fn carry_out(&mut self, step: Step) -> anyhow::Result<()> {
        let now = self.probes.now();
        match step {
            Step::Kill => self.stage.host.kill(),
            Step::Terminate => self.stage.host.terminate(),
            Step::Start => self.stage.host.start().await?,
            Step::Upgrade => self.stage.host.upgrade().await?,
            Step::Cut(cut) => self.cut(Some(cut))?,
            Step::Heal => self.cut(None)?,
            Step::KillCoordinator(place) => {
                self.stage.coordinators.kill(place)?;
            }
            Step::RestartCoordinator(place) => self.stage.coordinators.restart_place(place)?,
            Step::Unplug(place) => self.stage.world.plug(self.coordinator(place)?, false)?,
            Step::Plug(place) => self.stage.world.plug(self.coordinator(place)?, true)?,
            Step::Tamper(which) => {
                self.stage.host.tamper(which).await?;
                self.expected.tampered.push(Window { from: now, to: self.probes.now() });
            }
            Step::Flush => {
                // It may still be off from before: a responder that was not running did not see `resume`.
                self.off_since.get_or_insert(now);
                self.stage.host.command("flush")?;
                self.check_nothing_left("right after flush")?;
            }
            Step::Resume => {
                self.stage.host.command("resume")?;
            }
            Step::SetClock(ahead) => {
                if ahead > 0 {
                    // What ends soon may end sooner from here on.
                    self.ahead_since.get_or_insert(now);
                }
                self.stage.host.set_clock(ahead)?;
            }
        }
        Ok(())
    }

    /// Brings the schedule to its end; until when the decisions were to be enforced.
    async fn end(&mut self, ending: Ending) -> anyhow::Result<Duration> {
        if ending == Ending::Uninstall {
            self.stage.host.terminate();
            self.state = State { running: false, informed: false, ..self.state };
            let until = self.probes.now();
            self.stage.host.command("uninstall")?;
            self.check_nothing_left("after uninstalling")?;
            return Ok(until);
        }
        for step in self.repairs() {
            self.step(step).await.with_context(|| format!("at the end, after \"{step}\""))?;
        }
        let until = self.probes.now();
        match ending {
            Ending::Lift => {
                for source in self.lasting {
                    self.control.unblock(&source.to_string()).await?;
                }
                let lifted = self.lasting.map(|source| source.to_string());
                self.stage
                    .host
                    .until("takes out what was lifted", |host| {
                        let listed = host.list()?;
                        Ok(!lifted.iter().any(|address| names(&listed, address)))
                    })
                    .await?;
            }
            Ending::Panic | Ending::Uninstall => {
                self.stage.host.command("panic")?;
                self.check_nothing_left("right after panic")?;
                tokio::time::sleep(STAYS_OFF).await;
                self.check_nothing_left("with the responder running after panic")?;
            }
        }
        Ok(until)
    }

    /// What has to be done so that a running responder is informed and enforces.
    fn repairs(&self) -> Vec<Step> {
        let State { running, off, cut, killed, unplugged, .. } = self.state;
        let steps = [
            cut.map(|_| Step::Heal),
            killed.map(Step::RestartCoordinator),
            unplugged.map(Step::Plug),
            (!running).then_some(Step::Start),
            off.then_some(Step::Resume),
        ];
        steps.into_iter().flatten().collect()
    }

    /// When all is over, nothing is blocked any more: what was lifted at once, what expired in time.
    async fn after(&mut self, until: Duration, brief_to: Duration) -> anyhow::Result<()> {
        // An isolated responder is told of nothing; then what was lifted stays until its own timeout.
        self.expected.ended.extend(self.lasting.map(|source| (source, self.probes.now())));
        self.expected.ended.push((self.brief, brief_to.max(until)));
        let deadline = Instant::now() + PATIENCE;
        for (source, ended) in self.expected.ended.clone() {
            while self.probes.now() < ended || !self.probes.arrived_since(source, ended) {
                if Instant::now() >= deadline || self.probes.now() > ended + OUTLIVES + QUIET {
                    break;
                }
                tokio::time::sleep(LOOK_INTERVAL).await;
            }
        }
        let listed = self.stage.host.list()?;
        for source in self.lasting.into_iter().chain([self.brief]) {
            if names(&listed, &source.to_string()) {
                bail!("a rule is left that names {source}");
            }
        }
        Ok(())
    }

    /// Everything as it was before the schedule.
    async fn put_back(&mut self) -> anyhow::Result<()> {
        self.stage.host.kill();
        self.cut(None)?;
        self.stage.host.set_clock(0)?;
        self.note_isolation_over();
        if let Some(place) = self.state.killed.take() {
            self.stage.coordinators.restart_place(place)?;
        }
        if let Some(place) = self.state.unplugged.take() {
            self.stage.world.plug(self.coordinator(place)?, true)?;
        }
        if let Some(since) = self.off_since.take() {
            self.expected.off.push(Window { from: since, to: self.probes.now() });
        }
        for source in self.lasting.into_iter().chain([self.brief]) {
            // A decision that is over is not there to be lifted.
            let _ = self.control.unblock(&source.to_string()).await;
        }
        self.stage.host.command("uninstall")?;
        self.check_nothing_left("after everything")
    }

    fn coordinator(&self, place: usize) -> anyhow::Result<&Namespace> {
        self.stage.world.coordinators.get(place).context("no such coordinator")
    }

    /// Loses packets between the host and coordinators, in the coordinators' namespaces.
    fn cut(&mut self, cut: Option<Cut>) -> anyhow::Result<()> {
        let host = &self.stage.host.namespace;
        let healed = format!("add table {CUT_TABLE}\ndelete table {CUT_TABLE}\n");
        let chain = |hook: &str, side: &str| {
            format!(
                "add chain {CUT_TABLE} {hook} {{ type filter hook {hook} priority -300; }}\n\
                 add rule {CUT_TABLE} {hook} ip {side} {} drop\nadd rule {CUT_TABLE} {hook} ip6 {side} {} drop\n",
                host.address(),
                host.address6()
            )
        };
        let mut lost = format!("{healed}add table {CUT_TABLE}\n");
        if let Some(cut) = cut {
            if matches!(cut.lost, Lost::FromTheHost | Lost::Both) {
                lost.push_str(&chain("input", "saddr"));
            }
            if matches!(cut.lost, Lost::ToTheHost | Lost::Both) {
                lost.push_str(&chain("output", "daddr"));
            }
        }
        for (place, coordinator) in self.stage.world.coordinators.iter().enumerate() {
            let wanted = cut.is_some_and(|cut| cut.hits(place));
            coordinator.run_with_input("nft", &["-f", "-"], if wanted { &lost } else { &healed })?;
        }
        Ok(())
    }

    fn note_isolation(&mut self) {
        if !self.state.isolated() {
            self.note_isolation_over();
        } else if self.isolated_since.is_none() {
            self.isolated_since = Some(self.probes.now());
        }
    }

    fn note_isolation_over(&mut self) {
        if let Some(from) = self.isolated_since.take() {
            self.expected.isolated.push(Window { from, to: self.probes.now() });
        }
    }

    fn any_since(&self, since: Duration) -> bool {
        self.lasting.iter().any(|source| self.probes.arrived_since(*source, since))
    }

    /// Enforcement was switched off by hand and is switched on again.
    async fn until_on_again(&mut self, by_hand_just_now: bool) -> anyhow::Result<()> {
        let asked = self.probes.now();
        for source in self.lasting {
            self.until_held(source).await?;
        }
        let took = self.probes.now().saturating_sub(asked);
        if by_hand_just_now && took > RESUMED {
            self.broken.push(format!("after resume it took {:.1} s to enforce again", took.as_secs_f64()));
        }
        if let Some(from) = self.off_since.take() {
            self.expected.off.push(Window { from, to: self.probes.now() });
        }
        Ok(())
    }

    async fn until_held(&mut self, source: IpAddr) -> anyhow::Result<()> {
        let address = source.to_string();
        let what = format!("holds {address}");
        self.stage.host.until(&what, |host| Ok(names(&host.list()?, &address))).await
    }

    async fn until_through(&mut self, source: IpAddr) -> anyhow::Result<()> {
        let since = self.probes.now();
        let deadline = Instant::now() + PATIENCE;
        while !self.probes.arrived_since(source, since) {
            if Instant::now() >= deadline {
                bail!("nothing arrives from {source} before it is blocked");
            }
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
        Ok(())
    }

    async fn block(&mut self, source: IpAddr, ttl: Duration) -> anyhow::Result<v1::Decision> {
        let request = v1::BlockRequest {
            prefix: source.to_string(),
            ttl_seconds: ttl.as_secs(),
            reason: "schedule".into(),
            verb: v1::Verb::Block.into(),
            traceparent: String::new(),
            request_id: request_id(),
            canary: false,
        };
        let written = self.control.block(&request).await?;
        written.decisions.into_iter().next().context("a block was acknowledged without a decision")
    }

    /// Blocks the second attacker for a moment; from when it was in force, and when it is over.
    async fn block_briefly(&mut self, ttl: Duration) -> anyhow::Result<(Duration, Duration)> {
        let decision = self.block(self.brief, ttl).await?;
        self.until_held(self.brief).await?;
        let from = self.probes.now();
        let now = self.probes.now();
        let left = Duration::from_micros(decision.expires_at)
            .saturating_sub(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default());
        Ok((from, now + left))
    }

    fn check_nothing_left(&self, when: &str) -> anyhow::Result<()> {
        let listed = self.stage.host.list()?;
        let left = ours(&listed);
        if let Some(first) = left.first() {
            bail!("{when} {} lines of NetGuard are left in the firewall, the first is `{first}`", left.len());
        }
        Ok(())
    }
}
