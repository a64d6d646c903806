//! The demonstration itself: builds the fleet, plays the attacks one after the other, and holds every promise against
//! what was measured.

mod promises;

use super::{
    DemoArgs,
    attack::{ATTACKS, Attack, HTTP_PORT, PASSWORDS, host, passwords},
    report::{AttackOutcome, Innocent, Outcome},
};
use crate::{
    figures::{Spread, milliseconds},
    fleet::{Binaries, Fleet, LOOK_INTERVAL},
    web::client::{ClientReport, last_report},
    world::{
        World,
        counters::{Counters, Sender},
        namespace::Namespace,
        process::Process,
        tap::Tap,
    },
};
use anyhow::{Context, bail};
use netguard_core::{
    decision::Verb,
    policy::{Mode, Policy},
    time::Timestamp,
};
use netguard_proto::v1;
use std::{
    pin::pin,
    time::{Duration, Instant},
};

/// How long an attack may go on until it is stopped everywhere.
const STOP_DEADLINE: Duration = Duration::from_secs(90);
/// How long an attack goes on afterwards, to show that it gets nowhere.
const LINGER: Duration = Duration::from_secs(5);
/// Between two steps of the slow sweep.
const STEP_PAUSE: Duration = Duration::from_millis(1_500);
/// How long the attacker's second try may take.
const FOLLOW_UP_DEADLINE: Duration = Duration::from_secs(30);
/// Ports of the second try of a throttled source; far more than the meter lets through.
const FOLLOW_UP_PORTS: u64 = 200;

/// Shows it all; what was seen, and which promises were not kept.
pub(super) async fn demonstrate(
    world: &World,
    binaries: &Binaries,
    args: &DemoArgs,
) -> anyhow::Result<(Outcome, Vec<String>)> {
    let mut show = Show::prepare(world, binaries, args).await?;
    let mut attacks = Vec::new();
    for attack in ATTACKS {
        attacks.push(show.attack(attack).await?);
        show.bring_back_killed().await?;
    }
    show.check_sources().await?;
    let innocent = show.dismiss_client()?;
    let outcome = Outcome {
        ok: show.broken.is_empty(),
        coordinators: show.fleet.coordinators.count(),
        hosts: show.fleet.hosts.len(),
        leader_killed: show.leader_killed,
        attacks,
        innocent: Innocent { requests: innocent.requests, failed: innocent.failed },
    };
    Ok((outcome, std::mem::take(&mut show.broken)))
}

struct Show<'a> {
    world: &'a World,
    fleet: Fleet,
    counters: Vec<Counters>,
    client: Process,
    enforce: bool,
    began: Instant,
    leader_killed: bool,
    /// The coordinator that is down now.
    down: Option<u64>,
    /// Promises that were not kept, in words.
    broken: Vec<String>,
}

/// What the cluster says of an attack.
#[derive(Default)]
struct Sight {
    decision: Option<v1::Decision>,
    effects: Vec<v1::HostEffect>,
}

impl Sight {
    fn enforced(&self) -> impl Iterator<Item = &v1::HostEffect> {
        self.effects.iter().filter(|effect| effect.effective)
    }
}

impl<'a> Show<'a> {
    async fn prepare(world: &'a World, binaries: &Binaries, args: &DemoArgs) -> anyhow::Result<Self> {
        let began = Instant::now();
        say(began, "Starting three coordinators and four hosts, each in a network namespace of its own.");
        let mut fleet = Fleet::start(world, binaries, &args.log).await?;
        if args.enforce {
            fleet.control.change_policy(|policy: &mut Policy| policy.mode = Mode::Enforce).await?;
        }
        fleet.serve(world)?;
        let senders: Vec<_> = world
            .attackers
            .iter()
            .map(|attacker| Sender::Address(attacker.address()))
            .chain([Sender::Spoofed])
            .collect();
        let counters = world
            .hosts
            .iter()
            .map(|host| Counters::install(host, &senders))
            .collect::<anyhow::Result<_>>()?;
        let passwords_file = world.scratch().join(PASSWORDS);
        std::fs::write(&passwords_file, passwords())
            .with_context(|| format!("cannot write {}", passwords_file.display()))?;
        let client = start_client(world, &mut fleet).await?;
        let status = fleet.until_ready().await?;
        let mode = if args.enforce { "decisions are enforced" } else { "decisions are only simulated" };
        say(
            began,
            &format!(
                "The cluster has leader {}, {} sensors and {} responders; {mode}. An innocent client fetches a \
                 page from every host ten times a second.",
                status.leader, status.sensors_connected, status.responders_connected
            ),
        );
        Ok(Self {
            world,
            fleet,
            counters,
            client,
            enforce: args.enforce,
            began,
            leader_killed: false,
            down: None,
            broken: Vec::new(),
        })
    }

    fn say(&self, text: &str) {
        say(self.began, text);
    }

    fn broken(&mut self, promise: String) {
        self.say(&format!("NOT KEPT: {promise}"));
        self.broken.push(promise);
    }

    async fn attack(&mut self, attack: &Attack) -> anyhow::Result<AttackOutcome> {
        let namespace = attack.namespace(self.world).context("the world has too few attackers")?;
        let address = namespace.address();
        let source = if attack.spoofed { "spoofed".to_owned() } else { address.to_string() };
        println!();
        self.say(&format!("ATTACK: {} ({}). {} {}.", attack.name, attack.tool, address, attack.story));
        let tap = Tap::open(namespace)?;
        let steps = (attack.steps)(self.world);
        let mut playing = pin!(play(namespace, self.world, attack.name, steps));
        let mut played = false;
        let sight = {
            let mut watching = pin!(self.watch(attack, &tap));
            loop {
                tokio::select! {
                    sight = &mut watching => break sight?,
                    ended = &mut playing, if !played => {
                        ended?;
                        played = true;
                    }
                }
            }
        };
        let sender = attack.sender(address);
        if self.enforce {
            self.check_untouched(attack, sender)?;
        }
        let before = self.passed(sender)?;
        if !played {
            // The tool goes on for a while, against rules that hold.
            let _ = tokio::time::timeout(LINGER, &mut playing).await;
        }
        let sent = tap.packets();
        let verb = sight.decision.as_ref().and_then(|decision| verb_of(decision.verb()));
        if self.enforce && !attack.spoofed {
            self.follow_up(attack, namespace, verb).await?;
        }
        let packets_after = self.passed(sender)? - before;
        let outcome = AttackOutcome {
            name: attack.name,
            tool: attack.tool,
            source,
            kind: kind_of(attack, sight.decision.as_ref()),
            verb: verb.map(Verb::name),
            first_packet_to_decision_ms: tap
                .first_packet()
                .zip(sight.decision.as_ref())
                .map(|(first, decision)| milliseconds(first, Timestamp::from_micros(decision.created_at))),
            decision_to_enforced_ms: sight
                .decision
                .as_ref()
                .and_then(|decision| Spread::of(&delays(decision, sight.enforced()))),
            hosts_enforced: sight.enforced().count(),
            packets_after,
        };
        self.check_outcome(attack, &outcome, &sight, tap.packets() - sent);
        Ok(outcome)
    }

    /// Watches the cluster until the attack is stopped on every host, or for as long as it may take.
    async fn watch(&mut self, attack: &Attack, tap: &Tap) -> anyhow::Result<Sight> {
        let address = attack.namespace(self.world).context("the world has too few attackers")?.address();
        let target = attack.target(self.world, address);
        let deadline = Instant::now() + STOP_DEADLINE;
        let mut told = false;
        loop {
            if attack.kill_leader && !self.leader_killed && tap.first_packet().is_some() {
                let leader = self.fleet.coordinators.kill_leader().await?.node;
                (self.leader_killed, self.down) = (true, Some(leader));
                self.say(&format!("The leader, coordinator {leader}, is killed with kill -9."));
            }
            self.fleet.check()?;
            let explained = self.fleet.control.explain(&target).await?;
            let found = explained.decisions.into_iter().find(|explained| {
                explained.decision.as_ref().is_some_and(|decision| self.is_expected(attack, decision))
            });
            let sight = found.map_or_else(Sight::default, |found| Sight {
                decision: found.decision,
                effects: found.hosts,
            });
            if let Some(decision) = &sight.decision {
                if !told {
                    self.tell_decision(decision, tap);
                    told = true;
                }
                if !self.enforce || sight.enforced().count() >= self.fleet.hosts.len() {
                    self.tell_effects(&sight);
                    return Ok(sight);
                }
            }
            if Instant::now() >= deadline {
                for note in explained.notes {
                    self.say(&format!("the judge: {note}"));
                }
                return Ok(sight);
            }
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    }

    fn is_expected(&self, attack: &Attack, decision: &v1::Decision) -> bool {
        decision.origin() == v1::Origin::Detector
            && decision.simulated != self.enforce
            && verb_of(decision.verb()).is_some_and(|verb| attack.expected.contains(&verb))
    }

    fn tell_decision(&self, decision: &v1::Decision, tap: &Tap) {
        let after = tap
            .first_packet()
            .map_or(0.0, |first| milliseconds(first, Timestamp::from_micros(decision.created_at)));
        let verb = verb_of(decision.verb()).map_or("nothing", Verb::name);
        let simulated = if decision.simulated { " (simulated)" } else { "" };
        self.say(&format!(
            "DECISION {after:.0} ms after the first packet: {verb}{simulated}: {} (seen by {})",
            decision.reason,
            decision.sensors.join(", "),
        ));
    }

    fn tell_effects(&self, sight: &Sight) {
        let Some(decision) = &sight.decision else { return };
        let hosts: Vec<_> = sight
            .enforced()
            .zip(delays(decision, sight.enforced()))
            .map(|(effect, delay)| format!("{} after {delay:.1} ms", effect.responder))
            .collect();
        if !hosts.is_empty() {
            self.say(&format!("In the kernel of {}.", hosts.join(", ")));
        }
    }

    /// The attacker tries again, and the hosts it has not touched too.
    async fn follow_up(
        &mut self,
        attack: &Attack,
        namespace: &Namespace,
        verb: Option<Verb>,
    ) -> anyhow::Result<()> {
        let hosts: Vec<_> = (0..self.world.hosts.len()).map(|number| host(self.world, number)).collect();
        let ports = format!("1-{FOLLOW_UP_PORTS}");
        let arguments: Vec<&str> = match verb {
            Some(Verb::Block) => ["-sT", "-Pn", "-n", "-T4", "--max-retries", "0", "-p", "22,80"]
                .into_iter()
                .chain(hosts.iter().map(String::as_str))
                .collect(),
            Some(Verb::Throttle) => {
                let other = attack.only_host.map_or(0, |touched| (touched + 1) % hosts.len());
                ["-sS", "-Pn", "-n", "-T4", "--max-retries", "0", "-p", &ports]
                    .into_iter()
                    .chain(hosts.get(other).map(String::as_str))
                    .collect()
            }
            _ => return Ok(()),
        };
        let mut nmap = Process::start(namespace, self.world.scratch(), "follow-up", "nmap", &arguments)?;
        if nmap.wait(Instant::now() + FOLLOW_UP_DEADLINE).await.is_none() {
            bail!("the attacker's second try does not end: nmap {}", arguments.join(" "));
        }
        Ok(())
    }

    /// Packets of a sender that reached sockets, on all hosts together.
    fn passed(&self, sender: Sender) -> anyhow::Result<u64> {
        self.counters.iter().map(|counters| Ok(counters.of(sender)?.passed)).sum()
    }

    /// SYN cookies the attacked host has sent.
    fn syn_cookies(&self, attack: &Attack) -> u64 {
        attack
            .only_host
            .and_then(|host| self.counters.get(host))
            .and_then(|counters| counters.syn_cookies_sent().ok())
            .unwrap_or(0)
    }

    async fn bring_back_killed(&mut self) -> anyhow::Result<()> {
        let Some(id) = self.down.take() else { return Ok(()) };
        self.fleet.coordinators.restart(id)?;
        let status = self.fleet.until_ready().await?;
        self.say(&format!(
            "Coordinator {id} is started again and has caught up; coordinator {} leads now.",
            status.leader
        ));
        Ok(())
    }

    /// Ends the innocent client and hears what it went through.
    fn dismiss_client(&mut self) -> anyhow::Result<ClientReport> {
        self.client.stop();
        let report = last_report(&self.client.output()).context("the innocent client reported nothing")?;
        println!();
        self.say(&format!(
            "The innocent client made {} requests, {} failed; the slowest answer took {} ms.",
            report.requests, report.failed, report.slowest_ms
        ));
        if report.failed > 0 {
            self.broken(format!(
                "{} requests of the innocent client failed: {}",
                report.failed,
                report.failures.join("; ")
            ));
        }
        if !self.leader_killed {
            self.broken("the leader was to be killed on the way, but was not".into());
        }
        Ok(report)
    }
}

/// Starts the innocent client and waits until it is served by every host.
async fn start_client(world: &World, fleet: &mut Fleet) -> anyhow::Result<Process> {
    let lab = std::env::current_exe()?.display().to_string();
    let targets: Vec<_> = (0..world.hosts.len()).map(|n| format!("{}:{HTTP_PORT}", host(world, n))).collect();
    let deadline = Instant::now() + Duration::from_secs(20);
    for target in &targets {
        let page = target.parse()?;
        let connects = || std::net::TcpStream::connect_timeout(&page, Duration::from_secs(1)).is_ok();
        while !world.innocent.within(connects)? {
            fleet.check()?;
            if Instant::now() >= deadline {
                bail!("no web server answers at {target}");
            }
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    }
    let arguments = ["client", "--targets", &targets.join(",")];
    Process::start(&world.innocent, world.scratch(), "innocent-client", &lab, &arguments)
}

/// Runs the tool's commands one after the other; the tool in hand is ended when this is dropped.
async fn play(
    namespace: &Namespace,
    world: &World,
    name: &str,
    steps: Vec<Vec<String>>,
) -> anyhow::Result<()> {
    let log = format!("attack-{}", name.replace(' ', "-"));
    let mut first = true;
    for step in steps {
        if !std::mem::take(&mut first) {
            tokio::time::sleep(STEP_PAUSE).await;
        }
        let (program, arguments) = step.split_first().context("an empty command")?;
        let mut tool = Process::start(namespace, world.scratch(), &log, program, arguments)?;
        while tool.wait(Instant::now() + STOP_DEADLINE).await.is_none() {}
    }
    Ok(())
}

fn say(began: Instant, text: &str) {
    println!("{:7.1} s  {text}", began.elapsed().as_secs_f64());
}

fn delays<'a>(decision: &v1::Decision, effects: impl Iterator<Item = &'a v1::HostEffect>) -> Vec<f64> {
    let created = Timestamp::from_micros(decision.created_at);
    effects.map(|effect| milliseconds(created, Timestamp::from_micros(effect.effective_at))).collect()
}

fn verb_of(verb: v1::Verb) -> Option<Verb> {
    match verb {
        v1::Verb::Block => Some(Verb::Block),
        v1::Verb::Throttle => Some(Verb::Throttle),
        v1::Verb::Shield => Some(Verb::Shield),
        v1::Verb::Unspecified => None,
    }
}

/// The attack's kind where it was recognised, else what it was taken for.
fn kind_of(attack: &Attack, decision: Option<&v1::Decision>) -> String {
    let expected = attack.kind.name();
    match decision {
        Some(decision) if !decision.kinds.iter().any(|kind| kind == expected) => {
            decision.kinds.first().cloned().unwrap_or_default()
        }
        _ => expected.to_owned(),
    }
}
