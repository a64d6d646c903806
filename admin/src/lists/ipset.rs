//! What `ipset save` prints: `add NAME 192.0.2.1 timeout 300 comment "why"`.

use super::{List, ListError, each_line, range};

pub(super) fn read(input: &[u8]) -> Result<List, ListError> {
    let mut list = List::default();
    each_line(input, &mut list, |list, number, line| {
        let mut words = line.split_whitespace();
        match words.next() {
            Some("add" | "-A") => {}
            // Sets are made elsewhere; only what is in them counts.
            _ => return Ok(()),
        }
        let (Some(_set), Some(element)) = (words.next(), words.next()) else {
            list.complain(number, "an `add` without its set or element");
            return Ok(());
        };
        if element.contains(',') {
            list.complain(number, "an element with a port, a protocol or an interface is no source to block");
            return Ok(());
        }
        let options: Vec<&str> = words.collect();
        if options.contains(&"nomatch") {
            list.complain(number, "an exception (nomatch): put it on the allowlist");
            return Ok(());
        }
        let after = |name: &str| {
            let place = options.iter().position(|option| *option == name)?;
            options.get(place + 1).copied()
        };
        let ttl = match after("timeout") {
            // To ipset 0 is "for ever"; how long that is here is for the caller to say.
            None | Some("0") => None,
            Some(text) => match text.parse() {
                Ok(ttl) => Some(ttl),
                Err(_) => {
                    list.complain(number, "the timeout is no number of seconds");
                    return Ok(());
                }
            },
        };
        let comment = line.split_once(" comment \"").and_then(|(_, rest)| rest.split('"').next());
        range::add(list, number, element, ttl, comment)
    })?;
    Ok(list)
}
