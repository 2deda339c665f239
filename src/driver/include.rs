//! `include:` of a manifest: what drivers share is one source, and every driver stands alone.
//!
//! A driver's manifest names directories beside the driver's own; their files become the driver's
//! before its digest is taken. So what is stored with a cluster has every file, and nothing that
//! changes beside it changes a cluster. The manifest's own lines about it become comments: what is
//! stored, or exported, names where its files are from and brings nothing in again.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use serde::Deserialize;
use serde_saphyr::Spanned;

use super::DriverError;
use super::directory::{Directory, TESTS, Text};
use super::manifest::FILE;

/// The key of a manifest.
const KEY: &str = "include:";
/// How far directories may include each other.
const DEEPEST: usize = 8;

/// The files of one directory by their path below it.
pub type Files = Vec<(String, Vec<u8>)>;

/// An operator's own directory of this path beside their drivers; None where they have none.
pub type Look<'l> = &'l dyn Fn(&str) -> Result<Option<Files>, String>;

/// Where there are no other directories than those that come with magnumd.
pub fn nowhere(_: &str) -> Result<Option<Files>, String> {
    Ok(None)
}

/// An entry of `include:` and the line that it stands on.
struct Entry {
    path: String,
    line: u32,
}

/// What has been brought in so far.
struct Resolving<'l> {
    driver: String,
    look: Look<'l>,
    files: BTreeMap<String, Text>,
    /// Files of included directories, by where they are from.
    origins: BTreeMap<String, String>,
    /// Files of included directories that another one of the same name has won over.
    beaten: Vec<(String, String)>,
    /// Directories that are in already: who includes one twice gets it once.
    brought: BTreeSet<String>,
}

impl Directory {
    /// This directory with the files of those that its manifest includes.
    ///
    /// A file of its own wins over an included one of the same name, and so does one of a directory
    /// that is named before another. Directories are looked for in `look`, then among those that
    /// come with magnumd. Without `include:` nothing changes.
    pub fn resolve(self, look: Look<'_>) -> Result<Self, DriverError> {
        let Some(text) = self.get(FILE).map(str::to_owned) else { return Ok(self) };
        if block(&text).is_none() {
            return Ok(self);
        }
        let name = self.name().to_owned();
        let mut resolving = Resolving {
            driver: name.clone(),
            look,
            files: self.into_files(),
            origins: BTreeMap::new(),
            beaten: Vec::new(),
            brought: BTreeSet::new(),
        };
        resolving.bring(FILE, &text, &mut vec![name.clone()])?;
        let Resolving { mut files, origins, beaten, .. } = resolving;
        files.insert(FILE.to_owned(), Text::Owned(commented(&text)));
        Self::assembled(name, files, origins, beaten)
    }
}

impl Resolving<'_> {
    /// Brings in what `manifest`, of this text, includes; `trail` are the directories that led here.
    fn bring(
        &mut self,
        manifest: &str,
        text: &str,
        trail: &mut Vec<String>,
    ) -> Result<(), DriverError> {
        for Entry { path, line } in self.entries(manifest, text)? {
            let fault = |reason: String| DriverError::Template {
                driver: self.driver.clone(),
                file: manifest.to_owned(),
                line: Some(line),
                reason: format!("include: {reason}"),
            };
            if let Some(reason) = misplaced(&path) {
                return Err(fault(reason));
            }
            if trail.contains(&path) {
                let way = trail.join(" includes ");
                return Err(fault(format!(
                    "{way} includes {path} again, and that has no end; take the entry out of one \
                     of them, or give your directory another name than {path}"
                )));
            }
            if trail.len() > DEEPEST {
                return Err(fault(format!(
                    "{path} is included by the {DEEPEST}th directory in a row; name it in the \
                     driver's own manifest"
                )));
            }
            if !self.brought.insert(path.clone()) {
                continue;
            }
            let own = (self.look)(&path).map_err(|reason| fault(format!("{path}: {reason}")))?;
            let found = match own {
                Some(files) => Some(Self::as_text(files).map_err(|file| {
                    fault(format!("{path}/{file} is not UTF-8 text; take it out of there"))
                })?),
                None => Directory::embedded_below(&path),
            };
            let Some(found) = found else { return Err(fault(absent(&path))) };
            let inner = found.get(FILE).map(|text| text.to_string());
            for (file, text) in found {
                if file == FILE || file.starts_with(TESTS) {
                    continue;
                }
                if self.files.contains_key(&file) {
                    self.beaten.push((file, path.clone()));
                } else {
                    self.origins.insert(file.clone(), path.clone());
                    self.files.insert(file, text);
                }
            }
            if let Some(inner) = inner {
                trail.push(path.clone());
                self.bring(&format!("{path}/{FILE}"), &inner, trail)?;
                trail.pop();
            }
        }
        Ok(())
    }

    fn as_text(files: Files) -> Result<BTreeMap<String, Text>, String> {
        let text = |(file, bytes)| match String::from_utf8(bytes) {
            Ok(text) => Ok((file, Text::Owned(text))),
            Err(_) => Err(file),
        };
        files.into_iter().map(text).collect()
    }

    fn entries(&self, manifest: &str, text: &str) -> Result<Vec<Entry>, DriverError> {
        #[derive(Deserialize)]
        struct Head {
            include: Vec<Spanned<String>>,
        }
        let Some(lines) = block(text) else { return Ok(Vec::new()) };
        let first = u32::try_from(lines.start).unwrap_or(u32::MAX);
        let said: Vec<&str> =
            text.lines().skip(lines.start).take(lines.end - lines.start).collect();
        let head: Head =
            serde_saphyr::from_str(&said.join("\n")).map_err(|_| DriverError::Template {
                driver: self.driver.clone(),
                file: manifest.to_owned(),
                line: Some(first + 1),
                reason: "include is no list of directories; write one such as [common/node]"
                    .to_owned(),
            })?;
        let entry = |spanned: Spanned<String>| Entry {
            line: first + u32::try_from(spanned.referenced.line()).unwrap_or(1),
            path: spanned.value,
        };
        Ok(head.include.into_iter().map(entry).collect())
    }
}

/// The lines of `include:`, counted from 0; none where the manifest has no such key of its own.
fn block(text: &str) -> Option<Range<usize>> {
    let lines: Vec<&str> = text.lines().collect();
    let start = lines.iter().position(|line| line.starts_with(KEY))?;
    let goes_on = |line: &&&str| {
        line.is_empty() || line.starts_with(|c: char| c.is_whitespace() || "-#]".contains(c))
    };
    let mut end = start + 1 + lines[start + 1..].iter().take_while(goes_on).count();
    // What stands above the next key belongs to that.
    while end > start + 1 && (lines[end - 1].is_empty() || lines[end - 1].starts_with('#')) {
        end -= 1;
    }
    Some(start..end)
}

/// The manifest as it stands alone, line for line.
fn commented(text: &str) -> String {
    let block = block(text).unwrap_or_default();
    let mut whole = String::with_capacity(text.len() + 2 * block.len());
    for (at, line) in text.lines().enumerate() {
        if block.contains(&at) {
            whole.push_str("# ");
        }
        whole.push_str(line);
        whole.push('\n');
    }
    whole
}

/// Why an entry is no path of a directory beside the driver's own.
fn misplaced(path: &str) -> Option<String> {
    let is_plain = |part: &str| !part.is_empty() && !part.starts_with('.');
    if path.contains('\\') || !path.split('/').all(is_plain) {
        return Some(format!(
            "{path} leads out of the drivers' folder, or is hidden in it; write a path below that \
             folder, without / at its ends, such as common/node"
        ));
    }
    None
}

fn absent(path: &str) -> String {
    let known = Directory::embedded_folders();
    let near = known
        .iter()
        .map(|known| (strsim::jaro_winkler(path, known), known))
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .filter(|(likeness, _)| *likeness > 0.8);
    let cure = match near {
        Some((_, near)) => format!("did you mean {near}?"),
        None => format!("make one beside the driver's, or choose from {}", {
            let shared = known.iter().filter(|path| path.starts_with("common/"));
            shared.map(String::as_str).collect::<Vec<_>>().join(", ")
        }),
    };
    format!("there is no directory {path}, neither beside the driver's nor of magnumd's; {cure}")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An operator's folder: the files of `mine`, and of directories beside it.
    fn resolved(mine: &[(&str, &str)], beside: &[(&str, &str)]) -> Result<Directory, String> {
        let files = mine.iter().map(|(p, t)| ((*p).to_owned(), (*t).to_owned()));
        let look = |path: &str| {
            let inside = beside.iter().filter_map(|(p, t)| {
                let below = p.strip_prefix(path)?.strip_prefix('/')?;
                Some((below.to_owned(), t.as_bytes().to_vec()))
            });
            let files: Files = inside.collect();
            Ok(Some(files).filter(|files| !files.is_empty()))
        };
        let directory = Directory::new("mine", files).and_then(|d| d.resolve(&look));
        directory.map_err(|e| e.to_string())
    }

    #[test]
    fn what_is_included_becomes_the_drivers_own_before_the_digest() {
        let own = [
            ("driver.yaml", "api: 1\ninclude:\n- common/a\n- common/b\n\n# Who.\nname: x\n"),
            ("own", "mine"),
        ];
        let beside = [
            ("common/a/own", "theirs"),
            ("common/a/both", "a"),
            ("common/a/x/deep", "a"),
            ("common/a/tests/1+1.yaml", "{}"),
            ("common/b/both", "b"),
            ("common/b/driver.yaml", "include: [common/c, common/a]\n"),
            ("common/c/c", "c"),
        ];
        let whole = resolved(&own, &beside).unwrap();
        let files: Vec<(&str, &str)> = whole.files().collect();
        let manifest = "api: 1\n# include:\n# - common/a\n# - common/b\n\n# Who.\nname: x\n";
        assert_eq!(
            files,
            [
                ("both", "a"),
                ("c", "c"),
                ("driver.yaml", manifest),
                ("own", "mine"),
                ("x/deep", "a")
            ]
        );
        let beaten: Vec<(&str, &str)> = whole.beaten().collect();
        assert_eq!(beaten, [("own", "common/a"), ("both", "common/b")]);
        assert_eq!(whole.origin("c"), Some("common/c"));
        assert_eq!(whole.origin("own"), None);
        // It stands alone: whoever stores these files and reads them again has the same driver.
        let files = files.iter().map(|(p, t)| ((*p).to_owned(), (*t).to_owned()));
        let stored = Directory::new("mine", files).unwrap().resolve(&nowhere).unwrap();
        assert_eq!(stored.digest(), whole.digest());
        // What changes beside it is another driver.
        let changed = resolved(&own, &[("common/a/both", "z"), beside[4]]).unwrap();
        assert_ne!(changed.digest(), whole.digest());
    }

    #[test]
    fn without_the_key_nothing_changes() {
        let files = [("driver.yaml", "api: 1\n# include: [x]\nstack:\n  include: [x]"), ("a", "1")];
        let plain = files.iter().map(|(p, t)| ((*p).to_owned(), (*t).to_owned()));
        let digest = Directory::new("mine", plain).unwrap().digest().to_owned();
        assert_eq!(resolved(&files, &[]).unwrap().digest(), digest);
        assert!(resolved(&[("a", "1")], &[]).is_ok(), "the manifest is asked for later");
    }

    #[test]
    fn what_magnumd_brings_along_is_there_for_everybody() {
        let own = [("driver.yaml", "include: [common/node]\n")];
        let whole = resolved(&own, &[]).unwrap();
        assert!(whole.get("claim.sh").unwrap().contains("\nclaim() {\n"));
        let beside = [("common/node/mine.sh", "x")];
        let whole = resolved(&own, &beside).unwrap();
        assert!(whole.get("claim.sh").is_none() && whole.get("mine.sh").is_some());
    }

    #[test]
    fn what_cannot_be_included_is_refused_with_its_place_and_cure() {
        let beside = [
            ("common/a/driver.yaml", "api: 1\ninclude: [common/b]\n"),
            ("common/b/driver.yaml", "include: [common/a]\n"),
            ("common/self/driver.yaml", "include: [common/self]\n"),
        ];
        for (manifest, said) in [
            (
                "include: [common/nod]",
                "driver mine: driver.yaml:1: include: there is no directory common/nod, neither beside the driver's nor of magnumd's; did you mean common/node?",
            ),
            (
                "api: 1\ninclude:\n- common/node\n- zzz",
                "driver.yaml:4: include: there is no directory zzz",
            ),
            ("include: [zzz]", "choose from common/"),
            (
                "include: [common/a]",
                "common/b/driver.yaml:1: include: mine includes common/a includes common/b includes common/a again, and that has no end; take the entry out",
            ),
            ("include: [common/self]", "mine includes common/self includes common/self again"),
            ("include: [mine]", "driver.yaml:1: include: mine includes mine again"),
            ("include: [../etc]", "include: ../etc leads out of the drivers' folder"),
            ("include: [/etc]", "include: /etc leads out"),
            ("include: [common/../../x]", "leads out"),
            ("include: [common/]", "leads out"),
            ("include: ['']", "leads out"),
            ("include: [.git]", "hidden in it; write a path below"),
            ("include: ['a\\b']", "leads out"),
            ("include: common/node", "driver.yaml:1: include is no list of directories"),
            ("include: [[a]]", "include is no list of directories"),
        ] {
            let error = resolved(&[("driver.yaml", manifest)], &beside).unwrap_err();
            assert!(error.contains(said), "{manifest}: {error}");
        }
        let unreadable = |_: &str| Err("permission denied".to_owned());
        let files = [("driver.yaml".to_owned(), "include: [x]".to_owned())];
        let error = Directory::new("mine", files).unwrap().resolve(&unreadable).unwrap_err();
        assert!(error.to_string().contains("include: x: permission denied"), "{error}");
        let binary = |_: &str| Ok(Some(vec![("f".to_owned(), vec![0xff])]));
        let files = [("driver.yaml".to_owned(), "include: [x]".to_owned())];
        let error = Directory::new("mine", files).unwrap().resolve(&binary).unwrap_err();
        assert!(error.to_string().contains("x/f is not UTF-8"), "{error}");
    }
}
