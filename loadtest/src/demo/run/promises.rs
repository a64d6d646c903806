//! What each attack must have come to: the demonstration fails when a promise is not kept.

use super::*;

impl Show<'_> {
    /// A host that was not attacked has the rule, and never saw a packet of the attacker.
    pub(super) fn check_untouched(&mut self, attack: &Attack, sender: Sender) -> anyhow::Result<()> {
        let Some(touched) = attack.only_host else { return Ok(()) };
        let mut seen = Vec::new();
        for (number, counters) in self.counters.iter().enumerate() {
            let packets = counters.of(sender)?.seen;
            if number != touched && packets > 0 {
                seen.push(format!("host-{} saw {packets} packets", number + 1));
            }
        }
        if seen.is_empty() {
            self.say("The other hosts never saw the attacker.");
        } else {
            self.broken(format!(
                "{}: the other hosts were not to see the attacker, but {}",
                attack.name,
                seen.join(", ")
            ));
        }
        Ok(())
    }

    /// Holds the outcome against the promise. `tried_again`: packets of the attacker's second try.
    pub(super) fn check_outcome(
        &mut self,
        attack: &Attack,
        outcome: &AttackOutcome,
        sight: &Sight,
        tried_again: u64,
    ) {
        let hosts = self.fleet.hosts.len();
        let Some(verb) = outcome.verb else {
            let expected: Vec<_> = attack.expected.iter().map(|verb| verb.name()).collect();
            return self.broken(format!("{}: no decision, expected {}", attack.name, expected.join(" or ")));
        };
        if !sight
            .decision
            .as_ref()
            .is_some_and(|decision| decision.kinds.contains(&attack.kind.name().to_owned()))
        {
            self.broken(format!(
                "{}: decided for {}, expected {}",
                attack.name,
                outcome.kind,
                attack.kind.name()
            ));
        }
        if !self.enforce {
            return;
        }
        if outcome.hosts_enforced < hosts {
            let why: Vec<_> = sight
                .effects
                .iter()
                .filter(|effect| !effect.effective)
                .map(|effect| format!("{}: {}", effect.responder, effect.why_not))
                .collect();
            self.broken(format!(
                "{}: in force on {} of {hosts} hosts ({})",
                attack.name,
                outcome.hosts_enforced,
                why.join(", ")
            ));
        }
        match verb {
            "block" if outcome.packets_after > 0 => {
                self.broken(format!(
                    "{}: {} packets got through the block",
                    attack.name, outcome.packets_after
                ));
            }
            "block" => self
                .say(&format!("It tries every host again: {tried_again} packets sent, none gets through.")),
            // Each new connection let through costs a SYN and a reset at most.
            "throttle" if outcome.packets_after > FOLLOW_UP_PORTS / 2 => self.broken(format!(
                "{}: {} packets got through the throttle",
                attack.name, outcome.packets_after
            )),
            "throttle" => self.say(&format!(
                "It tries another host: {tried_again} packets sent, {} get through.",
                outcome.packets_after
            )),
            _ => self.say(&format!(
                "The flood went on with {} SYNs; so far the server answered {} with SYN cookies, which cost it no \
                 memory.",
                outcome.packets_after,
                self.syn_cookies(attack)
            )),
        }
    }

    /// Nobody but the proven attackers may stand in the list, and the SYN scanner never as blocked.
    pub(super) async fn check_sources(&mut self) -> anyhow::Result<()> {
        for decision in self.fleet.control.decisions().await? {
            let Some(v1::target::Of::Source(prefix)) = decision.target.clone().and_then(|target| target.of)
            else {
                continue;
            };
            let prefix =
                netguard_core::net::Prefix::try_from(prefix).context("the cluster sent no prefix")?;
            let attack = ATTACKS.iter().filter(|attack| !attack.spoofed).find(|attack| {
                attack.namespace(self.world).is_some_and(|attacker| {
                    netguard_core::net::Prefix::host(attacker.address().into()) == prefix
                })
            });
            let blocked = decision.verb() == v1::Verb::Block;
            match attack {
                None => self.broken(format!("{prefix} attacked nobody, but: {}", decision.reason)),
                // A throttle on the way to a block is no broken promise; a block without proof is.
                Some(attack) if blocked && !attack.expected.contains(&Verb::Block) => self.broken(format!(
                    "{}: {prefix} was never to be blocked, but: {}",
                    attack.name, decision.reason
                )),
                Some(_) => {}
            }
        }
        Ok(())
    }
}
