//! Results as a table for people, or as JSON or YAML for programs.
//!
//! Invariant: field names in JSON and YAML only ever get more. Every time is there twice: `x` in ISO 8601 (or null), and
//! `x_us` as on the wire.

use crate::{Failure, escape, moment};
use clap::ValueEnum;
use comfy_table::{Cell, Table};
use serde::Serialize;
use std::io::Write;

/// How results are shown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    #[default]
    Table,
    Json,
    Yaml,
}

/// Something a command shows.
pub(crate) trait View: Serialize {
    /// For people. Escape what came from elsewhere, or leave it to [`table`].
    fn text(&self, now: u64) -> String;
}

/// Where results and remarks go.
pub(crate) struct Output<'a> {
    pub(crate) format: Format,
    out: &'a mut (dyn Write + Send),
    err: &'a mut (dyn Write + Send),
}

impl<'a> Output<'a> {
    pub(crate) fn new(
        format: Format,
        out: &'a mut (dyn Write + Send),
        err: &'a mut (dyn Write + Send),
    ) -> Self {
        Self { format, out, err }
    }

    pub(crate) fn show(&mut self, view: &impl View) -> Result<(), Failure> {
        let text = match self.format {
            Format::Table => view.text(moment::now()),
            Format::Json => json(view, serde_json::to_string_pretty)?,
            Format::Yaml => yaml(view)?,
        };
        self.write(&text)
    }

    /// One line and at once, for a stream.
    pub(crate) fn line(&mut self, text: &str) -> Result<(), Failure> {
        self.write(text)?;
        Ok(self.out.flush()?)
    }

    /// Text as it is, with a line end.
    pub(crate) fn write(&mut self, text: &str) -> Result<(), Failure> {
        Ok(writeln!(self.out, "{}", text.trim_end_matches('\n'))?)
    }

    /// A remark for people: never part of the result.
    pub(crate) fn remark(&mut self, text: &str) {
        // If even that cannot be written, the result still can.
        let _ = writeln!(self.err, "{}", escape::plain(text));
    }
}

pub(crate) fn json<T: Serialize + ?Sized>(
    value: &T,
    write: impl Fn(&T) -> serde_json::Result<String>,
) -> Result<String, Failure> {
    let text = write(value).map_err(std::io::Error::other)?;
    Ok(escape::json(&text).into_owned())
}

pub(crate) fn yaml<T: Serialize + ?Sized>(value: &T) -> Result<String, Failure> {
    let text = serde_norway::to_string(value).map_err(std::io::Error::other)?;
    // The writer escapes control characters itself; what only hides or reorders is written out.
    Ok(escape::lines(&text))
}

/// Columns without borders, so that `awk` and `cut` work on them; every cell escaped.
pub(crate) fn table<const N: usize>(
    header: [&str; N],
    rows: impl IntoIterator<Item = [String; N]>,
) -> String {
    let mut table = Table::new();
    table.load_style(comfy_table::presets::NOTHING).set_header(header);
    let mut any = false;
    for row in rows {
        any = true;
        table.add_row(
            row.iter().map(|cell| Cell::new(if cell.is_empty() { "-".into() } else { escape::plain(cell) })),
        );
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    if any { table.trim_fmt() } else { "(none)".to_owned() }
}

/// `name  value` lines, the names aligned.
pub(crate) fn pairs(pairs: &[(&str, String)]) -> String {
    let width = pairs.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    pairs
        .iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(name, value)| format!("{name:width$}  {}", escape::plain(value)))
        .collect::<Vec<_>>()
        .join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_lines_up_and_is_harmless() {
        let rows = [
            ["10.0.0.1".into(), "block".into()],
            ["2001:db8::1".into(), "\u{1b}[31m".into()],
            ["x".into(), String::new()],
        ];
        assert_eq!(
            table(["TARGET", "VERB"], rows),
            "TARGET       VERB\n10.0.0.1     block\n2001:db8::1  \\u{1b}[31m\nx            -"
        );
        assert_eq!(table(["A"], []), "(none)");
    }

    #[test]
    fn pairs_line_up_and_leave_out_what_is_not_there() {
        assert_eq!(
            pairs(&[("id", "1".into()), ("reason", "a\nb".into()), ("x", String::new())]),
            "id      1\nreason  a\\nb"
        );
    }
}
