use super::*;
use serde::Deserialize;
use std::{collections::BTreeMap, fs, os::unix::fs::PermissionsExt, time::Duration};

#[derive(Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
struct Settings {
    name: String,
    #[serde(default)]
    listen: Option<Listen>,
    #[serde(default)]
    limits: BTreeMap<String, BTreeMap<String, u32>>,
    #[serde(default)]
    never_block: Vec<String>,
    #[serde(default)]
    timeout: Option<HumanDuration>,
}

#[derive(Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
struct Listen {
    agents: String,
}

fn read(text: &str) -> Result<Settings, ConfigError> {
    parse(Path::new("/etc/netguard/test.yaml"), text)
}

/// The error's line and text.
fn refused(text: &str) -> (Option<usize>, String) {
    let error = read(text).expect_err(text);
    (error.line(), error.to_string())
}

#[test]
fn a_good_file_is_taken_as_it_is_written() {
    let text = "\u{feff}# ours\nname: \"web & *co #1\" # name\nlisten:\n  agents: 0.0.0.0:7443\nlimits:\n  a: {x: 1, y: 2}\nnever_block:\n  - 10.0.0.1\n  - it's # not a quote\ntimeout: 1m30s\n";
    assert_eq!(
        read(text).unwrap(),
        Settings {
            name: "web & *co #1".into(),
            listen: Some(Listen { agents: "0.0.0.0:7443".into() }),
            limits: BTreeMap::from([("a".into(), BTreeMap::from([("x".into(), 1), ("y".into(), 2)]))]),
            never_block: vec!["10.0.0.1".into(), "it's".into()],
            timeout: Some(HumanDuration(Duration::from_secs(90))),
        }
    );
}

#[test]
fn unknown_keys_are_errors_with_their_line() {
    let (line, text) = refused("name: a\nlissten: {}\n");
    assert_eq!(line, Some(2), "{text}");
    assert!(text.starts_with("/etc/netguard/test.yaml:2: ") && text.contains("lissten"), "{text}");
    let (line, text) = refused("name: a\nlisten:\n  agents: x\n  agentz: y\n");
    assert_eq!(line, Some(4), "{text}");
}

#[test]
fn repeated_keys_are_errors_in_structs_maps_and_below() {
    for text in [
        "name: a\nname: b\n",
        "name: a\nlisten:\n  agents: x\n  agents: y\n",
        "name: a\nlimits:\n  a: {}\n  a: {}\n",
        "name: a\nlimits:\n  a:\n    x: 1\n    x: 2\n",
        "name: a\nlimits: {a: {x: 1, x: 2}}\n",
    ] {
        let (line, problem) = refused(text);
        assert!(line.is_some() && problem.contains("duplicate"), "{text} -> {line:?} {problem}");
    }
    assert_eq!(refused("name: a\nlimits:\n  a:\n    x: 1\n    y: 1\n    x: 2\n").0, Some(6));
    assert_eq!(refused("name: a\nlisten:\n  agents: x\nname: b\n").0, Some(4));
}

#[test]
fn nothing_is_expanded() {
    let mut bomb = "a: &a [lol, lol, lol, lol, lol, lol, lol, lol, lol]\n".to_owned();
    for (name, before) in
        [("b", "a"), ("c", "b"), ("d", "c"), ("e", "d"), ("f", "e"), ("g", "f"), ("h", "g"), ("i", "h")]
    {
        bomb.push_str(&format!("{name}: &{name} [{}]\n", vec![format!("*{before}"); 9].join(", ")));
    }
    let (line, text) = refused(&bomb);
    assert_eq!(line, Some(1));
    assert!(text.contains("anchors"), "{text}");
    assert_eq!(refused("name: a\nnever_block: [*x]\n").0, Some(2));
    assert_eq!(refused("name: a\nnever_block:\n- &x 1\n").0, Some(3));
    assert_eq!(refused("name: a\nlimits: {<<: *x}\n").0, Some(2));
}

#[test]
fn empty_tabbed_and_double_files_say_what_they_are() {
    for text in ["", "\n\n", "# only words\n", "---\n", "\u{feff}"] {
        assert!(refused(text).1.contains("empty"), "{text:?}");
    }
    let (line, text) = refused("name: a\nlisten:\n\tagents: x\n");
    assert_eq!(line, Some(3));
    assert!(text.contains("tab"), "{text}");
    assert!(refused("name: a\n---\nname: b\n").1.contains("document"));
    assert!(refused("name: [\n").0.is_some());
}

#[test]
fn a_number_is_not_a_duration() {
    let (line, text) = refused("name: a\ntimeout: 10\n");
    assert_eq!(line, Some(2), "{text}");
    assert!(text.contains("unit"), "{text}");
    assert!(refused("name: a\ntimeout: \"10\"\n").1.contains("10s"));
}

#[test]
fn deep_nesting_is_an_error_and_not_a_crash() {
    assert!(refused(&format!("name: {}\n", "[".repeat(1_000_000))).1.contains("deep"));
    assert!(read(&format!("name: {}x\n", "- ".repeat(100_000))).is_err());
    assert!(read(&format!("name:\n{}x\n", "- ".repeat(100_000))).is_err());
}

fn written(directory: &tempfile::TempDir, name: &str, text: impl AsRef<[u8]>, mode: u32) -> PathBuf {
    let path = directory.path().join(name);
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    path
}

#[test]
fn only_regular_files_of_sane_size_are_read() {
    let directory = tempfile::tempdir().unwrap();
    let good = written(&directory, "good.yaml", "name: a\n", 0o644);
    assert!(load::<Settings>(&good).is_ok());

    let missing = load::<Settings>(&directory.path().join("none.yaml")).unwrap_err();
    assert!(matches!(missing, ConfigError::Unreadable { .. }) && missing.to_string().contains("none.yaml"));
    assert!(load::<Settings>(directory.path()).unwrap_err().to_string().contains("regular file"));
    assert!(load::<Settings>(Path::new("/dev/zero")).unwrap_err().to_string().contains("regular file"));

    let large = written(&directory, "large.yaml", "#".repeat(1 << 20 | 1), 0o644);
    assert!(load::<Settings>(&large).unwrap_err().to_string().contains("larger"));
    let latin = written(&directory, "latin.yaml", b"name: a\n# caf\xe9\n", 0o644);
    assert_eq!(load::<Settings>(&latin).unwrap_err().line(), Some(2));
    let open = written(&directory, "open.yaml", "name: a\n", 0o646);
    assert!(load::<Settings>(&open).unwrap_err().to_string().contains("chmod o-w"));
}

#[test]
fn secrets_are_read_only_from_private_files() {
    let directory = tempfile::tempdir().unwrap();
    let private = written(&directory, "private", " ngj1.x\n", 0o600);
    assert_eq!(read_secret(&private).unwrap(), "ngj1.x");
    let shared = written(&directory, "shared", "ngj1.x\n", 0o640);
    let error = read_secret(&shared).unwrap_err().to_string();
    assert!(error.contains("chmod 600") && !error.contains("ngj1"), "{error}");
    assert!(load_secret::<Settings>(&written(&directory, "s.yaml", "name: a\n", 0o604)).is_err());
}

#[test]
fn a_link_may_not_leave_its_directory() {
    let directory = tempfile::tempdir().unwrap();
    let mounted = directory.path().join("mounted");
    fs::create_dir_all(mounted.join("..2026")).unwrap();
    fs::write(mounted.join("..2026/s.yaml"), "name: a\n").unwrap();
    std::os::unix::fs::symlink("..2026", mounted.join("..data")).unwrap();
    std::os::unix::fs::symlink("..data/s.yaml", mounted.join("s.yaml")).unwrap();
    assert!(load::<Settings>(&mounted.join("s.yaml")).is_ok());

    written(&directory, "outside.yaml", "name: a\n", 0o644);
    std::os::unix::fs::symlink("../outside.yaml", mounted.join("out.yaml")).unwrap();
    assert!(load::<Settings>(&mounted.join("out.yaml")).unwrap_err().to_string().contains("symbolic link"));
}

proptest::proptest! {
    #[test]
    fn no_text_makes_the_reader_panic(text in "[ -~\n\t]{0,200}") {
        let _ = read(&text);
    }
}
