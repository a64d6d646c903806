//! `netguard-sensor interfaces`: what can be watched on this host, how, and why not.

mod offloads;

pub use offloads::Offload;

use crate::capture::{Interface, LiveError, LiveOptions, LiveSource, master};
use clap::ValueEnum;
use netguard_core::packet::LinkType;
use offloads::Ethtool;
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
    /// Receive offloads that are on: what is done to frames before they are seen. None: the kernel does not say.
    pub offloads: Option<Vec<Offload>>,
    /// What to know or to do before watching it.
    pub note: String,
}

/// All interfaces of this network namespace, each opened for a moment to see whether it can be.
#[must_use]
pub fn list() -> Vec<Listed> {
    let ethtool = Ethtool::open().ok();
    let mut listed: Vec<_> = pnet_datalink::interfaces()
        .into_iter()
        .map(|interface| {
            let opened = Interface::look_up(&interface.name).and_then(|found| {
                let source = LiveSource::open(&interface.name, &LiveOptions::default(), &[], None)?;
                Ok((found, source))
            });
            let offloads = ethtool.as_ref().and_then(|ethtool| ethtool.offloads(interface.index).ok());
            Listed::of(&interface, opened, offloads)
        })
        .collect();
    listed.sort_by(|one, other| one.name.cmp(&other.name));
    listed
}

impl Listed {
    fn of(
        interface: &pnet_datalink::NetworkInterface,
        opened: Result<(Interface, LiveSource), LiveError>,
        offloads: Option<Vec<Offload>>,
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
        let is_on = |offload| offloads.iter().flatten().any(|known| *known == offload);
        if !is_loopback && (is_on(Offload::Gro) || is_on(Offload::Lro)) {
            notes.push(format!(
                "segments may be seen put together, larger than on the wire: `ethtool -K {} gro off lro off` shows them as they came",
                interface.name
            ));
        }
        if capture == Some("portable") && is_on(Offload::Vlan) {
            notes.push(format!(
                "its card takes VLAN tags out of frames, and they are not seen: `ethtool -K {} rxvlan off`",
                interface.name
            ));
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
            offloads,
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
            offloads: Some(vec![Offload::Gro, Offload::Vlan]),
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
        assert_eq!(read[0]["offloads"], serde_json::json!(["gro", "vlan"]));
    }
}
