//! The arrows of docs/architecture.md, kept: which room may know which, and what the pure core may depend on.

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, Package};
use std::collections::{BTreeMap, BTreeSet};

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
    "pnet_packet",
    "postcard",
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
