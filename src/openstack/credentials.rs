//! Credentials of people: what the usual clients read from `OS_*` variables or a `clouds.yaml`.
//!
//! Both spell the same few facts; they become one map, and that is read once.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::{Map, Value, json};

use super::keystone::Identity;
use super::keystone_admin::Place;
use crate::base::http::tls::Trust;
use crate::base::secret::Secret;
use crate::model::name::endpoint_interface;

/// Who somebody is, how they prove it, and in which place they act.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// Ends in `/v3`.
    pub auth_url: String,
    pub(super) proof: Proof,
    pub(super) scope: Option<Value>,
    pub region: Option<String>,
    pub interface: String,
    pub trust: Trust,
    /// Who it is and where, for people.
    pub who: String,
}

#[derive(Clone, Debug)]
pub(super) enum Proof {
    Password { user: Identity, password: Secret<String> },
    Application { id: Option<String>, name: Option<String>, user: Identity, secret: Secret<String> },
    Token(Secret<String>),
}

impl Credentials {
    /// Whether it is an application credential, which newer Keystones let make no trusts.
    pub const fn is_application(&self) -> bool {
        matches!(self.proof, Proof::Application { .. })
    }
}

/// Why there are no usable credentials; the sentence names what to set.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0}")]
pub struct CredentialsError(String);

fn wrong<T>(sentence: impl Into<String>) -> Result<T, CredentialsError> {
    Err(CredentialsError(sentence.into()))
}

/// Variables whose value belongs to `auth` in a `clouds.yaml`.
const OF_AUTH: [&str; 18] = [
    "auth_url",
    "username",
    "user_id",
    "password",
    "project_name",
    "project_id",
    "user_domain_name",
    "user_domain_id",
    "project_domain_name",
    "project_domain_id",
    "domain_name",
    "domain_id",
    "system_scope",
    "token",
    "application_credential_id",
    "application_credential_name",
    "application_credential_secret",
    "trust_id",
];

impl Credentials {
    /// Reads `OS_AUTH_URL`, `OS_USERNAME` and so on; None when there is no `OS_AUTH_URL`.
    pub fn of_variables(
        variables: &BTreeMap<String, String>,
    ) -> Result<Option<Self>, CredentialsError> {
        let get = |name: &str| {
            let name = format!("OS_{}", name.to_ascii_uppercase());
            variables.get(&name).filter(|value| !value.is_empty())
        };
        if get("auth_url").is_none() {
            return Ok(None);
        }
        let auth: Map<String, Value> = OF_AUTH
            .iter()
            .filter_map(|name| Some(((*name).to_owned(), json!(get(name)?))))
            .collect();
        let mut cloud = json!({ "auth": auth });
        for (key, name) in
            [("region_name", "region_name"), ("interface", "interface"), ("cacert", "cacert")]
        {
            if let Some(value) = get(name) {
                cloud[key] = json!(value);
            }
        }
        if get("interface").is_none()
            && let Some(kind) = get("endpoint_type")
        {
            cloud["interface"] = json!(kind);
        }
        if get("insecure").is_some_and(|v| matches!(&*v.to_ascii_lowercase(), "1" | "true" | "yes"))
        {
            cloud["verify"] = json!(false);
        }
        Self::of_cloud(&cloud, "the environment").map(Some)
    }

    /// The entry `name` of a `clouds.yaml`.
    pub fn of_clouds_yaml(text: &str, name: &str) -> Result<Self, CredentialsError> {
        let all: Value = serde_saphyr::from_str(text)
            .map_err(|e| CredentialsError(format!("clouds.yaml is not YAML: {e}")))?;
        let clouds = all["clouds"].as_object();
        let Some(cloud) = clouds.and_then(|clouds| clouds.get(name)) else {
            let known: Vec<&str> = clouds.into_iter().flatten().map(|(k, _)| k.as_str()).collect();
            return wrong(format!(
                "clouds.yaml has no cloud '{name}'; set OS_CLOUD to one of: {}",
                known.join(", ")
            ));
        };
        Self::of_cloud(cloud, &format!("cloud '{name}'"))
    }

    fn of_cloud(cloud: &Value, place: &str) -> Result<Self, CredentialsError> {
        let auth = &cloud["auth"];
        let get = |key: &str| {
            let value = if auth[key].is_null() { &cloud[key] } else { &auth[key] };
            match value {
                Value::String(text) if !text.is_empty() => Some(text.clone()),
                Value::Number(number) => Some(number.to_string()),
                _ => None,
            }
        };
        let Some(url) = get("auth_url") else {
            return wrong(format!("{place} has no auth_url; set OS_AUTH_URL"));
        };
        let interface = get("interface").unwrap_or_else(|| "public".to_owned());
        let Some(interface) = endpoint_interface(&interface) else {
            return wrong(format!(
                "{place} has the interface '{interface}'; it must be public, internal or admin"
            ));
        };
        let proof = proof(&get, place)?;
        let scope = scope(&get, &proof);
        let user = get("username").or_else(|| get("user_id"));
        let user = user.or_else(|| get("application_credential_id"));
        let project = get("project_name").or_else(|| get("project_id"));
        let whose = match &proof {
            Proof::Password { .. } => "user",
            Proof::Application { .. } => "application credential of",
            Proof::Token(_) => "a token's owner",
        };
        let who = [Some(whose.to_owned()), user, project.map(|p| format!("in project {p}"))];
        Ok(Self {
            auth_url: with_version(&url),
            proof,
            scope,
            region: get("region_name"),
            interface: interface.to_owned(),
            trust: Trust {
                ca_files: get("cacert").map(PathBuf::from).into_iter().collect(),
                insecure: cloud["verify"] == json!(false) || cloud["insecure"] == json!(true),
            },
            who: who.into_iter().flatten().collect::<Vec<_>>().join(" "),
        })
    }

    /// The same way to the same Keystone for another account, to see whether it logs in.
    pub fn of_another(&self, user_id: &str, password: &Secret<String>, place: &Place) -> Self {
        let user = Identity {
            id: Some(user_id.to_owned()),
            name: None,
            domain_id: None,
            domain_name: None,
        };
        let scope = match place {
            Place::Project(id) => json!({ "project": { "id": id } }),
            Place::Domain(id) => json!({ "domain": { "id": id } }),
        };
        Self {
            proof: Proof::Password { user, password: password.clone() },
            scope: Some(scope),
            who: format!("user {user_id}"),
            ..self.clone()
        }
    }

    /// The `auth` object of a login.
    pub(super) fn auth(&self) -> Value {
        let identity = match &self.proof {
            Proof::Password { user, password } => {
                let mut user = user.json();
                user["password"] = json!(password.expose());
                json!({ "methods": ["password"], "password": { "user": user } })
            }
            Proof::Application { id, name, user, secret } => {
                let mut credential = json!({ "secret": secret.expose() });
                match id {
                    Some(id) => credential["id"] = json!(id),
                    None => {
                        credential["name"] = json!(name);
                        credential["user"] = user.json();
                    }
                }
                json!({ "methods": ["application_credential"], "application_credential": credential })
            }
            Proof::Token(token) => {
                json!({ "methods": ["token"], "token": { "id": token.expose() } })
            }
        };
        let mut auth = json!({ "identity": identity });
        if let Some(scope) = &self.scope {
            auth["scope"] = scope.clone();
        }
        auth
    }
}

fn proof(get: &impl Fn(&str) -> Option<String>, place: &str) -> Result<Proof, CredentialsError> {
    let user = Identity {
        id: get("user_id"),
        name: get("username"),
        domain_id: get("user_domain_id").or_else(|| get("domain_id")),
        domain_name: get("user_domain_name").or_else(|| get("domain_name")),
    };
    if let Some(secret) = get("application_credential_secret") {
        let (id, name) = (get("application_credential_id"), get("application_credential_name"));
        if id.is_none() && name.is_none() {
            return wrong(format!(
                "{place} has the secret of an application credential but not which one; set \
                 OS_APPLICATION_CREDENTIAL_ID"
            ));
        }
        return Ok(Proof::Application { id, name, user, secret: Secret::new(secret) });
    }
    if let Some(token) = get("token") {
        return Ok(Proof::Token(Secret::new(token)));
    }
    match get("password") {
        Some(password) if user.id.is_some() || user.name.is_some() => {
            Ok(Proof::Password { user, password: Secret::new(password) })
        }
        Some(_) => wrong(format!("{place} names no user; set OS_USERNAME")),
        None => wrong(format!("{place} has no password; set OS_PASSWORD")),
    }
}

fn scope(get: &impl Fn(&str) -> Option<String>, proof: &Proof) -> Option<Value> {
    // An application credential has its project, and Keystone refuses to be told another.
    if matches!(proof, Proof::Application { .. }) {
        return None;
    }
    if let Some(trust) = get("trust_id") {
        return Some(json!({ "OS-TRUST:trust": { "id": trust } }));
    }
    let (id, name) = (get("project_id"), get("project_name"));
    if id.is_some() || name.is_some() {
        let domain_id = get("project_domain_id");
        let domain_name = get("project_domain_name");
        let project = Identity { id, name, domain_id, domain_name };
        return Some(json!({ "project": project.json() }));
    }
    match (get("domain_id"), get("domain_name"), get("system_scope")) {
        (Some(id), _, _) => Some(json!({ "domain": { "id": id } })),
        (None, Some(name), _) => Some(json!({ "domain": { "name": name } })),
        (None, None, Some(_)) => Some(json!({ "system": { "all": true } })),
        (None, None, None) => None,
    }
}

/// A Keystone address with its version, which clients may leave away.
pub(super) fn with_version(url: &str) -> String {
    let url = url.trim_end_matches('/');
    format!("{}/v3", url.strip_suffix("/v3").unwrap_or(url))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    #[test]
    fn a_password_in_the_environment() {
        let found = Credentials::of_variables(&variables(&[
            ("OS_AUTH_URL", "http://k:5000/"),
            ("OS_USERNAME", "admin"),
            ("OS_PASSWORD", "s3cret"),
            ("OS_PROJECT_NAME", "admin"),
            ("OS_USER_DOMAIN_NAME", "Default"),
            ("OS_PROJECT_DOMAIN_ID", "default"),
            ("OS_ENDPOINT_TYPE", "internalURL"),
            ("OS_INSECURE", "true"),
        ]));
        let found = found.unwrap().unwrap();
        assert_eq!(found.auth_url, "http://k:5000/v3");
        assert_eq!((found.interface.as_str(), found.trust.insecure), ("internal", true));
        assert_eq!(found.who, "user admin in project admin");
        assert_eq!(
            found.auth()["scope"],
            json!({"project": {"name": "admin", "domain": {"id": "default"}}})
        );
        assert!(!format!("{found:?}").contains("s3cret"));
        assert!(Credentials::of_variables(&variables(&[])).unwrap().is_none());
    }

    #[test]
    fn a_cloud_by_name_with_an_application_credential() {
        let yaml = "clouds:\n  ci:\n    auth_type: v3applicationcredential\n    auth:\n      \
                    auth_url: https://k/v3\n      application_credential_id: abc\n      \
                    application_credential_secret: s\n      project_name: ignored\n    \
                    region_name: R1\n    verify: false\n";
        let found = Credentials::of_clouds_yaml(yaml, "ci").unwrap();
        assert_eq!(found.region.as_deref(), Some("R1"));
        assert!(found.trust.insecure);
        let auth = found.auth();
        assert_eq!(auth["identity"]["application_credential"]["id"], "abc");
        assert!(auth.get("scope").is_none());
        let unknown = Credentials::of_clouds_yaml(yaml, "x").unwrap_err().to_string();
        assert!(unknown.contains("one of: ci"), "{unknown}");
    }

    #[test]
    fn what_is_missing_is_named() {
        let with = |more: &[(&str, &str)]| {
            let mut all = vec![("OS_AUTH_URL", "http://k")];
            all.extend(more);
            Credentials::of_variables(&variables(&all)).unwrap_err().to_string()
        };
        assert!(with(&[]).contains("OS_PASSWORD"));
        assert!(with(&[("OS_PASSWORD", "x")]).contains("OS_USERNAME"));
        assert!(
            with(&[("OS_APPLICATION_CREDENTIAL_SECRET", "x")])
                .contains("OS_APPLICATION_CREDENTIAL_ID")
        );
        let broken = Credentials::of_clouds_yaml("a: [", "x").unwrap_err().to_string();
        assert!(broken.contains("not YAML"), "{broken}");
    }
}
