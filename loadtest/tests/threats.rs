//! docs/threats.md and docs/limits.md name tests; they exist, and each kind of bad input has some.

#![allow(clippy::unwrap_used, reason = "a panic is the report")]

use std::{collections::BTreeSet, fs, path::Path};

#[test]
fn every_test_that_the_documentation_names_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut tests = BTreeSet::new();
    for room in fs::read_dir(root).unwrap().flatten() {
        if room.path().join("Cargo.toml").is_file() {
            for part in ["src", "tests"] {
                collect(&room.path().join(part), &mut tests);
            }
        }
    }
    let documented = fs::read_to_string(root.join("docs/threats.md")).unwrap();
    let rows: Vec<_> = documented.lines().filter(|line| line.starts_with("| ")).skip(1).collect();
    assert_eq!(rows.len(), 29);
    for row in rows {
        let cells: Vec<_> = row.trim_matches('|').split(" | ").collect();
        let [bad, _, named] = cells[..] else { panic!("{row}") };
        let named: Vec<_> = named.split('`').skip(1).step_by(2).collect();
        assert!(named.len() >= 2, "nothing is named for {bad}");
        for name in named {
            assert!(tests.contains(name), "docs/threats.md names {name}, which is no test");
        }
    }
}

#[test]
fn every_bound_of_a_sensor_is_listed_with_a_test_that_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut tests = BTreeSet::new();
    for room in ["core", "sensor"] {
        for part in ["src", "tests"] {
            collect(&root.join(room).join(part), &mut tests);
        }
    }
    let documented = fs::read_to_string(root.join("docs/limits.md")).unwrap();
    let rows: Vec<_> = documented.lines().filter(|line| line.starts_with("| ")).skip(1).collect();
    assert_eq!(rows.len(), 21);
    for row in rows {
        let cells: Vec<_> = row.trim_matches('|').split('|').map(str::trim).collect();
        let [what, most, past, _, named] = cells[..] else { panic!("{row}") };
        assert!(!most.is_empty() && !past.is_empty(), "{what} has no bound or no outcome");
        let named: Vec<_> = named.split('`').skip(1).step_by(2).collect();
        assert!(!named.is_empty(), "nothing fills {what}");
        for name in named {
            assert!(tests.contains(name), "docs/limits.md names {name}, which is no test");
        }
    }
}

/// Functions marked as tests, and those that proptest makes one.
fn collect(directory: &Path, tests: &mut BTreeSet<String>) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            collect(&entry.path(), tests);
        } else if entry.path().extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(entry.path()).unwrap();
            let mut marked = false;
            for line in text.lines().map(str::trim) {
                let declared = line.strip_prefix("async ").unwrap_or(line).strip_prefix("fn ");
                if let Some(declared) = declared.filter(|_| marked) {
                    tests.insert(declared.split(['(', '<']).next().unwrap_or_default().to_owned());
                }
                marked = line.starts_with("#[test]")
                    || line.starts_with("#[tokio::test")
                    || (marked && line.starts_with("#["));
            }
        }
    }
}
