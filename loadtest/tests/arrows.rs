//! The arrows of docs/architecture.md, kept: which room may know which, and what the pure core may depend on.

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, Package};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// Room → the rooms it may know. Whoever is not here may not exist.
const ARROWS: &[(&str, &[&str])] = &[
    ("netguard-core", &[]),
    ("netguard-proto", &["netguard-core"]),
    ("netguard-daemon", &[]),
    ("netguard-sensor", &["netguard-core", "netguard-proto", "netguard-daemon"]),
    ("netguard-coordinator", &["netguard-core", "netguard-proto", "netguard-daemon"]),
    ("netguard-responder", &["netguard-core", "netguard-proto", "netguard-daemon"]),
    ("netguard-admin", &["netguard-proto"]),
];

/// May know everybody.
const ANY: &[&str] = &["netguard", "netguard-lab"];

/// Everything the core may depend on, build included: none of it does IO, knows a clock or draws random numbers.
const CORE_DEPENDS_ON: &[&str] = &[
    "base64",
    "datasketches",
    "foldhash",
    "hashbrown",
    "ipnet",
    "memchr",
    "postcard",
    "prefetch-index",
    "rpds",
    "serde",
    "sha1",
    "sha2",
    "thiserror",
];

/// What must not even come in behind those: a runtime, sockets, files of a database, a source of chance.
const CORE_NEVER: &[&str] = &[
    "async-std",
    "getrandom",
    "hyper",
    "libc",
    "mio",
    "openraft",
    "pnet_datalink",
    "rand",
    "rand_core",
    "redb",
    "rustix",
    "rustls",
    "sled",
    "socket2",
    "time",
    "tokio",
    "tonic",
    "chrono",
];

fn metadata() -> Metadata {
    MetadataCommand::new()
        .manifest_path(concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml"))
        .other_options(
            ["--locked", "--offline", "--filter-platform", "x86_64-unknown-linux-gnu"].map(str::to_owned),
        )
        .exec()
        .expect("cargo metadata reads the workspace")
}

/// What a package depends on to be built and to run; what only its tests use is its own affair.
fn dependencies(package: &Package) -> BTreeSet<String> {
    package
        .dependencies
        .iter()
        .filter(|dependency| dependency.kind != DependencyKind::Development)
        .map(|dependency| dependency.name.clone())
        .collect()
}

#[test]
fn every_room_knows_only_whom_it_may() {
    let metadata = metadata();
    let rooms: BTreeMap<String, BTreeSet<String>> = metadata
        .workspace_packages()
        .into_iter()
        .map(|package| (package.name.to_string(), dependencies(package)))
        .collect();
    let allowed: BTreeMap<&str, &[&str]> = ARROWS.iter().copied().collect();
    for (room, knows) in &rooms {
        let ours: Vec<_> = knows.iter().filter(|name| rooms.contains_key(*name)).collect();
        if ANY.contains(&room.as_str()) {
            continue;
        }
        let may = allowed
            .get(room.as_str())
            .unwrap_or_else(|| panic!("{room} is a room without arrows: give it a row here"));
        for other in ours {
            assert!(may.contains(&other.as_str()), "{room} must not know {other}");
        }
    }
    for (room, _) in ARROWS {
        assert!(rooms.contains_key(*room), "{room} has arrows but is no room");
    }
}

#[test]
fn nobody_knows_another_room_by_its_tests_either_when_they_are_siblings() {
    let siblings = ["netguard-sensor", "netguard-coordinator", "netguard-responder"];
    for package in metadata().workspace_packages() {
        if !siblings.contains(&package.name.as_str()) {
            continue;
        }
        // A room's tests may ask it for a feature of its own.
        for dependency in package.dependencies.iter().filter(|other| other.name != package.name.as_str()) {
            assert!(
                !siblings.contains(&dependency.name.as_str()),
                "{} must not know {}",
                package.name,
                dependency.name
            );
        }
    }
}

/// The one file that may hold unsafe code: memory shared with the kernel.
const UNSAFE: &str = "sensor/src/capture/ring/sys.rs";

/// The lints refuse unsafe code, and unsafe code without its reason, wherever they are not told otherwise.
#[test]
fn unsafe_code_is_allowed_in_one_file() {
    let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    let lints = fs::read_to_string(root.join("Cargo.toml")).unwrap();
    assert!(
        lints.contains("unsafe_code = \"deny\"") && lints.contains("undocumented_unsafe_blocks = \"warn\"")
    );
    let mut files = Vec::new();
    for package in metadata().workspace_packages() {
        let manifest = fs::read_to_string(&package.manifest_path).unwrap();
        assert!(manifest.contains("[lints]\nworkspace = true"), "{}", package.name);
        sources(package.manifest_path.parent().unwrap().as_std_path(), &mut files);
    }
    assert!(files.len() > 100);
    let allowing: Vec<_> = files
        .iter()
        .filter(|file| fs::read_to_string(file).unwrap().contains(concat!("allow", "(unsafe_code")))
        .map(|file| fs::canonicalize(file).unwrap())
        .collect();
    assert_eq!(allowing, [fs::canonicalize(root.join(UNSAFE)).unwrap()]);
}

fn sources(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            sources(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

#[test]
fn the_core_is_pure_by_its_manifest() {
    let metadata = metadata();
    let core =
        metadata.workspace_packages().into_iter().find(|package| package.name == "netguard-core").unwrap();
    let expected: BTreeSet<_> = CORE_DEPENDS_ON.iter().map(|name| (*name).to_owned()).collect();
    assert_eq!(
        dependencies(core),
        expected,
        "a new dependency of the core needs a place in this list, and a reason"
    );

    // Everything behind it, as it is resolved for building.
    let resolve = metadata.resolve.as_ref().unwrap();
    let nodes: BTreeMap<_, _> = resolve.nodes.iter().map(|node| (&node.id, node)).collect();
    let names: BTreeMap<_, _> =
        metadata.packages.iter().map(|package| (&package.id, package.name.as_str())).collect();
    let mut behind = BTreeSet::new();
    let mut waiting = vec![&core.id];
    while let Some(id) = waiting.pop() {
        for dependency in &nodes[id].deps {
            let runs = dependency.dep_kinds.iter().any(|kind| kind.kind == DependencyKind::Normal);
            if runs && behind.insert(names[&dependency.pkg]) {
                waiting.push(&dependency.pkg);
            }
        }
    }
    for never in CORE_NEVER {
        assert!(
            !behind.contains(never),
            "the core is not pure: {never} comes in behind its dependencies: {behind:?}"
        );
    }
}
