//! The architecture, checked: a room imports downward, never its neighbour and never upward.

#![allow(clippy::unwrap_used, reason = "a test panics where it fails")]

mod calls;

use std::fs;
use std::path::{Path, PathBuf};

/// Each room and what it may import of ours, besides itself.
const ROOMS: &[(&str, &[&str])] = &[
    ("base", &[]),
    ("model", &["base"]),
    ("store", &["model", "base"]),
    ("openstack", &["model", "base"]),
    ("pki", &["model", "base"]),
    ("kube", &["model", "base"]),
    ("driver", &["model", "base"]),
    ("config", &["model", "base"]),
    ("conductor", &["driver", "store", "openstack", "pki", "kube", "model", "base"]),
    // The doors see the token cache and its errors, not the clients behind it.
    ("api", &["conductor", "store", "pki", "openstack::token", "model", "base"]),
    ("discovery", &["conductor", "store", "pki", "openstack::token", "model", "base"]),
    ("bootstrap", &["conductor", "store", "pki", "openstack::token", "model", "base"]),
    // It sees what the daemon would, and refuses what the conductor would, without running one.
    (
        "preflight",
        &[
            "ops::control",
            "conductor",
            "driver",
            "store",
            "openstack",
            "pki",
            "config",
            "model",
            "base",
        ],
    ),
    ("setup", &["openstack", "config", "model", "base"]),
    ("ops", &["conductor", "store", "pki", "openstack::token", "model", "base"]),
    (
        "daemon",
        &[
            "api",
            "discovery",
            "bootstrap",
            "ops",
            "conductor",
            "driver",
            "store",
            "openstack",
            "pki",
            "config",
            "model",
            "base",
        ],
    ),
    ("lab", &["base"]),
];

#[test]
fn every_import_points_downward() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut wrong = Vec::new();
    let mut seen = 0;
    for (room, may) in ROOMS {
        for file in rust_files(&src, room) {
            let text = fs::read_to_string(&file).unwrap();
            for (number, line) in text.lines().enumerate() {
                let code = line.split("//").next().unwrap_or_default();
                for import in code.split("crate::").skip(1) {
                    seen += 1;
                    let allowed = import.starts_with(room)
                        || may.iter().any(|m| {
                            import.strip_prefix(m).is_some_and(|rest| {
                                !rest.starts_with(|c: char| c.is_alphanumeric() || c == '_')
                            })
                        });
                    if !allowed {
                        wrong.push(format!("{}:{}: {line}", file.display(), number + 1));
                    }
                }
            }
        }
    }
    assert!(seen > 100, "the imports were looked at: {seen}");
    assert!(wrong.is_empty(), "upward or sideways imports:\n{}", wrong.join("\n"));
}

#[test]
fn every_room_is_in_the_table() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let lib = fs::read_to_string(src.join("lib.rs")).unwrap();
    let rooms: Vec<&str> =
        lib.lines().filter_map(|l| l.strip_prefix("pub mod ")?.strip_suffix(';')).collect();
    assert!(rooms.len() > 5);
    for room in rooms {
        assert!(ROOMS.iter().any(|(name, _)| *name == room), "{room} is not in the table");
    }
}

#[test]
fn no_file_has_grown_past_its_idea() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for file in rust_files(src.parent().unwrap(), "src") {
        let lines = fs::read_to_string(&file).unwrap().lines().count();
        assert!(lines <= 600, "{} has {lines} lines: look for the second idea", file.display());
    }
}

fn rust_files(src: &Path, room: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let single = src.join(format!("{room}.rs"));
    if single.is_file() {
        files.push(single);
    }
    let mut folders = vec![src.join(room)];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        for entry in entries {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                files.push(path);
            }
        }
    }
    files
}
