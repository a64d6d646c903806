//! What a firewall should hold until when, kept on disk: the kernel's sets end with a reboot, and some programs empty
//! them when they reload.
//!
//! The kernel's own timeouts end each element; the schedule only fills what became empty. A journal: each change adds
//! a line, and now and then the file is made anew from what is left.
//!
//! ```text
//! netguard-schedule 1
//! + 1767225600 block 192.0.2.1
//! + 1767225600 shield 203.0.113.1,6:443
//! - block 192.0.2.1
//! ```
//!
//! Invariants:
//! * Nothing is ever filled in past its expiry, which stands in the file as an absolute time (seconds since 1970).
//! * A last line that was cut off by a crash is left out; any other line that is not understood makes the whole file
//!   foreign: it is set aside, and nothing of it is used.
//! * A schedule that cannot be written never keeps anything from being enforced: it is said, and enforced.

use super::replace;
use netguard_core::{
    decision::{Target, Verb},
    net::{Prefix, Protocol, parse_address},
    plan::{Action, Element},
    subject::Service,
    time::Timestamp,
};
use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
};

const FILE: &str = "schedule";
const HEADER: &str = "netguard-schedule 1";
/// A million elements, all of them IPv6, twice over (the journal is made anew when it has doubled): what is larger was
/// not written here.
const MAX_BYTES: u64 = 256 << 20;
/// The end of the year 9999, in seconds since 1970: later moments come from a broken clock or a damaged file.
const LATEST: u64 = 253_402_300_799;
/// A journal is not made anew for fewer lines than these.
const MIN_LINES: usize = 10_000;

/// The schedule of one responder.
#[derive(Debug)]
pub(crate) struct Schedule {
    path: PathBuf,
    journal: Option<File>,
    /// Lines added since the file was made anew, and how many it had then.
    added: usize,
    made_with: usize,
    /// The last write failed: the file is made anew with the next one.
    broken: bool,
}

impl Schedule {
    /// The one in this directory; nothing is read or made yet.
    pub(crate) fn in_directory(directory: &Path) -> Self {
        Self { path: directory.join(FILE), journal: None, added: 0, made_with: 0, broken: false }
    }

    /// Where it is kept.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// What it holds that has not expired. A file that is none of ours is set aside and told in the log.
    pub(crate) fn load(&mut self, now: Timestamp) -> BTreeMap<Element, Timestamp> {
        let mut held = match self.read() {
            Ok(held) => held,
            Err(why) => {
                let aside = self.path.with_extension("unreadable");
                let moved = fs::rename(&self.path, &aside);
                tracing::warn!(
                    file = %self.path.display(), why, aside = %aside.display(), moved = moved.is_ok(),
                    "the schedule cannot be read and is begun anew; what the kernel holds stays"
                );
                BTreeMap::new()
            }
        };
        held.retain(|_, expires_at| *expires_at > now);
        held
    }

    /// Notes what was brought into the firewall.
    pub(crate) fn record(&mut self, actions: &[Action], now: Timestamp) {
        let lines: Vec<String> = actions.iter().filter_map(line).collect();
        if lines.is_empty() {
            return;
        }
        let due = self.broken || self.added > self.made_with.max(MIN_LINES);
        let written = self.append(&lines).and_then(|()| if due { self.make_anew(now) } else { Ok(()) });
        self.added += lines.len();
        if let Err(error) = &written
            && !self.broken
        {
            tracing::warn!(
                file = %self.path.display(), %error,
                "the schedule cannot be written: after a reboot, protection waits for the cluster; check the disk"
            );
        }
        self.broken = written.is_err();
    }

    /// Forgets everything.
    pub(crate) fn clear(&mut self) -> io::Result<()> {
        self.journal = None;
        (self.added, self.made_with) = (0, 0);
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn read(&self) -> Result<BTreeMap<Element, Timestamp>, String> {
        let mut text = Vec::new();
        match File::open(&self.path) {
            Ok(file) => file.take(MAX_BYTES + 1).read_to_end(&mut text).map_err(|error| error.to_string())?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
            Err(error) => return Err(error.to_string()),
        };
        if text.len() as u64 > MAX_BYTES {
            return Err(format!("it is larger than {} MiB", MAX_BYTES >> 20));
        }
        parse(&text)
    }

    fn append(&mut self, lines: &[String]) -> io::Result<()> {
        if self.journal.is_none() || !self.path.exists() {
            if let Some(directory) = self.path.parent() {
                fs::create_dir_all(directory)?;
            }
            let mut file = OpenOptions::new().create(true).append(true).open(&self.path)?;
            if file.metadata()?.len() == 0 {
                writeln!(file, "{HEADER}")?;
            } else {
                // What a crash cut off ends here, so that the next line is not joined to it.
                self.broken |= !ends_with_a_line(&self.path)?;
                if self.broken {
                    drop(file);
                    self.make_anew(Timestamp::default())?;
                    file = OpenOptions::new().append(true).open(&self.path)?;
                }
            }
            self.journal = Some(file);
        }
        let mut text = String::new();
        for line in lines {
            text.push_str(line);
            text.push('\n');
        }
        self.journal.as_mut().map_or(Ok(()), |journal| journal.write_all(text.as_bytes()))
    }

    /// Writes what is left as a new file beside it, and puts it in its place.
    fn make_anew(&mut self, now: Timestamp) -> io::Result<()> {
        let held = self.load(now);
        replace::file(&self.path, whole(&held).as_bytes(), 0o600)?;
        self.journal = None;
        (self.added, self.made_with) = (0, held.len());
        Ok(())
    }
}

fn ends_with_a_line(path: &Path) -> io::Result<bool> {
    use std::io::{Seek as _, SeekFrom};
    let mut file = File::open(path)?;
    file.seek(SeekFrom::End(-1))?;
    let mut last = [0];
    file.read_exact(&mut last)?;
    Ok(last == *b"\n")
}

/// A file that holds just this.
pub(crate) fn whole(held: &BTreeMap<Element, Timestamp>) -> String {
    let mut text = format!("{HEADER}\n");
    for (&element, &expires_at) in held {
        if let Some(line) = line(&Action::Add { element, expires_at }) {
            let _ = writeln!(text, "{line}");
        }
    }
    text
}

/// An action as its line; none for those that change no element.
fn line(action: &Action) -> Option<String> {
    match action {
        Action::Add { element, expires_at } | Action::Extend { element, expires_at } => {
            // Rounded down: never past its expiry.
            Some(format!("+ {} {} {}", expires_at.as_secs(), element.verb, member(element.target)))
        }
        Action::Remove { element } => Some(format!("- {} {}", element.verb, member(element.target))),
        Action::SetThrottle { .. } => None,
    }
}

/// As ipset writes it.
fn member(target: Target) -> String {
    match target {
        Target::Source(prefix) => prefix.to_string(),
        Target::Service(service) => format!("{},{}:{}", service.address, service.protocol.0, service.port),
    }
}

/// What the lines add up to, expired or not.
///
/// Errors: in words, what is wrong in which line.
pub(crate) fn parse(text: &[u8]) -> Result<BTreeMap<Element, Timestamp>, String> {
    let text = std::str::from_utf8(text).map_err(|_| "it is no text".to_owned())?;
    // A line without its end was cut off by a crash.
    let Some((whole, _torn)) = text.rsplit_once('\n') else {
        return if HEADER.starts_with(text) {
            Ok(BTreeMap::new())
        } else {
            Err("it has no header".to_owned())
        };
    };
    let mut lines = whole.split('\n');
    if lines.next() != Some(HEADER) {
        return Err(format!("its first line is not `{HEADER}`"));
    }
    let mut held = BTreeMap::new();
    for (number, line) in lines.enumerate() {
        change(line, &mut held).ok_or_else(|| {
            format!(
                "line {} is none of ours: `{}`",
                number + 2,
                line.chars().take(80).collect::<String>().escape_debug()
            )
        })?;
    }
    Ok(held)
}

fn change(line: &str, held: &mut BTreeMap<Element, Timestamp>) -> Option<()> {
    let mut words = line.split(' ');
    let expires_at = match words.next()? {
        "+" => Some(Timestamp::from_secs(decimal(words.next()?)?.min(LATEST))),
        "-" => None,
        _ => return None,
    };
    let element = element(words.next()?, words.next()?)?;
    if words.next().is_some() {
        return None;
    }
    match expires_at {
        Some(expires_at) => held.insert(element, expires_at),
        None => held.remove(&element),
    };
    Some(())
}

fn element(verb: &str, member: &str) -> Option<Element> {
    let verb = [Verb::Block, Verb::Throttle, Verb::Shield].into_iter().find(|known| known.name() == verb)?;
    if verb != Verb::Shield {
        let prefix: Prefix = member.parse().ok()?;
        return Some(Element { verb, target: Target::Source(prefix) });
    }
    let (address, service) = member.split_once(',')?;
    let (protocol, port) = service.split_once(':')?;
    Some(Element::shield(Service {
        address: parse_address(address).ok()?,
        protocol: Protocol(u8::try_from(decimal(protocol)?).ok()?),
        port: u16::try_from(decimal(port)?).ok()?,
    }))
}

/// Digits only: no sign, no spaces.
fn decimal(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests;
