//! The rules of the house that no compiler checks: which floor may reach what, and that every room keeps the lints.
//!
//! They read the manifests as cargo understands them, so a convenient import that makes the core impure fails here.

use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .nth(2)
        .expect("crates/allswell is two below")
        .to_owned()
}

/// The crates that a room reaches, itself included, without those that only its tests need.
fn reached_by(room: &str) -> Vec<String> {
    let tree = Command::new(env!("CARGO"))
        .args([
            "tree",
            "--package",
            room,
            "--edges",
            "normal",
            "--prefix",
            "none",
            "--format",
            "{lib}",
            "--offline",
        ])
        .current_dir(root())
        .output()
        .expect("cargo runs");
    assert!(tree.status.success(), "{}", String::from_utf8_lossy(&tree.stderr));
    let text = String::from_utf8(tree.stdout).expect("names are text");
    text.lines()
        .map(|line| line.trim().trim_end_matches(" (*)").to_owned())
        .filter(|line| !line.is_empty())
        .collect()
}

/// Each room and the rooms it may reach.
const FLOORS: &[(&str, &[&str])] = &[
    ("allswell-core", &[]),
    ("allswell-integrations", &["allswell_core"]),
    ("allswell-store", &["allswell_core"]),
    ("allswell-outbound", &["allswell_core"]),
    ("allswell-runner", &["allswell_core"]),
    (
        "allswell-engine",
        &["allswell_core", "allswell_integrations", "allswell_store"],
    ),
    (
        "allswell-web",
        &[
            "allswell_core",
            "allswell_integrations",
            "allswell_store",
            "allswell_engine",
        ],
    ),
    (
        "allswell-sim",
        &[
            "allswell_core",
            "allswell_integrations",
            "allswell_store",
            "allswell_engine",
        ],
    ),
];

#[test]
fn the_pure_rooms_reach_no_runtime_no_driver_and_no_socket() {
    for room in ["allswell-core", "allswell-integrations"] {
        let reached = reached_by(room);
        assert!(reached.len() > 5, "the tree was read: {reached:?}");
        for banned in [
            "tokio",
            "mio",
            "socket2",
            "hyper",
            "axum",
            "rusqlite",
            "libsqlite3_sys",
            "tracing",
            "getrandom",
            "rustix",
        ] {
            assert!(
                !reached.iter().any(|name| name == banned),
                "{room} reaches {banned}"
            );
        }
    }
}

#[test]
fn each_room_imports_only_downward() {
    for (room, allowed) in FLOORS {
        let own = room.replace('-', "_");
        let rooms = reached_by(room)
            .into_iter()
            .filter(|name| name.starts_with("allswell") && *name != own);
        for reached in rooms {
            assert!(allowed.contains(&reached.as_str()), "{room} reaches {reached}");
        }
    }
}

#[test]
fn what_is_only_for_development_is_not_in_the_binary() {
    let reached = reached_by("allswell");
    for room in ["allswell_sim", "allswell_testkit"] {
        assert!(
            !reached.iter().any(|name| name == room),
            "the binary reaches {room}"
        );
    }
}

#[test]
fn every_room_forbids_unsafe_code() {
    let mut seen = 0;
    for entry in std::fs::read_dir(root().join("crates")).expect("crates is there") {
        let manifest = entry.expect("an entry").path().join("Cargo.toml");
        let text = std::fs::read_to_string(&manifest).expect("a manifest");
        let forbids = text.contains("[lints]\nworkspace = true") || text.contains("unsafe_code = \"forbid\"");
        assert!(forbids, "{}", manifest.display());
        seen += 1;
    }
    assert!(seen >= FLOORS.len());
    let workspace = std::fs::read_to_string(root().join("Cargo.toml")).expect("a manifest");
    assert!(workspace.contains("unsafe_code = \"forbid\""));
}

#[test]
fn sql_is_spoken_in_the_store_alone() {
    let mut dirs = vec![root().join("crates")];
    let mut looked = 0;
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(dir).expect("a directory") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                dirs.push(path);
                continue;
            }
            let outside = !path.components().any(|part| part.as_os_str() == "store");
            let ours = path.extension().is_some_and(|end| end == "rs")
                && !path.to_string_lossy().contains("/tests/");
            if outside && ours {
                let text = std::fs::read_to_string(&path)
                    .expect("a source file")
                    .to_lowercase();
                for speech in [
                    "insert into ",
                    "delete from ",
                    " returning ",
                    "select * from",
                    "rusqlite",
                ] {
                    assert!(!text.contains(speech), "{} says {speech:?}", path.display());
                }
                looked += 1;
            }
        }
    }
    assert!(looked > 50, "{looked} files were read");
}

#[test]
fn nobody_but_the_door_and_the_store_reaches_a_client_of_the_network() {
    for room in [
        "allswell-core",
        "allswell-integrations",
        "allswell-engine",
        "allswell-web",
    ] {
        let reached = reached_by(room);
        for banned in ["hickory_resolver", "webpki_roots", "allswell_outbound"] {
            assert!(
                !reached.iter().any(|name| name == banned),
                "{room} reaches {banned}"
            );
        }
    }
}

#[test]
fn the_runner_is_a_client_without_runtime_store_or_door() {
    let reached = reached_by("allswell-runner");
    assert!(reached.len() > 5, "the tree was read: {reached:?}");
    for banned in [
        "tokio",
        "hyper",
        "axum",
        "rusqlite",
        "tracing",
        "clap",
        "hickory_resolver",
    ] {
        assert!(
            !reached.iter().any(|name| name == banned),
            "the runner reaches {banned}"
        );
    }
    // And nothing of the server reaches it: it would be a second way outward.
    for (room, _) in FLOORS.iter().filter(|(room, _)| *room != "allswell-runner") {
        assert!(
            !reached_by(room).iter().any(|name| name == "allswell_runner"),
            "{room} reaches the runner"
        );
    }
}
