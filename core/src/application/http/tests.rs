use super::*;
use crate::application::{
    Service,
    tests::{Conversation, Found, From::*},
};

fn https(found: &Found) -> Vec<Http> {
    let https = found.told.iter().filter_map(|transaction| match &transaction.fields {
        Fields::Http(http) => Some(http.clone()),
        _ => None,
    });
    https.collect()
}

fn summary(found: &Found) -> Vec<String> {
    https(found)
        .iter()
        .map(|http| {
            let status = http.status.map_or("-".to_owned(), |status| status.to_string());
            format!("{} {} {} {status}", http.ordinal, http.method, http.target)
        })
        .collect()
}

/// The flags of a request that is answered.
fn flags(request: &[u8]) -> Vec<&'static str> {
    let found = Conversation::on_port(8080)
        .say(Client, request)
        .say(Server, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        .close();
    assert_eq!(found.service(), "http", "{}", request.escape_ascii());
    https(&found).first().map(|http| http.flags.names().collect()).unwrap_or_default()
}

#[test]
fn a_request_and_its_answer_are_one_transaction() {
    let found = Conversation::on_port(8080)
        .say(
            Client,
            b"POST /login?next=%2F HTTP/1.1\r\nHost: example.org\r\nUser-Agent: curl/8.5.0\r\n\
              Content-Type: application/json\r\ncontent-length: 11\r\n\r\n{\"a\":\"GET\"}",
        )
        .say(Server, b"HTTP/1.1 100 Continue\r\n\r\n")
        .say(
            Server,
            b"HTTP/1.1 401 Unauthorized\r\nContent-Type: text/html\r\nContent-Length: 5\r\n\r\nHTTP/",
        )
        .say(Client, b"GET /a HTTP/1.1\r\nHost: example.org\r\n\r\n")
        .say(Server, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nHTTP/\r\n")
        .say(Server, b"0\r\nTrailer: x\r\n\r\n")
        .say(Client, b"HEAD /b HTTP/1.1\r\nHost: example.org\r\n\r\n")
        .say(Server, b"HTTP/1.1 204 No Content\r\nContent-Length: 77\r\n\r\n")
        .say(Client, b"GET /c HTTP/1.1\r\nHost: example.org\r\n\r\n")
        .close();
    let expected = ["1 POST /login?next=%2F 401", "2 GET /a 200", "3 HEAD /b 204", "4 GET /c -"];
    assert_eq!(summary(&found), expected);
    let first = &https(&found)[0];
    assert_eq!((first.host.bytes(), first.user_agent.bytes()), (&b"example.org"[..], &b"curl/8.5.0"[..]));
    assert_eq!((first.request_length, first.response_length), (Some(11), Some(5)));
    assert_eq!(first.request_content_type.bytes(), b"application/json");
    assert_eq!((first.response_content_type.bytes(), first.version), (&b"text/html"[..], (1, 1)));
    assert_eq!(first.flags, HttpFlags::default());
}

#[test]
fn requests_sent_ahead_keep_their_order() {
    let found = Conversation::on_port(80)
        .say(Client, b"GET /1 HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n")
        .say(
            Server,
            b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n.HTTP/1.1 404 Not Found\r\n\r\nuntil close",
        )
        .close();
    assert_eq!(summary(&found), ["1 GET /1 200", "2 GET /2 404"]);
    assert!(https(&found)[1].flags.has(HttpFlags::PIPELINED));
}

#[test]
fn smuggling_shapes_are_flagged_and_sizes_without_end_are_refused() {
    let head = |lines: &str| format!("POST / HTTP/1.1\r\nHost: a\r\n{lines}\r\n\r\n").into_bytes();
    let shapes: [(Vec<u8>, &[&str]); 16] = [
        (head("X: y"), &[]),
        (head("Content-Length: 6\r\nTransfer-Encoding: chunked"), &["both_lengths"]),
        (head("Content-Length: 0\r\nContent-Length: 0"), &["repeated_length"]),
        (head("Content-Length: 0\r\nContent-Length: 6"), &["conflicting_length"]),
        (head("Content-Length: +6"), &["bad_length"]),
        (head("Content-Length: 99999999999999999999999"), &["bad_length"]),
        (head("Transfer-Encoding: xchunked"), &["obfuscated_transfer_encoding"]),
        (head("Transfer-Encoding: chunked\r\nTransfer-Encoding: x"), &["obfuscated_transfer_encoding"]),
        (head("Transfer_Encoding: chunked"), &["obfuscated_transfer_encoding"]),
        (head("Transfer-Encoding : chunked\r\nX: \x00"), &["space_before_colon", "nul"]),
        (head("X: y\r\n Transfer-Encoding: chunked"), &["obfuscated_transfer_encoding", "line_folding"]),
        (head("X: y\nTransfer-Encoding: gzip, chunked"), &["bare_line_feed"]),
        (head("X: y\rContent-Length: 5"), &["bare_carriage_return"]),
        (head("Host: b\r\nno colon"), &["bad_header", "repeated_host"]),
        (b"GET / HTTP/1.1\r\n\r\n".to_vec(), &["no_host"]),
        (
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n".to_vec(),
            &["chunk_overflow"],
        ),
    ];
    for (request, expected) in shapes {
        assert_eq!(flags(&request), expected, "{}", request.escape_ascii());
    }
    // More digits than a number has.
    let mut endless = head("Transfer-Encoding: chunked");
    endless.extend([b'f'; 40]);
    endless.extend(b"\r\n");
    assert_eq!(flags(&endless), ["chunk_overflow"]);
}

#[test]
fn a_request_line_without_end_costs_a_line_and_no_more() {
    let mut conversation = Conversation::on_port(80).say(Client, b"GET /");
    let mut most = 0;
    for _ in 0..3_000 {
        conversation = conversation.say(Client, &[b'a'; 1_400]);
        most = most.max(conversation.applications.buffered());
    }
    assert!(most <= 16 << 10, "{most}");
    let found = conversation.say(Client, b" HTTP/1.1\r\nHost: a\r\n\r\n").close();
    let [http] = &https(&found)[..] else { panic!("{found:?}") };
    assert!(http.flags.has(HttpFlags::LONG_LINE));
    assert_eq!(http.target.bytes().len(), Http::MAX_TARGET);
    // A head without end.
    let mut conversation = Conversation::on_port(80).say(Client, b"GET / HTTP/1.1\r\n");
    for _ in 0..3_000 {
        conversation = conversation.say(Client, b"X-a: b\r\n");
    }
    assert!(conversation.applications.buffered() < 1_024);
    let found = conversation.close();
    assert!(https(&found)[0].flags.has(HttpFlags::MANY_HEADERS));
}

#[test]
fn a_lost_part_costs_what_was_in_it() {
    // A body cut by the snap length costs nothing; a lost head its own transaction.
    let body = vec![b'x'; 1_400];
    let found = Conversation::on_port(80)
        .say(Client, b"GET /1 HTTP/1.1\r\nHost: a\r\n\r\n")
        .say(Server, b"HTTP/1.1 200 OK\r\nContent-Length: 2800\r\n\r\n")
        .say_cut(Server, &body, 100)
        .miss(Server, 1_400)
        .say(Client, b"GET /2 HTTP/1.1\r\nHost: a\r\n\r\n")
        .say(Server, b"HTTP/1.1 304 Not Modified\r\n\r\n")
        .say_cut(Client, b"GET /3 HTTP/1.1\r\nHost: a\r\nCookie: 1234567890\r\n\r\n", 30)
        .say(Server, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        .say(Client, b"GET /4 HTTP/1.1\r\nHost: a\r\n\r\n")
        .say(Server, b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
        .close();
    assert_eq!(summary(&found), ["1 GET /1 200", "2 GET /2 304", "3 GET /3 200", "4 GET /4 404"]);
    assert!(found.application.gap);
}

#[test]
fn what_becomes_another_protocol_is_left() {
    let found = Conversation::on_port(80).say(Client, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").close();
    assert_eq!((found.application.service, https(&found).len()), (Some(Service::Http2), 0));
    let found = Conversation::on_port(3128)
        .say(Client, b"CONNECT example.org:443 HTTP/1.1\r\nHost: example.org\r\n\r\n")
        .say(Server, b"HTTP/1.1 200 Connection established\r\n\r\n")
        .say(Client, b"GET /not/http HTTP/1.1\r\n\r\n")
        .close();
    assert_eq!(summary(&found), ["1 CONNECT example.org:443 200"]);
    assert!(https(&found)[0].flags.has(HttpFlags::UPGRADED));
}
