//! Whole commands against a coordinator that is not one.

pub(crate) mod ca;
mod fake;

use crate::{Failure, args::Cli, cluster::Cluster, commands, output::Output};
use clap::{CommandFactory as _, Parser as _};
use fake::Fake;
use serde_json::Value;
use std::fs;

/// Exit code, output, remarks of a command against `servers` without TLS.
async fn ask(servers: &[&str], line: &[&str]) -> (u8, String, String) {
    let cli = Cli::try_parse_from([&["netguard-admin"], line].concat()).unwrap();
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let mut output = Output::new(cli.connection.output, &mut out, &mut err);
    let mut cluster = Cluster::plain(servers);
    let code = match commands::execute(cli.command, &mut cluster, &mut output).await {
        Ok(()) => 0,
        Err(failure) => {
            output.remark(&failure.to_string());
            failure.exit_code()
        }
    };
    (code, String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
}

/// A port nobody listens on.
fn closed() -> String {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

#[test]
fn the_command_line_is_sound_and_every_command_explains_itself() {
    Cli::command().debug_assert();
    fn check(command: &clap::Command) {
        for inner in command.get_subcommands().filter(|inner| inner.get_name() != "help") {
            assert!(inner.get_about().is_some(), "{} has no help", inner.get_name());
            check(inner);
        }
    }
    check(&Cli::command());
}

#[test]
fn commands_are_parsed_or_refused() {
    let parses = |line: &str| Cli::try_parse_from(line.split_whitespace()).map(|_| ());
    for good in [
        "x status",
        "x -o json status",
        "x status -o yaml --server a:1,b:2 --identity /tmp",
        "x cluster status",
        "x cluster add 2 h:7444 h:7443",
        "x cluster remove 3",
        "x token create --role sensor --name web-1 --ttl 10m",
        "x token list",
        "x token revoke 00ff",
        "x sensors",
        "x sensors list",
        "x responders revoke web-1 --reason gone",
        "x block 203.0.113.7 --ttl 4h --reason x --throttle",
        "x unblock 203.0.113.7",
        "x blocklist",
        "x blocklist 10.0.0.0/8 --verb block --origin admin --enforced --limit 5 --linearizable",
        "x allowlist add 10.0.0.0/8 --ttl 30d",
        "x allowlist check ::1",
        "x explain tcp/10.0.0.1:80",
        "x flows",
        "x flows --source 10.0.0.0/8 --destination ::1 --port 22 --sensor web-1 --since 15m --top 5 --by-flows",
        "x watch --type decision,unblock --count 3 --after 1.0-1.a.1",
        "x policy show --version 2",
        "x policy apply p.yaml --dry-run --base 4",
        "x policy apply --mode enforce",
        "x policy set mode=enforce",
        "x policy diff -",
        "x audit --last 10",
        "x completions zsh",
    ] {
        assert!(parses(good).is_ok(), "{good}: {:?}", parses(good));
    }
    for bad in [
        "x",
        "x nothing",
        "x block",
        "x block 1.2.3.4 --ttl 10",
        "x block 1.2.3.4 --ttl 0s",
        "x token create",
        "x token create --role root",
        "x -o xml status",
        "x policy apply",
        "x policy set",
        "x flows --port 0",
        "x flows --top 1001",
        "x flows --since yesterday",
        "x blocklist --verb allow",
        "x cluster add two h:1 h:2",
        "x completions powershell",
    ] {
        assert!(parses(bad).is_err(), "{bad}");
    }
}

#[tokio::test]
async fn usage_errors_and_help_have_their_exit_codes() {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    assert_eq!(crate::run(["netguard-admin", "blok"], &mut out, &mut err).await, 2);
    assert!(out.is_empty() && !err.is_empty());
    assert_eq!(crate::run(["netguard-admin", "--help"], &mut out, &mut err).await, 0);
    assert!(String::from_utf8_lossy(&out).contains("Exit codes"));
    let mut script = Vec::new();
    assert_eq!(crate::run(["netguard-admin", "completions", "bash"], &mut script, &mut err).await, 0);
    assert!(String::from_utf8_lossy(&script).contains("allowlist"));

    let nowhere = tempfile::tempdir().unwrap();
    let identity = nowhere.path().to_str().unwrap();
    assert_eq!(crate::run(["x", "--identity", identity, "status"], &mut out, &mut err).await, 2);
    assert!(String::from_utf8_lossy(&err).contains("no identity in"));
}

#[tokio::test]
async fn flows_are_shown_with_what_is_missing() {
    let fake = Fake::start().await;
    let (code, text, _) = ask(&[&fake.address], &["flows", "--since", "2h", "--top", "12"]).await;
    assert_eq!(code, 0);
    for part in [
        "SENSOR",
        "web-1",
        "203.0.113.7",
        "10.0.0.1",
        "tcp/22",
        "7200",
        "12 MiB",
        "512 B",
        "S0=3 SF=1",
        "besides: 9 flows, 99 B",
        "NOT COMPLETE: coordinator 3 did not answer",
    ] {
        assert!(text.contains(part), "{part} missing in:\n{text}");
    }
    assert!(!text.contains(['\u{1b}', '\u{9b}', '\u{202e}', '\r']), "{text:?}");
    let (_, json, _) = ask(&[&fake.address], &["-o", "json", "flows", "--port", "443"]).await;
    let json: Value = serde_json::from_str(&json).unwrap();
    let row = &json["conversations"][0];
    assert_eq!(
        (&row["destination_port"], &row["flows"], &row["states"]["S0"]),
        (&443.into(), &3_600.into(), &3.into())
    );
    let (code, _, error) = ask(&[&fake.address], &["flows", "--source", "bad"]).await;
    assert_ne!(code, 0);
    assert!(error.contains("`bad`: not an address"), "{error}");
}

#[tokio::test]
async fn status_and_lists_are_shown_in_every_form() {
    let fake = Fake::start().await;
    let (code, text, _) = ask(&[&fake.address], &["status"]).await;
    assert_eq!(code, 0);
    for part in [
        "prod (version 1.2.3)",
        "policy apply --mode enforce",
        "coordinator 2, term 7",
        "3 of 4 connected",
        "COORDINATOR",
    ] {
        assert!(text.contains(part), "{part} missing in:\n{text}");
    }
    let (_, json, _) = ask(&[&fake.address], &["-o", "json", "status"]).await;
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(
        (&json["mode"], &json["leader"], &json["coordinators"][0]["id"]),
        (&"simulate".into(), &2.into(), &1.into())
    );
    let (_, yaml, _) = ask(&[&fake.address], &["-o", "yaml", "status"]).await;
    assert_eq!(serde_norway::from_str::<Value>(&yaml).unwrap(), json);
}

#[tokio::test]
async fn a_block_shows_what_was_decided_with_both_kinds_of_time() {
    let fake = Fake::start().await;
    let line = ["-o", "json", "block", "203.0.113.7", "--ttl", "4h", "--reason", "mail log"];
    let (code, json, _) = ask(&[&fake.address], &line).await;
    assert_eq!(code, 0);
    let json: Value = serde_json::from_str(&json).unwrap();
    let decision = &json["decisions"][0];
    assert_eq!(decision["target"], "203.0.113.7");
    assert_eq!(decision["id"], "000102030405060708090a0b0c0d0e0f");
    assert_eq!(decision["expires_at"], "2023-11-14T22:13:20.123456Z");
    assert_eq!(decision["expires_at_us"], 1_700_000_000_123_456_u64);
    assert_eq!(decision["first_packet_at"], Value::Null);
    let asked = fake.blocks().remove(0);
    assert_eq!(
        (asked.prefix.as_str(), asked.ttl_seconds, asked.request_id.len()),
        ("203.0.113.7", 14_400, 16)
    );

    let (code, _, err) = ask(&[&fake.address], &["block", "010.0.0.1"]).await;
    assert_eq!((code, fake.blocks().len()), (2, 1), "{err}");
    let (code, _, err) = ask(&[&fake.address], &["block", "127.0.0.1"]).await;
    assert_eq!(code, 1);
    assert!(err.contains("refused: loopback is never blocked"), "{err}");
}

#[tokio::test]
async fn a_coordinator_that_is_gone_is_passed_over_and_a_retry_keeps_its_id() {
    let (fake, closed) = (Fake::start().await, closed());
    let (code, text, _) = ask(&[&closed, &fake.address], &["status"]).await;
    assert_eq!(code, 0, "{text}");

    let down = Fake::start().await;
    down.answer_unavailable();
    let (code, _, _) = ask(&[&down.address, &fake.address], &["block", "203.0.113.7"]).await;
    assert_eq!(code, 0);
    assert_eq!(down.blocks()[0].request_id, fake.blocks()[0].request_id);

    // What could act twice is not sent twice.
    let (code, _, err) = ask(&[&down.address, &fake.address], &["token", "create", "--role", "sensor"]).await;
    assert_eq!(code, 3);
    assert!(err.contains("may or may not be done"), "{err}");

    let (code, _, err) = ask(&[&closed, &down.address], &["status"]).await;
    assert_eq!(code, 3);
    assert!(err.contains(&closed) && err.contains(&down.address), "{err}");
}

#[tokio::test]
async fn a_token_stands_alone_on_standard_output() {
    let fake = Fake::start().await;
    let (code, out, err) = ask(&[&fake.address], &["token", "create", "--role", "sensor"]).await;
    assert_eq!((code, out.as_str()), (0, "ngj1.the.whole.token\n"));
    assert!(err.contains("00000000000000ff"));
}

#[tokio::test]
async fn all_pages_of_the_blocklist_are_read() {
    let fake = Fake::start().await;
    let (_, json, _) = ask(&[&fake.address], &["-o", "json", "blocklist"]).await;
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["decisions"].as_array().unwrap().len(), 2_500);
    assert_eq!(json["more"], false);
    let (_, json, _) = ask(&[&fake.address], &["-o", "json", "blocklist", "--limit", "1200"]).await;
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!((json["decisions"].as_array().unwrap().len(), &json["more"]), (1_200, &true.into()));
}

#[tokio::test]
async fn hostile_names_are_shown_harmlessly() {
    let fake = Fake::start().await;
    for format in ["table", "json", "yaml"] {
        for command in [
            &["sensors"][..],
            &["bouncers", "list"],
            &["responders"],
            &["explain", "203.0.113.7"],
            &["watch", "--count", "2"],
        ] {
            let (code, text, _) = ask(&[&fake.address], &[&["-o", format], command].concat()).await;
            assert_eq!(code, 0);
            assert!(!text.contains(['\u{1b}', '\u{9b}', '\u{202e}', '\r']), "{format} {command:?}: {text}");
            assert!(text.contains("evil"), "{format} {command:?}: {text}");
        }
    }
}

#[tokio::test]
async fn watch_goes_on_behind_the_last_event_at_the_next_coordinator() {
    let (one, other) = (Fake::start().await, Fake::start().await);
    let line = ["-o", "json", "watch", "--count", "4", "--after", "c0"];
    let (code, text, _) = ask(&[&one.address, &other.address], &line).await;
    assert_eq!(code, 0);
    let cursors: Vec<String> = text
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["cursor"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(cursors, ["c1", "c2", "c3", "c4"]);
}

/// Cuts the connection, as a coordinator that is killed does, after two lines were shown.
struct CutsAfterTwo {
    shown: Vec<u8>,
    connection: tokio::task::AbortHandle,
}

impl std::io::Write for CutsAfterTwo {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.shown.extend_from_slice(bytes);
        if self.shown.iter().filter(|byte| **byte == b'\n').count() >= 2 {
            self.connection.abort();
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn watch_goes_on_after_its_coordinator_is_killed() {
    let (one, other) = (Fake::start().await, Fake::start().await);
    one.hold_watches();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let relay = listener.local_addr().unwrap().to_string();
    let connection = tokio::spawn(async move {
        let (mut client, _) = listener.accept().await.unwrap();
        let mut server = tokio::net::TcpStream::connect(&one.address).await.unwrap();
        tokio::io::copy_bidirectional(&mut client, &mut server).await
    });
    let cli = Cli::try_parse_from(["x", "-o", "json", "watch", "--count", "4"]).unwrap();
    let (mut out, mut err) =
        (CutsAfterTwo { shown: Vec::new(), connection: connection.abort_handle() }, Vec::new());
    let mut output = Output::new(cli.connection.output, &mut out, &mut err);
    let mut cluster = Cluster::plain(&[&relay, &other.address]);
    commands::execute(cli.command, &mut cluster, &mut output).await.unwrap();
    assert_eq!(String::from_utf8(out.shown).unwrap().lines().count(), 4);
    assert!(String::from_utf8(err).unwrap().contains("next coordinator"));
}

#[tokio::test]
async fn what_was_lifted_is_not_shown_as_enforced() {
    let fake = Fake::start().await;
    let (code, text, _) = ask(&[&fake.address], &["unblock", "203.0.113.7"]).await;
    assert_eq!(code, 0);
    assert!(text.contains("lifted") && !text.contains("enforced"), "{text}");
}

#[tokio::test]
async fn the_policy_is_switched_compared_and_replaced() {
    let fake = Fake::start().await;
    let (code, _, _) = ask(&[&fake.address], &["policy", "apply", "--mode", "enforce"]).await;
    assert_eq!(code, 0);
    let applied = fake.policies().remove(0);
    assert_eq!((applied.yaml.as_str(), applied.base_version), ("mode: enforce\nact_score: 100\n", 3));

    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("policy.yaml");
    fs::write(&file, "mode: simulate\nact_score: 90\n").unwrap();
    let (code, text, _) = ask(&[&fake.address], &["policy", "diff", file.to_str().unwrap()]).await;
    assert_eq!((code, text.as_str()), (0, "SETTING    NOW  THEN\nact_score  100  90\n"));
    let (code, shown, _) = ask(&[&fake.address], &["policy", "show"]).await;
    assert_eq!(
        (code, shown.as_str()),
        (0, "# version 3, alice, 2023-11-14T22:13:20.123456Z\nmode: simulate\nact_score: 100\n")
    );
    let (code, _, err) = ask(&[&fake.address], &["policy", "apply", "/nowhere.yaml"]).await;
    assert_eq!(code, 2, "{err}");
}

#[tokio::test]
async fn the_last_audit_entries_are_shown() {
    let fake = Fake::start().await;
    let (_, json, _) = ask(&[&fake.address], &["-o", "json", "audit", "--last", "3"]).await;
    let json: Value = serde_json::from_str(&json).unwrap();
    let numbers: Vec<_> =
        json["entries"].as_array().unwrap().iter().map(|entry| entry["number"].clone()).collect();
    assert_eq!(
        (numbers, &json["next"]),
        (vec![2_498.into(), 2_499.into(), Value::from(2_500)], &2_500.into())
    );
}

#[tokio::test]
async fn a_due_identity_is_renewed_over_mutual_tls() {
    let ca = ca::Ca::new();
    let fake = Fake::start_tls(&ca).await;
    let directory = tempfile::tempdir().unwrap();
    let old = ca.admin(400, 1_000);
    old.store(directory.path()).unwrap();
    let line = |address: &str| {
        ["x", "--server", address, "--identity", directory.path().to_str().unwrap(), "-o", "json", "status"]
            .map(str::to_owned)
    };
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let code = crate::run(line(&fake.address), &mut out, &mut err).await;
    assert_eq!(code, 0, "{}", String::from_utf8_lossy(&err));
    let renewed = crate::identity::Identity::load(directory.path()).unwrap();
    assert!(renewed.not_after > old.not_after && renewed.key_pem != old.key_pem);

    // Nobody reachable: the old one is still good.
    let (mut out, mut err) = (Vec::new(), Vec::new());
    assert_eq!(crate::run(line(&closed()), &mut out, &mut err).await, 3);

    // Another cluster's identity is refused, not "unreachable".
    ca::Ca::new().admin(3_600, 0).store(directory.path()).unwrap();
    let (mut out, mut err) = (Vec::new(), Vec::new());
    assert_eq!(crate::run(line(&fake.address), &mut out, &mut err).await, 1);
    let err = String::from_utf8(err).unwrap();
    assert!(err.contains("identity"), "{err}");
}

#[tokio::test]
async fn a_list_is_sent_in_batches_and_refusals_name_their_lines() {
    let fake = Fake::start().await;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("list.txt");
    let mut lines = "# a list\n127.0.0.1\nnot an address\n".to_owned();
    lines.extend((0..6_000_u32).map(|n| format!("{}\n", std::net::Ipv4Addr::from_bits(0xc633_0000 + n))));
    fs::write(&file, lines).unwrap();
    let file = file.to_str().unwrap();
    let line = ["-o", "json", "import", file, "--duration", "1d", "--kind", "brute_force", "--dry-run"];
    let (code, json, err) = ask(&[&fake.address], &line).await;
    assert_eq!(code, 0, "{err}");
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&json["read"], &json["made"], &json["refused"]), (&6_002.into(), &6_000.into(), &2.into()));
    let refused: Vec<_> = json["refusals"].as_array().unwrap().iter().map(|r| r["line"].clone()).collect();
    assert_eq!(refused, [2, 3]);
    let sent = fake.imports();
    assert_eq!(
        sent.iter().map(|request| request.entries.len()).collect::<Vec<_>>(),
        [2_000, 2_000, 2_000, 1]
    );
    assert!(sent.iter().all(|request| request.dry_run && request.kind == "brute_force"));
    assert_eq!(sent[0].entries[1].ttl_seconds, 86_400);

    let (code, text, _) = ask(&[&fake.address], &["import", file]).await;
    assert_eq!(code, 0);
    assert!(text.starts_with("6002 read: 6000 new") && !text.contains('\u{1b}'), "{text}");
    fs::write(file, "127.0.0.1\n").unwrap();
    assert_eq!(ask(&[&fake.address], &["import", file]).await.0, 1);
    fs::write(file, "[{").unwrap();
    assert_eq!(ask(&[&fake.address], &["import", file]).await.0, 2);
}

#[tokio::test]
async fn a_bouncers_key_stands_alone_on_standard_output() {
    let fake = Fake::start().await;
    let (code, out, err) = ask(&[&fake.address], &["bouncers", "add", "web-1"]).await;
    assert_eq!((code, out.as_str()), (0, "c0ffee\n"));
    assert!(err.contains("only now"), "{err}");
}

#[test]
fn failures_tell_the_shell_who_has_to_act() {
    let broken = Failure::Output(std::io::ErrorKind::BrokenPipe.into());
    let codes = [Failure::Refused("".into()), Failure::usage(""), Failure::Unreachable("".into()), broken];
    assert_eq!(codes.map(|failure| failure.exit_code()), [1, 2, 3, 0]);
}
