//! What is said in single packets: DNS, DHCP, ARP.

use crate::capture::{CLIENT, Capture};
use netguard_sensor::records::RecordType;
use serde_json::json;

#[test]
fn dns_is_each_message_with_what_it_asks_or_answers() {
    let question = b"\x03www\x07example\x03com\0\0\x01\0\x01";
    let query = [&b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0"[..], question].concat();
    let answer = [
        &b"\x12\x34\x85\x80\0\x01\0\x02\0\0\0\0"[..],
        question,
        // www.example.com is an alias of web.example.com, which has an address.
        b"\xc0\x0c\0\x05\0\x01\0\0\x01\x2c\0\x06\x03web\xc0\x10",
        b"\xc0\x2d\0\x01\0\x01\0\0\0\x3c\0\x04\xcb\0\x71\x07",
    ]
    .concat();
    let (client, server) = ((CLIENT, 40_001), ([198, 51, 100, 53], 53));
    let capture = Capture::default().datagram(client, server, &query).datagram(server, client, &answer);
    assert_eq!(
        capture.of_one_flow(RecordType::Dns),
        [
            json!({
                "timestamp": "2023-11-14T22:13:20.000000+0000",
                "event_type": "dns",
                "src_ip": "192.0.2.9", "src_port": 40_001,
                "dest_ip": "198.51.100.53", "dest_port": 53,
                "proto": "UDP",
                "community_id": "1:D0jCddOW6g1+t5f7GdCqh5WU0yA=",
                "app_proto": "dns",
                "dns": {
                    "type": "query", "id": 0x1234, "opcode": 0,
                    "rrname": "www.example.com", "rrtype": "A",
                },
                "netguard": {
                    "size": 33, "answers": 0, "answer_bytes": 0,
                    "name_length": 15, "entropy_millibits": 3_190,
                },
            }),
            json!({
                "timestamp": "2023-11-14T22:13:20.001000+0000",
                "event_type": "dns",
                "src_ip": "192.0.2.9", "src_port": 40_001,
                "dest_ip": "198.51.100.53", "dest_port": 53,
                "proto": "UDP",
                "community_id": "1:D0jCddOW6g1+t5f7GdCqh5WU0yA=",
                "app_proto": "dns",
                "dns": {
                    "version": 2, "type": "answer", "id": 0x1234, "opcode": 0,
                    "aa": true, "rd": true, "ra": true, "rcode": "NOERROR",
                    "rrname": "www.example.com", "rrtype": "A",
                    "answers": [
                        { "rrtype": "CNAME", "ttl": 300 },
                        { "rrtype": "A", "ttl": 60, "rdata": "203.0.113.7" },
                    ],
                },
                "netguard": {
                    "size": 67, "answers": 2, "answer_bytes": 10,
                    "name_length": 15, "entropy_millibits": 3_190,
                },
            }),
        ]
    );
}

/// A message of DHCP: the addresses of client, assigned, next server and relay, then options.
fn dhcp(operation: u8, addresses: [[u8; 4]; 4], options: &[&[u8]]) -> Vec<u8> {
    let mut message = vec![operation, 1, 6, 0, 0x39, 0x03, 0xf3, 0x26, 0, 0, 0, 0];
    message.extend(addresses.concat());
    message.extend([0x02, 0x42, 0xac, 0x11, 0x00, 0x02]);
    message.resize(236, 0);
    message.extend([99, 130, 83, 99]);
    message.extend(options.concat());
    message.push(255);
    message
}

#[test]
fn dhcp_is_each_message_with_what_it_asks_or_gives() {
    let none = [0; 4];
    // A client renews: it has an address to speak from. One that has none yet (0.0.0.0) is a martian and not recorded.
    let request = dhcp(
        1,
        [[10, 0, 0, 50], none, none, none],
        &[&[53, 1, 3], &[50, 4, 10, 0, 0, 50], &[54, 4, 10, 0, 0, 1], b"\x0c\x06laptop", b"\x3c\x08MSFT 5.0"],
    );
    let acknowledgement = dhcp(
        2,
        [none, [10, 0, 0, 50], [10, 0, 0, 2], [10, 0, 0, 254]],
        &[
            &[53, 1, 5],
            &[54, 4, 10, 0, 0, 1],
            &[51, 4, 0, 0, 0x0e, 0x10],
            &[3, 8, 10, 0, 0, 1, 10, 0, 0, 3],
            &[6, 4, 10, 0, 0, 53],
        ],
    );
    let (client, server) = (([10, 0, 0, 50], 68), ([10, 0, 0, 1], 67));
    let capture =
        Capture::default().datagram(client, server, &request).datagram(server, client, &acknowledgement);
    assert_eq!(
        capture.of_one_flow(RecordType::Dhcp),
        [
            json!({
                "timestamp": "2023-11-14T22:13:20.000000+0000",
                "event_type": "dhcp",
                "src_ip": "10.0.0.50", "src_port": 68,
                "dest_ip": "10.0.0.1", "dest_port": 67,
                "proto": "UDP",
                "community_id": "1:HENDvy5pDX8EYtQN1B3zXiXncfg=",
                "app_proto": "dhcp",
                "dhcp": {
                    "type": "request", "id": 0x3903_f326_u32, "client_mac": "02:42:ac:11:00:02",
                    "dhcp_type": "request", "client_ip": "10.0.0.50", "requested_ip": "10.0.0.50",
                    "hostname": "laptop", "vendor_class_identifier": "MSFT 5.0",
                },
                "netguard": { "server": "10.0.0.1" },
            }),
            json!({
                "timestamp": "2023-11-14T22:13:20.001000+0000",
                "event_type": "dhcp",
                "src_ip": "10.0.0.50", "src_port": 68,
                "dest_ip": "10.0.0.1", "dest_port": 67,
                "proto": "UDP",
                "community_id": "1:HENDvy5pDX8EYtQN1B3zXiXncfg=",
                "app_proto": "dhcp",
                "dhcp": {
                    "type": "reply", "id": 0x3903_f326_u32, "client_mac": "02:42:ac:11:00:02",
                    "dhcp_type": "ack", "assigned_ip": "10.0.0.50", "next_server_ip": "10.0.0.2",
                    "relay_ip": "10.0.0.254", "lease_time": 3_600,
                    "routers": ["10.0.0.1"], "dns_servers": ["10.0.0.53"],
                },
                "netguard": { "server": "10.0.0.1" },
            }),
        ]
    );
}

#[test]
fn arp_is_a_claim_and_has_no_flow() {
    let mut capture = Capture::default();
    let claim = |operation: u8, hardware: u8, target: u8| {
        let frame = [
            &[0xff; 6][..],
            &[2, 0, 0, 0, 0, hardware],
            &[8, 6, 0, 1, 8, 0, 6, 4, 0, operation],
            &[2, 0, 0, 0, 0, hardware, 10, 0, 0, 1],
            &[0, 0, 0, 0, 0, 0, 10, 0, 0, target],
        ];
        frame.concat()
    };
    // Asks for 10.0.0.9, then another claims the same address to everybody.
    capture.frames.extend([claim(1, 0xaa, 9), claim(2, 0xbb, 1)]);
    assert_eq!(
        capture.events(&[RecordType::Arp, RecordType::Flow]),
        [
            json!({
                "timestamp": "2023-11-14T22:13:20.000000+0000",
                "event_type": "arp",
                "arp": {
                    "opcode": "request", "src_mac": "02:00:00:00:00:aa",
                    "src_ip": "10.0.0.1", "dest_ip": "10.0.0.9",
                },
                "netguard": { "gratuitous": false },
            }),
            json!({
                "timestamp": "2023-11-14T22:13:20.001000+0000",
                "event_type": "arp",
                "arp": {
                    "opcode": "reply", "src_mac": "02:00:00:00:00:bb",
                    "src_ip": "10.0.0.1", "dest_ip": "10.0.0.1",
                },
                "netguard": { "gratuitous": true, "changed_from": "02:00:00:00:00:aa" },
            }),
        ]
    );
}
