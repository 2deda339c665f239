//! The configuration: what it says already, and what setup makes of it.

use std::fs::Permissions;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::edit::{quoted, set, unset};
use super::{Names, SetupError};
use crate::base::id::Entropy;
use crate::base::secret::Secret;
use crate::config::Config;
use crate::openstack::Credentials;

/// The configuration that comes with magnumd.
const SAMPLE: &str = include_str!("../../config/magnumd.toml");
/// Where the sample says that this machine is; reserved for documentation.
const SAMPLE_ADDRESS: &str = "192.0.2.10";

pub struct File {
    path: PathBuf,
    /// None when there is none yet.
    before: Option<String>,
    after: String,
    /// Of the service account and of the domain's administrator.
    pub password: Secret<String>,
    pub keeper_password: Secret<String>,
    /// The port on which the API is served.
    pub port: u16,
    pub scheme: &'static str,
}

impl File {
    /// Reads the file, keeps the passwords of accounts that it names already, draws others.
    pub fn read(
        path: &Path,
        names: &Names,
        credentials: &Credentials,
        entropy: &Entropy,
    ) -> Result<Self, SetupError> {
        let before = match std::fs::read_to_string(path) {
            Ok(text) => Some(text),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => None,
            Err(e) => return Err(wrong(path, e)),
        };
        let text = before.as_deref().unwrap_or(SAMPLE);
        let known = Config::parse(path, text).map_err(|e| SetupError::Refused(e.to_string()))?;
        let fresh = || Secret::new(entropy.password());
        let kept = |is_ours: bool, password: &str| {
            let usable = is_ours && before.is_some() && !matches!(password, "" | "change-me");
            if usable { Secret::new(password.to_owned()) } else { fresh() }
        };
        let (keystone, trust) = (&known.keystone, &known.trust);
        let password = kept(keystone.username == names.user, keystone.password.expose());
        let is_keeper = trust.admin_name == names.keeper() && trust.domain_name == names.domain;
        let keeper_password = kept(is_keeper, trust.admin_password.expose());
        let mut after = text.to_owned();
        let mut put = |section: &str, key: &str, value: &str, is_so: bool| {
            if !is_so {
                after = set(&after, section, key, &quoted(value));
            }
        };
        let url = &credentials.auth_url;
        put("keystone", "auth_url", url, keystone.auth_url.trim_end_matches('/') == url);
        put("keystone", "username", &names.user, keystone.username == names.user);
        put("keystone", "project", &names.project, keystone.project == names.project);
        put("trust", "domain_name", &names.domain, trust.domain_name == names.domain);
        put("trust", "admin_name", &names.keeper(), trust.admin_name == names.keeper());
        let default = &known.clients.default;
        let is_so = default.region.as_deref() == Some(&names.region);
        put("clients.default", "region", &names.region, is_so);
        if let Some(ca) = credentials.trust.ca_files.first() {
            let is_so = default.ca_file.as_ref() == Some(ca);
            put("clients.default", "ca_file", &ca.display().to_string(), is_so);
        }
        let given = [
            ("keystone", "password", &password, keystone.password.expose()),
            ("trust", "admin_password", &keeper_password, trust.admin_password.expose()),
        ];
        for (section, key, secret, had) in given {
            if secret.expose() != had {
                after = set(&after, section, key, &quoted(secret.expose()));
                after = unset(&after, section, &format!("{key}_file"));
            }
        }
        if credentials.trust.insecure && default.insecure != Some(true) {
            after = set(&after, "clients.default", "insecure", "true");
        }
        after = addresses(&after, &known, names);
        let api = &known.api;
        Ok(Self {
            path: path.to_owned(),
            port: api.listen.port(),
            scheme: if api.tls.cert.is_some() { "https" } else { "http" },
            before,
            after,
            password,
            keeper_password,
        })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn is_new(&self) -> bool {
        self.before.is_none()
    }

    pub fn changes(&self) -> bool {
        self.before.as_deref() != Some(&self.after)
    }

    /// Whole or not at all, unreadable to others. Who owns the file stays.
    pub fn write(&self) -> Result<(), SetupError> {
        if !self.changes() {
            return Ok(());
        }
        let fail = |e| wrong(&self.path, e);
        Config::parse(&self.path, &self.after)
            .map_err(|e| SetupError::Refused(format!("{e} (as setup would write it)")))?;
        if let Some(folder) = self.path.parent().filter(|p| !p.as_os_str().is_empty()) {
            std::fs::create_dir_all(folder).map_err(fail)?;
        }
        let mut name = self.path.file_name().unwrap_or_default().to_owned();
        name.push(".new");
        let beside = self.path.with_file_name(name);
        match std::fs::remove_file(&beside) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(fail(e)),
            _ => {}
        }
        let mut file = std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&beside)
            .map_err(fail)?;
        file.write_all(self.after.as_bytes()).and_then(|()| file.sync_all()).map_err(fail)?;
        if let Ok(old) = std::fs::metadata(&self.path) {
            // Only root may give files away, and nobody else has to. A group that may read it,
            // such as the daemon's, still may; others never.
            let kept = std::os::unix::fs::fchown(&file, Some(old.uid()), Some(old.gid()));
            let mode = Permissions::from_mode(0o600 | (old.mode() & 0o040));
            kept.and_then(|()| file.set_permissions(mode)).map_err(fail)?;
        }
        std::fs::rename(&beside, &self.path).map_err(fail)
    }
}

/// Where nodes find us, unless the operator has said so already.
fn addresses(text: &str, known: &Config, names: &Names) -> String {
    let mut text = text.to_owned();
    let host = match names.address {
        std::net::IpAddr::V4(v4) => v4.to_string(),
        std::net::IpAddr::V6(v6) => format!("[{v6}]"),
    };
    let urls = [
        ("discovery", &known.discovery.advertise_url),
        ("bootstrap", &known.bootstrap.advertise_url),
    ];
    for (section, url) in urls {
        if url.contains(SAMPLE_ADDRESS) {
            let own = url.replace(SAMPLE_ADDRESS, &host);
            text = set(&text, section, "advertise_url", &quoted(&own));
        }
    }
    if names.address.is_loopback() && !known.discovery.allow_loopback {
        text = set(&text, "discovery", "allow_loopback", "true");
    }
    text
}

fn wrong(path: &Path, reason: std::io::Error) -> SetupError {
    SetupError::File { path: path.to_owned(), reason: reason.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn names(address: &str) -> Names {
        Names {
            user: "magnum".to_owned(),
            project: "service".to_owned(),
            domain: "lab".to_owned(),
            region: "R1".to_owned(),
            address: address.parse().unwrap(),
        }
    }

    fn credentials() -> Credentials {
        let pairs =
            [("OS_AUTH_URL", "http://k:5000"), ("OS_USERNAME", "admin"), ("OS_PASSWORD", "x")];
        let variables: BTreeMap<String, String> =
            pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        Credentials::of_variables(&variables).unwrap().unwrap()
    }

    #[test]
    fn a_new_file_is_usable_and_a_second_run_changes_nothing() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("etc/magnumd.toml");
        let read = || File::read(&path, &names("10.1.2.3"), &credentials(), &Entropy::new());
        let first = read().unwrap();
        assert!(first.is_new() && first.changes());
        first.write().unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let config = Config::load(&path).unwrap();
        assert_eq!(config.keystone.auth_url, "http://k:5000/v3");
        assert_eq!(config.keystone.password.expose(), first.password.expose());
        assert_eq!(config.trust.admin_name, "lab_domain_admin");
        assert_eq!(config.discovery.advertise_url, "http://10.1.2.3:9512");
        assert_eq!(config.clients.default.region.as_deref(), Some("R1"));
        let second = read().unwrap();
        assert!(!second.changes());
        assert_eq!(second.password, first.password);
        assert_eq!(second.keeper_password, first.keeper_password);
    }

    #[test]
    fn an_operators_own_settings_stay_and_the_samples_passwords_do_not() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("magnumd.toml");
        let own = SAMPLE.replace("#lanes = 32", "lanes = 7 # mine");
        std::fs::write(&path, own).unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        let file = File::read(&path, &names("::1"), &credentials(), &Entropy::new()).unwrap();
        file.write().unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o640, "the daemon's group keeps its right, others lose theirs");
        assert!(text.contains("lanes = 7 # mine") && !text.contains("change-me"));
        assert!(text.contains("http://[::1]:9512") && text.contains("\nallow_loopback = true"));
        std::fs::write(&path, "[api]\nlissten = 1").unwrap();
        let broken = File::read(&path, &names("::1"), &credentials(), &Entropy::new());
        assert!(broken.err().unwrap().to_string().contains("did you mean 'listen'"));
    }
}
