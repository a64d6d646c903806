//! What is known of a capture: TRUTH.tsv.

use anyhow::{Context, ensure};
use std::{collections::BTreeSet, path::Path};

/// Whether a capture should lead to a decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    Attack,
    /// An attack so faint that silence is accepted too.
    Weak,
    Benign,
    /// Benign, but looking like an attack.
    Hard,
}

/// One line of TRUTH.tsv.
#[derive(Debug, Clone)]
pub struct Truth {
    /// Below the data directory.
    pub path: String,
    pub verdict: Verdict,
    /// Names of the kinds that are right.
    pub kinds: BTreeSet<String>,
    pub sources: Sources,
}

/// Who did it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sources {
    Nobody,
    /// Spoofed or many: no source may be named.
    Anybody,
    These(BTreeSet<String>),
}

impl Truth {
    /// Reads TRUTH.tsv in `data`.
    ///
    /// Errors: the file cannot be read, or the line that is not one of ours.
    pub fn read(data: &Path) -> anyhow::Result<Vec<Self>> {
        let path = data.join("TRUTH.tsv");
        let text =
            std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let line = |(number, line): (usize, &str)| {
            Self::parse(line).with_context(|| format!("{} line {}", path.display(), number + 1))
        };
        text.lines().enumerate().skip(1).filter(|(_, text)| !text.trim().is_empty()).map(line).collect()
    }

    fn parse(line: &str) -> anyhow::Result<Self> {
        let fields: Vec<_> = line.split('\t').map(str::trim).collect();
        let [path, verdict, kinds, sources] = fields.as_slice() else {
            anyhow::bail!("takes four fields: path, verdict, kinds, sources");
        };
        ensure!(!path.is_empty(), "has no path");
        let verdict = match *verdict {
            "attack" => Verdict::Attack,
            "weak" => Verdict::Weak,
            "benign" => Verdict::Benign,
            "hard" => Verdict::Hard,
            other => anyhow::bail!("has the verdict {other:?}, not attack, weak, benign or hard"),
        };
        let list = |text: &str| text.split(',').map(|item| item.trim().to_owned()).collect::<BTreeSet<_>>();
        Ok(Self {
            path: (*path).to_owned(),
            verdict,
            kinds: if *kinds == "-" { BTreeSet::new() } else { list(kinds) },
            sources: match *sources {
                "-" => Sources::Nobody,
                "*" => Sources::Anybody,
                these => Sources::These(list(these)),
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_who_did_what() {
        let truth = Truth::parse("pcap/a.pcap\tattack\tport_scan,port_sweep\t10.0.0.1, 10.0.0.2").unwrap();
        assert_eq!((truth.path.as_str(), truth.verdict), ("pcap/a.pcap", Verdict::Attack));
        assert_eq!(truth.kinds.iter().collect::<Vec<_>>(), ["port_scan", "port_sweep"]);
        assert_eq!(truth.sources, Sources::These(["10.0.0.1".to_owned(), "10.0.0.2".to_owned()].into()));
        assert_eq!(Truth::parse("a\tbenign\t-\t-").unwrap().sources, Sources::Nobody);
        assert_eq!(Truth::parse("a\tattack\tsyn_flood\t*").unwrap().sources, Sources::Anybody);
        for bad in ["", "a\tattack", "a\tguilty\t-\t-", "\tattack\t-\t-", "a\tattack\t-\t-\t-"] {
            assert!(Truth::parse(bad).is_err(), "{bad:?}");
        }
    }
}
