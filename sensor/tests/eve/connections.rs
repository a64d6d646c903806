//! What is said over TCP: HTTP, TLS, SSH.

use crate::capture::Capture;
use netguard_sensor::records::RecordType;
use serde_json::{Value, json};

#[test]
fn http_is_a_request_with_its_answer() {
    let request =
        b"POST /login?next=%2F HTTP/1.1\r\nHost: www.example.com:8080\r\nUser-Agent: curl/8.5.0\r\n\
        Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 9\r\n\r\nuser=anna";
    let answer =
        b"HTTP/1.1 302 Found\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: 5\r\n\r\nmoved";
    let capture = Capture::default().connection(40_000, 8_080, &[(true, request), (false, answer)]);
    assert_eq!(
        capture.event(RecordType::Http),
        json!({
            "timestamp": "2023-11-14T22:13:20.004000+0000",
            "event_type": "http",
            "src_ip": "192.0.2.9", "src_port": 40_000,
            "dest_ip": "198.51.100.5", "dest_port": 8_080,
            "proto": "TCP",
            "community_id": "1:3ADS92HNZ58GAZfpyy0S61e/8JU=",
            "app_proto": "http",
            "tx_id": 0,
            "http": {
                "hostname": "www.example.com",
                "http_port": 8_080,
                "url": "/login?next=%2F",
                "http_user_agent": "curl/8.5.0",
                "http_content_type": "text/html",
                "http_method": "POST",
                "protocol": "HTTP/1.1",
                "status": 302,
                "length": 5,
            },
            "netguard": { "request_length": 9 },
        })
    );
}

#[test]
fn a_host_with_a_port_is_two_fields_and_anything_else_one() {
    for (host, hostname, port) in [
        ("a.example", "a.example", Value::Null),
        ("a.example:443", "a.example", json!(443)),
        ("[2001:db8::1]:80", "[2001:db8::1]", json!(80)),
        ("[2001:db8::1]", "[2001:db8::1]", Value::Null),
        ("2001:db8::1", "2001:db8::1", Value::Null),
        ("a.example:", "a.example:", Value::Null),
        ("a.example:+80", "a.example:+80", Value::Null),
        ("a.example:65536", "a.example:65536", Value::Null),
    ] {
        let request = format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n");
        let capture = Capture::default().connection(40_000, 80, &[(true, request.as_bytes())]);
        let event = capture.event(RecordType::Http);
        assert_eq!((&event["http"]["hostname"], &event["http"]["http_port"]), (&json!(hostname), &port));
    }
}

/// Bytes behind their length, which takes so many bytes.
fn vector(length_bytes: usize, parts: &[&[u8]]) -> Vec<u8> {
    let body = parts.concat();
    [&(body.len() as u32).to_be_bytes()[4 - length_bytes..], &body].concat()
}

fn extension(kind: u16, body: &[u8]) -> Vec<u8> {
    [&kind.to_be_bytes()[..], &vector(2, &[body])].concat()
}

/// A record with one handshake message.
fn handshake(kind: u8, body: &[u8]) -> Vec<u8> {
    [&b"\x16\x03\x01"[..], &vector(2, &[&[kind], &vector(3, &[body])])].concat()
}

#[test]
fn tls_is_both_hellos() {
    let name = vector(2, &[&[0], &vector(2, &[b"www.example.com"])]);
    let protocols = vector(2, &[&vector(1, &[b"h2"]), &vector(1, &[b"http/1.1"])]);
    let extensions = [
        extension(0x0000, &name),
        extension(0x0010, &protocols),
        extension(0x002b, &vector(1, &[&[3, 4, 3, 3]])),
        extension(0x000d, &vector(2, &[&[4, 3, 8, 4]])),
    ]
    .concat();
    let random = [7; 32];
    let session = vector(1, &[&[9; 32]]);
    let ciphers = vector(2, &[b"\x13\x01\x13\x02\xc0\x2f"]);
    let client =
        [&b"\x03\x03"[..], &random, &session, &ciphers, b"\x01\0", &vector(2, &[&extensions])].concat();
    let chosen = extension(0x002b, &[3, 4]);
    let server = [&b"\x03\x03"[..], &random, &session, b"\x13\x02", b"\0", &vector(2, &[&chosen])].concat();
    let said = [(true, &handshake(1, &client)[..]), (false, &handshake(2, &server))];
    let capture = Capture::default().connection(40_002, 443, &said);
    assert_eq!(
        capture.event(RecordType::Tls),
        json!({
            "timestamp": "2023-11-14T22:13:20.004000+0000",
            "event_type": "tls",
            "src_ip": "192.0.2.9", "src_port": 40_002,
            "dest_ip": "198.51.100.5", "dest_port": 443,
            "proto": "TCP",
            "community_id": "1:k2fga40LhHnLdpXyTjw44KXpU4M=",
            "app_proto": "tls",
            "tls": {
                "sni": "www.example.com",
                "version": "TLS 1.3",
                "ja4": "t13d0304h2_40b44b994229_ef5f37ab036a",
            },
            "netguard": { "alpn": "h2", "cipher": "1302" },
        })
    );
}

#[test]
fn ssh_is_both_banners_on_whatever_port() {
    let offer = [&[0, 0, 4, 0xf4, 8, 20][..], &[7; 600]].concat();
    let said = [
        (false, &b"SSH-2.0-OpenSSH_9.6p1 Debian-4\r\n"[..]),
        (true, b"SSH-2.0-libssh2_1.11.0\r\n"),
        (true, &offer),
        (false, &offer),
    ];
    let capture = Capture::default().connection(40_003, 2_222, &said);
    assert_eq!(
        capture.event(RecordType::Ssh),
        json!({
            "timestamp": "2023-11-14T22:13:20.006000+0000",
            "event_type": "ssh",
            "src_ip": "192.0.2.9", "src_port": 40_003,
            "dest_ip": "198.51.100.5", "dest_port": 2_222,
            "proto": "TCP",
            "community_id": "1:6tFtGXzJCWQr1B6IWcaRHmF9pmc=",
            "app_proto": "ssh",
            "ssh": {
                "client": { "proto_version": "2.0", "software_version": "libssh2_1.11.0" },
                "server": { "proto_version": "2.0", "software_version": "OpenSSH_9.6p1" },
            },
            "netguard": { "key_exchange": true },
        })
    );
}
