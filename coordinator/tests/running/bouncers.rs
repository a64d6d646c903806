//! The bouncers' door, spoken to in plain HTTP as bouncers and attackers do.

use crate::cluster::{Cluster, SOON};
use netguard_core::identity::Role;
use netguard_proto::v1::{
    AddBouncerRequest, AllowlistEntry, BlockRequest, ImportEntry, ImportRequest, ListAuditRequest,
    ListBouncersRequest, RemoveBouncerRequest, UnblockRequest, Verb,
};
use serde_json::Value;
use std::net::SocketAddr;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tonic::Code;

/// Status and body of whatever comes back for these bytes.
pub(crate) async fn raw(door: SocketAddr, bytes: &[u8]) -> (u16, String) {
    let mut stream = TcpStream::connect(door).await.unwrap();
    // Who is refused early may find its connection closed while it still writes.
    let _ = stream.write_all(bytes).await;
    let mut answer = Vec::new();
    let read = tokio::time::timeout(SOON, stream.read_to_end(&mut answer)).await.expect("an answer");
    assert!(read.is_ok() || !answer.is_empty());
    answer_of(answer)
}

/// Status and body of a whole answer.
pub(crate) fn answer_of(answer: Vec<u8>) -> (u16, String) {
    let text = String::from_utf8(answer).unwrap();
    let status = text.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let body =
        if head.to_lowercase().contains("transfer-encoding: chunked") { dechunk(body) } else { body.into() };
    (status, body)
}

fn dechunk(mut body: &str) -> String {
    let mut whole = String::new();
    while let Some((size, rest)) = body.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).unwrap();
        whole.push_str(&rest[..size]);
        body = rest[size..].trim_start_matches("\r\n");
    }
    whole
}

pub(crate) async fn get(door: SocketAddr, path: &str, key: &str) -> (u16, String) {
    let head = format!(
        "GET {path} HTTP/1.1\r\nHost: x\r\nX-Api-Key: {key}\r\nUser-Agent: test/1\r\nConnection: close\r\n\r\n"
    );
    raw(door, head.as_bytes()).await
}

pub(crate) async fn stream(door: SocketAddr, startup: bool, key: &str) -> (Vec<String>, Vec<String>) {
    let (status, body) = get(door, &format!("/v1/decisions/stream?startup={startup}"), key).await;
    assert_eq!(status, 200, "{body}");
    let body: Value = serde_json::from_str(&body).unwrap();
    let values = |name: &str| {
        let mut values: Vec<String> = body[name]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| one["value"].as_str().unwrap().to_owned())
            .collect();
        values.sort_unstable();
        values
    };
    (values("new"), values("deleted"))
}

pub(crate) async fn key(cluster: &Cluster, name: &str) -> String {
    cluster.owner().await.add_bouncer(AddBouncerRequest { name: name.into() }).await.unwrap().into_inner().key
}

pub(crate) async fn block(cluster: &Cluster, prefix: &str, verb: Verb) {
    let request = BlockRequest {
        prefix: prefix.into(),
        verb: verb.into(),
        reason: "test".into(),
        ..Default::default()
    };
    cluster.owner().await.block(request).await.unwrap();
}

async fn unblock(cluster: &Cluster, what: &str) {
    cluster.owner().await.unblock(UnblockRequest { what: what.into(), ..Default::default() }).await.unwrap();
}

fn sorted(values: &[&str]) -> Vec<String> {
    let mut values: Vec<String> = values.iter().map(|value| (*value).to_owned()).collect();
    values.sort_unstable();
    values
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bouncer_is_told_what_is_in_force_and_nobody_else_is_told_anything() {
    let cluster = Cluster::start().await;
    let door = cluster.running.bouncers.unwrap();
    let key = key(&cluster, "web-1").await;
    block(&cluster, "203.0.113.7", Verb::Block).await;
    block(&cluster, "198.51.100.0/24", Verb::Block).await;
    block(&cluster, "2001:db8:7::/64", Verb::Block).await;
    block(&cluster, "203.0.113.8", Verb::Throttle).await;

    let (status, body) = get(door, "/v1/decisions?ip=203.0.113.7", &key).await;
    let told: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((status, told.as_array().unwrap().len()), (200, 1));
    let one = &told[0];
    for (field, value) in [("origin", "cscli"), ("scope", "Ip"), ("type", "ban"), ("value", "203.0.113.7")] {
        assert_eq!(one[field], value, "{one}");
    }
    assert_eq!(one["scenario"], "netguard/admin: test");
    let duration = one["duration"].as_str().unwrap();
    assert!(duration.starts_with("3h59m5") && duration.ends_with('s'), "{duration}");
    assert!(one["id"].as_u64().unwrap() < 1 << 53);

    let count = async |query: &str| -> usize {
        let (status, body) = get(door, &format!("/v1/decisions?{query}"), &key).await;
        assert_eq!(status, 200, "{query}: {body}");
        match serde_json::from_str(&body).unwrap() {
            Value::Null => 0,
            Value::Array(all) => all.len(),
            other => panic!("{other}"),
        }
    };
    for (query, expected) in [
        ("", 3),
        ("ip=198.51.100.77", 1),
        ("ip=192.0.2.1", 0),
        ("range=198.51.100.0/25", 1),
        ("range=198.51.0.0/16", 0),
        ("range=198.51.0.0/16&contains=false", 1),
        ("scope=range", 2),
        ("scopes=ip", 1),
        ("value=198.51.100.0/24", 1),
        ("type=throttle", 1),
        ("type=captcha", 0),
        ("ip=203.0.113.8", 0),
        ("origins=crowdsec", 0),
        ("origins=cscli,lists", 3),
        ("scenarios_containing=ADMIN,none", 3),
        ("limit=2&offset=2", 1),
        ("ip=198.51.100.0/24", 1),
        ("dedup=false&simulated=true", 3),
        ("scenarios_not_containing=admin", 0),
        ("limit=1", 1),
        ("limit=9223372036854775808", 3),
    ] {
        assert_eq!(count(query).await, expected, "{query}");
    }
    assert_eq!(get(door, "/v1/decisions?ip=192.0.2.1", &key).await.1, "null");

    let (status, body) = get(door, "/v1/decisions", &"0".repeat(64)).await;
    assert_eq!((status, body.as_str()), (403, "{\"message\":\"access forbidden\"}"));
    assert_eq!(get(door, "/v1/decisions/stream?startup=true", "").await.0, 403);
    let listed =
        cluster.owner().await.list_bouncers(ListBouncersRequest {}).await.unwrap().into_inner().bouncers;
    assert_eq!((listed.len(), listed[0].name.as_str(), listed[0].version.as_str()), (1, "web-1", "test/1"));
    assert!(listed[0].last_seen > 0 && listed[0].address == "127.0.0.1");

    let delete = RemoveBouncerRequest { name: "web-1".into() };
    cluster.owner().await.remove_bouncer(delete.clone()).await.unwrap();
    assert_eq!(get(door, "/v1/decisions", &key).await.0, 403, "its key is worth nothing");
    assert_eq!(cluster.owner().await.remove_bouncer(delete).await.unwrap_err().code(), Code::NotFound);
    let operator = cluster.issue_admin(Role::AdminOperator, "carol");
    let add = AddBouncerRequest { name: "x".into() };
    assert_eq!(
        cluster.admin(&operator).await.add_bouncer(add).await.unwrap_err().code(),
        Code::PermissionDenied
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_removal_is_missed_whoever_asks_when() {
    let cluster = Cluster::start().await;
    let door = cluster.running.bouncers.unwrap();
    let key = key(&cluster, "web-1").await;
    for source in ["203.0.113.1", "203.0.113.2", "203.0.113.3"] {
        block(&cluster, source, Verb::Block).await;
    }
    assert_eq!(
        stream(door, true, &key).await,
        (sorted(&["203.0.113.1", "203.0.113.2", "203.0.113.3"]), vec![])
    );
    assert_eq!(stream(door, false, &key).await, (vec![], vec![]));
    unblock(&cluster, "203.0.113.1").await;
    block(&cluster, "203.0.113.4", Verb::Block).await;
    let changed = (sorted(&["203.0.113.4"]), sorted(&["203.0.113.1"]));
    assert_eq!(stream(door, false, &key).await, changed);
    assert_eq!(stream(door, false, &key).await, changed, "told once more: the answer may have been lost");
    assert_eq!(stream(door, false, &key).await, (vec![], vec![]));
    // A head is not an answer.
    let head = format!(
        "HEAD /v1/decisions/stream HTTP/1.1\r\nHost: x\r\nX-Api-Key: {key}\r\nConnection: close\r\n\r\n"
    );
    unblock(&cluster, "203.0.113.2").await;
    assert_eq!(raw(door, head.as_bytes()).await, (200, String::new()));

    // A coordinator that does not know how far the bouncer has come tells what is in force and all that ended.
    let cluster = cluster.restart().await;
    let door = cluster.running.bouncers.unwrap();
    let everything = (sorted(&["203.0.113.3", "203.0.113.4"]), sorted(&["203.0.113.1", "203.0.113.2"]));
    assert_eq!(stream(door, false, &key).await, everything);
    assert_eq!(stream(door, false, &key).await, everything);
    block(&cluster, "203.0.113.1", Verb::Block).await;
    assert_eq!(
        stream(door, false, &key).await,
        (sorted(&["203.0.113.1"]), vec![]),
        "blocked again is not gone"
    );
    let allow = AllowlistEntry { prefix: "203.0.113.3".into(), ..Default::default() };
    cluster.owner().await.add_allowlist(allow).await.unwrap();
    assert_eq!(stream(door, false, &key).await.1, ["203.0.113.3"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_is_not_a_plain_question_is_refused_at_once() {
    let cluster = Cluster::start().await;
    let door = cluster.running.bouncers.unwrap();
    let key = key(&cluster, "web-1").await;
    let own = format!("X-Api-Key: {key}\r\n");
    let with =
        |line: &str, headers: &str| format!("{line}\r\nHost: x\r\n{own}{headers}Connection: close\r\n\r\n");
    let endless = format!(
        "{}FFFFFFF\r\n{}",
        with("POST /v1/usage-metrics HTTP/1.1", "Transfer-Encoding: chunked\r\n"),
        "x".repeat(2 << 20)
    );
    let cases = [
        (400, with("GET http://evil/v1/decisions HTTP/1.1", "")),
        (400, with("GET /v1/decisions HTTP/1.1", "Host: evil\r\n")),
        (400, format!("GET /v1/decisions HTTP/1.1\r\n{own}\r\n")),
        (400, with("GET /v1/decisions HTTP/1.1", &own)),
        (400, with("GET /v1/decisions?ip=010.0.0.1 HTTP/1.1", "")),
        (400, with("GET /v1/decisions?limit=-1 HTTP/1.1", "")),
        (400, with("GET /v1/decisions?ip=%zz HTTP/1.1", "")),
        (400, with("GET /v1/decisions?id_gt=1 HTTP/1.1", "")),
        (400, with("G\u{1}T /v1/decisions HTTP/1.1", "")),
        (403, with("POST /v1/watchers/login HTTP/1.1", "Content-Length: 0\r\n")),
        (403, with("POST /v1/alerts HTTP/1.1", "Content-Length: 0\r\n")),
        (404, with("GET /v1/%2e%2e/v1/decisions HTTP/1.1", "")),
        (404, with("GET /v1/decisions/ HTTP/1.1", "")),
        (405, with("DELETE /v1/decisions HTTP/1.1", "")),
        (405, with("POST /v1/decisions HTTP/1.1", "X-HTTP-Method-Override: GET\r\nContent-Length: 0\r\n")),
        (413, with("GET /v1/decisions HTTP/1.1", "Content-Length: 1073741824\r\n")),
        (413, with("POST /v1/usage-metrics HTTP/1.1", "Content-Length: 1073741824\r\n")),
        (413, endless),
        (431, with("GET /v1/decisions HTTP/1.1", &format!("X-Y: {}\r\n", "y".repeat(64 << 10)))),
        (201, format!("{}{{}}", with("POST /v1/usage-metrics HTTP/1.1", "Content-Length: 2\r\n"))),
        (200, with("GET /health HTTP/1.1", "")),
    ];
    for (expected, request) in cases {
        let (status, body) = raw(door, request.as_bytes()).await;
        assert_eq!(status, expected, "{}: {body}", request.lines().next().unwrap());
        assert!(body.len() < 200 && !body.contains("panick") && !body.contains(".rs"), "{body}");
    }
    assert_eq!(get(door, "/v1/decisions", &key).await.0, 200, "and the door stands open");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_is_imported_entry_by_entry() {
    let cluster = Cluster::start().await;
    let entry =
        |prefix: &str, ttl_seconds| ImportEntry { prefix: prefix.into(), ttl_seconds, ..Default::default() };
    let mut entries: Vec<ImportEntry> = [
        "203.0.113.7",
        "010.0.0.1",
        "127.0.0.1",
        "0.0.0.0/0",
        "::/0",
        "224.0.0.1",
        "::ffff:127.0.0.2",
        "64:ff9b::7f00:1",
        "1.2.3.4/33",
        "fe80::1%eth0",
        "198.51.100.1/24",
        "=cmd()",
        "1.2.3",
        "0x7f.1",
        "::ffff:0.0.0.0/96",
        "203.0.113.7\0",
    ]
    .map(|prefix| entry(prefix, 0))
    .to_vec();
    entries.extend([entry("203.0.113.8", u64::MAX), entry("203.0.113.9", 100 * 365 * 24 * 3600)]);
    entries.extend(
        (0..2_500_u32).map(|n| entry(&std::net::Ipv4Addr::from_bits(0xc612_0000 + n).to_string(), 60)),
    );
    let total = entries.len();
    let request = ImportRequest {
        entries,
        reason: "a list".into(),
        kind: "brute_force".into(),
        request_id: vec![3; 16],
        ..Default::default()
    };
    let operator = cluster.issue_admin(Role::AdminOperator, "carol");
    let mut client = cluster.admin(&operator).await;

    let trial = client.import(ImportRequest { dry_run: true, ..request.clone() }).await.unwrap().into_inner();
    let door = cluster.running.bouncers.unwrap();
    let key = key(&cluster, "web-1").await;
    assert_eq!(get(door, "/v1/decisions", &key).await.1, "null", "a dry run changes nothing");
    let done = client.import(request.clone()).await.unwrap().into_inner();
    assert_eq!((done.made, done.refused.len(), done.unchanged), (2_501, total - 2_501, 0));
    assert_eq!((trial.made, &trial.refused), (done.made, &done.refused), "the trial foretold it");
    let places: Vec<u32> = done.refused.iter().map(|refused| refused.place).collect();
    assert_eq!(places, (1..18).collect::<Vec<_>>());
    assert_eq!(
        client.import(request.clone()).await.unwrap().into_inner().made,
        2_501,
        "answered as it was then"
    );
    let again = client
        .import(ImportRequest { request_id: vec![4; 16], ..request.clone() })
        .await
        .unwrap()
        .into_inner();
    assert_eq!(again.made, 0);

    let told: Value = serde_json::from_str(&get(door, "/v1/decisions?ip=203.0.113.7", &key).await.1).unwrap();
    assert_eq!(
        (&told[0]["origin"], &told[0]["scenario"]),
        (&"cscli-import".into(), &"netguard/brute_force".into())
    );
    let (new, _) = stream(door, true, &key).await;
    assert_eq!(new.len(), 2_501);
    let audit = cluster
        .owner()
        .await
        .list_audit(ListAuditRequest { after: 0, limit: 1000 })
        .await
        .unwrap()
        .into_inner();
    let imports: Vec<_> = audit.entries.iter().filter(|entry| entry.action == "import").collect();
    assert_eq!(imports.len(), 6, "three parts, twice");
    let viewer = cluster.issue_admin(Role::AdminViewer, "bob");
    assert_eq!(
        cluster.admin(&viewer).await.import(request.clone()).await.unwrap_err().code(),
        Code::PermissionDenied
    );
    let too_many = ImportRequest { entries: vec![entry("203.0.113.7", 1); 10_001], ..request };
    assert_eq!(client.import(too_many).await.unwrap_err().code(), Code::InvalidArgument);
}
