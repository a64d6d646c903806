//! `netguard-sensor interfaces`: what can be watched on this host, how, and why not.

use crate::capture::{Interface, LiveError, LiveOptions, LiveSource, master};
use clap::ValueEnum;
use netguard_core::packet::LinkType;
use serde::Serialize;
use std::io;

/// How the list is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    Table,
    /// One array.
    Json,
}

/// One interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Listed {
    pub name: String,
    pub up: bool,
    /// `ethernet`, `ip` (no header before the IP packet) or `loopback`.
    pub link: &'static str,
    /// With prefix lengths.
    pub addresses: Vec<String>,
    /// `ring` or `portable`: how it would be captured. None: it cannot be.
    pub capture: Option<&'static str>,
    /// What to know or to do before watching it.
    pub note: String,
}

/// All interfaces of this network namespace, each opened for a moment to see whether it can be.
#[must_use]
pub fn list() -> Vec<Listed> {
    let mut listed: Vec<_> = pnet_datalink::interfaces()
        .into_iter()
        .map(|interface| {
            let opened = Interface::look_up(&interface.name).and_then(|found| {
                let source = LiveSource::open(&interface.name, &LiveOptions::default(), &[], None)?;
                Ok((found, source))
            });
            Listed::of(&interface, opened)
        })
        .collect();
    listed.sort_by(|one, other| one.name.cmp(&other.name));
    listed
}

impl Listed {
    fn of(
        interface: &pnet_datalink::NetworkInterface,
        opened: Result<(Interface, LiveSource), LiveError>,
    ) -> Self {
        let (capture, link, mut notes) = match opened {
            Ok((found, source)) => {
                let capture = match source {
                    LiveSource::Ring(_) => "ring",
                    LiveSource::Portable(_) => "portable",
                };
                let link = if found.link == LinkType::RawIp { "ip" } else { "ethernet" };
                (Some(capture), link, Vec::new())
            }
            Err(error) => (None, "ethernet", vec![error.to_string()]),
        };
        let is_loopback = interface.is_loopback();
        if is_loopback {
            notes.push("only what this host says to itself".to_owned());
        }
        if let Some(master) = master(&interface.name) {
            notes.push(format!(
                "a part of {master}, where the same packets pass: those seen at both count once"
            ));
        }
        Self {
            name: interface.name.clone(),
            up: interface.is_up(),
            link: if is_loopback { "loopback" } else { link },
            addresses: interface.ips.iter().map(ToString::to_string).collect(),
            capture,
            note: notes.join("; "),
        }
    }
}

/// Writes the list out.
///
/// Errors: the output cannot be written.
pub fn write(listed: &[Listed], format: Format, output: &mut impl io::Write) -> io::Result<()> {
    if format == Format::Json {
        serde_json::to_writer(&mut *output, listed)?;
        return writeln!(output);
    }
    let head = ["INTERFACE", "STATE", "LINK", "CAPTURE", "ADDRESSES", "NOTE"].map(str::to_owned);
    let rows = listed.iter().map(|listed| {
        let addresses = listed.addresses.join(" ");
        [
            listed.name.clone(),
            if listed.up { "up" } else { "down" }.to_owned(),
            listed.link.to_owned(),
            listed.capture.unwrap_or("no").to_owned(),
            if addresses.is_empty() { "-".to_owned() } else { addresses },
            listed.note.clone(),
        ]
    });
    let rows: Vec<[String; 6]> = std::iter::once(head).chain(rows).collect();
    let mut widths = [0; 6];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    for row in &rows {
        let cells: Vec<_> = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        writeln!(output, "{}", cells.join("  ").trim_end())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(name: &str, capture: Option<&'static str>, note: &str) -> Listed {
        let addresses = vec!["192.0.2.1/24".to_owned(), "2001:db8::1/64".to_owned()];
        Listed {
            name: name.to_owned(),
            up: true,
            link: "ethernet",
            addresses,
            capture,
            note: note.to_owned(),
        }
    }

    #[test]
    fn the_table_lines_up_and_json_is_json() {
        let all = [listed("eth0", Some("ring"), ""), listed("a-longer-name", None, "why not")];
        let mut text = Vec::new();
        write(&all, Format::Table, &mut text).unwrap();
        assert_eq!(
            String::from_utf8(text).unwrap(),
            "INTERFACE      STATE  LINK      CAPTURE  ADDRESSES                    NOTE\n\
             eth0           up     ethernet  ring     192.0.2.1/24 2001:db8::1/64\n\
             a-longer-name  up     ethernet  no       192.0.2.1/24 2001:db8::1/64  why not\n"
        );
        let mut json = Vec::new();
        write(&all, Format::Json, &mut json).unwrap();
        let read: serde_json::Value = serde_json::from_slice(&json).unwrap();
        assert_eq!(read[1]["note"], "why not");
        assert_eq!(read[0]["capture"], "ring");
    }
}
