//! Comma-separated values (RFC 4180), one record a line.

use super::{List, ListError, each_line, seconds};

const ADDRESS: &[&str] = &["address", "ip", "prefix", "cidr", "value", "target"];
const DURATION: &[&str] = &["duration", "ttl", "ttl_seconds"];
const REASON: &[&str] = &["reason", "scenario", "comment", "description"];
/// A spreadsheet takes a cell that begins so for a formula; the last four are the wide forms that some take too.
const FORMULA: [char; 10] = ['=', '+', '-', '@', '\t', '\r', '＝', '＋', '－', '＠'];

#[derive(Debug, Clone, Copy)]
struct Columns {
    address: usize,
    duration: Option<usize>,
    reason: Option<usize>,
}

/// Whether a line names columns we can use.
pub(super) fn is_header(line: &str) -> bool {
    columns(line).is_some()
}

fn columns(line: &str) -> Option<Columns> {
    let names = cells(line).ok()?;
    let find = |known: &[&str]| {
        names.iter().position(|name| known.iter().any(|known| name.trim().eq_ignore_ascii_case(known)))
    };
    Some(Columns { address: find(ADDRESS)?, duration: find(DURATION), reason: find(REASON) })
}

pub(super) fn read(input: &[u8]) -> Result<List, ListError> {
    let mut list = List::default();
    let mut header = None;
    each_line(input, &mut list, |list, number, line| {
        if line.is_empty() || line.starts_with('#') {
            return Ok(());
        }
        let Some(columns) = header else {
            header = Some(columns(line).ok_or(ListError::Header)?);
            return Ok(());
        };
        record(list, number, line, columns)
    })?;
    if header.is_none() { Err(ListError::Header) } else { Ok(list) }
}

fn record(list: &mut List, number: u32, line: &str, columns: Columns) -> Result<(), ListError> {
    let cells = match cells(line) {
        Ok(cells) => cells,
        Err(why) => {
            list.complain(number, why);
            return Ok(());
        }
    };
    let cell = |column: usize| cells.get(column).map_or("", |cell| cell.trim());
    let ttl = match columns.duration.map(cell) {
        None | Some("") => None,
        Some(text) => match seconds(text) {
            Some(ttl) => Some(ttl),
            None => {
                list.complain(number, "the duration is none: write it like 90s, 4h or 30d");
                return Ok(());
            }
        },
    };
    list.add(number, cell(columns.address), ttl, columns.reason.map(cell).map(plain))
}

/// Whether a spreadsheet might compute a cell instead of showing it.
pub(super) fn computes(cell: &str) -> bool {
    cell.starts_with(FORMULA) || cell.trim_start().starts_with(FORMULA)
}

/// Takes back what the writer did against formulas.
fn plain(cell: &str) -> &str {
    cell.strip_prefix('\'').filter(|rest| computes(rest)).unwrap_or(cell)
}

/// The cells of one line.
fn cells(line: &str) -> Result<Vec<String>, &'static str> {
    let mut cells = Vec::new();
    let mut rest = line;
    loop {
        let (cell, after) = match rest.strip_prefix('"') {
            Some(quoted) => quoted_cell(quoted)?,
            None => {
                let end = rest.find(',').unwrap_or(rest.len());
                let (cell, after) = rest.split_at(end);
                if cell.contains('"') {
                    return Err("a quote in the middle of a cell");
                }
                (cell.to_owned(), after)
            }
        };
        cells.push(cell);
        match after.strip_prefix(',') {
            Some(more) => rest = more,
            None if after.is_empty() => return Ok(cells),
            None => return Err("text after a closing quote"),
        }
    }
}

/// Up to the closing quote, and what follows it; a doubled quote stands for one.
fn quoted_cell(mut rest: &str) -> Result<(String, &str), &'static str> {
    let mut cell = String::new();
    loop {
        let (text, after) = rest.split_once('"').ok_or("a quote is not closed on its line")?;
        cell.push_str(text);
        match after.strip_prefix('"') {
            Some(more) => {
                cell.push('"');
                rest = more;
            }
            None => return Ok((cell, after)),
        }
    }
}
