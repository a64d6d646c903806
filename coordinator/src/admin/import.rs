//! Lists from elsewhere: parsed entry by entry, committed in parts that fit into the log.

use super::{Admin, blocking::own_address, text, write::Writer};
use crate::wall_clock;
use netguard_core::{
    decision::{DecisionId, Verb},
    kind::Kind,
    ledger::{
        Actor, Applied, Command, Import, ImportEntry, Imported, Ledger, MAX_IMPORT, Outcome, Request,
        RequestId,
    },
    trace::TraceParent,
};
use netguard_proto::{
    convert,
    v1::{self, ImportRefusal, ImportRequest, ImportResponse},
};
use std::net::IpAddr;
use tonic::Status;

/// Entries of one request; a longer list comes in several.
const MAX_ENTRIES: usize = 10_000;
/// What the entries of one command may take in the log, whose values end at 64 KiB.
const MAX_PART_BYTES: usize = 40 << 10;
/// An entry without a reason of its own.
const ENTRY_BYTES: usize = 32;

/// What holds for every entry.
struct Common {
    verb: Verb,
    kind: Option<Kind>,
    ttl_seconds: u64,
    reason: String,
    own: IpAddr,
}

/// Entries that could be read, each with its place in the request.
#[derive(Default)]
struct Part {
    places: Vec<u32>,
    entries: Vec<ImportEntry>,
    bytes: usize,
}

impl Admin {
    pub(super) async fn import_list(
        &self,
        writer: Writer,
        request: ImportRequest,
    ) -> Result<ImportResponse, Status> {
        if request.entries.len() > MAX_ENTRIES {
            return Err(Status::invalid_argument(format!(
                "at most {MAX_ENTRIES} entries at once: send several parts"
            )));
        }
        let ledger = self.shared.consensus.ledger();
        let common = Common {
            verb: if request.verb == 0 { Verb::Block } else { convert::verb(request.verb)? },
            kind: kind(&request.kind)?,
            ttl_seconds: match request.ttl_seconds {
                0 => ledger.policy().default_ttl_seconds,
                seconds => seconds,
            },
            reason: convert::text("reason", request.reason)?,
            own: writer.caller.remote.ip(),
        };
        let mut answer = ImportResponse { revision: ledger.revision(), ..ImportResponse::default() };
        let parts = parts(request.entries, &common, &mut answer.refused);
        let mut trial = request.dry_run.then(|| Ledger::clone(&ledger));
        for (number, part) in (0_u32..).zip(parts) {
            let import = Import {
                first_id: DecisionId(
                    writer.decision_id().0.wrapping_add(u128::from(number) * MAX_IMPORT as u128),
                ),
                verb: common.verb,
                kind: common.kind,
                reason: common.reason.clone(),
                entries: part.entries,
            };
            let command = Command::Import(Box::new(import));
            let applied = match &mut trial {
                Some(trial) => try_out(trial, &writer, number, command),
                None => writer.commit_part(number, command).await?,
            };
            add(&mut answer, &part.places, applied)?;
        }
        answer.refused.sort_unstable_by_key(|refused| refused.place);
        Ok(answer)
    }
}

#[allow(clippy::result_large_err, reason = "tonic's own error type")]
fn kind(name: &str) -> Result<Option<Kind>, Status> {
    if name.is_empty() {
        return Ok(None);
    }
    name.parse().map(Some).map_err(|_| {
        Status::invalid_argument(format!(
            "`{}` is no kind of detection; docs/kinds.md lists them",
            text::echo(name)
        ))
    })
}

/// What can be read, in parts; what cannot goes to the refused.
fn parts(entries: Vec<v1::ImportEntry>, common: &Common, refused: &mut Vec<ImportRefusal>) -> Vec<Part> {
    let mut parts: Vec<Part> = Vec::new();
    for (place, entry) in (0_u32..).zip(entries) {
        match read(entry, common) {
            Ok(entry) => {
                let bytes = ENTRY_BYTES + entry.reason.as_ref().map_or(0, String::len);
                let full =
                    |part: &Part| part.entries.len() >= MAX_IMPORT || part.bytes + bytes > MAX_PART_BYTES;
                if parts.last().is_none_or(full) {
                    parts.push(Part::default());
                }
                if let Some(part) = parts.last_mut() {
                    part.places.push(place);
                    part.entries.push(entry);
                    part.bytes += bytes;
                }
            }
            Err(status) => refused.push(ImportRefusal { place, why: status.message().to_owned() }),
        }
    }
    parts
}

#[allow(clippy::result_large_err, reason = "tonic's own error type")]
fn read(entry: v1::ImportEntry, common: &Common) -> Result<ImportEntry, Status> {
    let prefix = text::prefix(&entry.prefix)?;
    own_address(&prefix, common.own)?;
    let reason = convert::text("reason", entry.reason)?;
    Ok(ImportEntry {
        prefix,
        ttl_seconds: if entry.ttl_seconds == 0 { common.ttl_seconds } else { entry.ttl_seconds },
        reason: Some(reason).filter(|reason| !reason.is_empty()),
    })
}

/// Applies a part to a copy of the ledger, which is what the ledger itself would do at this moment.
fn try_out(trial: &mut Ledger, writer: &Writer, number: u32, command: Command) -> Applied {
    let request = Request {
        id: RequestId(writer.decision_id().0.wrapping_add(u128::from(number))),
        at: wall_clock::now(),
        actor: Actor::Identity(writer.caller.spiffe.clone()),
        trace: TraceParent::default(),
        command,
    };
    trial.apply(trial.log_index() + 1, &request).0
}

#[allow(clippy::result_large_err, reason = "tonic's own error type")]
fn add(answer: &mut ImportResponse, places: &[u32], applied: Applied) -> Result<(), Status> {
    let imported = match applied.outcome {
        Ok(Outcome::Imported(imported)) => imported,
        Ok(_) => Imported::default(),
        Err(refusal) => return Err(crate::refusal::status_of(&refusal)),
    };
    answer.revision = applied.revision;
    answer.made += imported.made;
    answer.prolonged += imported.prolonged;
    answer.unchanged += imported.unchanged;
    answer.refused.extend(imported.refused.into_iter().filter_map(|(place, why)| {
        let place = places.get(usize::try_from(place).ok()?)?;
        Some(ImportRefusal { place: *place, why: why.to_string() })
    }));
    Ok(())
}
