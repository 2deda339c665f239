//! User data as a node reads it: cloud-config or Ignition with two files that say whom to call.

use std::collections::HashMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

/// What `node.env` tells a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::lab) struct Plan {
    pub url: String,
    pub token: String,
    /// Magnum's id of the cluster.
    pub cluster: String,
    pub role: Role,
    /// None when members are listed in the bundle.
    pub discovery: Option<String>,
    /// None when the URL is plain http.
    pub ca: Option<String>,
    /// Whether its scripts have a key certified before they ask for anything.
    pub claims: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::lab) enum Role {
    Master,
    Worker,
}

impl std::fmt::Display for Role {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Master => "master",
            Self::Worker => "worker",
        })
    }
}

#[derive(Deserialize)]
struct CloudConfig {
    #[serde(default)]
    write_files: Vec<WrittenFile>,
}

#[derive(Deserialize)]
struct WrittenFile {
    path: String,
    #[serde(default)]
    content: String,
    #[serde(default)]
    encoding: Option<String>,
}

#[derive(Deserialize)]
struct Ignition {
    ignition: Version,
    #[serde(default)]
    storage: Storage,
}

#[derive(Deserialize)]
struct Version {
    version: String,
}

#[derive(Default, Deserialize)]
struct Storage {
    #[serde(default)]
    files: Vec<IgnitionFile>,
}

#[derive(Deserialize)]
struct IgnitionFile {
    path: String,
    #[serde(default)]
    contents: Contents,
}

#[derive(Default, Deserialize)]
struct Contents {
    #[serde(default)]
    source: Option<String>,
    #[serde(default)]
    compression: Option<String>,
}

/// The files that user data writes, by path; those in a coding we do not know are left away.
fn written(text: &str) -> Result<HashMap<String, String>, String> {
    if text.trim_start().starts_with('{') {
        let config: Ignition = serde_json::from_str(text)
            .map_err(|e| format!("its user data is not valid Ignition: {e}"))?;
        if !config.ignition.version.starts_with("3.") {
            let version = config.ignition.version;
            return Err(format!("its Ignition is of version {version}, not 3"));
        }
        let content = |file: IgnitionFile| {
            let plain = file.contents.compression.as_deref().is_none_or(str::is_empty);
            let source = file.contents.source.filter(|_| plain)?;
            Some((file.path, data_url(&source)?))
        };
        return Ok(config.storage.files.into_iter().filter_map(content).collect());
    }
    let header = text.lines().next().unwrap_or_default().trim_end();
    if header != "#cloud-config" {
        return Err("its user data is no cloud-config".to_owned());
    }
    let config: CloudConfig = serde_saphyr::from_str(text)
        .map_err(|e| format!("its cloud-config is not valid YAML: {e}"))?;
    let plain = config.write_files.into_iter().filter(|f| f.encoding.is_none());
    Ok(plain.map(|f| (f.path, f.content)).collect())
}

/// The text in a `data:` URL.
fn data_url(url: &str) -> Option<String> {
    let (kind, data) = url.strip_prefix("data:")?.split_once(',')?;
    let bytes = match kind.ends_with(";base64") {
        true => STANDARD.decode(data).ok()?,
        false => percent_encoding::percent_decode_str(data).collect(),
    };
    String::from_utf8(bytes).ok()
}

/// Reads user data; the error says why the machine is no node.
pub(in crate::lab) fn parse(text: &str) -> Result<Plan, String> {
    let files = written(text)?;
    let file = |path: &str| files.get(path).map(String::as_str);
    let env = file("/etc/magnumd/node.env").ok_or("it has no /etc/magnumd/node.env")?;
    let values = variables(env)?;
    let value = |key: &str| values.get(key).cloned().filter(|v| !v.is_empty());
    let needed = |key: &str| value(key).ok_or(format!("node.env lacks {key}"));
    let url = needed("MAGNUMD_BOOTSTRAP_URL")?;
    let ca = file("/etc/magnumd/bootstrap-ca.pem").map(str::to_owned);
    if url.starts_with("https://") && ca.is_none() {
        return Err("its bootstrap URL is https, but bootstrap-ca.pem is missing".to_owned());
    }
    let role = match needed("MAGNUMD_NODE_ROLE")?.as_str() {
        "master" => Role::Master,
        "worker" => Role::Worker,
        other => return Err(format!("'{other}' is no role; master or worker")),
    };
    Ok(Plan {
        url: url.trim_end_matches('/').to_owned(),
        token: needed("MAGNUMD_ENROLMENT_TOKEN")?,
        cluster: value("MAGNUMD_CLUSTER_UUID").unwrap_or_default(),
        role,
        discovery: value("MAGNUMD_ETCD_DISCOVERY_URL"),
        ca,
        claims: files.values().any(|text| text.contains("\nclaim() {")),
    })
}

/// `KEY='value'` lines as a shell reads them; `'\''` is a quote inside.
pub(in crate::lab) fn variables(text: &str) -> Result<HashMap<String, String>, String> {
    let mut values = HashMap::new();
    for line in text.lines().map(str::trim) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let pair = line.split_once('=').ok_or(format!("'{line}' in node.env sets nothing"))?;
        let (key, quoted) = pair;
        let inner = quoted.strip_prefix('\'').and_then(|v| v.strip_suffix('\''));
        let value = match inner {
            Some(inner) => inner.replace("'\\''", "'"),
            None => quoted.to_owned(),
        };
        values.insert(key.to_owned(), value);
    }
    Ok(values)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const GOOD: &str = "#cloud-config\nwrite_files:\n- path: /etc/magnumd/node.env\n  \
        permissions: '0600'\n  content: |\n    MAGNUMD_BOOTSTRAP_URL='https://127.0.0.1:9513/'\n    \
        MAGNUMD_ENROLMENT_TOKEN='a'\\''b'\n    MAGNUMD_NODE_ROLE='master'\n    \
        MAGNUMD_ETCD_DISCOVERY_URL=''\n- {path: /etc/magnumd/bootstrap-ca.pem, content: PEM}\n\
        runcmd: [[sh, -c, 'true']]\n";

    #[test]
    fn a_node_reads_whom_to_call() {
        let plan = parse(GOOD).unwrap();
        assert_eq!(plan.url, "https://127.0.0.1:9513");
        assert_eq!(plan.token, "a'b");
        assert_eq!(plan.role, Role::Master);
        assert_eq!(plan.discovery, None);
        assert_eq!(plan.ca.as_deref(), Some("PEM"));
    }

    /// The same as Ignition, its first file in one coding and its second in the other.
    fn ignition(version: &str) -> String {
        let env = STANDARD.encode(
            "MAGNUMD_BOOTSTRAP_URL='https://127.0.0.1:9513/'\nMAGNUMD_ENROLMENT_TOKEN='a'\\''b'\n\
             MAGNUMD_NODE_ROLE='master'\nMAGNUMD_ETCD_DISCOVERY_URL=''\n",
        );
        let file = |path: &str, source: &str| serde_json::json!({"path": path, "mode": 384, "contents": {"source": source}});
        serde_json::json!({
            "ignition": {"version": version},
            "storage": {"files": [
                file("/etc/magnumd/node.env", &format!("data:;base64,{env}")),
                file("/etc/magnumd/bootstrap-ca.pem", "data:,P%45M"),
                {"path": "/etc/empty"},
            ]},
            "systemd": {"units": []},
        })
        .to_string()
    }

    #[test]
    fn ignition_says_the_same_as_cloud_config() {
        assert_eq!(parse(&ignition("3.3.0")), parse(GOOD));
        assert!(parse(&ignition("2.2.0")).unwrap_err().contains("2.2.0"));
        let squeezed =
            ignition("3.3.0").replace("\"source\"", "\"compression\":\"gzip\",\"source\"");
        assert!(parse(&squeezed).unwrap_err().contains("node.env"));
        for broken in ["{", "{}", r#"{"ignition": 3}"#, r#"{"ignition": {"version": "3.0.0"}}"#] {
            assert!(parse(broken).is_err(), "{broken}");
        }
        for (url, text) in [
            ("data:,a%20b", Some("a b")),
            ("data:;base64,YQ==", Some("a")),
            ("data:;base64,%%", None),
            ("https://x/", None),
            ("data:", None),
        ] {
            assert_eq!(data_url(url).as_deref(), text, "{url}");
        }
    }

    #[test]
    fn hostile_user_data_makes_no_node_and_no_panic() {
        let bomb = format!("#cloud-config\n{}", "[".repeat(5000));
        let aliases = "#cloud-config\na: &a [x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a]\n\
            c: &c [*b,*b,*b,*b,*b,*b,*b,*b]\nd: &d [*c,*c,*c,*c,*c,*c,*c,*c]\n\
            e: [*d,*d,*d,*d,*d,*d,*d,*d]\n";
        for (text, part) in [
            ("", "no cloud-config"),
            ("#!/bin/sh\necho", "no cloud-config"),
            ("#cloud-config\n", "node.env"),
            ("#cloud-config\nwrite_files: 7\n", "not valid"),
            ("#cloud-config\nwrite_files:\n- {path: 3}\n", ""),
            (bomb.as_str(), ""),
            (aliases, ""),
            (&GOOD.replace("'master'", "'king'"), "'king'"),
            (&GOOD.replace("MAGNUMD_ENROLMENT_TOKEN", "X"), "ENROLMENT_TOKEN"),
            (&GOOD.replace("content: PEM", "encoding: b64, content: UEVN"), "bootstrap-ca.pem"),
        ] {
            let reason = parse(text).unwrap_err();
            assert!(reason.contains(part), "{reason}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_a_panic(text in "(#cloud-config\n|\\{\"ignition\":)?[ a-z:\\-\\[\\]{}&*'\"\n|]{0,80}") {
            let _ = parse(&text);
        }
    }
}
