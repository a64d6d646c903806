//! `watch`: events as they happen.
//!
//! Invariant: after a broken connection it goes on behind the last event shown, at whichever coordinator answers.

use crate::{
    Failure,
    cluster::{Again, Cluster},
    escape,
    failure::{is_unreachable, of_status},
    moment::short,
    output::{Format, Output, json, yaml},
};
use netguard_proto::v1::{Event, WatchRequest};
use serde_json::{Map, Value};
use std::time::{Duration, Instant};

/// How long to look for a coordinator before giving up.
const PATIENCE: Duration = Duration::from_secs(30);
/// Pause between two rounds over all of them.
const PAUSE: Duration = Duration::from_millis(500);

pub(super) async fn follow(
    after: Option<String>,
    types: Vec<String>,
    count: Option<u64>,
    cluster: &mut Cluster,
    output: &mut Output<'_>,
) -> Result<(), Failure> {
    let mut request = WatchRequest { after: after.unwrap_or_default(), types };
    let mut left = count;
    let mut lost_since: Option<Instant> = None;
    let mut ever = false;
    loop {
        let opened = cluster.call(Again::Safe, async |mut client| client.watch(request.clone()).await).await;
        let mut stream = match opened {
            Ok(stream) => stream,
            // A wrong address shows at once; a cluster we heard before gets some time.
            Err(Failure::Unreachable(why)) if ever => {
                if lost_since.get_or_insert_with(Instant::now).elapsed() > PATIENCE {
                    return Err(Failure::Unreachable(why));
                }
                tokio::time::sleep(PAUSE).await;
                continue;
            }
            Err(failure) => return Err(failure),
        };
        ever = true;
        loop {
            if left == Some(0) {
                return Ok(());
            }
            match stream.message().await {
                Ok(Some(event)) => {
                    lost_since = None;
                    output.line(&render(&event, output.format)?)?;
                    left = left.map(|left| left.saturating_sub(1));
                    if !event.cursor.is_empty() {
                        request.after = event.cursor;
                    }
                }
                Ok(None) => break,
                Err(status) if is_unreachable(&status) => break,
                Err(status) => return Err(of_status("the coordinator", &status)),
            }
        }
        if lost_since.get_or_insert_with(Instant::now).elapsed() > PATIENCE {
            return Err(Failure::Unreachable("every coordinator ends the stream at once".to_owned()));
        }
        output.remark("the connection was lost; going on at the next coordinator");
        cluster.move_on();
        tokio::time::sleep(PAUSE).await;
    }
}

fn render(event: &Event, format: Format) -> Result<String, Failure> {
    let body = match serde_json::from_str(&event.json) {
        Ok(Value::Object(body)) => body,
        // Shown all the same: an event that cannot be read is still something that happened.
        _ => Map::from_iter([("unreadable".to_owned(), Value::String(event.json.clone()))]),
    };
    let with_cursor = |mut body: Map<String, Value>| {
        body.insert("cursor".to_owned(), event.cursor.clone().into());
        Value::Object(body)
    };
    match format {
        Format::Table => Ok(sentence(&body)),
        Format::Json => json(&with_cursor(body), serde_json::to_string),
        Format::Yaml => Ok(format!("---\n{}", yaml(&with_cursor(body))?)),
    }
}

/// One line a person reads while it scrolls by.
fn sentence(body: &Map<String, Value>) -> String {
    let ours = body.get("netguard").and_then(Value::as_object).cloned().unwrap_or_default();
    let get = |name: &str| match ours.get(name).or_else(|| body.get(name)) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(items)) => items.iter().map(text_of).collect::<Vec<_>>().join(","),
        Some(Value::Null) | None => String::new(),
        Some(other) => other.to_string(),
    };
    let joined = |parts: &[String]| {
        parts.iter().filter(|part| !part.is_empty()).cloned().collect::<Vec<_>>().join(" ")
    };
    let because = |text: String| if text.is_empty() { text } else { format!("({text})") };
    let kind = get("event_type");
    let what = match kind.as_str() {
        "decision" => {
            let state = match (ours.get("simulated"), ours.get("extended")) {
                (Some(Value::Bool(true)), _) => "SIMULATED ",
                (_, Some(Value::Bool(true))) => "extended ",
                _ => "",
            };
            let reason = if get("reason").is_empty() { get("kinds") } else { get("reason") };
            joined(&[
                format!("{state}{}", get("verb")),
                get("target"),
                because(reason),
                format!("by {}", get("origin")),
            ])
        }
        "enforced" if !get("target").is_empty() => {
            let took = ours.get("after_commit_us").and_then(Value::as_u64).map(took).unwrap_or_default();
            joined(&[get("verb"), get("target"), format!("in the kernel of {}", get("responder")), took])
        }
        "unblock" => joined(&[get("verb"), get("target"), because(get("lifted_because"))]),
        "held_back" => joined(&[get("verb"), get("target"), because(get("held_back_by"))]),
        "refused" => joined(&[get("action"), get("verb"), get("target"), because(get("refused_because"))]),
        "not_effective" => {
            joined(&[format!("{}:", get("responder")), get("verb"), get("target"), because(get("why"))])
        }
        "probe" => {
            let met = ours.get("met").and_then(Value::as_bool).unwrap_or(false);
            let shown =
                if met { "packets meet our rules" } else { "not known whether packets meet our rules" };
            joined(&[format!("{}:", get("responder")), shown.to_owned(), because(get("why"))])
        }
        "drift" => {
            let repaired = ours.get("repaired_after_us").and_then(Value::as_u64);
            let repaired =
                repaired.map_or_else(|| "NOT put right".to_owned(), |us| format!("put right {}", took(us)));
            joined(&[format!("{}:", get("responder")), get("what"), because(repaired)])
        }
        "condition" => joined(&[format!("{}:", get("sensor")), get("condition"), get("action")]),
        "agent" => joined(&[
            get("role"),
            get("agent"),
            get("action"),
            because(get("detail")),
            because(get("reason")),
        ]),
        "allowlist" => joined(&[get("action"), get("prefix"), because(get("reason"))]),
        "rollout" => joined(&[
            get("rollout"),
            get("action").to_uppercase(),
            get("what"),
            if get("canaries").is_empty() { String::new() } else { format!("on {}", get("canaries")) },
            because(get("why")),
        ]),
        "breaker" => joined(&[
            get("action").to_uppercase(),
            get("responder"),
            because(get("why")),
            because(get("reason")),
        ]),
        "policy" => format!("version {} mode {}", get("version"), get("mode")),
        // Types that this version does not know, too.
        _ => rest(&ours),
    };
    let what = if what.is_empty() { rest(&ours) } else { what };
    let actor = get("actor");
    let actor = if actor.is_empty() || kind == "decision" { String::new() } else { format!(" by {actor}") };
    escape::plain(&format!("{} {kind:<13} {what}{actor}", clock(&get("timestamp")))).into_owned()
}

/// Everything there is, as `name=value`.
fn rest(fields: &Map<String, Value>) -> String {
    let shown = fields.iter().filter(|(name, value)| {
        !value.is_null() && !matches!(name.as_str(), "trace_id" | "log_index" | "actor")
    });
    shown.map(|(name, value)| format!("{name}={}", text_of(value))).collect::<Vec<_>>().join(" ")
}

fn text_of(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn took(micros: u64) -> String {
    if micros < 10_000 {
        format!("after {}.{} ms", micros / 1_000, micros % 1_000 / 100)
    } else {
        format!("after {}", short(Duration::from_micros(micros)))
    }
}

/// `22:13:20.123` of `2023-11-14T22:13:20.123456+0000`, which is in UTC; anything else as it is.
fn clock(timestamp: &str) -> &str {
    timestamp.split_once('T').and_then(|(_, clock)| clock.get(..12)).unwrap_or(timestamp)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn line(value: Value) -> String {
        render(&Event { cursor: "1.0-1.a.2".into(), json: value.to_string() }, Format::Table).unwrap()
    }

    #[test]
    fn events_are_told_in_words() {
        let at = "2023-11-14T22:13:20.123456+0000";
        let decision = json!({ "timestamp": at, "event_type": "decision", "src_ip": "192.0.2.7", "netguard": {
            "verb": "block", "target": "192.0.2.7", "reason": "17 ports probed", "origin": "detector", "simulated": true,
            "actor": "judge of coordinator 2" } });
        assert_eq!(
            line(decision),
            "22:13:20.123 decision      SIMULATED block 192.0.2.7 (17 ports probed) by detector"
        );
        let enforced = json!({ "timestamp": at, "event_type": "enforced", "netguard": {
            "responder": "web-1", "verb": "block", "target": "192.0.2.7", "after_commit_us": 7_340 } });
        assert_eq!(
            line(enforced),
            "22:13:20.123 enforced      block 192.0.2.7 in the kernel of web-1 after 7.3 ms"
        );
        let drift = json!({ "timestamp": at, "event_type": "drift", "netguard": {
            "responder": "web-1", "what": "set block4 was missing", "repaired_after_us": 90_000 } });
        assert_eq!(
            line(drift),
            "22:13:20.123 drift         web-1: set block4 was missing (put right after 90ms)"
        );
        let reverted = json!({ "timestamp": at, "event_type": "rollout", "netguard": {
            "rollout": 7, "action": "reverted", "what": "block 10.0.0.0/12", "why": "web-1: it would stop 1 of 1 good peers",
            "actor": "coordinator 2" } });
        assert_eq!(
            line(reverted),
            "22:13:20.123 rollout       7 REVERTED block 10.0.0.0/12 (web-1: it would stop 1 of 1 good peers) by coordinator 2"
        );
        let emergency = json!({ "timestamp": at, "event_type": "condition", "netguard": {
            "sensor": "web-1", "condition": "flow.emergency", "action": "begins", "coordinator": 1 } });
        assert_eq!(line(emergency), "22:13:20.123 condition     web-1: flow.emergency begins");
        let unknown = json!({ "timestamp": at, "event_type": "new_thing", "netguard": { "b": 2, "a": ["x"], "c": null } });
        assert_eq!(line(unknown), "22:13:20.123 new_thing     a=[\"x\"] b=2");
    }

    #[test]
    fn hostile_and_broken_events_are_shown_harmlessly() {
        let hostile = json!({ "timestamp": "\u{1b}]0;x\u{7}", "event_type": "decision", "netguard": { "verb": "block", "target": "a\nb", "reason": "\u{202e}" } });
        let shown = line(hostile);
        assert!(!shown.contains(['\u{1b}', '\n', '\u{7}', '\u{202e}']), "{shown}");
        let broken = Event { cursor: "c".into(), json: "{".into() };
        assert!(render(&broken, Format::Table).is_ok());
        let json: Value = serde_json::from_str(&render(&broken, Format::Json).unwrap()).unwrap();
        assert_eq!(json, json!({ "unreadable": "{", "cursor": "c" }));
    }
}
