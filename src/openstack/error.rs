//! What went wrong out there, by what can be done about it.

use std::fmt;
use std::time::Duration;

use hyper::StatusCode;
use serde_json::Value;

use crate::base::http::client::{Answer, HttpError};
use crate::base::printable;

/// The services we call, by their catalogue type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Service {
    Keystone,
    Heat,
    Nova,
    Neutron,
    Glance,
    Octavia,
    Cinder,
    Barbican,
    /// Ourselves, as nodes find us.
    Magnum,
}

impl Service {
    pub const ALL: [Self; 9] = [
        Self::Keystone,
        Self::Heat,
        Self::Nova,
        Self::Neutron,
        Self::Glance,
        Self::Octavia,
        Self::Cinder,
        Self::Barbican,
        Self::Magnum,
    ];

    /// Catalogue types, the official one first.
    pub const fn types(self) -> &'static [&'static str] {
        match self {
            Self::Keystone => &["identity"],
            Self::Heat => &["orchestration"],
            Self::Nova => &["compute"],
            Self::Neutron => &["network"],
            Self::Glance => &["image"],
            Self::Octavia => &["load-balancer"],
            Self::Cinder => &["block-storage", "volumev3", "block-store", "volume"],
            Self::Barbican => &["key-manager"],
            Self::Magnum => &["container-infrastructure-management", "container-infra"],
        }
    }

    pub const fn name(self) -> &'static str {
        match self {
            Self::Keystone => "Keystone",
            Self::Heat => "Heat",
            Self::Nova => "Nova",
            Self::Neutron => "Neutron",
            Self::Glance => "Glance",
            Self::Octavia => "Octavia",
            Self::Cinder => "Cinder",
            Self::Barbican => "Barbican",
            Self::Magnum => "Magnum",
        }
    }
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Why a call did not succeed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CloudError {
    /// Nothing there: for a deletion this is success.
    #[error("{service}: {what} could not be found")]
    Missing { service: Service, what: String },
    /// The other side refused; asking again changes nothing.
    #[error("{service} refused ({status}): {reason}")]
    Refused { service: Service, status: u16, reason: String },
    /// It may or may not have happened; look before asking again.
    #[error("{service} gave no clear answer: {reason}")]
    Unknown { service: Service, reason: String },
    /// Too busy or briefly gone, and it certainly did not happen; asking again is right.
    #[error("{service} is unavailable: {reason}")]
    Busy { service: Service, reason: String, retry_after: Option<Duration> },
    /// Nobody was asked: it is in several regions, and the operator has not said which is meant.
    /// Asking again is right, for magnumd goes on when that is configured.
    #[error(
        "the catalogue has {service} in the regions {regions}, and the configuration of magnumd \
         names none (region in [clients.default])"
    )]
    Unclear { service: Service, regions: String },
}

impl CloudError {
    /// Whether waiting may help.
    pub const fn is_passing(&self) -> bool {
        matches!(self, Self::Unknown { .. } | Self::Busy { .. } | Self::Unclear { .. })
    }

    /// One word, for counting.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Missing { .. } => "missing",
            Self::Refused { .. } => "refused",
            Self::Unknown { .. } => "unknown",
            Self::Busy { .. } | Self::Unclear { .. } => "busy",
        }
    }

    /// Whether the credential was not accepted.
    pub const fn is_unauthorised(&self) -> bool {
        matches!(self, Self::Refused { status: 401, .. })
    }

    pub const fn is_missing(&self) -> bool {
        matches!(self, Self::Missing { .. })
    }

    pub const fn is_conflict(&self) -> bool {
        matches!(self, Self::Refused { status: 409, .. })
    }

    /// Whether Heat's engine failed with something that its API does not expect. That is how a
    /// refusal of Keystone comes out of it, and an engine's own fault as well.
    pub fn is_remote_error(&self) -> bool {
        matches!(self, Self::Unknown { service: Service::Heat, reason }
            if reason.starts_with("500: RemoteError"))
    }

    /// Whether Heat could not make the trust that it keeps with a stack: the token's user is gone,
    /// although services remember the token still (`MissingCredentialError`).
    pub fn is_missing_credential(&self) -> bool {
        matches!(self, Self::Refused { service: Service::Heat, status: 400, reason }
            if reason.starts_with("Missing required credential"))
    }

    /// The other side's own words, without ours around them.
    pub fn reason(&self) -> String {
        match self {
            Self::Refused { reason, .. } => reason.clone(),
            other => other.to_string(),
        }
    }

    pub(super) fn of_http(service: Service, error: &HttpError) -> Self {
        let reason = error.to_string();
        match error {
            HttpError::Connect { .. } => Self::Busy { service, reason, retry_after: None },
            HttpError::Deadline { .. } | HttpError::Broken { .. } | HttpError::TooLarge { .. } => {
                Self::Unknown { service, reason }
            }
            HttpError::BadUrl { .. } => Self::Refused { service, status: 0, reason },
        }
    }

    /// Reads an answer that is not a success.
    pub(super) fn of_answer(service: Service, what: &str, answer: &Answer) -> Self {
        let reason = reason(answer);
        match answer.status {
            StatusCode::NOT_FOUND => Self::Missing { service, what: what.to_owned() },
            StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS => {
                let retry_after = answer.header("retry-after").and_then(|v| v.parse().ok());
                Self::Busy { service, reason, retry_after: retry_after.map(Duration::from_secs) }
            }
            status if status.is_server_error() => {
                Self::Unknown { service, reason: format!("{}: {reason}", status.as_u16()) }
            }
            status => Self::Refused { service, status: status.as_u16(), reason },
        }
    }
}

/// The sentence inside an error body, whichever service's shape it has.
pub(super) fn reason(answer: &Answer) -> String {
    const MOST: usize = 1000;
    let found = serde_json::from_slice::<Value>(&answer.body).ok().and_then(|body| {
        let unspoken = || body["error"]["type"].as_str();
        message(&body).or_else(unspoken).map(str::to_owned)
    });
    let text = found.unwrap_or_else(|| {
        // Glance and proxies answer in HTML: keep the words, drop the tags.
        let text = String::from_utf8_lossy(&answer.body);
        let mut inside_tag = false;
        let words: String = text
            .chars()
            .filter(|c| match c {
                '<' => {
                    inside_tag = true;
                    false
                }
                '>' => {
                    inside_tag = false;
                    false
                }
                _ => !inside_tag,
            })
            .collect();
        words
    });
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match text.is_empty() {
        true => answer.status.to_string(),
        false => printable::line(&text.chars().take(MOST).collect::<String>()),
    }
}

fn message(value: &Value) -> Option<&str> {
    let map = value.as_object()?;
    ["message", "detail"]
        .iter()
        .find_map(|key| map.get(*key)?.as_str().filter(|text| !text.is_empty()))
        .or_else(|| map.values().find_map(message))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, body: &'static str) -> Answer {
        Answer {
            status: StatusCode::from_u16(status).unwrap(),
            headers: hyper::HeaderMap::new(),
            body: body.into(),
        }
    }

    #[test]
    fn every_services_own_sentence_is_found() {
        let table = [
            (r#"{"error":{"code":403,"message":"No.","title":"Forbidden"}}"#, "No."),
            (
                r#"{"explanation":"x","code":409,"error":{"message":"The Stack (a) already exists.","type":"StackExists"}}"#,
                "The Stack (a) already exists.",
            ),
            (
                r#"{"NeutronError":{"type":"Y","message":"Quota exceeded","detail":""}}"#,
                "Quota exceeded",
            ),
            (
                r#"{"code":500,"title":"Internal Server Error","explanation":"The server has erred.","error":{"type":"RemoteError","traceback":null}}"#,
                "RemoteError",
            ),
            ("<html><h1>403 Forbidden</h1>\n Denied. </html>", "403 Forbidden Denied."),
            ("", "400 Bad Request"),
            (r#"{"message":"No\u001b[31m such\n \u202eflavor."}"#, "No[31m such flavor."),
        ];
        for (body, sentence) in table {
            assert_eq!(reason(&answer(400, body)), sentence);
        }
    }

    #[test]
    fn a_status_says_what_can_be_done() {
        let of = |status| CloudError::of_answer(Service::Heat, "stack x", &answer(status, ""));
        assert!(of(404).is_missing());
        assert!(of(409).is_conflict() && !of(409).is_passing());
        assert!(of(401).is_unauthorised());
        assert!(matches!(of(503), CloudError::Busy { .. }));
        assert!(matches!(of(500), CloudError::Unknown { .. }));
        assert!(!of(500).is_remote_error());
        let engine = answer(500, r#"{"error":{"type":"RemoteError"}}"#);
        assert!(CloudError::of_answer(Service::Heat, "stack x", &engine).is_remote_error());
        let gone = r#"{"error":{"type":"MissingCredentialError","message":"Missing required credential: roles {}"}}"#;
        let gone = CloudError::of_answer(Service::Heat, "stack x", &answer(400, gone));
        assert!(gone.is_missing_credential() && !of(400).is_missing_credential());
    }
}
