//! The operator's policy files: read once at the start, and again whenever they change.
//!
//! What cannot be read or understood changes nothing: the last good rules stay in force, and
//! the log says so.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde_json::Value;
use tracing::{error, info};

use super::Policy;

/// No operator writes more.
const MOST_BYTES: u64 = 1 << 20;

/// Why policy files are not usable.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {reason}", path.display())]
pub struct PolicyError {
    pub path: PathBuf,
    pub reason: String,
}

/// Where rules are looked for.
#[derive(Clone, Debug, Default)]
pub struct Source {
    /// Missing is no error: nothing is overridden then.
    pub file: Option<PathBuf>,
    /// Whether the operator named the file, so that it must be there.
    pub is_required: bool,
    /// Folders whose files are read in order of their names; a later rule wins.
    pub dirs: Vec<PathBuf>,
}

/// What a file looked like: enough to notice that it was replaced.
type Stamp = (PathBuf, Option<SystemTime>, u64);

/// A source and what it looked like when it was last read.
#[derive(Debug)]
pub struct Watch {
    source: Source,
    seen: Vec<Stamp>,
}

impl Source {
    /// Every file there is, in order of reading.
    fn files(&self) -> Result<Vec<PathBuf>, PolicyError> {
        let mut files = Vec::new();
        if let Some(file) = &self.file {
            match file.is_file() {
                true => files.push(file.clone()),
                false if self.is_required => {
                    let reason = "there is no such file; policy.file names it".to_owned();
                    return Err(PolicyError { path: file.clone(), reason });
                }
                false => {}
            }
        }
        for dir in &self.dirs {
            let Ok(entries) = fs::read_dir(dir) else { continue };
            let mut found: Vec<PathBuf> = entries
                .filter_map(|entry| Some(entry.ok()?.path()))
                .filter(|path| path.is_file() && !is_hidden(path))
                .collect();
            found.sort();
            files.append(&mut found);
        }
        Ok(files)
    }

    fn stamps(&self) -> Vec<Stamp> {
        let files = self.files().unwrap_or_default();
        let stamp = |path: PathBuf| {
            let meta = fs::metadata(&path).ok();
            let changed = meta.as_ref().and_then(|m| m.modified().ok());
            (path, changed, meta.map_or(0, |m| m.len()))
        };
        files.into_iter().map(stamp).collect()
    }

    /// The built-in rules with those of the files. Blocks on the disk.
    pub fn read(&self) -> Result<Policy, PolicyError> {
        let mut rules = BTreeMap::new();
        for path in self.files()? {
            let wrong = |reason: String| PolicyError { path: path.clone(), reason };
            let length = fs::metadata(&path).map_err(|e| wrong(e.to_string()))?.len();
            if length > MOST_BYTES {
                return Err(wrong(format!("{length} bytes are too many for a policy")));
            }
            let text = fs::read_to_string(&path).map_err(|e| wrong(e.to_string()))?;
            rules.extend(parse(&text).map_err(wrong)?);
        }
        Ok(Policy::with_overrides(rules))
    }

    /// Reads the rules, and remembers what the files looked like before.
    pub fn watch(self) -> Result<(Policy, Watch), PolicyError> {
        let seen = self.stamps();
        let policy = self.read()?;
        Ok((policy, Watch { source: self, seen }))
    }
}

impl Watch {
    /// New rules, if the files have changed and can be understood. Blocks on the disk.
    pub fn look(&mut self) -> Option<Policy> {
        let now = self.source.stamps();
        if now == self.seen {
            return None;
        }
        // Remembered even if wrong: one mistake is one line in the log.
        self.seen = now;
        match self.source.read() {
            Ok(policy) => {
                info!("the policy files have changed; the new rules are in force");
                Some(policy)
            }
            Err(error) => {
                error!(%error, "the policy files are wrong; the rules before stay in force");
                None
            }
        }
    }
}

/// Rules by name; YAML, and so JSON too.
pub fn parse(text: &str) -> Result<BTreeMap<String, Value>, String> {
    let is_blank =
        |line: &str| matches!(line.trim(), "" | "---" | "...") || line.trim().starts_with('#');
    if text.lines().all(is_blank) {
        return Ok(BTreeMap::new());
    }
    let options = serde_saphyr::options! {
        duplicate_keys: serde_saphyr::options::DuplicateKeyPolicy::Error,
        budget: serde_saphyr::budget! {
            max_depth: 32,
            max_nodes: 50_000,
            max_events: 100_000,
        },
    };
    let value: Value = match serde_json::from_str(text) {
        Ok(value) => value,
        Err(_) => serde_saphyr::from_str_with_options(text, options).map_err(|e| e.to_string())?,
    };
    match value {
        Value::Null => Ok(BTreeMap::new()),
        Value::Object(map) => Ok(map.into_iter().collect()),
        _ => Err("a policy is a map of names to rules".to_owned()),
    }
}

fn is_hidden(path: &Path) -> bool {
    path.file_name().is_none_or(|name| name.to_string_lossy().starts_with('.'))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::api::policy::{Credentials, Target};
    use crate::api::tests::place::requester;

    fn reader_may(policy: &Policy, rule: &str) -> bool {
        let reader = requester("u1", "p1", &["reader"]);
        let who = Credentials { requester: &reader, is_admin: false };
        policy.allows(rule, &who, &Target::own(&reader, None))
    }

    fn source(folder: &Path) -> Source {
        let file = Some(folder.join("policy.yaml"));
        Source { file, is_required: false, dirs: vec![folder.join("policy.d")] }
    }

    #[test]
    fn files_are_laid_over_each_other_and_noticed_when_they_change() {
        let folder = tempfile::tempdir().unwrap();
        let (policy, mut watch) = source(folder.path()).watch().unwrap();
        assert!(!reader_may(&policy, "cluster:create"), "a missing file overrides nothing");
        assert!(watch.look().is_none());

        fs::write(folder.path().join("policy.yaml"), "# ours\n\"cluster:create\": \"@\"\n")
            .unwrap();
        assert!(reader_may(&watch.look().unwrap(), "cluster:create"));
        assert!(watch.look().is_none(), "it has not changed since");

        fs::create_dir(folder.path().join("policy.d")).unwrap();
        fs::write(folder.path().join("policy.d/2.json"), r#"{"cluster:create": "@"}"#).unwrap();
        fs::write(folder.path().join("policy.d/1.yaml"), "cluster:create: '!'\n").unwrap();
        assert!(reader_may(&watch.look().unwrap(), "cluster:create"), "the last file wins");

        fs::write(folder.path().join("policy.d/2.json"), "{ broken").unwrap();
        assert!(watch.look().is_none(), "what is broken changes nothing");
        fs::remove_file(folder.path().join("policy.d/2.json")).unwrap();
        assert!(!reader_may(&watch.look().unwrap(), "cluster:create"));
    }

    #[test]
    fn a_file_that_was_named_must_be_there_and_good() {
        let folder = tempfile::tempdir().unwrap();
        let named = Source { is_required: true, ..source(folder.path()) };
        assert!(named.read().unwrap_err().to_string().contains("no such file"));
        for bad in ["- a\n- b\n", "a: b\na: c\n", "a: [", "5"] {
            fs::write(folder.path().join("policy.yaml"), bad).unwrap();
            assert!(named.read().is_err(), "{bad}");
        }
        for empty in ["", "# nothing\n\n", "---\n# x\n", "{}"] {
            fs::write(folder.path().join("policy.yaml"), empty).unwrap();
            assert!(named.read().is_ok(), "{empty}");
        }
    }

    proptest! {
        #[test]
        fn no_file_panics(text in "[a-z:\\[\\]{}\"'@! \n#&*-]{0,80}") {
            if let Ok(rules) = parse(&text) {
                let _ = reader_may(&Policy::with_overrides(rules), "cluster:create");
            }
        }
    }
}
