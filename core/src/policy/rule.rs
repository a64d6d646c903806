use super::{KINDS, KindRow, Policy};
use crate::kind::Kind;
use std::time::Duration;

/// One row of the table as it is judged: with the operator's settings over it.
#[derive(Debug, Clone, Copy)]
pub struct Rule {
    pub row: &'static KindRow,
    pub threshold: u64,
    pub window: Duration,
    /// The slow variant. Its threshold moves with the operator's threshold by the same factor.
    pub slow: Option<(u64, Duration)>,
    pub weight: u32,
    pub ttl: Duration,
}

impl Policy {
    /// The kinds that are complete and not switched off, in the table's order.
    pub fn rules(&self) -> impl Iterator<Item = Rule> + '_ {
        KINDS.iter().filter_map(|row| self.rule_of(row))
    }

    /// A kind's first rule, unless it is switched off or not complete.
    #[must_use]
    pub fn rule(&self, kind: Kind) -> Option<Rule> {
        super::row(kind).and_then(|row| self.rule_of(row))
    }

    fn rule_of(&self, row: &'static KindRow) -> Option<Rule> {
        let settings = self.kinds.get(row.kind.name()).cloned().unwrap_or_default();
        if settings.enabled == Some(false) {
            return None;
        }
        let first = super::row(row.kind).unwrap_or(row);
        let set = settings.threshold.unwrap_or(first.threshold).max(1);
        let scaled = |threshold: u64| {
            let scaled = u128::from(threshold) * u128::from(set) / u128::from(first.threshold.max(1));
            u64::try_from(scaled).unwrap_or(u64::MAX).max(1)
        };
        let is_first = first.measure == row.measure;
        let window = settings.window_seconds.filter(|_| is_first).unwrap_or(row.window_seconds);
        let ttl = Duration::from_secs(settings.ttl_seconds.unwrap_or(row.ttl_seconds));
        Some(Rule {
            row,
            threshold: scaled(row.threshold),
            window: Duration::from_secs(window),
            slow: row.slow.map(|slow| (scaled(slow.threshold), Duration::from_secs(slow.window_seconds))),
            weight: settings.weight.unwrap_or(row.weight),
            ttl: ttl.min(self.max_ttl()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::KindSettings;

    #[test]
    fn settings_lie_over_the_table() {
        let mut policy = Policy { max_ttl_seconds: 600, ..Policy::default() };
        let set = KindSettings { threshold: Some(30), window_seconds: Some(60), ..KindSettings::default() };
        policy.kinds.insert("port_scan".into(), set);
        let off = KindSettings { enabled: Some(false), ..KindSettings::default() };
        policy.kinds.insert("port_sweep".into(), off);
        let half = KindSettings { threshold: Some(500), window_seconds: Some(5), ..KindSettings::default() };
        policy.kinds.insert("syn_flood".into(), half);
        let rule = policy.rule(Kind::PortScan).unwrap();
        assert_eq!((rule.threshold, rule.window), (30, Duration::from_secs(60)));
        assert_eq!(
            rule.slow,
            Some((120, Duration::from_secs(3600))),
            "twice the threshold, twice the slow one"
        );
        assert_eq!(rule.ttl, Duration::from_secs(600), "no longer than the policy's longest");
        assert!(policy.rule(Kind::PortSweep).is_none());
        assert!(policy.rule(Kind::Beacon).is_none(), "not complete");
        let floods: Vec<_> = policy
            .rules()
            .filter(|rule| rule.row.kind == Kind::SynFlood)
            .map(|rule| (rule.threshold, rule.window.as_secs()))
            .collect();
        assert_eq!(floods, [(500, 5), (50, 10)], "what stands beside the first row moves with it");
        assert_eq!(policy.rules().count(), 4);
    }
}
