//! Where options come from: flags over the environment over a file over defaults.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::de::{DeTable, DeValue};
use toml::{Spanned, Table, Value};

use super::option::{Form, Item, Setting, nearest};
use super::{Config, ConfigError, oslo, with_suggestion};

/// Where the configuration is when nothing else is said.
pub const DEFAULT_FILE: &str = "/etc/magnumd/magnumd.toml";
const PREFIX: &str = "MAGNUMD_";

/// Where an option's value was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    Default,
    File { path: PathBuf, line: usize },
    Environment(String),
    Flag,
}

impl Origin {
    const fn rank(&self) -> u8 {
        match self {
            Self::Default => 0,
            Self::File { .. } => 1,
            Self::Environment(_) => 2,
            Self::Flag => 3,
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::Environment(name) => f.write_str(name),
            Self::Flag => f.write_str("--set"),
        }
    }
}

/// What there is to read.
#[derive(Clone, Debug, Default)]
pub struct Layers {
    /// None for the file in its usual place, which need not be there if the rest suffices.
    pub file: Option<PathBuf>,
    /// Variables, of which those with our prefix are looked at.
    pub environment: Vec<(String, String)>,
    /// Keys and values.
    pub flags: Vec<(String, String)>,
}

/// A usable configuration, and where it came from.
#[derive(Clone, Debug)]
pub struct Loaded {
    pub config: Config,
    /// One sentence for each thing that was given and is not used.
    pub warnings: Vec<String>,
    /// The same of what is no mistake: variables by which our own tests are told something.
    pub notes: Vec<String>,
    origins: BTreeMap<String, Origin>,
}

impl Loaded {
    /// Every option as it is, with where that was said.
    pub fn settings(&self) -> Vec<(Item, Origin)> {
        let origin = |item: &Item| {
            // A secret from a file of its own was given by that file's name.
            let named = match self.config_has(&item.key) {
                true => self.origins.get(&item.key),
                false => self.origins.get(&format!("{}_file", item.key)),
            };
            named.cloned().unwrap_or(Origin::Default)
        };
        let items = self.config.items().into_iter();
        items.map(|item| (item.clone(), origin(&item))).collect()
    }

    fn config_has(&self, key: &str) -> bool {
        self.origins.contains_key(key)
    }

    /// The keys of options that are not as in `before`.
    pub fn changes_since(&self, before: &Self) -> Vec<String> {
        let pairs = self.config.items().into_iter().zip(before.config.items());
        pairs.filter(|(now, then)| now.setting != then.setting).map(|(now, _)| now.key).collect()
    }
}

impl Layers {
    /// Reads and checks all of it, and the secret files it names. Opens nothing else.
    pub fn load(&self) -> Result<Loaded, ConfigError> {
        let path = self.file.clone().unwrap_or_else(|| PathBuf::from(DEFAULT_FILE));
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound && self.suffices() => String::new(),
            Err(e) => {
                return Err(ConfigError::Unreadable { path, reason: e.to_string() });
            }
        };
        self.over(&path, &text)
    }

    /// Whether there may be enough without a file that nobody has named.
    fn suffices(&self) -> bool {
        let known: Vec<String> = Config::default().items().iter().map(Item::variable).collect();
        let is_given = self.environment.iter().any(|(name, _)| known.contains(name));
        self.file.is_none() && (is_given || !self.flags.is_empty())
    }

    /// The layers above the text of a file.
    pub(super) fn over(&self, path: &Path, text: &str) -> Result<Loaded, ConfigError> {
        let mut draft = Draft::new(path);
        if oslo::is_meant_by(path) {
            draft.warnings = oslo::read(path, text, &mut draft.values)?;
        } else {
            draft.read_toml(text)?;
        }
        draft.read_environment(&self.environment)?;
        draft.read_flags(&self.flags)?;
        draft.finish()
    }
}

/// Values by key, each with its origin; the highest layer's word counts.
#[derive(Debug, Default)]
pub(super) struct Values(BTreeMap<String, (Value, Origin)>);

impl Values {
    pub fn put(&mut self, key: &str, value: Value, origin: Origin) {
        // A secret and its file are two ways to say one thing.
        let other = match key.strip_suffix("_file") {
            Some(secret) => secret.to_owned(),
            None => format!("{key}_file"),
        };
        if self.0.get(&other).is_some_and(|(_, lower)| lower.rank() < origin.rank()) {
            self.0.remove(&other);
        }
        self.0.insert(key.to_owned(), (value, origin));
    }

    pub fn has(&self, key: &str) -> bool {
        self.0.contains_key(key)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.0.iter().map(|(key, (value, _))| (key.as_str(), value))
    }
}

struct Draft<'p> {
    path: &'p Path,
    items: Vec<Item>,
    values: Values,
    warnings: Vec<String>,
    notes: Vec<String>,
}

impl<'p> Draft<'p> {
    fn new(path: &'p Path) -> Self {
        let items = Config::default().items();
        let (warnings, notes) = (Vec::new(), Vec::new());
        Self { path, items, values: Values::default(), warnings, notes }
    }

    fn read_toml(&mut self, text: &str) -> Result<(), ConfigError> {
        let line = |at: usize| text[..at.min(text.len())].matches('\n').count() + 1;
        let mut found = Vec::new();
        let parsed = DeTable::parse(text);
        if let Ok(table) = &parsed {
            flatten("", table.get_ref(), &mut found);
        }
        let wrong = |e: &toml::de::Error| {
            let at = e.span().map_or(0, |span| span.start);
            let holds = |given: &&Given| given.span.contains(&at);
            let key = found.iter().filter(holds).min_by_key(|g| g.span.len()).map(|g| &g.key);
            let reason = with_suggestion(e.message());
            ConfigError::Syntax {
                path: self.path.to_owned(),
                line: line(at),
                reason: key.map_or(reason.clone(), |key| format!("{key}: {reason}")),
            }
        };
        parsed.as_ref().map_err(wrong)?;
        // Types and keys are judged here, where an error still knows its place.
        toml::from_str::<Config>(text).map_err(|e| wrong(&e))?;
        let table: Table = toml::from_str(text).map_err(|e| wrong(&e))?;
        for Given { key, at, .. } in found.iter().filter(|g| g.is_value) {
            if let Some(value) = at_key(&table, key) {
                let origin = Origin::File { path: self.path.to_owned(), line: line(*at) };
                self.values.put(key, value.clone(), origin);
            }
        }
        Ok(())
    }

    fn read_environment(&mut self, variables: &[(String, String)]) -> Result<(), ConfigError> {
        let known: Vec<String> = self.items.iter().map(Item::variable).collect();
        for (name, text) in variables.iter().filter(|(name, _)| name.starts_with(PREFIX)) {
            let origin = Origin::Environment(name.clone());
            let Some(place) = known.iter().position(|variable| variable == name) else {
                if is_for_tests(name) {
                    self.notes.push(format!("{name} is for magnumd's tests and is ignored"));
                    continue;
                }
                // Others use the prefix too, for scripts: not worth a refusal to start.
                let meant = nearest(name, known.iter().map(String::as_str));
                let hint = meant.map_or(String::new(), |m| format!("; did you mean {m}?"));
                self.warnings.push(format!("{name} is not an option and is ignored{hint}"));
                continue;
            };
            let Item { key, form, .. } = self.items[place].clone();
            self.put(&key, form, text, origin)?;
        }
        Ok(())
    }

    fn read_flags(&mut self, flags: &[(String, String)]) -> Result<(), ConfigError> {
        for (key, text) in flags {
            let Some(item) = self.items.iter().find(|item| item.key == *key) else {
                let meant = nearest(key, self.items.iter().map(|item| item.key.as_str()));
                let hint = meant.map_or(String::new(), |m| format!("; did you mean '{m}'?"));
                let reason = format!("is not an option{hint}");
                return Err(value(&Origin::Flag, key, reason));
            };
            // Everybody on this host can read the arguments of every process.
            if item.is_secret() {
                let reason = format!(
                    "is a secret, and arguments can be read by every user of this host. Give it in \
                     the configuration file, in a file of its own named by {key}_file (systemd: \
                     LoadCredential=), or in the variable {}",
                    item.variable()
                );
                return Err(value(&Origin::Flag, key, reason));
            }
            let form = item.form;
            self.put(key, form, text, Origin::Flag)?;
        }
        Ok(())
    }

    fn put(
        &mut self,
        key: &str,
        form: Form,
        text: &str,
        origin: Origin,
    ) -> Result<(), ConfigError> {
        let read = form.read(text).map_err(|reason| value(&origin, key, reason))?;
        self.values.put(key, read, origin);
        Ok(())
    }

    fn finish(self) -> Result<Loaded, ConfigError> {
        let mut all = Table::new();
        for (key, (given, origin)) in &self.values.0 {
            // Alone first, so that what is wrong with it is said of it.
            let mut alone = Table::new();
            insert(&mut alone, key, given.clone());
            Config::deserialize(alone).map_err(|e| {
                value(origin, key, format!("is not usable: {}", e.message().trim()))
            })?;
            insert(&mut all, key, given.clone());
        }
        let unplaced = Origin::File { path: self.path.to_owned(), line: 0 };
        let mut config = Config::deserialize(all)
            .map_err(|e| value(&unplaced, "the configuration", e.message().trim().to_owned()))?;
        let origins: BTreeMap<String, Origin> =
            self.values.0.into_iter().map(|(key, (_, origin))| (key, origin)).collect();
        let path = self.path;
        config.complete(path).map_err(|(key, reason)| match origins.get(&key) {
            Some(origin) => value(origin, &key, reason),
            None => ConfigError::Value { place: path.display().to_string(), key, reason },
        })?;
        Ok(Loaded { config, warnings: self.warnings, notes: self.notes, origins })
    }
}

/// Whether the tests or the test cloud in our own repository read the variable.
fn is_for_tests(name: &str) -> bool {
    const OURS: [&str; 3] = ["MAGNUMD_BLESS", "MAGNUMD_CLOUD_STATE", "MAGNUMD_LOG"];
    OURS.contains(&name)
        || ["MAGNUMD_TEST_", "MAGNUMD_FUZZ_", "MAGNUMD_DAMAGE_", "MAGNUMD_ATTACK_"]
            .iter()
            .any(|prefix| name.starts_with(prefix))
}

fn value(origin: &Origin, key: &str, reason: String) -> ConfigError {
    ConfigError::Value { place: origin.to_string(), key: key.to_owned(), reason }
}

/// Something that a file says, and where.
struct Given {
    key: String,
    at: usize,
    span: std::ops::Range<usize>,
    is_value: bool,
}

fn flatten(prefix: &str, table: &DeTable<'_>, found: &mut Vec<Given>) {
    for (name, inner) in table {
        let key = match prefix {
            "" => name.get_ref().to_string(),
            prefix => format!("{prefix}.{}", name.get_ref()),
        };
        let at = Spanned::span(name).start;
        let span = at..inner.span().end.max(at + 1);
        let below = match inner.get_ref() {
            DeValue::Table(below) => Some(below),
            _ => None,
        };
        found.push(Given { key: key.clone(), at, span, is_value: below.is_none() });
        if let Some(below) = below {
            flatten(&key, below, found);
        }
    }
}

fn at_key<'t>(table: &'t Table, key: &str) -> Option<&'t Value> {
    match key.split_once('.') {
        Some((first, rest)) => at_key(table.get(first)?.as_table()?, rest),
        None => table.get(key),
    }
}

fn insert(table: &mut Table, key: &str, value: Value) {
    match key.split_once('.') {
        Some((first, rest)) => {
            let below = table.entry(first).or_insert_with(|| Value::Table(Table::new()));
            if let Value::Table(below) = below {
                insert(below, rest, value);
            }
        }
        None => {
            table.insert(key.to_owned(), value);
        }
    }
}

/// What is shown of a setting: never a secret.
pub fn shown(setting: &Setting) -> Option<Value> {
    match setting {
        Setting::Nothing => None,
        Setting::Plain(value) => Some(value.clone()),
        Setting::Hidden(_) => Some(Value::from("(set)")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::LEAST;
    use super::*;

    fn layers(environment: &[(&str, &str)], flags: &[(&str, &str)]) -> Layers {
        let own = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
        };
        Layers { file: None, environment: own(environment), flags: own(flags) }
    }

    fn over(layers: &Layers, text: &str) -> Result<Loaded, String> {
        layers.over(Path::new("/etc/magnumd/magnumd.toml"), text).map_err(|e| e.to_string())
    }

    fn origin(loaded: &Loaded, key: &str) -> String {
        let settings = loaded.settings();
        settings.iter().find(|(item, _)| item.key == key).unwrap().1.to_string()
    }

    #[test]
    fn the_highest_layer_decides_and_is_named() {
        let text = format!("{LEAST}\n[api]\nlisten = '127.0.0.1:1'\nmax_limit = 7\n");
        let both = layers(
            &[("MAGNUMD_API_LISTEN", "127.0.0.1:2"), ("MAGNUMD_API_MAX_LIMIT", "8"), ("HOME", "/")],
            &[("api.listen", "127.0.0.1:3")],
        );
        let loaded = over(&both, &text).unwrap();
        assert_eq!((loaded.config.api.listen.port(), loaded.config.api.max_limit), (3, 8));
        assert_eq!(origin(&loaded, "api.listen"), "--set");
        assert_eq!(origin(&loaded, "api.max_limit"), "MAGNUMD_API_MAX_LIMIT");
        assert_eq!(origin(&loaded, "keystone.username"), "/etc/magnumd/magnumd.toml:4");
        assert_eq!(origin(&loaded, "quota.max_clusters_per_project"), "default");
        assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
        let below = over(&layers(&[], &[]), &text).unwrap();
        assert_eq!(loaded.changes_since(&below), ["api.listen", "api.max_limit"]);
    }

    #[test]
    fn every_option_can_be_given_in_the_environment_and_as_a_flag() {
        for item in Config::default().items() {
            let Setting::Plain(value) = &item.setting else { continue };
            let text = match value {
                // Empty by default, and then needed or checked.
                Value::String(text) if text.is_empty() => continue,
                Value::String(text) => text.clone(),
                other => super::super::option::written(other),
            };
            let (variable, key) = (item.variable(), item.key.as_str());
            let loaded = over(&layers(&[(&variable, &text)], &[]), LEAST).unwrap();
            assert_eq!(origin(&loaded, key), variable);
            let loaded = over(&layers(&[], &[(key, &text)]), LEAST).unwrap();
            assert_eq!(origin(&loaded, key), "--set");
        }
    }

    #[test]
    fn a_mistake_names_its_layer_and_the_nearest_key() {
        let table = [
            (layers(&[("MAGNUMD_API_LISTEN", "x")], &[]), "MAGNUMD_API_LISTEN: api.listen is not"),
            (
                layers(&[("MAGNUMD_CA_RSA_BITS", "512")], &[]),
                "MAGNUMD_CA_RSA_BITS: ca.rsa_bits must",
            ),
            (
                layers(&[], &[("api.listem", "x")]),
                "api.listem is not an option; did you mean 'api.li",
            ),
            (layers(&[], &[("ca.rsa_bits", "many")]), "--set: ca.rsa_bits must be a whole number"),
            (
                layers(&[], &[("keystone.password", "hunter2")]),
                "--set: keystone.password is a secret, and arguments can be read by every user",
            ),
        ];
        for (layers, wanted) in table {
            let said = over(&layers, LEAST).unwrap_err();
            assert!(said.contains(wanted) && !said.contains("hunter2"), "{said}");
        }
        let flag = layers(&[], &[("trust.admin_password", "x")]);
        let said = over(&flag, LEAST).unwrap_err();
        assert!(said.ends_with("or in the variable MAGNUMD_TRUST_ADMIN_PASSWORD"), "{said}");
        let loaded = over(&layers(&[("MAGNUMD_API_LISTN", "x")], &[]), LEAST).unwrap();
        assert!(loaded.warnings[0].contains("did you mean MAGNUMD_API_LISTEN?"));
        let tests = [("MAGNUMD_TEST_PATIENCE", "9"), ("MAGNUMD_LOG", "/x"), ("MAGNUMD_LOK", "/x")];
        let loaded = over(&layers(&tests, &[]), LEAST).unwrap();
        assert_eq!(loaded.warnings.len(), 1, "{:?}", loaded.warnings);
        assert!(loaded.warnings[0].starts_with("MAGNUMD_LOK is not an option and is ignored"));
        assert_eq!(loaded.notes.len(), 2, "{:?}", loaded.notes);
        assert!(loaded.notes[0].starts_with("MAGNUMD_TEST_PATIENCE is for magnumd's tests"));
        let wrong = format!("{LEAST}\n[ca]\nvalidity_days = 0");
        let said = over(&layers(&[], &[]), &wrong).unwrap_err();
        assert!(
            said.starts_with("/etc/magnumd/magnumd.toml:16: ca.validity_days must be"),
            "{said}"
        );
        let said = over(&layers(&[], &[]), "[api]\nmax_limit = 'x'").unwrap_err();
        assert!(said.starts_with("/etc/magnumd/magnumd.toml:2: api.max_limit: invalid"), "{said}");
    }

    #[test]
    fn a_secret_of_a_higher_layer_replaces_the_lower_ones_file() {
        let place = tempfile::tempdir().unwrap();
        let file = place.path().join("password");
        std::fs::write(&file, "from a file\n").unwrap();
        let given = [("MAGNUMD_KEYSTONE_PASSWORD_FILE", file.to_str().unwrap())];
        let loaded = over(&layers(&given, &[]), LEAST).unwrap();
        assert_eq!(loaded.config.keystone.password.expose(), "from a file");
        assert_eq!(origin(&loaded, "keystone.password"), "MAGNUMD_KEYSTONE_PASSWORD_FILE");
        let of_file = format!("password_file = '{}'", file.display());
        let below = LEAST.replacen("password = \"secret\"", &of_file, 1);
        assert_ne!(below, LEAST);
        let over_it = layers(&[("MAGNUMD_KEYSTONE_PASSWORD", "from a variable")], &[]);
        let loaded = over(&over_it, &below).unwrap();
        assert_eq!(loaded.config.keystone.password.expose(), "from a variable");
        let before = over(&layers(&[], &[]), LEAST).unwrap();
        assert!(loaded.changes_since(&before).contains(&"keystone.password".to_owned()));
        let all: String = loaded
            .settings()
            .iter()
            .filter_map(|(item, _)| shown(&item.setting))
            .map(|value| super::super::option::written(&value))
            .collect();
        let word = "from a variable";
        assert!(!all.contains(word) && !format!("{loaded:?}").contains(word));
    }

    #[test]
    fn a_file_that_nobody_named_need_not_be_there() {
        let everything = layers(
            &[
                ("MAGNUMD_KEYSTONE_AUTH_URL", "http://127.0.0.1:5000/v3"),
                ("MAGNUMD_KEYSTONE_USERNAME", "magnum"),
                ("MAGNUMD_KEYSTONE_PASSWORD", "secret"),
                ("MAGNUMD_TRUST_DOMAIN_NAME", "magnum"),
                ("MAGNUMD_TRUST_ADMIN_NAME", "admin"),
                ("MAGNUMD_TRUST_ADMIN_PASSWORD", "secret"),
                ("MAGNUMD_DISCOVERY_ADVERTISE_URL", "http://192.0.2.1:9512"),
                ("MAGNUMD_BOOTSTRAP_ADVERTISE_URL", "https://192.0.2.1:9513"),
            ],
            &[],
        );
        assert!(everything.suffices());
        over(&everything, "").unwrap();
        assert!(!layers(&[("MAGNUMD_LOG", "/tmp/x")], &[]).suffices());
        let named = Layers { file: Some(PathBuf::from("/nowhere.toml")), ..everything };
        let said = named.load().unwrap_err().to_string();
        assert!(said.starts_with("/nowhere.toml: "), "{said}");
    }
}
