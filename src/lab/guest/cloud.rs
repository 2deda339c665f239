//! The cluster's own controllers: they log in to the cloud with what their master was given.

use std::collections::HashMap;
use std::time::Duration;

use hyper::{Method, StatusCode};
use serde_json::json;

use crate::base::http::client::{HttpClient, Outgoing};
use crate::base::http::tls::{Trust, client_config};

use super::bundle::Bundle;

/// Where a bundle has it.
pub(super) const FILE: &str = "cloud.conf";

/// By the trust that `cloud.conf` names, as Kubernetes' controllers for OpenStack do.
pub(super) async fn log_in(files: &Bundle) -> Result<String, String> {
    let settings = settings(files.text(FILE)?)?;
    let value =
        |key: &str| settings.get(key).cloned().ok_or_else(|| format!("{FILE} does not say {key}"));
    let auth = json!({"auth": {
        "identity": {"methods": ["password"], "password": {"user": {
            "id": value("user-id")?, "password": value("password")?,
        }}},
        "scope": {"OS-TRUST:trust": {"id": value("trust-id")?}},
    }});
    let tls = client_config(&Trust::default()).map_err(|e| e.to_string())?;
    let url = format!("{}/auth/tokens", value("auth-url")?);
    let call = Outgoing::new(Method::POST, url).json(&auth);
    let answer = HttpClient::new(tls, Duration::from_secs(5)).send(call).await;
    match answer.map_err(|e| format!("{FILE}: {e}"))?.status {
        StatusCode::CREATED => Ok("the cloud lets the controllers in".to_owned()),
        status => Err(format!("{FILE}: Keystone answers {status}")),
    }
}

/// The values of all sections; text is quoted as in JSON.
fn settings(text: &str) -> Result<HashMap<String, String>, String> {
    let mut settings = HashMap::new();
    let lines = text.lines().map(str::trim);
    for line in lines.filter(|line| !line.is_empty() && !line.starts_with(['#', '['])) {
        let (key, value) =
            line.split_once(" = ").ok_or_else(|| format!("{FILE}: '{line}' is no setting"))?;
        let value = match value.starts_with('"') {
            true => serde_json::from_str(value).map_err(|e| format!("{FILE}: {key}: {e}"))?,
            false => value.to_owned(),
        };
        settings.insert(key.to_owned(), value);
    }
    Ok(settings)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_read_as_written() {
        let read = settings("# x\n[Global]\npassword = \"a\\\"b\"\n\n[Metadata]\nn = 1\n").unwrap();
        assert_eq!((read["password"].as_str(), read["n"].as_str()), ("a\"b", "1"));
        assert!(settings("[Global]\npassword\n").is_err());
        assert!(settings("password = \"a\n").is_err());
    }
}
