//! The files of one driver, wherever they come from, and the digest by which they are known.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use aws_lc_rs::digest::{Context, SHA256};

use super::DriverError;
use super::{include, manifest};

/// Largest text that a template may give.
pub const LARGEST: usize = 1 << 20;
/// Most bytes of all files of a driver together: they are kept in one record.
const LARGEST_WHOLE: usize = 900 << 10;
/// Samples for lint; they change nothing that a cluster is made of.
pub(super) const TESTS: &str = "tests/";

/// The files below `templates/` by their path there, as they were when this was built.
const EMBEDDED: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/templates.rs"));

/// What is in a file.
pub(super) type Text = Cow<'static, str>;

/// A driver's files by their path.
#[derive(Clone, PartialEq, Eq)]
pub struct Directory {
    /// The folder's own name, for errors before the manifest is read.
    name: String,
    files: BTreeMap<String, Text>,
    digest: String,
    /// From which included directory files are that are not the driver's own.
    origins: BTreeMap<String, String>,
    /// Files of included directories that others of the same name have won over.
    beaten: Vec<(String, String)>,
}

impl std::fmt::Debug for Directory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Directory({} {})", self.name, self.digest)
    }
}

impl Directory {
    /// The drivers that come with magnumd, each with all that it includes.
    pub fn embedded() -> Result<Vec<Self>, DriverError> {
        let names = EMBEDDED.iter().filter_map(|(path, _)| {
            let folder = path.strip_suffix(manifest::FILE)?.strip_suffix('/')?;
            (!folder.contains('/')).then_some(folder)
        });
        let whole = |name: &str| {
            let files = Self::embedded_below(name).unwrap_or_default();
            Self::known(name.to_owned(), files).resolve(&include::nowhere)
        };
        names.map(whole).collect()
    }

    /// The files of a directory that comes with magnumd, a driver's or one that they share.
    pub(super) fn embedded_below(path: &str) -> Option<BTreeMap<String, Text>> {
        let below = |(file, text): &(&'static str, &'static str)| {
            let below = file.strip_prefix(path)?.strip_prefix('/')?;
            Some((below.to_owned(), Cow::Borrowed(*text)))
        };
        let files: BTreeMap<String, Text> = EMBEDDED.iter().filter_map(below).collect();
        (!files.is_empty()).then_some(files)
    }

    /// The directories that come with magnumd and can be included.
    pub(super) fn embedded_folders() -> BTreeSet<String> {
        let folder = |(path, _): &(&str, &str)| {
            let depth = if path.starts_with("common/") { 2 } else { 1 };
            path.split('/').take(depth).collect::<Vec<_>>().join("/")
        };
        EMBEDDED.iter().map(folder).collect()
    }

    /// A directory that was read from somewhere.
    pub fn new(
        name: impl Into<String>,
        files: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, DriverError> {
        let name = name.into();
        let files: BTreeMap<String, Text> =
            files.into_iter().map(|(path, text)| (path, Cow::Owned(text))).collect();
        Self::assembled(name, files, BTreeMap::new(), Vec::new())
    }

    /// The same, of files whose origins are known.
    pub(super) fn assembled(
        name: String,
        files: BTreeMap<String, Text>,
        origins: BTreeMap<String, String>,
        beaten: Vec<(String, String)>,
    ) -> Result<Self, DriverError> {
        let mut whole = 0;
        for (path, text) in &files {
            let fault = |reason: String| Err(fault(&name, path, &reason));
            if path.split('/').any(|part| part.is_empty() || part.starts_with('.')) {
                return fault("no name may be empty or start with a dot".to_owned());
            }
            whole += text.len();
            if whole > LARGEST_WHOLE && !path.starts_with(TESTS) {
                return fault(format!(
                    "with it the directory has more than {LARGEST_WHOLE} bytes; a driver's \
                     directory is for templates and scripts"
                ));
            }
        }
        Ok(Self { origins, beaten, ..Self::known(name, files) })
    }

    /// The same, from files whose text is not known to be text.
    pub fn of_bytes(
        name: &str,
        files: impl IntoIterator<Item = (String, Vec<u8>)>,
    ) -> Result<Self, DriverError> {
        let text = |(path, bytes): (String, Vec<u8>)| match String::from_utf8(bytes) {
            Ok(text) => Ok((path, text)),
            Err(_) => Err(fault(name, &path, "it is not UTF-8 text")),
        };
        let files: Result<Vec<(String, String)>, DriverError> =
            files.into_iter().map(text).collect();
        Self::new(name, files?)
    }

    fn known(name: String, files: BTreeMap<String, Text>) -> Self {
        let mut digest = Context::new(&SHA256);
        for (path, text) in files.iter().filter(|(path, _)| !path.starts_with(TESTS)) {
            for part in [path.as_str(), text] {
                digest.update(&(part.len() as u64).to_le_bytes());
                digest.update(part.as_bytes());
            }
        }
        let mut hex = String::with_capacity(64);
        for byte in digest.finish().as_ref() {
            let _ = write!(hex, "{byte:02x}");
        }
        Self { name, files, digest: hex, origins: BTreeMap::new(), beaten: Vec::new() }
    }

    pub(super) fn into_files(self) -> BTreeMap<String, Text> {
        self.files
    }

    /// The included directory that a file is from; None for the driver's own, and where that is
    /// not known, as of a stored one.
    pub fn origin(&self, path: &str) -> Option<&str> {
        self.origins.get(path).map(String::as_str)
    }

    /// Files that are not in it because another of the same name has won: path, and the included
    /// directory that has it.
    pub fn beaten(&self) -> impl Iterator<Item = (&str, &str)> {
        self.beaten.iter().map(|(path, of)| (path.as_str(), of.as_str()))
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// SHA-256 over names and contents, without the samples.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// What makes the driver: every file but the samples.
    pub fn files(&self) -> impl Iterator<Item = (&str, &str)> {
        self.all().filter(|(path, _)| !path.starts_with(TESTS))
    }

    /// The samples for lint.
    pub fn samples(&self) -> impl Iterator<Item = (&str, &str)> {
        self.all().filter(|(path, _)| path.starts_with(TESTS) && path.ends_with(".yaml"))
    }

    /// Every file, the samples too.
    pub fn all(&self) -> impl Iterator<Item = (&str, &str)> {
        self.files.iter().map(|(path, text)| (path.as_str(), text.as_ref()))
    }

    pub fn get(&self, path: &str) -> Option<&str> {
        self.files.get(path).map(AsRef::as_ref)
    }

    /// The manifest's text.
    pub fn manifest(&self) -> Result<&str, DriverError> {
        let missing = "there is none: a driver's directory needs it";
        self.get(manifest::FILE).ok_or_else(|| fault(&self.name, manifest::FILE, missing))
    }
}

fn fault(driver: &str, file: &str, reason: &str) -> DriverError {
    DriverError::Template {
        driver: driver.to_owned(),
        file: file.to_owned(),
        line: None,
        reason: reason.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directory(files: &[(&str, &str)]) -> Result<Directory, DriverError> {
        let files = files.iter().map(|(p, t)| ((*p).to_owned(), (*t).to_owned()));
        Directory::new("d", files)
    }

    #[test]
    fn the_digest_is_of_names_and_contents_but_not_of_samples() {
        let digest = |files: &[(&str, &str)]| directory(files).unwrap().digest().to_owned();
        let one = digest(&[("a", "1"), ("b", "2")]);
        assert_eq!(one, digest(&[("b", "2"), ("a", "1"), ("tests/x.yaml", "{}")]));
        assert_ne!(one, digest(&[("a", "12"), ("b", "")]));
        assert_ne!(one, digest(&[("a", "1"), ("c", "2")]));
        assert_eq!(one.len(), 64);
    }

    #[test]
    fn names_that_hide_and_files_that_are_huge_are_refused() {
        for bad in [".git/config", "a/.hidden", "a//b", ""] {
            assert!(directory(&[(bad, "")]).is_err(), "{bad}");
        }
        assert!(directory(&[("a", &"x".repeat(LARGEST_WHOLE + 1))]).is_err());
        let binary = Directory::of_bytes("d", [("a".to_owned(), vec![0xff])]);
        assert_eq!(binary.unwrap_err().to_string(), "driver d: a: it is not UTF-8 text");
        let empty = directory(&[]).unwrap();
        assert!(empty.manifest().unwrap_err().to_string().contains("needs it"));
    }

    #[test]
    fn what_comes_with_magnumd_is_embedded() {
        let all = Directory::embedded().unwrap();
        let names: Vec<&str> = all.iter().map(Directory::name).collect();
        assert!(names.contains(&"k8s_kubeadm_v1") && !names.contains(&"common"), "{names:?}");
        assert!(all.iter().all(|d| d.manifest().is_ok()));
    }
}
