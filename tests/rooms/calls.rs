//! Who calls whom in the conductor. Rust needs no import to call a method of one's own type, so
//! that files may hang together in a knot that no import shows.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use regex_lite::Regex;

/// By file: the files whose methods it calls, and which.
type Calls = BTreeMap<String, BTreeMap<String, BTreeSet<String>>>;

/// The code of each file of a room, without comments and tests.
fn code(src: &Path, room: &str) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    for path in super::rust_files(src, room) {
        let name = path.strip_prefix(src.join(room)).unwrap().to_str().unwrap().to_owned();
        if name.contains("test") || name == "idle.rs" {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        let (text, _tests) = text.split_once("#[cfg(test)]\nmod tests {").unwrap_or((&text, ""));
        let lines = text.lines().map(|line| line.split("//").next().unwrap_or_default());
        all.insert(name, lines.collect::<Vec<_>>().join("\n"));
    }
    all
}

/// Calls of methods that one file alone defines.
fn calls(code: &BTreeMap<String, String>) -> Calls {
    let method = Regex::new(r"\bfn (\w+)\s*(?:<[^>]*>)?\(\s*&(?:mut )?(?:'\w+ )?self\b").unwrap();
    let call = Regex::new(r"\b(?:self|conductor)\s*\.(\w+)\(").unwrap();
    let mut definers: BTreeMap<&str, BTreeSet<&String>> = BTreeMap::new();
    for (file, text) in code {
        for found in method.captures_iter(text) {
            definers.entry(found.get(1).unwrap().as_str()).or_default().insert(file);
        }
    }
    let mut calls = Calls::new();
    for (file, text) in code {
        let called = calls.entry(file.clone()).or_default();
        for found in call.captures_iter(text) {
            let name = &found[1];
            let Some(files) = definers.get(name).filter(|files| files.len() == 1) else { continue };
            let definer = files.first().unwrap();
            if *definer != file {
                called.entry((*definer).clone()).or_default().insert(name.to_owned());
            }
        }
    }
    calls
}

/// Every file that can be reached from `from` by calls.
fn reached(calls: &Calls, from: &str) -> BTreeSet<String> {
    let mut seen = BTreeSet::new();
    let mut next = vec![from];
    while let Some(file) = next.pop() {
        for called in calls.get(file).into_iter().flat_map(BTreeMap::keys) {
            if seen.insert(called.clone()) {
                next.push(called);
            }
        }
    }
    seen
}

/// The calls among files that reach themselves.
fn knots(calls: &Calls) -> Vec<String> {
    let knotted: BTreeSet<&String> =
        calls.keys().filter(|file| reached(calls, file).contains(*file)).collect();
    let inside = |file: &&String| knotted.contains(file);
    knotted
        .iter()
        .flat_map(|from| calls[*from].iter().map(move |(to, names)| (from, to, names)))
        .filter(|(_, to, _)| inside(to))
        .map(|(from, to, names)| format!("{from} -> {to}: {names:?}"))
        .collect()
}

#[test]
fn no_files_of_the_conductor_call_each_other_in_a_circle() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let calls = calls(&code(&src, "conductor"));
    let count: usize = calls.values().map(BTreeMap::len).sum();
    assert!(count > 50, "calls were found: {count}");
    let knots = knots(&calls);
    assert!(knots.is_empty(), "in a circle:\n{}", knots.join("\n"));
}

#[test]
fn a_circle_is_found() {
    let file = |text: &str| text.to_owned();
    let code = BTreeMap::from([
        ("a.rs".to_owned(), file("fn one(&self) { self\n.two() }")),
        ("b.rs".to_owned(), file("async fn two(&self) { conductor.three().await }")),
        ("c.rs".to_owned(), file("fn three<T>(&self, t: T) { self.one() }")),
        ("d.rs".to_owned(), file("fn four(&self) { self.one() }")),
    ]);
    let found = knots(&calls(&code));
    assert_eq!(
        found,
        ["a.rs -> b.rs: {\"two\"}", "b.rs -> c.rs: {\"three\"}", "c.rs -> a.rs: {\"one\"}"]
    );
}
