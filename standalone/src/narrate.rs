//! Events as lines for a person.

use serde_json::Value;

/// A line for this event, if it is one a person wants to see as it happens. Control characters never reach the
/// terminal.
pub(crate) fn line(event_type: &str, json: &str) -> Option<String> {
    let event: Value = serde_json::from_str(json).ok()?;
    let ours = event.get("netguard")?;
    let text = |key: &str| ours.get(key).and_then(Value::as_str).unwrap_or_default();
    let time =
        event.get("timestamp").and_then(Value::as_str).and_then(|at| at.get(11..23)).unwrap_or_default();
    let what = match event_type {
        "decision" if ours.get("simulated") == Some(&Value::Bool(true)) => {
            format!("would {} {}: {}", text("verb"), text("target"), text("reason"))
        }
        "decision" => format!("{} {}: {}", text("verb"), text("target"), text("reason")),
        "unblock" => format!("lifted {} of {}", text("verb"), text("target")),
        "expire" if !text("target").is_empty() => format!("{} of {} is over", text("verb"), text("target")),
        "held_back" => format!("held back {} of {}: {}", text("verb"), text("target"), text("held_back_by")),
        "enforced" => format!("in the kernel: {} of {}", text("verb"), text("target")),
        "not_effective" => {
            format!("NOT in the kernel: {} of {}: {}", text("verb"), text("target"), text("why"))
        }
        "probe" => format!("packets meet our rules: {}", text("met")),
        "drift" => format!("somebody changed the firewall: {}", text("what")),
        "loss" => format!("sight lost: {}", ours),
        _ => return None,
    };
    let safe: String = what.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    Some(format!("{time}  {safe}"))
}

#[cfg(test)]
mod tests {
    use super::line;

    #[test]
    fn a_simulated_decision_says_would() {
        let json = r#"{"timestamp":"2026-01-02T03:04:05.678901+0000","netguard":{"verb":"block","target":"192.0.2.7","reason":"tried 17 ports\u001b[2J","simulated":true}}"#;
        assert_eq!(
            line("decision", json).as_deref(),
            Some("03:04:05.678  would block 192.0.2.7: tried 17 ports\u{fffd}[2J")
        );
        assert_eq!(line("agent", json), None);
        assert_eq!(line("decision", "not json"), None);
    }
}
