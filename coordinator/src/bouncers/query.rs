//! What a bouncer asks for, read strictly.

use super::decision::{origin, remediation, scenario, scope};
use netguard_core::{
    decision::{Decision, Origin, Target, Verb},
    net::{Prefix, parse_address},
};

/// Longest query read, in bytes.
const MAX_QUERY: usize = 4_096;
/// Alternatives in one parameter.
const MAX_ALTERNATIVES: usize = 32;

/// Which decisions are asked for. Empty lists ask for all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Query {
    pub(super) startup: bool,
    /// The one address asked about.
    pub(super) address: Option<std::net::IpAddr>,
    range: Option<Prefix>,
    /// Decisions *within* the address or range, instead of those that hold it.
    within: bool,
    value: Option<String>,
    remediation: Option<String>,
    scopes: Vec<String>,
    origins: Vec<String>,
    containing: Vec<String>,
    not_containing: Vec<String>,
    pub(super) limit: Option<usize>,
    pub(super) offset: usize,
}

impl Query {
    /// Reads the part after the `?`. Parameters nobody knows are passed over: bouncers of other versions send them.
    ///
    /// Errors: what is wrong, in words that quote nothing.
    pub(super) fn read(text: &str) -> Result<Self, &'static str> {
        if text.len() > MAX_QUERY {
            return Err("the query is too long");
        }
        let mut query = Self::default();
        let mut seen = Vec::new();
        for pair in text.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (name, value) = (decoded(name)?, decoded(value)?);
            if seen.contains(&name) {
                return Err("a parameter stands there twice");
            }
            query.take(&name, &value)?;
            seen.push(name);
        }
        Ok(query)
    }

    fn take(&mut self, name: &str, value: &str) -> Result<(), &'static str> {
        match name {
            "startup" => self.startup = flag(value)?,
            "contains" => self.within = !flag(value)?,
            // The local API takes either in both.
            "ip" if !value.contains('/') => {
                self.address = Some(parse_address(value).map_err(|_| "ip is no address")?);
            }
            "ip" | "range" => self.range = Some(value.parse().map_err(|_| "range is no prefix")?),
            "value" => self.value = Some(value.to_owned()),
            "type" => self.remediation = Some(value.to_owned()),
            "scope" | "scopes" => self.scopes.extend(alternatives(value)?),
            "origin" | "origins" => self.origins = alternatives(value)?,
            "scenarios_containing" => self.containing = folded(value)?,
            "scenarios_not_containing" => self.not_containing = folded(value)?,
            "limit" => {
                let limit: u64 = value.parse().map_err(|_| "limit is no number")?;
                self.limit = Some(usize::try_from(limit).unwrap_or(usize::MAX)).filter(|limit| *limit > 0);
            }
            "offset" => self.offset = value.parse().map_err(|_| "offset is no number")?,
            // Our ids come in no order: whoever went through them by this would miss some.
            "id_gt" => return Err("id_gt cannot be answered here: use limit and offset"),
            _ => {}
        }
        Ok(())
    }

    /// The verb asked for: bans, unless throttles are asked for by name. None: a type we never decide.
    pub(super) fn verb(&self) -> Option<Verb> {
        match self.remediation.as_deref() {
            None => Some(Verb::Block),
            Some(asked) => [Verb::Block, Verb::Throttle].into_iter().find(|verb| remediation(*verb) == asked),
        }
    }

    /// Whether a live decision is asked for; that it acts is checked elsewhere.
    pub(super) fn takes(&self, decision: &Decision) -> bool {
        let Target::Source(source) = decision.target else { return false };
        let contains = |wide: &Prefix, narrow: &Prefix| {
            wide.prefix_len() <= narrow.prefix_len() && wide.contains(narrow.address())
        };
        let about = |asked: &Prefix| {
            if self.within { contains(asked, &source) } else { contains(&source, asked) }
        };
        self.verb() == Some(decision.verb)
            && self.takes_source(&source, decision.origin)
            && self.address.is_none_or(|address| about(&Prefix::host(address)))
            && self.range.is_none_or(|range| about(&range))
            && self.takes_scenario(decision)
    }

    /// Whether it can matter to this reader that a source is gone.
    pub(super) fn takes_source(&self, source: &Prefix, from: Origin) -> bool {
        let same = |asked: &String, name: &str| asked.eq_ignore_ascii_case(name);
        (self.scopes.is_empty() || self.scopes.iter().any(|asked| same(asked, scope(source))))
            && (self.origins.is_empty()
                || self.origins.iter().any(|asked| same(asked, origin(from)) || same(asked, from.name())))
            && self.value.as_ref().is_none_or(|value| is_value(value, source))
    }

    fn takes_scenario(&self, decision: &Decision) -> bool {
        if self.containing.is_empty() && self.not_containing.is_empty() {
            return true;
        }
        let scenario = scenario(decision).to_lowercase();
        (self.containing.is_empty() || self.containing.iter().any(|part| scenario.contains(part.as_str())))
            && !self.not_containing.iter().any(|part| scenario.contains(part.as_str()))
    }

    /// Whether decisions within a range are asked for, which only a search finds.
    pub(super) const fn covered_lookup(&self) -> Option<std::net::IpAddr> {
        if self.within { None } else { self.address }
    }
}

/// `value` as an operator may write it: any form of the same address or prefix.
fn is_value(value: &str, source: &Prefix) -> bool {
    value.parse::<Prefix>().is_ok_and(|value| value == *source)
}

fn flag(value: &str) -> Result<bool, &'static str> {
    match value {
        "true" | "True" | "TRUE" | "1" | "t" => Ok(true),
        "false" | "False" | "FALSE" | "0" | "f" | "" => Ok(false),
        _ => Err("a switch takes true or false"),
    }
}

fn alternatives(value: &str) -> Result<Vec<String>, &'static str> {
    let all: Vec<String> =
        value.split(',').map(str::trim).filter(|one| !one.is_empty()).map(str::to_owned).collect();
    if all.len() > MAX_ALTERNATIVES { Err("too many alternatives in one parameter") } else { Ok(all) }
}

/// For comparison without regard to case, as the local API compares scenarios.
fn folded(value: &str) -> Result<Vec<String>, &'static str> {
    Ok(alternatives(value)?.into_iter().map(|one| one.to_lowercase()).collect())
}

/// `application/x-www-form-urlencoded` (URL standard, section 5.1), strictly: no broken escape, UTF-8 only, no control
/// characters.
fn decoded(text: &str) -> Result<String, &'static str> {
    const BROKEN: &str = "the query is not encoded as it should be";
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let mut digit = || rest.next().and_then(|byte| char::from(byte).to_digit(16)).ok_or(BROKEN);
                let (high, low) = (digit()?, digit()?);
                u8::try_from(high * 16 + low).map_err(|_| BROKEN)?
            }
            other => other,
        });
    }
    let text = String::from_utf8(bytes).map_err(|_| BROKEN)?;
    if text.chars().any(char::is_control) { Err(BROKEN) } else { Ok(text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_read_as_bouncers_write_them() {
        let query = Query::read("startup=true&scopes=ip%2Crange&origins=crowdsec,cscli&x=1").unwrap();
        assert!(query.startup);
        assert_eq!(query.scopes, ["ip", "range"]);
        assert_eq!(query.origins, ["crowdsec", "cscli"]);
        assert_eq!(Query::read("ip=::ffff:192.0.2.1").unwrap().address, Some("192.0.2.1".parse().unwrap()));
        assert_eq!(Query::read("limit=9223372036854775808").unwrap().limit, Some(1 << 63));
        assert_eq!(
            Query::read("ip=198.51.100.0/24").unwrap().range,
            Query::read("range=198.51.100.0/24").unwrap().range
        );
        assert_eq!(Query::read("dedup=false&simulated=true").unwrap(), Query::default());
        assert_eq!(Query::read("type=captcha").unwrap().verb(), None);
        assert_eq!(Query::read("type=throttle").unwrap().verb(), Some(Verb::Throttle));
        assert_eq!(Query::read("").unwrap().verb(), Some(Verb::Block));
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for bad in [
            "ip=010.0.0.1",
            "ip=1.2.3",
            "ip=0x7f.1",
            "ip=fe80::1%25eth0",
            "range=1.2.3.4/",
            "ip=",
            "ip=1.2.3.4&ip=1.2.3.5",
            "range=1.2.3.4/33",
            "range=1.2.3.4/8",
            "startup=maybe",
            "id_gt=7",
            "offset=-1",
            "limit=-1",
            "limit=99999999999999999999",
            "ip=%",
            "ip=%4",
            "ip=%zz",
            "value=%00",
            "value=%ff",
        ] {
            assert!(Query::read(bad).is_err(), "{bad}");
        }
        assert!(Query::read(&format!("value={}", "x".repeat(MAX_QUERY))).is_err());
        assert!(Query::read(&format!("origins={}", "x,".repeat(MAX_ALTERNATIVES + 1))).is_err());
    }

    proptest::proptest! {
        /// Made of the pieces that queries are made of, in any order.
        #[test]
        fn whatever_is_asked_is_understood_or_refused(
            pieces in proptest::collection::vec(
                "ip=|range=|type=|scopes=|origins=|limit=|offset=|contains=|startup=|value=|&|,|/|%2F|%00|%|::1|1\\.2\\.3\\.4|[0-9]{1,25}|\\PC",
                0..24,
            ),
        ) {
            let text: String = pieces.concat();
            let read = Query::read(&text);
            proptest::prop_assert_eq!(&read, &Query::read(&text));
            if text.contains("%00") {
                proptest::prop_assert!(read.is_err(), "{}", text);
            }
        }
    }
}
