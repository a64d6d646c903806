//! Plays one schedule: carries its steps out, waits for what has to come of each, and notes what is to hold when.

mod ending;
mod steps;
mod waiting;

use super::{
    host::Host,
    probe::Probes,
    record::{Expected, Record, Window},
    script::{Script, State},
};
use crate::{
    fleet::{
        control::{Control, request_id},
        coordinators::{Coordinators, agents_address},
    },
    world::World,
};
use anyhow::Context as _;
use netguard_proto::v1;
use std::{
    net::IpAddr,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// How long the decision about the first attacker would last by itself.
const LONG: Duration = Duration::from_secs(600);
/// A datagram may be sent before a decision ends and meet the firewall after it: a busy machine lets it wait that long.
const ON_ITS_WAY: Duration = Duration::from_millis(100);
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
}
