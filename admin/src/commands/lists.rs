//! `import` and `export`: lists other programs keep.

use super::wire::{Decision, request_id};
use crate::{
    Failure,
    args::VerbName,
    cluster::{Again, Cluster},
    escape,
    lists::{self, Entry, List, ListFormat, MAX_COMPLAINTS, MAX_INPUT, Row},
    moment,
    output::{Format, Output, View, table},
};
use netguard_proto::v1::{ImportEntry, ImportRequest, ListDecisionsRequest, Verb};
use serde::Serialize;
use std::{io::Read, path::Path};

/// Entries in one request: 40 KB, and two commits, which a busy cluster makes long before the answer is given up on.
const BATCH: usize = 2_000;
/// Decisions asked for at once.
const PAGE: u32 = 1_000;
/// Refused lines shown to people; programs are told all that are kept.
const SHOWN: usize = 50;

/// What `import` was asked for.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) format: ListFormat,
    pub(super) ttl: Option<u64>,
    pub(super) reason: String,
    pub(super) kind: String,
    pub(super) throttle: bool,
    pub(super) dry_run: bool,
    pub(super) strict: bool,
}

#[derive(Debug, Default, Serialize)]
struct Imported {
    dry_run: bool,
    read: usize,
    made: u64,
    prolonged: u64,
    unchanged: u64,
    refused: u64,
    /// The first of them.
    refusals: Vec<Refused>,
    revision: u64,
}

#[derive(Debug, Serialize)]
struct Refused {
    line: u32,
    entry: String,
    why: String,
}

impl Imported {
    fn refuse(&mut self, line: u32, entry: &str, why: &str) {
        self.refused += 1;
        if self.refusals.len() < MAX_COMPLAINTS {
            let entry = entry.chars().take(64).collect();
            self.refusals.push(Refused { line, entry, why: why.to_owned() });
        }
    }
}

impl View for Imported {
    fn text(&self, _: u64) -> String {
        let would = if self.dry_run { " (dry run: nothing is changed)" } else { "" };
        let mut text = format!(
            "{} read: {} new, {} prolonged, {} in force already, {} refused{would}",
            self.read, self.made, self.prolonged, self.unchanged, self.refused
        );
        if !self.refusals.is_empty() {
            let rows = self
                .refusals
                .iter()
                .take(SHOWN)
                .map(|refused| [refused.line.to_string(), refused.entry.clone(), refused.why.clone()]);
            text.push('\n');
            text.push_str(&table(["LINE", "ENTRY", "REFUSED BECAUSE"], rows));
        }
        if self.refused > SHOWN as u64 {
            text.push_str("\n(there are more: -o json shows them)");
        }
        text
    }
}

/// Reads the whole list first, so that what cannot be read changes nothing.
pub(super) async fn import(
    file: &Path,
    asked: Asked,
    cluster: &mut Cluster,
    output: &mut Output<'_>,
) -> Result<(), Failure> {
    let bytes = read_bounded(file)?;
    let list = lists::read(asked.format, &bytes)
        .map_err(|error| Failure::usage(format!("{}: {error}", file.display())))?;
    drop(bytes);
    if asked.strict {
        let trial = take(&list, &asked, true, cluster).await?;
        if trial.refused > 0 {
            output.show(&trial)?;
            let lines = trial.refused;
            let why =
                format!("nothing is changed (--strict): {lines} of the list would be refused, see above");
            return Err(Failure::Refused(why));
        }
    }
    let imported = take(&list, &asked, asked.dry_run, cluster).await?;
    output.show(&imported)?;
    if imported.refused > 0 && imported.made + imported.prolonged + imported.unchanged == 0 {
        return Err(Failure::Refused("nothing of the list was taken".to_owned()));
    }
    Ok(())
}

/// All of a list, in batches; a dry run judges each batch as if it came alone.
async fn take(list: &List, asked: &Asked, dry_run: bool, cluster: &mut Cluster) -> Result<Imported, Failure> {
    let mut imported = Imported {
        dry_run,
        read: list.entries.len() + list.complaints.len() + list.more_complaints,
        ..Imported::default()
    };
    for complaint in &list.complaints {
        imported.refuse(complaint.line, "", &complaint.why);
    }
    imported.refused += list.more_complaints as u64;
    for batch in list.entries.chunks(BATCH) {
        send(batch, asked, &mut imported, cluster).await?;
    }
    imported.refusals.sort_by_key(|refused| refused.line);
    Ok(imported)
}

async fn send(
    batch: &[Entry],
    asked: &Asked,
    imported: &mut Imported,
    cluster: &mut Cluster,
) -> Result<(), Failure> {
    let entries = batch.iter().map(|entry| ImportEntry {
        prefix: entry.prefix.clone(),
        ttl_seconds: asked.ttl.or(entry.ttl_seconds).unwrap_or(0),
        reason: entry.reason.clone().filter(|_| asked.reason.is_empty()).unwrap_or_default(),
    });
    let request = ImportRequest {
        entries: entries.collect(),
        ttl_seconds: asked.ttl.unwrap_or(0),
        reason: asked.reason.clone(),
        kind: asked.kind.clone(),
        verb: if asked.throttle { Verb::Throttle } else { Verb::Block }.into(),
        dry_run: imported.dry_run,
        request_id: request_id()?,
    };
    let answer = cluster.call(Again::Safe, async |mut client| client.import(request.clone()).await).await?;
    imported.made += u64::from(answer.made);
    imported.prolonged += u64::from(answer.prolonged);
    imported.unchanged += u64::from(answer.unchanged);
    imported.revision = answer.revision;
    for refused in &answer.refused {
        let entry = usize::try_from(refused.place).ok().and_then(|place| batch.get(place));
        let (line, prefix) = entry.map_or((0, ""), |entry| (entry.line, entry.prefix.as_str()));
        imported.refuse(line, prefix, &refused.why);
    }
    Ok(())
}

/// A file, or standard input for `-`; one byte more than the bound shows that it is too large.
fn read_bounded(file: &Path) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    let limit = MAX_INPUT as u64 + 1;
    let read = if file == Path::new("-") {
        std::io::stdin().lock().take(limit).read_to_end(&mut bytes)
    } else {
        std::fs::File::open(file).and_then(|file| file.take(limit).read_to_end(&mut bytes))
    };
    read.map_err(|error| Failure::usage(format!("{} cannot be read: {error}", file.display())))?;
    Ok(bytes)
}

/// Everything in force with a verb, as another program takes it.
pub(super) async fn export(
    format: ListFormat,
    verb: VerbName,
    cluster: &mut Cluster,
    output: &mut Output<'_>,
) -> Result<(), Failure> {
    let verb = match verb {
        VerbName::Block => Verb::Block,
        VerbName::Throttle => Verb::Throttle,
        VerbName::Shield => return Err(Failure::usage("a shield names a service of ours, not a source")),
    };
    let mut request = ListDecisionsRequest {
        verb: verb.into(),
        without_simulated: true,
        limit: PAGE,
        ..ListDecisionsRequest::default()
    };
    let mut rows = Vec::new();
    let now = moment::now();
    loop {
        let page = cluster
            .call(Again::Safe, async |mut client| client.list_decisions(request.clone()).await)
            .await?;
        rows.extend(page.decisions.into_iter().map(Decision::from).filter_map(|decision| {
            let ttl_seconds = decision.expires_at_us.saturating_sub(now) / 1_000_000;
            (ttl_seconds > 0).then(|| Row {
                target: decision.target,
                ttl_seconds,
                reason: decision.reason,
                origin: decision.origin.to_owned(),
            })
        }));
        if page.next_page.is_empty() || page.next_page == request.page {
            break;
        }
        request.page = page.next_page;
    }
    if output.format != Format::Table {
        output.remark("-o does not matter here: --format says how the list is written");
    }
    output.write(&escape::lines(&lists::write(format, &rows)))
}
