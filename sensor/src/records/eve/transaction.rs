//! What was said in flows, as Suricata's `http`, `dns`, `tls`, `ssh`, `dhcp`, `arp` and `anomaly` events; logins as ours.

use super::Head;
use crate::records::{Context, time::eve_time};
use netguard_core::application::{Arp, Dhcp, Dns, Fields, Http, Ssh, Text, Tls, Transaction};
use serde_json::{Map, Value, json};

/// The event of a transaction.
#[must_use]
pub fn transaction_event(transaction: &Transaction, context: &Context<'_>) -> Value {
    let (event_type, app_proto, fields) = match &transaction.fields {
        Fields::Http(http) => ("http", Some("http"), http_fields(http)),
        Fields::Dns(dns) => ("dns", Some(dns.service.name()), dns_fields(dns)),
        Fields::Tls(tls) => ("tls", Some("tls"), tls_fields(tls)),
        Fields::Ssh(ssh) => ("ssh", Some("ssh"), ssh_fields(ssh)),
        Fields::Login(login) => {
            let fields = json!({ "service": login.service.name(), "user": login.user.to_text(), "success": login.success });
            (
                "login",
                Some(super::app_proto(login.service.name())),
                json!({ "netguard": { "login": fields } }),
            )
        }
        Fields::Dhcp(dhcp) => ("dhcp", Some("dhcp"), dhcp_fields(dhcp)),
        Fields::Arp(arp) => ("arp", None, arp_fields(arp)),
        Fields::Anomaly(anomaly) => {
            ("anomaly", None, json!({ "anomaly": { "type": "applayer", "event": anomaly.name() } }))
        }
    };
    let mut event = match &transaction.flow {
        Some((flow, tuple)) => {
            let flow_id = context.identifiers.flow_id(*flow);
            let head = Head::of(transaction.at, event_type, tuple, Some(flow_id), context);
            serde_json::to_value(head).unwrap_or_default()
        }
        None => {
            let mut head = json!({ "timestamp": eve_time(transaction.at), "event_type": event_type });
            insert(&mut head, "in_iface", Some(context.interface).filter(|name| !name.is_empty()));
            head
        }
    };
    insert(&mut event, "app_proto", app_proto);
    if let (Some(event), Value::Object(fields)) = (event.as_object_mut(), fields) {
        event.extend(fields);
    }
    event
}

/// Puts in what is known.
fn insert(object: &mut Value, name: &str, value: Option<impl Into<Value>>) {
    if let (Some(object), Some(value)) = (object.as_object_mut(), value) {
        object.insert(name.to_owned(), value.into());
    }
}

/// A text that is there.
fn text(text: &Text) -> Option<String> {
    (!text.is_empty()).then(|| text.to_text())
}

/// The same of a part of one.
fn shown(bytes: &[u8]) -> Option<String> {
    text(&Text::new(bytes, usize::MAX))
}

fn names(names: impl Iterator<Item = &'static str>) -> Option<Vec<&'static str>> {
    let names: Vec<_> = names.collect();
    (!names.is_empty()).then_some(names)
}

fn http_fields(http: &Http) -> Value {
    let mut fields = json!({});
    let (host, port) = host_and_port(http.host.bytes());
    insert(&mut fields, "hostname", shown(host));
    insert(&mut fields, "http_port", port);
    insert(&mut fields, "url", text(&http.target));
    insert(&mut fields, "http_user_agent", text(&http.user_agent));
    // Without its parameters, as Suricata has it.
    let media_type =
        http.response_content_type.bytes().split(|byte| *byte == b';').next().unwrap_or_default();
    insert(&mut fields, "http_content_type", shown(media_type.trim_ascii_end()));
    insert(&mut fields, "http_method", text(&http.method));
    insert(&mut fields, "protocol", Some(format!("HTTP/{}.{}", http.version.0, http.version.1)));
    insert(&mut fields, "status", http.status);
    insert(&mut fields, "length", http.response_length);
    let mut event = json!({ "http": fields, "tx_id": http.ordinal.saturating_sub(1) });
    let mut own = json!({});
    insert(&mut own, "flags", names(http.flags.names()));
    insert(&mut own, "request_length", http.request_length);
    insert(&mut own, "url_length", http.target.is_cut().then(|| http.target.whole_length()));
    insert(&mut event, "netguard", own.as_object().filter(|own| !own.is_empty()).cloned());
    event
}

/// A Host header in two (RFC 9110 section 7.2). What is behind the last colon of anything else than `HOST:PORT` or
/// `[ADDRESS]:PORT` stays with the host: nothing that was sent is to be lost.
fn host_and_port(host: &[u8]) -> (&[u8], Option<u16>) {
    let Some(colon) = host.iter().rposition(|byte| *byte == b':') else { return (host, None) };
    let (name, port) = host.split_at_checked(colon).unwrap_or_default();
    let digits = port.get(1..).filter(|port| port.iter().all(u8::is_ascii_digit)).unwrap_or_default();
    let port = std::str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok());
    let is_name = !name.contains(&b':') || name.starts_with(b"[") && name.ends_with(b"]");
    if port.is_some() && is_name { (name, port) } else { (host, None) }
}

fn dns_fields(dns: &Dns) -> Value {
    let mut fields = json!({ "type": if dns.is_response { "answer" } else { "query" }, "id": dns.id });
    if let Some(question) = &dns.question {
        insert(&mut fields, "rrname", Some(question.name.text.to_text()));
        insert(&mut fields, "rrtype", Some(record_type(question.kind)));
    }
    insert(&mut fields, "opcode", Some(dns.opcode));
    if dns.is_response {
        // Suricata 7 tells the format's version of answers alone: it is these that had another.
        insert(&mut fields, "version", Some(2));
        let set = [
            (dns.authoritative, "aa"),
            (dns.truncated, "tc"),
            (dns.recursion_desired, "rd"),
            (dns.recursion_available, "ra"),
        ];
        for (_, name) in set.iter().filter(|(is_set, _)| *is_set) {
            insert(&mut fields, name, Some(true));
        }
        insert(&mut fields, "rcode", Some(response_code(dns.rcode)));
        let answers = dns.answer_list.iter().map(|answer| {
            let mut shown = json!({ "rrtype": record_type(answer.kind), "ttl": answer.ttl });
            insert(&mut shown, "rdata", answer.address.map(|address| address.to_string()));
            shown
        });
        let answers: Vec<_> = answers.collect();
        insert(&mut fields, "answers", (!answers.is_empty()).then_some(answers));
    }
    let mut own = json!({ "size": dns.size, "answers": dns.answers, "answer_bytes": dns.answer_bytes });
    if let Some(question) = &dns.question {
        insert(&mut own, "name_length", Some(question.name.text.whole_length()));
        insert(&mut own, "entropy_millibits", Some(question.name.entropy_millibits));
    }
    json!({ "dns": fields, "netguard": own })
}

/// IANA's name, as Suricata writes it; `TYPE123` for others (RFC 3597).
fn record_type(kind: u16) -> String {
    let name = match kind {
        1 => "A",
        2 => "NS",
        5 => "CNAME",
        6 => "SOA",
        10 => "NULL",
        12 => "PTR",
        15 => "MX",
        16 => "TXT",
        28 => "AAAA",
        33 => "SRV",
        35 => "NAPTR",
        41 => "OPT",
        43 => "DS",
        46 => "RRSIG",
        47 => "NSEC",
        48 => "DNSKEY",
        64 => "SVCB",
        65 => "HTTPS",
        252 => "AXFR",
        255 => "ANY",
        257 => "CAA",
        other => return format!("TYPE{other}"),
    };
    name.to_owned()
}

fn response_code(code: u16) -> String {
    let name = match code {
        0 => "NOERROR",
        1 => "FORMERR",
        2 => "SERVFAIL",
        3 => "NXDOMAIN",
        4 => "NOTIMP",
        5 => "REFUSED",
        6 => "YXDOMAIN",
        7 => "YXRRSET",
        8 => "NXRRSET",
        9 => "NOTAUTH",
        10 => "NOTZONE",
        other => return other.to_string(),
    };
    name.to_owned()
}

fn tls_fields(tls: &Tls) -> Value {
    let mut fields = json!({});
    insert(&mut fields, "sni", text(&tls.server_name));
    insert(&mut fields, "version", tls.version.or(tls.offered_version).map(tls_version));
    insert(&mut fields, "ja4", tls.ja4.as_ref().map(|ja4| ja4.as_str().to_owned()));
    let mut own = json!({});
    insert(&mut own, "alpn", text(&tls.alpn));
    insert(&mut own, "server_alpn", text(&tls.server_alpn));
    insert(&mut own, "cipher", tls.cipher.map(|cipher| format!("{cipher:04x}")));
    insert(&mut own, "alert", tls.alert);
    insert(&mut own, "name_flags", names(tls.name_flags.names()));
    insert(&mut own, "encrypted_hello", tls.encrypted_hello.then_some(true));
    let mut event = json!({ "tls": fields });
    insert(&mut event, "netguard", own.as_object().filter(|own| !own.is_empty()).cloned());
    event
}

/// As Suricata writes it.
fn tls_version(version: u16) -> String {
    match version {
        0x0300 => "SSLv3".to_owned(),
        0x0301 => "TLSv1".to_owned(),
        0x0302 => "TLS 1.1".to_owned(),
        0x0303 => "TLS 1.2".to_owned(),
        0x0304 => "TLS 1.3".to_owned(),
        other => format!("{other:#06x}"),
    }
}

fn ssh_fields(ssh: &Ssh) -> Value {
    let side = |banner: &Text| {
        (!banner.is_empty()).then(|| {
            let version = banner.bytes().strip_prefix(b"SSH-").unwrap_or_default();
            let version = version.split(|byte| *byte == b'-').next().unwrap_or_default();
            let part = |bytes| Text::new(bytes, usize::MAX).to_text();
            json!({ "proto_version": part(version), "software_version": part(Ssh::software(banner)) })
        })
    };
    let mut fields = json!({});
    insert(&mut fields, "client", side(&ssh.client));
    insert(&mut fields, "server", side(&ssh.server));
    json!({ "ssh": fields, "netguard": { "key_exchange": ssh.key_exchange } })
}

fn hardware(address: [u8; 6]) -> String {
    address.map(|byte| format!("{byte:02x}")).join(":")
}

fn dhcp_fields(dhcp: &Dhcp) -> Value {
    let mut fields = json!({
        "type": if dhcp.is_reply { "reply" } else { "request" },
        "id": dhcp.transaction,
        "client_mac": hardware(dhcp.client),
        "dhcp_type": dhcp.kind_name(),
    });
    let text_of = |address: Option<std::net::Ipv4Addr>| address.map(|address| address.to_string());
    insert(&mut fields, "client_ip", text_of(dhcp.client_address));
    insert(&mut fields, "assigned_ip", text_of(dhcp.assigned));
    insert(&mut fields, "requested_ip", text_of(dhcp.requested));
    insert(&mut fields, "next_server_ip", text_of(dhcp.next_server));
    insert(&mut fields, "relay_ip", text_of(dhcp.relay));
    insert(&mut fields, "routers", dhcp.router.map(|address| vec![address.to_string()]));
    insert(&mut fields, "dns_servers", dhcp.resolver.map(|address| vec![address.to_string()]));
    insert(&mut fields, "lease_time", dhcp.lease_seconds);
    insert(&mut fields, "hostname", text(&dhcp.host_name));
    insert(&mut fields, "vendor_class_identifier", text(&dhcp.vendor_class));
    let mut event = json!({ "dhcp": fields });
    let server = text_of(dhcp.server).map(|server| json!({ "server": server }));
    insert(&mut event, "netguard", server);
    event
}

fn arp_fields(arp: &Arp) -> Value {
    let mut own = Map::new();
    own.insert("gratuitous".to_owned(), arp.gratuitous.into());
    if let Some(before) = arp.changed_from {
        own.insert("changed_from".to_owned(), hardware(before).into());
    }
    json!({
        "arp": {
            "opcode": if arp.is_reply { "reply" } else { "request" },
            "src_mac": hardware(arp.hardware),
            "src_ip": arp.address,
            "dest_ip": arp.target,
        },
        "netguard": own,
    })
}
