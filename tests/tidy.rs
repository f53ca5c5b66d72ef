//! The house stays as it was drawn: layers, manifests, licences, no second copy of a heavy crate, nothing left undone.
//! All of it from `cargo metadata` and the sources, without further tools; `make lint` runs cargo-deny besides.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use serde_json::Value;

/// Which rooms a room may use (docs/ARCHITECTURE.md): imports point down, siblings never meet.
const LAYERS: &[(&str, &[&str])] = &[
    ("ferric-agent-wire", &[]),
    ("ferric-machine", &[]),
    ("ferric-agent", &["ferric-agent-wire"]),
    ("ferric-drivers", &["ferric-machine", "ferric-agent-wire"]),
    ("ferric-schema", &["ferric-machine"]),
    ("ferric-actors", &["ferric-drivers", "ferric-schema", "ferric-machine", "ferric-agent-wire"]),
    ("ferric-web", &["ferric-actors", "ferric-schema", "ferric-machine", "ferric-agent-wire"]),
    ("ferric-sim", &["ferric-drivers", "ferric-machine", "ferric-agent-wire"]),
    // a client of any Ironic: it knows nobody here
    ("ferric-swarm", &[]),
    (
        "ferric",
        &[
            "ferric-web",
            "ferric-sim",
            "ferric-swarm",
            "ferric-actors",
            "ferric-drivers",
            "ferric-schema",
            "ferric-machine",
            "ferric-agent-wire",
        ],
    ),
];

/// `machine` decides on paper: nothing in it can read a clock, do I/O or wait.
const MACHINE_MAY_USE: &[&str] = &["serde", "thiserror", "uuid"];

/// Crates of which a second version costs build time, size, or meaning (two runtimes, two TLS stacks).
const ONCE: &[&str] = &[
    "actix",
    "actix-http",
    "actix-rt",
    "actix-web",
    "diesel",
    "hyper",
    "hyper-util",
    "libsqlite3-sys",
    "nix",
    "pq-sys",
    "reqwest",
    "ring",
    "rustls",
    "serde",
    "serde_json",
    "sha2",
    "time",
    "tokio",
    "tracing",
    "uuid",
    "zstd-sys",
];

/// Crates that are not to come in, not even by way of others.
const NEVER: &[(&str, &str)] = &[
    ("aws-lc-sys", "one cryptography provider: ring"),
    ("ipmi-rs", "its sessions confuse replies; the message types are in ipmi-rs-core"),
    ("iscsi-client-rs", "AGPL"),
    ("native-tls", "TLS is rustls with ring"),
    ("openssl-sys", "TLS is rustls with ring"),
];

/// Licences that go with Apache-2.0 in one program; deny.toml holds the same list.
const LICENCES: &[&str] = &[
    "0BSD",
    "Apache-2.0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CDLA-Permissive-2.0",
    "ISC",
    "MIT",
    "PostgreSQL",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

static METADATA: LazyLock<Value> = LazyLock::new(|| {
    let out = Command::new(env!("CARGO"))
        .args([
            "metadata",
            "--format-version",
            "1",
            "--locked",
            "--filter-platform",
            "x86_64-unknown-linux-gnu",
        ])
        .current_dir(root())
        .output()
        .expect("cargo runs");
    assert!(out.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&out.stderr));
    serde_json::from_slice(&out.stdout).expect("cargo metadata is JSON")
});

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

fn packages() -> &'static [Value] {
    METADATA["packages"].as_array().expect("metadata has packages")
}

/// The packages that are built for this platform: metadata lists those of others too.
fn built() -> Vec<&'static Value> {
    let nodes = METADATA["resolve"]["nodes"].as_array().expect("metadata has the resolved graph");
    let ids: BTreeSet<&str> = nodes.iter().map(|node| text(node, "id")).collect();
    packages().iter().filter(|package| ids.contains(text(package, "id"))).collect()
}

fn members() -> Vec<&'static Value> {
    let ids = METADATA["workspace_members"].as_array().expect("metadata has the members");
    packages().iter().filter(|package| ids.contains(&package["id"])).collect()
}

fn manifest(package: &Value) -> toml::Table {
    let path = text(package, "manifest_path");
    std::fs::read_to_string(path).expect("a manifest can be read").parse().expect("a manifest is TOML")
}

/// Names in the dependency tables of a manifest with their specifications.
fn specifications(manifest: &toml::Table) -> Vec<(&str, &toml::Value)> {
    ["dependencies", "dev-dependencies", "build-dependencies"]
        .iter()
        .filter_map(|table| manifest.get(*table)?.as_table())
        .flatten()
        .map(|(name, specification)| (name.as_str(), specification))
        .collect()
}

fn sources() -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders: Vec<PathBuf> = [
        "src",
        "machine",
        "drivers",
        "schema",
        "actors",
        "web/src",
        "web/tests",
        "web/examples",
        "agent",
        "sim",
        "tests",
        "benches",
    ]
    .iter()
    .map(|folder| root().join(folder))
    .collect();
    while let Some(folder) = folders.pop() {
        let Ok(entries) = std::fs::read_dir(&folder) else { continue };
        for entry in entries {
            let path = entry.expect("a folder can be read").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    files
}

#[test]
fn imports_point_down_and_siblings_never_meet() {
    let layers: BTreeMap<&str, &[&str]> = LAYERS.iter().copied().collect();
    let mut wrong = Vec::new();
    for package in members() {
        let name = text(package, "name");
        let Some(below) = layers.get(name) else {
            wrong.push(format!("{name} has no place in LAYERS"));
            continue;
        };
        for dependency in package["dependencies"].as_array().expect("a package lists dependencies") {
            let used = text(dependency, "name");
            // tests may look at a room from above
            if layers.contains_key(used) && dependency["kind"] != "dev" && !below.contains(&used) {
                wrong.push(format!("{name} uses {used}"));
            }
        }
    }
    assert!(wrong.is_empty(), "layers: {wrong:#?}");
}

#[test]
fn machine_has_no_clock_no_io_and_no_async() {
    let machine =
        members().into_iter().find(|package| package["name"] == "ferric-machine").expect("machine is here");
    let manifest = manifest(machine);
    let used: Vec<&String> =
        manifest["dependencies"].as_table().expect("machine has dependencies").keys().collect();
    assert!(used.iter().all(|name| MACHINE_MAY_USE.contains(&name.as_str())), "machine uses {used:?}");
    let mut wrong = Vec::new();
    for file in sources().iter().filter(|file| file.starts_with(root().join("machine/src"))) {
        let code = std::fs::read_to_string(file).expect("a source can be read");
        for word in ["SystemTime", "Instant::", "std::fs", "std::net", "std::thread", "async fn", ".await"] {
            if code.contains(word) {
                wrong.push(format!("{}: {word}", file.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "machine: {wrong:#?}");
}

#[test]
fn every_room_takes_edition_lints_licence_and_versions_from_the_workspace() {
    let mut wrong = Vec::new();
    for package in members() {
        let (name, manifest) = (text(package, "name"), manifest(package));
        let inherited = |table: &str, key: &str| {
            manifest
                .get(table)
                .and_then(|t| t.get(key))
                .is_some_and(|v| v.get("workspace") == Some(&true.into()))
        };
        for key in ["version", "edition", "rust-version", "license", "publish"] {
            if !inherited("package", key) {
                wrong.push(format!("{name}: {key}"));
            }
        }
        if manifest.get("lints").and_then(|lints| lints.get("workspace")) != Some(&true.into()) {
            wrong.push(format!("{name}: lints"));
        }
        for (dependency, specification) in specifications(&manifest) {
            if specification.get("workspace") != Some(&true.into()) {
                wrong.push(format!("{name}: the version of {dependency}"));
            }
        }
    }
    assert!(wrong.is_empty(), "not from the workspace: {wrong:#?}");
}

#[test]
fn every_dependency_of_the_workspace_is_used() {
    let manifests: Vec<toml::Table> = members().into_iter().map(manifest).collect();
    let used: BTreeSet<&str> =
        manifests.iter().flat_map(|manifest| specifications(manifest)).map(|(name, _)| name).collect();
    let workspace =
        manifests.iter().find_map(|manifest| manifest.get("workspace")).expect("the root is a member");
    let offered = workspace["dependencies"].as_table().expect("the workspace has dependencies");
    // a room (it has a path) may be used by no other: the agent is a program
    let foreign = offered.iter().filter(|(_, specification)| specification.get("path").is_none());
    let idle: Vec<&String> =
        foreign.map(|(name, _)| name).filter(|name| !used.contains(name.as_str())).collect();
    assert!(idle.is_empty(), "in [workspace.dependencies] and used by nobody: {idle:?}");
}

#[test]
fn heavy_crates_are_there_once_and_unwanted_ones_never() {
    let mut versions: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for package in built() {
        versions.entry(text(package, "name")).or_default().insert(text(package, "version"));
    }
    let mut wrong = Vec::new();
    for name in ONCE {
        if let Some(found) = versions.get(name).filter(|found| found.len() > 1) {
            wrong.push(format!("{name} in versions {found:?}"));
        }
    }
    for (name, reason) in NEVER {
        if versions.contains_key(name) {
            wrong.push(format!("{name}: {reason}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?} (`cargo tree -i CRATE@VERSION` says who brings it)");
}

#[test]
fn every_licence_goes_with_apache_2() {
    let wrong: Vec<String> = built()
        .iter()
        .filter(|package| !permitted(text(package, "license")))
        .map(|package| format!("{} {}: {}", package["name"], package["version"], package["license"]))
        .collect();
    assert!(wrong.is_empty(), "licences: {wrong:#?}");
}

/// Whether an SPDX expression (AND, OR, WITH, brackets; `/` is an old OR) can be met with `LICENCES` alone.
fn permitted(expression: &str) -> bool {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut rest = words.as_slice();
    !words.is_empty() && any_of(&mut rest) && rest.is_empty()
}

fn any_of(rest: &mut &[&str]) -> bool {
    let mut met = all_of(rest);
    while rest.first() == Some(&"OR") {
        *rest = &rest[1..];
        met |= all_of(rest);
    }
    met
}

fn all_of(rest: &mut &[&str]) -> bool {
    let mut met = one(rest);
    while rest.first() == Some(&"AND") {
        *rest = &rest[1..];
        met &= one(rest);
    }
    met
}

fn one(rest: &mut &[&str]) -> bool {
    let Some((&word, after)) = rest.split_first() else { return false };
    *rest = after;
    if word == "(" {
        let met = any_of(rest);
        *rest = rest.split_first().map_or(&[], |(_, after)| after);
        return met;
    }
    if rest.first() == Some(&"WITH") {
        // an exception only ever permits more
        *rest = rest.get(2..).unwrap_or_default();
    }
    LICENCES.contains(&word)
}

#[test]
fn licence_expressions_are_read_as_spdx_means_them() {
    for fine in [
        "MIT",
        "MIT/Apache-2.0",
        "MIT OR GPL-3.0",
        "(MIT OR GPL-2.0) AND ISC",
        "Apache-2.0 WITH LLVM-exception",
    ] {
        assert!(permitted(fine), "{fine}");
    }
    for wrong in ["", "AGPL-3.0-or-later", "MIT AND GPL-2.0", "(GPL-2.0 OR LGPL-2.1) AND MIT", "MIT GPL-2.0"]
    {
        assert!(!permitted(wrong), "{wrong}");
    }
}

#[test]
fn nothing_is_left_undone() {
    let mut wrong = Vec::new();
    for file in sources() {
        if file.ends_with("tests/tidy.rs") {
            continue;
        }
        let code = std::fs::read_to_string(&file).expect("a source can be read");
        for (number, line) in code.lines().enumerate() {
            for word in ["todo!(", "unimplemented!(", "dbg!(", "FIXME", "XXX"] {
                if line.contains(word) {
                    wrong.push(format!("{}:{}: {word}", file.display(), number + 1));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
