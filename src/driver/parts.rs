//! Parts of a manifest: files of the driver's directory that say what belongs to one matter, its
//! labels, values, refusals and files, so that nobody has to read all of it to change one thing.

use serde::Deserialize;
use serde_saphyr::Spanned;

use super::DriverError;
use super::directory::{Directory, TESTS};
use super::label::LabelSpec;
use super::manifest::{Duties, FILE, FileEntry, Idle, Manifest, NamedValue, Ordered, Rule};

/// What a part may say; everything else is the manifest's own.
const KEYS: &str = "labels, values, refuse, idle, files, duties and upgrade (keep, refuse)";

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Part {
    labels: Ordered<Spanned<LabelSpec>>,
    values: Vec<NamedValue>,
    refuse: Vec<Rule>,
    idle: Vec<Idle>,
    files: Vec<FileEntry>,
    duties: Duties,
    upgrade: UpgradePart,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct UpgradePart {
    keep: Vec<Spanned<String>>,
    refuse: Vec<Rule>,
}

/// The lines of a manifest and of its parts, counted as if they stood below one another, the
/// manifest first: so one number tells a place in any of them.
#[derive(Clone, Debug, Default)]
pub struct Lines {
    /// The files after the manifest, each with how many lines are above it.
    parts: Vec<(String, u32)>,
    count: u32,
}

impl Lines {
    pub fn of(manifest: &str) -> Self {
        Self { parts: Vec::new(), count: count(manifest) }
    }

    /// Adds a part: its text, moved down to where its lines are counted.
    pub fn add(&mut self, file: &str, text: &str) -> String {
        let moved = "\n".repeat(usize::try_from(self.count).unwrap_or_default()) + text;
        self.parts.push((file.to_owned(), self.count));
        self.count += count(text);
        moved
    }

    /// The file and the line in it.
    pub fn place(&self, line: u32) -> (&str, u32) {
        let part = self.parts.iter().rev().find(|(_, above)| line > *above);
        part.map_or((FILE, line), |(file, above)| (file.as_str(), line - above))
    }

    /// The part that has been added last.
    pub fn last(&self) -> Option<&str> {
        self.parts.last().map(|(file, _)| file.as_str())
    }
}

fn count(text: &str) -> u32 {
    u32::try_from(text.lines().count()).unwrap_or(u32::MAX / 2)
}

impl Manifest {
    /// Reads the parts that this manifest names and puts what they say before its own, in their
    /// order.
    pub(super) fn read_parts(&mut self, directory: &Directory) -> Result<(), DriverError> {
        let mut joined = Part::default();
        let named: Vec<(String, Option<u32>)> = {
            let named = self.parts.iter();
            named.map(|part| (part.value.clone(), super::manifest::line_of_span(part))).collect()
        };
        for (at, (name, line)) in named.iter().enumerate() {
            let fault = |reason: String| Err(self.fault(*line, format!("parts: {reason}")));
            if !name.ends_with(".yaml") || name == FILE || name.starts_with(TESTS) {
                return fault(format!("{name} is not possible; name a file such as labels.yaml"));
            }
            if named[..at].iter().any(|(before, _)| before == name) {
                return fault(format!("{name} is named twice; take one of them out"));
            }
            let Some(text) = directory.get(name) else {
                return fault(format!("the directory has no file {name}"));
            };
            // A file of comments is an empty part.
            let is_said = |line: &str| !line.trim().is_empty() && !line.trim().starts_with('#');
            let moved = self.lines.add(name, text);
            if text.lines().any(is_said) {
                self.join(&mut joined, Self::of_yaml(directory.name(), &self.lines, &moved)?)?;
            }
        }
        if named.is_empty() {
            return Ok(());
        }
        let own = Part {
            labels: std::mem::take(&mut self.labels),
            values: std::mem::take(&mut self.values),
            refuse: std::mem::take(&mut self.refuse),
            idle: std::mem::take(&mut self.idle),
            files: std::mem::take(&mut self.files),
            duties: std::mem::take(&mut self.duties),
            upgrade: UpgradePart {
                keep: std::mem::take(&mut self.upgrade.keep),
                refuse: std::mem::take(&mut self.upgrade.refuse),
            },
        };
        self.join(&mut joined, own)?;
        let Part { labels, values, refuse, idle, files, duties, upgrade } = joined;
        (self.labels, self.values, self.refuse) = (labels, values, refuse);
        (self.idle, self.files, self.duties) = (idle, files, duties);
        (self.upgrade.keep, self.upgrade.refuse) = (upgrade.keep, upgrade.refuse);
        Ok(())
    }

    /// Adds what one part says; what two of them declare is refused.
    fn join(&self, joined: &mut Part, part: Part) -> Result<(), DriverError> {
        for (name, spec) in &part.labels.0 {
            if let Some((_, before)) = joined.labels.0.iter().find(|(known, _)| known == name) {
                let there = super::manifest::line_of_span(before).unwrap_or_default();
                let (file, line) = self.lines.place(there);
                let reason = format!("label {name} is declared at {file}:{line}; take one out");
                return Err(self.fault(super::manifest::line_of_span(spec), reason));
            }
        }
        for named in &part.values {
            if let Some(before) = joined.values.iter().find(|known| known.name == named.name) {
                let (file, line) = self.lines.place(before.is.line);
                let reason =
                    format!("value {} is computed at {file}:{line}; take one out", named.name);
                return Err(self.fault(named.is.line, reason));
            }
        }
        joined.labels.0.extend(part.labels.0);
        joined.values.extend(part.values);
        joined.refuse.extend(part.refuse);
        joined.idle.extend(part.idle);
        joined.files.extend(part.files);
        joined.upgrade.keep.extend(part.upgrade.keep);
        joined.upgrade.refuse.extend(part.upgrade.refuse);
        let (all, more) = (&mut joined.duties, part.duties);
        all.every.extend(more.every);
        all.drain.extend(more.drain);
        all.trust_authorities.extend(more.trust_authorities);
        all.issue_leaves.extend(more.issue_leaves);
        all.drop_authorities.extend(more.drop_authorities);
        all.renew_credentials.extend(more.renew_credentials);
        all.rejoin.extend(more.rejoin);
        Ok(())
    }
}

/// What is said of a key that is known, but not in a part.
pub fn cure(lines: &Lines) -> Option<String> {
    lines.last().map(|_| format!("a part of a manifest has {KEYS} alone"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "api: 1\nname: d\nversion: '1'\ndescription: x\n\
        provides: [{server_type: vm, coe: kubernetes, os: [ubuntu]}]\nnetwork_drivers: [flannel]\n\
        user_data: {master: a.tera, worker: a.tera}\n";

    fn read(own: &str, parts: &[(&str, &str)]) -> Result<Manifest, String> {
        let names: Vec<&str> = parts.iter().map(|(name, _)| *name).collect();
        let manifest = format!("{HEAD}parts: [{}]\n{own}", names.join(", "));
        let files = parts.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned()));
        let all: Vec<(String, String)> =
            files.chain([("driver.yaml".to_owned(), manifest)]).collect();
        let directory = Directory::new("d", all).unwrap();
        Manifest::read(&directory).map_err(|e| e.to_string())
    }

    #[test]
    fn parts_come_in_their_order_and_before_the_manifests_own() {
        let manifest = read(
            "labels:\n  c: {type: int, doc: c}\nfiles:\n- {path: own, file: own}\n\
             duties: {drain: [{path: own, file: own}]}\nupgrade: {strategy: rebuild, keep: [c]}\n",
            &[
                (
                    "b.yaml",
                    "labels:\n  b: {type: int, doc: b}\nduties: {drain: [{path: b, file: b}]}\n",
                ),
                (
                    "x/a.yaml",
                    "labels:\n  a: {type: int, doc: a}\nfiles:\n- {path: a, file: a}\n\
                     upgrade: {keep: [a]}\n",
                ),
                ("empty.yaml", "# Nothing yet.\n"),
            ],
        )
        .unwrap();
        let labels: Vec<&str> = manifest.labels.0.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(labels, ["b", "a", "c"]);
        let paths = |entries: &[FileEntry]| {
            entries.iter().map(|entry| entry.path.clone()).collect::<Vec<_>>()
        };
        assert_eq!(paths(&manifest.files), ["a", "own"]);
        assert_eq!(paths(&manifest.duties.drain), ["b", "own"]);
        let kept: Vec<&str> = manifest.upgrade.keep.iter().map(|k| k.value.as_str()).collect();
        assert_eq!(kept, ["a", "c"]);
    }

    #[test]
    fn what_is_wrong_in_a_part_is_told_with_its_file_and_line() {
        let label = "labels:\n  a: {type: int, doc: x}\n";
        for (own, part, said) in [
            (label, label, "d: driver.yaml:10: label a is declared at p.yaml:2; take one out"),
            (
                "values:\n- {name: v, is: '1'}\n",
                "values:\n- {name: v, is: '2'}\n",
                "driver.yaml:10: value v is computed at p.yaml:2; take one out",
            ),
            (
                "",
                "labels: {}\n\nlables: {}\n",
                "p.yaml:3: unknown key lables; did you mean labels?",
            ),
            ("", "name: other\n", "p.yaml:1: unknown key name; a part of a manifest has labels,"),
            ("", "files:\n- {path: /x, file: y}\n", "file /x: a path is relative"),
            ("", "\n\nfiles:\n- {path: x, mode: '9', file: y}\n", "p.yaml:4: file x: mode is not"),
            ("", "labels: [", "p.yaml:1: "),
        ] {
            let error = read(own, &[("p.yaml", part)]).unwrap_err();
            assert!(error.contains(said), "{part}: {error}");
        }
        let named = |parts: &str| {
            let all = [("driver.yaml".to_owned(), format!("{HEAD}parts: {parts}\n"))];
            Manifest::read(&Directory::new("d", all).unwrap()).unwrap_err().to_string()
        };
        assert!(
            named("[p.yaml]").contains("driver.yaml:8: parts: the directory has no file p.yaml")
        );
        for impossible in ["driver.yaml", "tests/x.yaml", "a.tera"] {
            let said = named(&format!("[{impossible}]"));
            assert!(said.contains(&format!("{impossible} is not possible")), "{said}");
        }
        let twice = read("", &[("p.yaml", ""), ("p.yaml", "")]).unwrap_err();
        assert!(twice.contains("p.yaml is named twice"), "{twice}");
    }
}
