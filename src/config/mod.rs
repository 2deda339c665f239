//! The whole configuration, parsed before anything opens.
//!
//! One struct per section, every default in one place, unknown keys refused with the
//! nearest known one. What a file says, the environment may say otherwise, and flags over both
//! ([`Layers`]). `config/magnumd.toml` documents every option; a test holds it and these
//! structs together.

pub mod folders;
mod layers;
mod option;
mod oslo;
mod oslo_options;
mod sections;
mod value;

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::model::first_contact::{Block, FirstContact};
pub use layers::{DEFAULT_FILE, Layers, Loaded, Origin, shown};
use option::Listed;
pub use option::{Form, Item, Setting, written};
pub use oslo::Import;
pub use sections::*;
pub use value::{Every, Password, Span};

/// Why a configuration is not usable; one sentence with place and cure.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("{path}: {reason}")]
    Unreadable { path: PathBuf, reason: String },
    #[error("{path}:{line}: {reason}")]
    Syntax { path: PathBuf, line: usize, reason: String },
    /// `place` is where the value was given, or the file where it is missing.
    #[error("{place}: {key} {reason}")]
    Value { place: String, key: String, reason: String },
}

/// A key, and what is wrong with its value.
type Wrong = (String, String);

impl Config {
    /// Reads and checks a file and the secret files it names. Opens nothing else.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let layers = Layers { file: Some(path.to_owned()), ..Layers::default() };
        Ok(layers.load()?.config)
    }

    /// Like [`Config::load`] for text already read; `path` is for messages and for
    /// resolving relative file names.
    pub fn parse(path: &Path, text: &str) -> Result<Self, ConfigError> {
        Ok(Layers::default().over(path, text)?.config)
    }

    /// Every option, in the order of the sections.
    pub fn items(&self) -> Vec<Item> {
        let mut items = Vec::new();
        self.list("", &mut items);
        items
    }

    /// Checks what the types cannot, finds the files named, reads the secret ones.
    fn complete(&mut self, path: &Path) -> Result<(), Wrong> {
        self.check()?;
        let base = path.parent().unwrap_or(Path::new("."));
        self.base = base.to_owned();
        self.find_files(base);
        self.read_secrets(base)
    }

    /// Relative names begin in the folder of the configuration.
    fn find_files(&mut self, base: &Path) {
        // An empty name says that there is none.
        let found = |file: &mut PathBuf| {
            if !file.as_os_str().is_empty() {
                *file = base.join(&*file);
            }
        };
        let Self { api, storage, policy, clients, drivers, .. } = self;
        let services = [
            &mut clients.default,
            &mut clients.keystone,
            &mut clients.heat,
            &mut clients.nova,
            &mut clients.neutron,
            &mut clients.glance,
            &mut clients.octavia,
            &mut clients.cinder,
            &mut clients.magnum,
        ];
        services.into_iter().filter_map(|s| s.ca_file.as_mut()).for_each(found);
        let Tls { cert, key } = &mut api.tls;
        let named = [
            cert,
            key,
            &mut storage.sealing_key_file,
            &mut policy.file,
            &mut drivers.dir,
            &mut drivers.openstack_ca_file,
        ];
        named.into_iter().filter_map(Option::as_mut).for_each(found);
        policy.dirs.iter_mut().for_each(found);
    }

    fn read_secrets(&mut self, base: &Path) -> Result<(), Wrong> {
        self.keystone.password.resolve(&self.keystone.password_file, base, "keystone.password")?;
        self.trust.admin_password.resolve(
            &self.trust.admin_password_file,
            base,
            "trust.admin_password",
        )
    }

    fn check(&self) -> Result<(), Wrong> {
        let wrong = |key: &str, reason: &str| Err((key.to_owned(), reason.to_owned()));
        let url = |key: &str, value: &str| {
            let parsed = value.parse::<hyper::Uri>().ok();
            let usable = parsed
                .filter(|u| matches!(u.scheme_str(), Some("http" | "https")) && u.host().is_some());
            usable.map(|_| ()).ok_or_else(|| {
                (key.to_owned(), format!("must be an http or https URL, not '{value}'"))
            })
        };
        let needed = |key: &str, value: &str| match value.is_empty() {
            true => wrong(key, "must be set"),
            false => Ok(()),
        };
        url("keystone.auth_url", &self.keystone.auth_url)?;
        needed("keystone.username", &self.keystone.username)?;
        if !self.keystone.public_url.is_empty() {
            url("keystone.public_url", &self.keystone.public_url)?;
        }
        url("discovery.advertise_url", &self.discovery.advertise_url)?;
        if self.discovery.advertise_url.starts_with("https") {
            let reason = "must be plain http: etcd trusts no private CA for discovery, and \
                          TLS in nested virtualisation outlasts its 5 s";
            return wrong("discovery.advertise_url", reason);
        }
        url("bootstrap.advertise_url", &self.bootstrap.advertise_url)?;
        if !self.bootstrap.advertise_url.starts_with("https") {
            let reason = format!(
                "must be an https URL, not '{}': nodes show magnumd a certificate there, and are \
                 given keys; magnumd makes its own certificate for it, which nodes pin",
                self.bootstrap.advertise_url
            );
            return wrong("bootstrap.advertise_url", &reason);
        }
        if !self.api.advertise_url.is_empty() {
            url("api.advertise_url", &self.api.advertise_url)?;
        }
        if self.trust.domain_id.is_empty() && self.trust.domain_name.is_empty() {
            let reason = "or trust.domain_name must be set: the domain of trustee users";
            return wrong("trust.domain_id", reason);
        }
        if self.trust.admin_id.is_empty() && self.trust.admin_name.is_empty() {
            let reason = "or trust.admin_name must be set: who makes trustee users";
            return wrong("trust.admin_id", reason);
        }
        if self.api.tls.cert.is_some() != self.api.tls.key.is_some() {
            return wrong("api.tls", "needs both cert and key, or neither");
        }
        // What a browser sends as Origin, to the letter.
        let is_origin = |origin: &String| {
            let host = origin.strip_prefix("https://").or_else(|| origin.strip_prefix("http://"));
            origin == "*" || host.is_some_and(|host| !host.is_empty() && !host.contains('/'))
        };
        if let Some(odd) = self.api.cors.allowed_origins.iter().find(|o| !is_origin(o)) {
            let reason = format!("holds '{odd}', which is neither * nor like https://host:port");
            return wrong("api.cors.allowed_origins", &reason);
        }
        let between =
            |key: &str, value: u64, least: u64, most: u64| match (least..=most).contains(&value) {
                true => Ok(()),
                false => wrong(key, &format!("must be from {least} to {most}, not {value}")),
            };
        if ![2048, 3072, 4096].contains(&self.ca.rsa_bits) {
            let reason = format!("must be 2048, 3072 or 4096, not {}", self.ca.rsa_bits);
            return wrong("ca.rsa_bits", &reason);
        }
        between("ca.validity_days", u64::from(self.ca.validity_days), 1, 36500)?;
        between("cluster.create_timeout_mins", u64::from(self.cluster.create_timeout()), 1, 1440)?;
        let patience = self.periodic.health_timeout.0;
        if patience.is_zero() || patience > Duration::from_secs(60) {
            let reason = "must be longer than nothing and at most \"60s\"; to look into no \
                          cluster, set periodic.health_interval to \"0s\"";
            return wrong("periodic.health_timeout", reason);
        }
        between("ca.keys_ahead", self.ca.keys_ahead as u64, 0, 1024)?;
        between("cluster.lanes", self.cluster.lanes as u64, 1, 1024)?;
        let all = self.api.max_connections as u64;
        between("api.max_connections", all, 1, 1_000_000)?;
        if let Some(most) = self.api.max_connections_per_source {
            between("api.max_connections_per_source", most as u64, 1, all)?;
        }
        let most = self.discovery.max_connections_per_source as u64;
        between("discovery.max_connections_per_source", most, 1, 4096)?;
        let most = self.bootstrap.max_connections_per_source as u64;
        between("bootstrap.max_connections_per_source", most, 1, 4096)?;
        for block in &self.bootstrap.trusted_sources {
            if let Err(reason) = block.parse::<Block>() {
                return wrong("bootstrap.trusted_sources", &reason);
            }
        }
        let needs = self.bootstrap.first_contact;
        if needs != FirstContact::Address && !self.bootstrap.trusted_sources.is_empty() {
            let reason = format!(
                "must be empty where bootstrap.first_contact is \"{}\", which trusts no other source",
                needs.as_str()
            );
            return wrong("bootstrap.trusted_sources", &reason);
        }
        between("api.max_limit", self.api.max_limit as u64, 1, 100_000)?;
        between("api.max_body_bytes", self.api.max_body_bytes as u64, 1024, 64 << 20)?;
        tracing_subscriber::EnvFilter::try_new(&self.log.level)
            .map_err(|e| ("log.level".to_owned(), format!("is not a filter: {e}")))?;
        for (name, client) in self.clients.each() {
            if let Some(interface) = &client.interface
                && crate::model::name::endpoint_interface(interface).is_none()
            {
                let reason = format!("must be public, internal or admin, not '{interface}'");
                return wrong(&format!("clients.{name}.interface"), &reason);
            }
        }
        Ok(())
    }
}

/// Adds the nearest known key to serde's "unknown field" message.
fn with_suggestion(message: &str) -> String {
    let message = message.trim();
    let mut quoted = message.split('`').skip(1).step_by(2);
    if !message.starts_with("unknown field") {
        return message.to_owned();
    }
    let Some(unknown) = quoted.next() else { return message.to_owned() };
    match option::nearest(unknown, quoted) {
        Some(known) => format!("unknown key '{unknown}'; did you mean '{known}'?"),
        None => format!("unknown key '{unknown}'"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub const LEAST: &str = r#"
        [keystone]
        auth_url = "http://127.0.0.1:5000/v3"
        username = "magnum"
        password = "secret"
        [trust]
        domain_name = "magnum"
        admin_name = "magnum_domain_admin"
        admin_password = "secret"
        [discovery]
        advertise_url = "http://192.0.2.1:9512"
        [bootstrap]
        advertise_url = "https://192.0.2.1:9513"
    "#;

    fn parse(text: &str) -> Result<Config, String> {
        Config::parse(Path::new("/etc/magnumd/magnumd.toml"), text).map_err(|e| e.to_string())
    }

    #[test]
    fn the_least_configuration_is_enough() {
        let config = parse(LEAST).unwrap();
        assert_eq!(config.api.listen.port(), 9511);
        assert_eq!(config.keystone.token_cache.0, Duration::from_secs(300));
        assert_eq!(config.keystone.password.expose(), "secret");
    }

    #[test]
    fn nodes_are_given_keys_over_tls_only() {
        let plain = LEAST.replace("https://192.0.2.1:9513", "http://192.0.2.1:9513");
        let refused = parse(&plain).unwrap_err();
        assert!(refused.contains("bootstrap.advertise_url must be an https URL"), "{refused}");
    }

    #[test]
    fn the_shipped_file_parses_and_shows_the_defaults() {
        let shipped = include_str!("../../config/magnumd.toml");
        let config = parse(shipped).unwrap();
        assert_eq!(config.cluster.create_timeout_mins, Cluster::default().create_timeout_mins);
        // Every commented option must be a real one with a value of its type.
        let uncommented: String = shipped
            .lines()
            .map(|line| match line.strip_prefix('#') {
                Some(option) if !option.starts_with(' ') && option.contains('=') => option,
                Some(table) if table.starts_with('[') => table,
                _ => line,
            })
            .map(|line| format!("{line}\n"))
            .collect();
        let all: toml::Table = toml::from_str(&uncommented).unwrap();
        let unknown = toml::from_str::<Config>(&uncommented).map_err(|e| e.to_string());
        assert!(unknown.is_ok(), "{unknown:?}");
        for super::Item { key, .. } in Config::default().items() {
            // One section speaks for those of all services.
            let parts: Vec<&str> = match key.split('.').collect::<Vec<_>>()[..] {
                ["clients", _, option] => vec!["clients", "default", option],
                ref parts => parts.to_vec(),
            };
            let value = parts.iter().try_fold(&all, |table, part| match table.get(*part) {
                Some(toml::Value::Table(inner)) => Ok(inner),
                found => Err(found.is_some()),
            });
            assert_eq!(value, Err(true), "{key} is not in config/magnumd.toml");
        }
    }

    /// What nodes believe is the operator's to say, apart from what magnumd believes.
    #[test]
    fn nodes_have_an_authority_of_their_own() {
        let file = |more: &str| {
            let config = parse(&format!("{LEAST}{more}")).unwrap();
            config.drivers.openstack_ca_file(&config.clients).map(|f| f.display().to_string())
        };
        let ours = "[clients.default]\nca_file = 'ours.pem'\n";
        assert_eq!(file(""), None);
        assert_eq!(file(ours).as_deref(), Some("/etc/magnumd/ours.pem"));
        let keystone = format!("{ours}[clients.keystone]\nca_file = '/k.pem'\n");
        assert_eq!(file(&keystone).as_deref(), Some("/k.pem"));
        let theirs = format!("{ours}[drivers]\nopenstack_ca_file = 'nodes.pem'\n");
        assert_eq!(file(&theirs).as_deref(), Some("/etc/magnumd/nodes.pem"));
        assert_eq!(file(&format!("{ours}[drivers]\nopenstack_ca_file = ''\n")), None);
    }

    #[test]
    fn one_address_gets_a_part_of_the_connections_and_a_trusted_proxy_all() {
        for (api, most) in [
            ("", 1024),
            ("max_connections = 100", 25),
            ("max_connections = 3", 1),
            ("trust_proxy_headers = true", usize::MAX),
            ("max_connections_per_source = 7", 7),
            ("trust_proxy_headers = true\nmax_connections_per_source = 7", 7),
        ] {
            let config = parse(&format!("{LEAST}[api]\n{api}\n")).unwrap();
            assert_eq!(config.api.connections_per_source(), most, "{api}");
        }
    }

    #[test]
    fn mistakes_are_named_with_line_and_cure() {
        let table = [
            ("[api]\nlisten_address = 1", "unknown key 'listen_address'; did you mean 'listen'?"),
            ("[api]\nlisten = 'nowhere'", "invalid socket address"),
            ("[keystone]\ntoken_cache = '5 parsecs'", "a number and one of ms, s, m, h, d"),
            ("[api", "/etc/magnumd/magnumd.toml:1:"),
            ("[periodic]\nhealth_interval = 'never'", "'never' is not a length of time"),
        ];
        for (text, wanted) in table {
            let said = parse(text).unwrap_err();
            assert!(said.contains(wanted), "{said}");
        }
        let no_url = parse("").unwrap_err();
        assert!(no_url.contains("keystone.auth_url must be an http or https URL"), "{no_url}");
        for patience in ["0s", "61s"] {
            let text = format!("{LEAST}[periodic]\nhealth_timeout = '{patience}'");
            let said = parse(&text).unwrap_err();
            assert!(said.contains("at most \"60s\""), "{said}");
        }
        for (section, text) in [
            ("api", "max_connections = 0"),
            ("api", "max_connections_per_source = 0"),
            ("api", "max_connections_per_source = 4097"),
            ("discovery", "max_connections_per_source = 0"),
            ("bootstrap", "max_connections_per_source = 4097"),
        ] {
            let at = format!("[{section}]\n");
            let text = match LEAST.contains(at.trim()) {
                true => LEAST.replace(at.trim(), &format!("{at}{text}")),
                false => format!("{LEAST}{at}{text}"),
            };
            let said = parse(&text).unwrap_err();
            assert!(said.contains("_connections") && said.contains("must be from 1 to"), "{said}");
        }
        for (line, part) in [
            ("trusted_sources = ['10.0.0.1/8']", "10.0.0.0/8 is"),
            ("trusted_sources = ['nat']", "neither an address"),
            ("first_contact = 'anybody'", "unknown variant `anybody`"),
            ("first_contact = 'own-address'\ntrusted_sources = ['10.0.0.0/8']", "must be empty"),
            ("first_contact = 'vendor-data'\ntrusted_sources = ['10.0.0.1']", "must be empty"),
        ] {
            let said = parse(&LEAST.replace("[bootstrap]", &format!("[bootstrap]\n{line}")));
            let said = said.unwrap_err();
            assert!(said.contains(part), "{said}");
        }
        let https = LEAST.replace("http://192.0.2.1:9512", "https://192.0.2.1:9512");
        assert!(parse(&https).unwrap_err().contains("must be plain http"));
        let both = LEAST.replace(
            "password = \"secret\"\n        [trust]",
            "password = \"x\"\npassword_file = \"y\"\n[trust]",
        );
        assert!(parse(&both).unwrap_err().contains("not both"));
    }
}
