//! Reading a manifest: what its words alone cannot say wrong is looked at here, and every complaint
//! names the line and the cure.

use serde::de::DeserializeOwned;

use super::DriverError;
use super::directory::Directory;
use super::manifest::{FILE, FileEntry, Manifest, Masters, Material, Role, line_of_span};
use super::parts::{self, Lines};
use crate::model::certificate::Purpose;

impl Manifest {
    /// Reads the manifest of a directory, and the parts that it names.
    pub fn read(directory: &Directory) -> Result<Self, DriverError> {
        let text = directory.manifest()?;
        let lines = Lines::of(text);
        let mut manifest: Self = Self::of_yaml(directory.name(), &lines, text)?;
        manifest.lines = lines;
        manifest.read_parts(directory)?;
        manifest.consistent(text)?;
        Ok(manifest)
    }

    /// Reads the YAML of a manifest or of a part; `folder` names the driver in errors.
    pub(super) fn of_yaml<T: DeserializeOwned>(
        folder: &str,
        lines: &Lines,
        text: &str,
    ) -> Result<T, DriverError> {
        let options = serde_saphyr::options! {
            duplicate_keys: serde_saphyr::options::DuplicateKeyPolicy::Error,
        };
        serde_saphyr::from_str_with_options(text, options).map_err(|e| {
            let line = e.location().and_then(|at| u32::try_from(at.line()).ok());
            let cure = parts::cure(lines);
            let (reason, line) = explained(&e.without_snippet().to_string(), line, cure);
            let (file, line) = match line {
                Some(line) => {
                    let (file, line) = lines.place(line);
                    (file, Some(line))
                }
                None => (lines.last().unwrap_or(FILE), None),
            };
            let (driver, file) = (folder.to_owned(), file.to_owned());
            DriverError::Template { driver, file, line, reason }
        })
    }

    /// An error in this manifest.
    pub fn fault(&self, line: impl Into<Option<u32>>, reason: impl Into<String>) -> DriverError {
        let (file, line) = match line.into().map(|line| self.lines.place(line)) {
            Some((file, line)) => (file, Some(line)),
            None => (FILE, None),
        };
        DriverError::Template {
            driver: self.name.clone(),
            file: file.to_owned(),
            line,
            reason: reason.into(),
        }
    }

    fn consistent(&self, text: &str) -> Result<(), DriverError> {
        let line = |key: &str| line_of(text, key);
        if self.api != 1 {
            let reason = format!("api {} is not known here; write api: 1", self.api);
            return Err(self.fault(line("api"), reason));
        }
        if !self.include.is_empty() {
            let reason = "include was not brought in; write it as a key of the manifest itself, \
                          at the beginning of a line";
            return Err(self.fault(line("include"), reason));
        }
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        if self.name.is_empty() || self.name.len() > 64 || !self.name.chars().all(plain) {
            let reason = format!(
                "name {} is not possible: use at most 64 letters, digits, '_' and '-'",
                self.name
            );
            return Err(self.fault(line("name"), reason));
        }
        if self.version.trim().is_empty() {
            return Err(self.fault(line("version"), "version is empty; write one such as 1.0.0"));
        }
        if self.provides.iter().all(|p| p.os.is_empty()) {
            let reason = "provides names no os; give at least one, such as os: [ubuntu]";
            return Err(self.fault(line("provides"), reason));
        }
        if self.network_drivers.is_empty() {
            let reason = "network_drivers is empty; name at least one";
            return Err(self.fault(line("network_drivers"), reason));
        }
        let Masters { min, max, odd, .. } = self.masters;
        if min > max || (odd && min == max && min % 2 == 0) {
            let reason = format!("masters: no count from {min} to {max} is possible");
            return Err(self.fault(line("masters"), reason));
        }
        let roles = [("master", &self.certificates.master), ("worker", &self.certificates.worker)];
        for (role, purposes) in roles {
            if let Some(unknown) = purposes.iter().find(|name| Purpose::parse(name).is_none()) {
                let known = Purpose::listed();
                let reason =
                    format!("certificates: {role}: {unknown} is not known; choose from {known}");
                return Err(self.fault(line("certificates"), reason));
            }
        }
        if !self.outputs.api_address.format.value.contains("{}") {
            let reason = "outputs: api_address: format has no {} for the address";
            return Err(self.fault(line_of_span(&self.outputs.api_address.format), reason));
        }
        self.files.iter().chain(self.duties.all()).try_for_each(|entry| self.entry(entry))
    }

    fn entry(&self, entry: &FileEntry) -> Result<(), DriverError> {
        let fault = |reason: &str| {
            let reason = format!("file {}: {reason}", entry.path);
            Err(self.fault(line_of_span(&entry.mode), reason))
        };
        if entry.path.is_empty()
            || entry.path.starts_with('/')
            || entry.path.split('/').any(|part| matches!(part, "" | "." | ".."))
        {
            return fault("a path is relative to the bundle, without . and ..");
        }
        let given = [entry.file.is_some(), entry.template.is_some(), entry.content.is_some()];
        if given.into_iter().filter(|given| *given).count() != 1 {
            return fault("give exactly one of file, template and content");
        }
        let Some(bits) = entry.bits() else {
            return fault("mode is not possible; write one such as '0644', in quotes");
        };
        if entry.content.is_some_and(Material::is_key) {
            if entry.role != Role::Master && entry.content != Some(Material::BootstrapKey) {
                return fault("keys are for masters only; add role: master");
            }
            if bits & 0o077 != 0 {
                return fault("others could read this key; write mode: '0600'");
            }
        }
        Ok(())
    }

    /// The operating systems it boots, each once.
    pub fn distros(&self) -> Vec<&str> {
        let mut distros: Vec<&str> = Vec::new();
        for os in self.provides.iter().flat_map(|p| &p.os) {
            if !distros.contains(&os.as_str()) {
                distros.push(os);
            }
        }
        distros
    }
}

/// The line of a key of the manifest itself.
fn line_of(text: &str, key: &str) -> Option<u32> {
    let at = text.lines().position(|l| l.strip_prefix(key).is_some_and(|r| r.starts_with(':')))?;
    u32::try_from(at + 1).ok()
}

/// A reader's complaint in our words: the nearest known key instead of all of them, and the line
/// apart.
fn explained(complaint: &str, line: Option<u32>, cure: Option<String>) -> (String, Option<u32>) {
    let text = complaint.lines().next().unwrap_or_default();
    let (text, said) = match text.rsplit_once(" at line ") {
        Some((text, place)) => (text, place.split([',', ' ']).next().and_then(|n| n.parse().ok())),
        None => (text, None),
    };
    let line = line.or(said);
    let unknown = text.split_once("unknown field `").and_then(|(_, rest)| rest.split_once('`'));
    if let Some((unknown, rest)) = unknown {
        let words = rest.split(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != '-');
        let near = words
            .filter(|word| word.len() > 1)
            .map(|known| (strsim::jaro_winkler(unknown, known), known))
            .max_by(|(a, _), (b, _)| a.total_cmp(b))
            .filter(|(likeness, _)| *likeness > 0.75);
        let cure = match near {
            Some((_, known)) => format!("did you mean {known}?"),
            None => cure.unwrap_or_else(|| {
                "take it out, or see the manual for what is possible".to_owned()
            }),
        };
        return (format!("unknown key {unknown}; {cure}"), line);
    }
    (text.to_owned(), line)
}
