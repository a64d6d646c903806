//! Sets as `nft list set` and `nft -j list set` show them.

use super::{List, ListError, document, range, seconds};
use serde::Deserialize;
use std::collections::BTreeMap;

/// The text form: whatever stands between `elements = {` and `}`.
pub(super) fn read(input: &str) -> Result<List, ListError> {
    let mut list = List::default();
    let mut rest = input;
    let mut line = 1;
    while let Some((before, after)) = rest.split_once("elements = {") {
        line += lines(before);
        let (body, next) = after.split_once('}').unwrap_or((after, ""));
        for element in outside_quotes(body) {
            let start = element.len() - element.trim_start().len();
            let number = line + lines(element.get(..start).unwrap_or_default());
            line += lines(element);
            one(&mut list, number, element.trim())?;
        }
        rest = next;
    }
    Ok(list)
}

fn lines(text: &str) -> u32 {
    u32::try_from(text.bytes().filter(|byte| *byte == b'\n').count()).unwrap_or(u32::MAX)
}

/// Cuts at commas that are not part of a comment.
fn outside_quotes(body: &str) -> impl Iterator<Item = &str> {
    let mut quoted = false;
    body.split(move |c: char| {
        quoted ^= c == '"';
        c == ',' && !quoted
    })
}

fn one(list: &mut List, line: u32, element: &str) -> Result<(), ListError> {
    let mut words = element.split_whitespace();
    let Some(first) = words.next() else { return Ok(()) };
    if element.contains(" . ") {
        list.complain(line, "a concatenation is no source to block");
        return Ok(());
    }
    let words: Vec<&str> = words.collect();
    let after = |name: &str| {
        let place = words.iter().position(|word| *word == name)?;
        words.get(place + 1).copied()
    };
    let ttl = after("expires").or_else(|| after("timeout")).and_then(seconds);
    let comment = element.split_once(" comment \"").and_then(|(_, rest)| rest.split('"').next());
    range::add(list, line, first, ttl, comment)
}

#[derive(Deserialize)]
struct Document {
    nftables: Vec<BTreeMap<String, Object>>,
}

#[derive(Deserialize)]
struct Object {
    #[serde(default)]
    elem: Vec<Element>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Element {
    Address(String),
    Prefix { prefix: Prefix },
    Range { range: (String, String) },
    Detailed { elem: Box<Detailed> },
    Other(serde::de::IgnoredAny),
}

#[derive(Deserialize)]
struct Prefix {
    addr: String,
    len: u8,
}

#[derive(Deserialize)]
struct Detailed {
    val: Element,
    timeout: Option<u64>,
    expires: Option<u64>,
    comment: Option<String>,
}

/// The JSON form (libnftables-json(5)).
pub(super) fn read_json(input: &str) -> Result<List, ListError> {
    let whole: Document = document(input)?;
    let elements = whole.nftables.into_iter().flat_map(BTreeMap::into_values).flat_map(|object| object.elem);
    let mut list = List::default();
    for (place, element) in (1_u32..).zip(elements) {
        let (value, ttl, comment) = match element {
            Element::Detailed { elem } => {
                let Detailed { val, timeout, expires, comment } = *elem;
                (val, expires.or(timeout), comment)
            }
            plain => (plain, None, None),
        };
        let text = match value {
            Element::Address(address) => address,
            Element::Prefix { prefix: Prefix { addr, len } } => format!("{addr}/{len}"),
            Element::Range { range: (first, last) } => format!("{first}-{last}"),
            Element::Detailed { .. } | Element::Other(_) => {
                list.complain(place, "an element that is neither address nor prefix nor range");
                continue;
            }
        };
        range::add(&mut list, place, &text, ttl.filter(|ttl| *ttl > 0), comment.as_deref())?;
    }
    Ok(list)
}
