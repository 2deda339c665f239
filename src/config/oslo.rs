//! Magnum's own `magnum.conf`, read as it is: what we have too is taken over, and every other
//! option is named once with the reason why it is not.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use toml::Value;

use super::layers::{Origin, Values};
use super::option::{Form, Item, nearest, written};
use super::oslo_options::{OPTIONS, Row, SECTIONS, To};
use super::{Config, ConfigError};

/// Whether a file is in oslo.config's format: by its name, as both are plain text.
pub(super) fn is_meant_by(path: &Path) -> bool {
    path.extension().is_some_and(|e| e == "conf" || e == "ini")
}

/// One option as it stands in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    section: String,
    option: String,
    value: String,
    line: usize,
}

/// Puts what the file says into `values`; returns one sentence for each option not used.
pub(super) fn read(
    path: &Path,
    text: &str,
    values: &mut Values,
) -> Result<Vec<String>, ConfigError> {
    let wrong = |(line, reason): (usize, String)| ConfigError::Syntax {
        path: path.to_owned(),
        line,
        reason,
    };
    let entries = substituted(parse(text).map_err(wrong)?).map_err(wrong)?;
    let mut reading =
        Reading { path, items: Config::default().items(), values, warnings: Vec::new() };
    // Where both are given, keystone_auth is the service account.
    let (lower, rest): (Vec<_>, Vec<_>) =
        entries.iter().partition(|e| e.section == "keystone_authtoken");
    for entry in lower.into_iter().chain(rest) {
        reading.take(entry).map_err(|reason| wrong((entry.line, reason)))?;
    }
    reading.take_together(&entries).map_err(wrong)?;
    Ok(reading.warnings)
}

/// A `magnum.conf` as a configuration of ours.
#[derive(Debug)]
pub struct Import {
    pub toml: String,
    /// One sentence for each option not used.
    pub warnings: Vec<String>,
    /// What keeps it from being usable as it is.
    pub lacking: Option<ConfigError>,
}

impl Import {
    /// Reads `path` in oslo.config's format, whatever it is called.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|e| ConfigError::Unreadable {
            path: path.to_owned(),
            reason: e.to_string(),
        })?;
        let mut values = Values::default();
        let warnings = read(path, &text, &mut values)?;
        let toml = as_toml(&values);
        let lacking = Config::parse(&path.with_extension("toml"), &toml).err();
        Ok(Self { toml, warnings, lacking })
    }
}

fn as_toml(values: &Values) -> String {
    let mut sections: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (key, value) in values.iter() {
        let (section, option) = key.rsplit_once('.').unwrap_or(("", key));
        sections.entry(section).or_default().push(format!("{option} = {}", written(value)));
    }
    let shown =
        |(section, lines): (&str, Vec<String>)| format!("[{section}]\n{}\n", lines.join("\n"));
    sections.into_iter().map(shown).collect::<Vec<_>>().join("\n")
}

struct Reading<'r> {
    path: &'r Path,
    items: Vec<Item>,
    values: &'r mut Values,
    warnings: Vec<String>,
}

impl Reading<'_> {
    fn take(&mut self, entry: &Entry) -> Result<(), String> {
        let Entry { section, option, value, line } = entry;
        match Row::of(section, option).map(|row| row.to) {
            Some(To::Key(key)) => self.put(key, value, *line),
            Some(To::Seconds(key)) => self.put(key, &format!("{value}s"), *line),
            Some(To::KeystoneUrl(key)) => {
                let url = value.trim_end_matches('/');
                let url = if url.ends_with("/v3") { url.to_owned() } else { format!("{url}/v3") };
                self.put(key, &url, *line)
            }
            Some(To::DomainId(key)) if value == "default" => self.put(key, "Default", *line),
            Some(To::DomainId(_)) => {
                self.ignore(entry, "give the domain by its name instead");
                Ok(())
            }
            Some(To::Together) => Ok(()),
            Some(To::Nothing(why)) => {
                self.ignore(entry, why);
                Ok(())
            }
            None => self.take_unlisted(entry),
        }
    }

    fn take_unlisted(&mut self, entry: &Entry) -> Result<(), String> {
        let Entry { section, option, value, line } = entry;
        let service = section.strip_suffix("_client").map(|s| format!("clients.{s}"));
        if let Some(service) = service.filter(|s| self.has(&format!("{s}.region"))) {
            let own = match option.as_str() {
                "region_name" => "region",
                "endpoint_type" => "interface",
                own @ ("ca_file" | "insecure") => own,
                _ => {
                    self.ignore(entry, "magnumd's clients have no such option");
                    return Ok(());
                }
            };
            return self.put(&format!("{service}.{own}"), value, *line);
        }
        // Our own options may stand in the same file, under their own names.
        let own = format!("{section}.{option}");
        if self.has(&own) {
            return self.put(&own, value, *line);
        }
        if let Some((_, why)) = SECTIONS.iter().find(|(name, _)| name == section) {
            self.ignore(entry, why);
            return Ok(());
        }
        let known: Vec<&str> =
            OPTIONS.iter().filter(|row| row.section == section).map(|row| row.option).collect();
        let meant = nearest(option, known);
        let hint = meant.map_or(String::new(), |m| format!("; did you mean {m}?"));
        self.ignore(entry, &format!("magnumd knows no such option{hint}"));
        Ok(())
    }

    /// Options of ours that several of theirs make up.
    fn take_together(&mut self, entries: &[Entry]) -> Result<(), (usize, String)> {
        let last = |section: &str, option: &str| {
            entries.iter().rev().find(|e| e.section == section && e.option == option)
        };
        let (host, port) = (last("api", "host"), last("api", "port"));
        if let Some(line) = host.or(port).map(|e| e.line) {
            let host = host.map_or("127.0.0.1", |e| e.value.as_str());
            let address: IpAddr = host.parse().map_err(|_| {
                (line, format!("[api] host must be an IP address for magnumd, not '{host}'"))
            })?;
            let port = match port {
                Some(e) => e.value.parse().map_err(|_| {
                    (e.line, format!("[api] port must be from 1 to 65535, not '{}'", e.value))
                })?,
                None => 9511,
            };
            let listen = SocketAddr::new(address, port).to_string();
            self.put("api.listen", &listen, line).map_err(|reason| (line, reason))?;
            if !address.is_unspecified() && !address.is_loopback() {
                self.advertise(address, line).map_err(|reason| (line, reason))?;
            }
        }
        let is_on = |e: Option<&Entry>| {
            e.is_some_and(|e| Form::Switch.read(&e.value) == Ok(Value::from(true)))
        };
        for (option, key) in [("ssl_cert_file", "api.tls.cert"), ("ssl_key_file", "api.tls.key")] {
            match last("api", option) {
                Some(file) if is_on(last("api", "enabled_ssl")) => {
                    self.put(key, &file.value, file.line).map_err(|reason| (file.line, reason))?;
                }
                Some(file) => self.ignore(file, "[api] enabled_ssl is not true"),
                None => {}
            }
        }
        let formats = [("use_json", "json"), ("use_journal", "journald")];
        for (option, format) in formats {
            if let Some(e) = last("DEFAULT", option).filter(|e| is_on(Some(*e))) {
                self.put("log.format", format, e.line).map_err(|reason| (e.line, reason))?;
            }
        }
        if let Some(e) = last("DEFAULT", "debug").filter(|e| is_on(Some(*e))) {
            self.put("log.level", "debug", e.line).map_err(|reason| (e.line, reason))?;
        }
        Ok(())
    }

    /// Nodes reach the other two listeners where clients reach the API, unless told otherwise.
    fn advertise(&mut self, address: IpAddr, line: usize) -> Result<(), String> {
        for (key, scheme, port) in
            [("discovery.advertise_url", "http", 9512), ("bootstrap.advertise_url", "https", 9513)]
        {
            if !self.values.has(key) {
                let at = SocketAddr::new(address, port);
                self.put(key, &format!("{scheme}://{at}"), line)?;
            }
        }
        Ok(())
    }

    fn has(&self, key: &str) -> bool {
        self.items.iter().any(|item| item.key == key)
    }

    fn put(&mut self, key: &str, text: &str, line: usize) -> Result<(), String> {
        let form = self.items.iter().find(|item| item.key == key).map_or(Form::Text, |i| i.form);
        let value = form.read(text).map_err(|reason| format!("{key} {reason}"))?;
        self.values.put(key, value, Origin::File { path: self.path.to_owned(), line });
        Ok(())
    }

    fn ignore(&mut self, entry: &Entry, why: &str) {
        let (path, Entry { section, option, line, .. }) = (self.path.display(), entry);
        self.warnings.push(format!("{path}:{line}: [{section}] {option} is ignored: {why}"));
    }
}

/// The options of a file in order. As with oslo.config, a line that begins with a space goes on
/// with the one before, and quotes around a value are not part of it.
fn parse(text: &str) -> Result<Vec<Entry>, (usize, String)> {
    let mut entries: Vec<Entry> = Vec::new();
    let mut section = None;
    for (index, raw) in text.lines().enumerate() {
        let (line, content) = (index + 1, raw.trim());
        if content.is_empty() || raw.starts_with(['#', ';']) {
            continue;
        }
        if raw.starts_with([' ', '\t']) {
            let Some(before) = entries.last_mut() else {
                return Err((line, "a value goes on here, but none has begun".to_owned()));
            };
            before.value = format!("{}\n{content}", before.value).trim_start().to_owned();
            continue;
        }
        if let Some(name) = content.strip_prefix('[') {
            let Some(name) = name.strip_suffix(']').map(str::trim).filter(|n| !n.is_empty()) else {
                return Err((line, format!("'{content}' is not a section such as [api]")));
            };
            section = Some(name.to_owned());
            continue;
        }
        let Some((option, value)) = content.split_once(['=', ':']) else {
            return Err((line, format!("'{content}' is neither a section nor option = value")));
        };
        let Some(section) = section.clone() else {
            return Err((line, format!("'{content}' stands before the first section")));
        };
        let (option, value) = (option.trim().to_owned(), unquoted(value.trim()).to_owned());
        entries.push(Entry { section, option, value, line });
    }
    Ok(entries)
}

fn unquoted(value: &str) -> &str {
    ['"', '\'']
        .iter()
        .find_map(|quote| value.strip_prefix(*quote)?.strip_suffix(*quote))
        .unwrap_or(value)
}

/// With `$name` and `${name}` replaced by the options they name, and `$$` by a dollar.
fn substituted(entries: Vec<Entry>) -> Result<Vec<Entry>, (usize, String)> {
    let by_name: BTreeMap<(String, String), String> =
        entries.iter().map(|e| ((e.section.clone(), e.option.clone()), e.value.clone())).collect();
    let look = |section: &str, name: &str| {
        let at = |section: &str| by_name.get(&(section.to_owned(), name.to_owned())).cloned();
        at(section).or_else(|| at("DEFAULT"))
    };
    let each = entries.into_iter().map(|entry| {
        let value =
            expanded(&entry.value, &|name| look(&entry.section, name), 0).map_err(|reason| {
                (entry.line, format!("[{}] {} {reason}", entry.section, entry.option))
            })?;
        Ok(Entry { value, ..entry })
    });
    each.collect()
}

fn expanded(
    text: &str,
    look: &dyn Fn(&str) -> Option<String>,
    depth: usize,
) -> Result<String, String> {
    /// More would be a circle.
    const DEEPEST: usize = 8;
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            out.push('$');
            rest = after;
            continue;
        }
        let (name, after) = match rest.strip_prefix('{').and_then(|r| r.split_once('}')) {
            Some(found) => found,
            None => {
                let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
                rest.split_at(rest.find(|c| !is_part(c)).unwrap_or(rest.len()))
            }
        };
        if name.is_empty() {
            out.push('$');
            continue;
        }
        let named = look(name).filter(|_| depth < DEEPEST).ok_or_else(|| {
            format!("names the option ${name}, which the file does not set; write $$ for a dollar")
        })?;
        out.push_str(&expanded(&named, look, depth + 1)?);
        rest = after;
    }
    out.push_str(rest);
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Layers;

    const CONF: &str = "\
# A magnum.conf as a deployment tool writes it.
[DEFAULT]
host = ctl
state_path = /var/lib/magnum
transport_url = rabbit://openstack:x@192.0.2.9
debug = True
[api]
host = 192.0.2.10
port=9511
[database]
connection = mysql+pymysql://magnum:x@192.0.2.9/magnum
[keystone_authtoken]
www_authenticate_uri = http://192.0.2.10:5000
auth_url = http://192.0.2.10:5000
username = wrong
password = wrong
[keystone_auth]
auth_url = http://192.0.2.10:5000/v3/
user_domain_id = default
project_name: service
username = magnum
password = \"pa$$word\"
[trust]
cluster_user_trust = True
trustee_domain_name = magnum
trustee_domain_admin_name = magnum_domain_admin
trustee_domain_admin_password = secret
[heat_client]
region_name = RegionOne
endpoint_type = internalURL
[cluster_template]
kubernetes_allowed_network_drivers = flannel,
  calico
[x509]
rsa_key_sise = 4096
[quotas]
max_clusters_per_project = 3
[oslo_policy]
policy_file = $state_path/policy.yaml
";

    fn load(text: &str) -> Result<crate::config::Loaded, String> {
        let loaded = Layers::default().over(Path::new("/etc/magnum/magnum.conf"), text);
        loaded.map_err(|e| e.to_string())
    }

    #[test]
    fn what_we_have_too_is_taken_over_and_the_rest_is_named() {
        let loaded = load(CONF).unwrap();
        let config = &loaded.config;
        assert_eq!(config.api.listen.to_string(), "192.0.2.10:9511");
        assert_eq!(config.keystone.auth_url, "http://192.0.2.10:5000/v3");
        assert_eq!(config.keystone.public_url, "http://192.0.2.10:5000/v3");
        assert_eq!(config.keystone.username, "magnum");
        assert_eq!(config.keystone.password.expose(), "pa$word");
        assert_eq!(config.keystone.user_domain, "Default");
        assert_eq!(config.clients.heat.interface.as_deref(), Some("internalURL"));
        assert_eq!(config.kubernetes.allowed_network_drivers, ["flannel", "calico"]);
        assert_eq!(config.quota.max_clusters_per_project, 3);
        assert_eq!(config.policy.file.as_deref(), Some(Path::new("/var/lib/magnum/policy.yaml")));
        assert_eq!(config.discovery.advertise_url, "http://192.0.2.10:9512");
        assert_eq!(config.log.level, "debug");
        let wanted = [
            "magnum.conf:5: [DEFAULT] transport_url is ignored: ",
            "magnum.conf:11: [database] connection is ignored: ",
            "magnum.conf:24: [trust] cluster_user_trust is ignored: ",
            "magnum.conf:35: [x509] rsa_key_sise is ignored: magnumd knows no such option; \
             did you mean rsa_key_size?",
        ];
        assert_eq!(loaded.warnings.len(), wanted.len(), "{:#?}", loaded.warnings);
        for (warning, wanted) in loaded.warnings.iter().zip(wanted) {
            assert!(warning.contains(wanted), "{warning}");
        }
    }

    #[test]
    fn an_import_reads_back_as_the_same_configuration() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("magnum.conf");
        std::fs::write(&path, CONF).unwrap();
        let import = Import::read(&path).unwrap();
        assert!(import.lacking.is_none(), "{:?}", import.lacking);
        let again = Config::parse(&path.with_extension("toml"), &import.toml).unwrap();
        assert_eq!(again.items(), Config::load(&path).unwrap().items());
        assert_eq!(import.warnings.len(), 4);
        std::fs::write(&path, CONF.replace("host = 192.0.2.10", "host = 0.0.0.0")).unwrap();
        let lacking = Import::read(&path).unwrap().lacking.unwrap().to_string();
        assert!(lacking.contains("discovery.advertise_url must be"), "{lacking}");
    }

    #[test]
    fn the_authority_of_nodes_is_taken_over() {
        let with = |more: &str| {
            let loaded = load(&format!("{CONF}{more}")).unwrap();
            assert_eq!(loaded.warnings.len(), 4, "{:#?}", loaded.warnings);
            let Config { drivers, clients, .. } = &loaded.config;
            drivers.openstack_ca_file(clients).map(|f| f.display().to_string())
        };
        let ours = "[keystone_authtoken]\ncafile = /etc/ssl/ours.pem\n";
        let theirs = "[drivers]\nopenstack_ca_file = /etc/ssl/nodes.pem\n";
        assert_eq!(with(theirs).as_deref(), Some("/etc/ssl/nodes.pem"));
        assert_eq!(with(&format!("{ours}{theirs}")).as_deref(), Some("/etc/ssl/nodes.pem"));
        assert_eq!(with(&format!("{ours}[drivers]\nopenstack_ca_file =\n")), None);
        assert_eq!(with(ours).as_deref(), Some("/etc/ssl/ours.pem"));
    }

    #[test]
    fn our_own_options_may_stand_beside_theirs() {
        let own = CONF.to_owned() + "[discovery]\nadvertise_url = http://198.51.100.1:80\n";
        assert_eq!(load(&own).unwrap().config.discovery.advertise_url, "http://198.51.100.1:80");
    }

    #[test]
    fn mistakes_have_their_line() {
        let table = [
            ("host = x", "magnum.conf:1: 'host = x' stands before the first section"),
            ("[api", "magnum.conf:1: '[api' is not a section"),
            ("[api]\nnonsense", "magnum.conf:2: 'nonsense' is neither"),
            ("[api]\nhost = ctl", "magnum.conf:2: [api] host must be an IP address"),
            ("[api]\nport = many", "magnum.conf:2: [api] port must be from 1 to 65535"),
            ("[api]\nmax_limit = many", "magnum.conf:2: api.max_limit must be a whole number"),
            ("[trust]\nroles = $nobody", "magnum.conf:2: [trust] roles names the option $nobody"),
            ("[a]\nb = $b", "names the option $b"),
            ("", "magnum.conf: keystone.auth_url must be an http or https URL"),
        ];
        for (text, wanted) in table {
            let said = load(text).unwrap_err();
            assert!(said.contains(wanted), "{said}");
        }
    }

    #[test]
    fn every_row_leads_to_an_option_of_ours() {
        let items = Config::default().items();
        for row in OPTIONS {
            if let To::Key(key) | To::Seconds(key) | To::KeystoneUrl(key) | To::DomainId(key) =
                row.to
            {
                assert!(items.iter().any(|item| item.key == key), "{key}");
            }
        }
    }
}
