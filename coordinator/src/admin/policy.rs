use super::{Admin, text, write::Writer};
use netguard_core::{
    ledger::{Command, Ledger, Outcome, Refusal},
    policy::Policy,
};
use netguard_daemon::config;
use netguard_proto::v1::{ApplyPolicyRequest, PolicyDocument, WriteResponse};
use serde_json::Value;
use std::{collections::BTreeMap, path::Path};
use tonic::Status;

use crate::refusal::status_of;

/// Longest policy taken, in bytes. All kinds with all settings take some 5 KiB.
const MAX_YAML: usize = 256 << 10;

impl Admin {
    pub(super) async fn apply(
        &self,
        writer: Writer,
        request: &ApplyPolicyRequest,
    ) -> Result<WriteResponse, Status> {
        let policy = read(&request.yaml)?;
        let ledger = self.shared.consensus.ledger();
        let changes = changes(ledger.policy(), &policy);
        let in_words = if changes.is_empty() { "nothing changes".to_owned() } else { changes.join("\n") };
        if request.dry_run {
            let current = ledger.policy_version();
            if request.base_version != 0 && request.base_version != current {
                return Err(status_of(&Refusal::PolicyVersion { current, base: request.base_version }));
            }
            return Ok(WriteResponse {
                revision: ledger.revision(),
                log_index: ledger.log_index(),
                outcome: format!("not applied, only checked:\n{in_words}"),
                decisions: Vec::new(),
            });
        }
        let command = Command::PolicyApply { policy: Box::new(policy), base_version: request.base_version };
        writer
            .answer(command, |outcome| match outcome {
                Outcome::PolicyVersion(version) => format!("policy version {version}:\n{in_words}"),
                _ => in_words,
            })
            .await
    }
}

/// A version of the policy; 0 is the current one.
#[allow(clippy::result_large_err, reason = "tonic's own error type")]
pub(super) fn document(ledger: &Ledger, version: u64) -> Result<PolicyDocument, Status> {
    let wanted = if version == 0 { ledger.policy_version() } else { version };
    let applied = ledger.policy_versions().find(|known| known.version == wanted).ok_or_else(|| {
        let kept: Vec<u64> = ledger.policy_versions().map(|known| known.version).collect();
        Status::not_found(format!(
            "policy version {wanted} is not kept: there are {} to {}",
            kept.first().copied().unwrap_or_default(),
            kept.last().copied().unwrap_or_default()
        ))
    })?;
    let yaml = serde_norway::to_string(&applied.policy)
        .map_err(|error| Status::internal(format!("the policy cannot be written as YAML: {error}")))?;
    Ok(PolicyDocument {
        yaml,
        version: applied.version,
        applied_by: applied.applied_by.clone(),
        applied_at: applied.applied_at.as_micros(),
    })
}

#[allow(clippy::result_large_err, reason = "tonic's own error type")]
fn read(yaml: &str) -> Result<Policy, Status> {
    if yaml.len() > MAX_YAML {
        return Err(Status::invalid_argument(format!("a policy has at most {MAX_YAML} bytes")));
    }
    let policy: Policy = config::parse(Path::new("policy"), yaml)
        .map_err(|error| Status::invalid_argument(text::lines(&error.to_string())))?;
    policy.validate().map_err(|error| Status::invalid_argument(error.to_string()))?;
    Ok(policy)
}

/// `setting: before → after`, one line each.
fn changes(before: &Policy, after: &Policy) -> Vec<String> {
    let (before, after) = (settings(before), settings(after));
    let names = before.keys().chain(after.keys().filter(|name| !before.contains_key(*name)));
    let shown = |value: Option<&Value>| value.map_or_else(|| "default".to_owned(), plain);
    let mut changes: Vec<String> = names
        .filter(|name| before.get(*name) != after.get(*name))
        .map(|name| format!("{name}: {} → {}", shown(before.get(name)), shown(after.get(name))))
        .collect();
    changes.sort();
    changes
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// Every setting that is not absent, by its path.
fn settings(policy: &Policy) -> BTreeMap<String, Value> {
    fn walk(path: &str, value: Value, into: &mut BTreeMap<String, Value>) {
        match value {
            Value::Object(fields) => {
                for (name, value) in fields {
                    let path = if path.is_empty() { name } else { format!("{path}.{name}") };
                    walk(&path, value, into);
                }
            }
            Value::Null => {}
            value => {
                into.insert(path.to_owned(), value);
            }
        }
    }
    let mut all = BTreeMap::new();
    walk("", serde_json::to_value(policy).unwrap_or(Value::Null), &mut all);
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_can_be_applied_again() {
        let ledger = Ledger::default();
        let shown = document(&ledger, 0).unwrap();
        assert_eq!(shown.version, 1);
        assert_eq!(&read(&shown.yaml).unwrap(), ledger.policy());
        assert_eq!(
            document(&ledger, 9).unwrap_err().message(),
            "policy version 9 is not kept: there are 1 to 1"
        );
    }

    #[test]
    fn a_change_is_told_setting_by_setting() {
        let before = Policy::default();
        let after = read("mode: enforce\nact_score: 50\nkinds:\n  port_scan:\n    threshold: 9\n").unwrap();
        assert_eq!(
            changes(&before, &after),
            ["act_score: 100 → 50", "kinds.port_scan.threshold: default → 9", "mode: simulate → enforce"]
        );
        assert_eq!(changes(&after, &after), Vec::<String>::new());
    }

    #[test]
    fn a_policy_with_a_mistake_is_refused_whole() {
        for (yaml, expected) in [
            ("mdoe: enforce\n", "policy:1: unknown field `mdoe`"),
            ("mode: on\n", "policy:1"),
            ("act_score: 1\nact_score: 2\n", "duplicate"),
            ("kinds:\n  port_scan: {threshold: 1}\n  port_scan: {threshold: 2}\n", "duplicate"),
            ("kinds: {no_such: {}}\n", "docs/kinds.md"),
            ("max_ttl_seconds: 3200000000\n", "max_ttl_seconds"),
            ("act_score: -1\n", "policy:1"),
            ("a: &a [x]\nb: *a\n", "anchors"),
            ("", "empty"),
        ] {
            let refused = read(yaml).expect_err(yaml);
            assert_eq!(refused.code(), tonic::Code::InvalidArgument);
            assert!(refused.message().contains(expected), "{yaml:?}: {}", refused.message());
        }
        assert!(read(&"#".repeat(MAX_YAML + 1)).is_err());
    }
}
