//! Text that somebody else wrote: what is no text is no message, what is a name is a name, and what is shown to people is
//! shown as it is written, not as it would be obeyed.

#![allow(clippy::unwrap_used, reason = "a panic is the report")]

use netguard_proto::{
    convert::{ConvertError, Hello},
    v1,
};
use prost::Message as _;

fn hello(sensor_id: &str) -> v1::SensorHello {
    v1::SensorHello {
        sensor_id: sensor_id.into(),
        epoch: 1,
        version: "0.1.0".into(),
        ..v1::SensorHello::default()
    }
}

#[test]
fn what_is_no_utf8_is_no_message() {
    let mut bytes = hello("web-1").encode_to_vec();
    let at = bytes.windows(5).position(|window| window == b"web-1").unwrap();
    for bad in [0x80, 0xc0, 0xed, 0xf5, 0xff] {
        bytes[at] = bad;
        assert!(v1::SensorHello::decode(bytes.as_slice()).is_err(), "{bad:#x}");
    }
}

#[test]
fn a_name_is_a_name_and_nothing_else() {
    assert!(Hello::try_from(hello("web-1")).is_ok());
    let megabyte = "a".repeat(1 << 20);
    for bad in [
        megabyte.as_str(),
        "../../etc/passwd",
        "=cmd()",
        "@SUM(1)",
        "<script>alert(1)</script>",
        "web\u{202e}1",
        "web\u{1b}[31m",
        "web\0-1",
        "web 1",
        "wеb",
    ] {
        let refused = Hello::try_from(hello(bad)).unwrap_err();
        let shown = bad.chars().take(20).collect::<String>();
        assert_eq!(refused, ConvertError::Name { field: "hello.sensor_id" }, "{shown:?}");
        assert!(refused.to_string().len() < 200, "the refusal repeats what was refused");
    }
}
