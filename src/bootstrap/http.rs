//! Reading requests and writing refusals: the only file here that knows HTTP.

use hyper::header::{ALLOW, AUTHORIZATION, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use hyper::{Method, StatusCode};
use serde::de::DeserializeOwned;
use serde_json::json;
use tracing::error;
use uuid::Uuid;

use crate::base::http::server::{BodyError, Request, Response, json as json_response};
use crate::conductor::{NotLetIn, RequestError};
use crate::pki::PkiError;
use crate::store::StoreError;

/// What a node wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endpoint<'r> {
    /// This server is the node, and has this key.
    Claim,
    Bundle,
    /// A file of the operator's, by its SHA-256.
    Artifact(&'r str),
    Csr,
    Status,
    /// Is there something to do?
    Duty,
    /// It was done, or could not be.
    DutyAnswer,
    /// What do I join with?
    Join,
    /// With this others join.
    JoinUpload,
}

/// The node's name and the endpoint that it calls; the path is looked at before the method.
pub fn route(request: &Request) -> Result<(&str, Endpoint<'_>), Fault> {
    let path: Vec<&str> = request.path.split('/').collect();
    let (node, get, post) = match *path {
        ["", "bootstrap", "v1", node, "claim"] => (node, None, Some(Endpoint::Claim)),
        ["", "bootstrap", "v1", node, "bundle"] => (node, Some(Endpoint::Bundle), None),
        ["", "bootstrap", "v1", node, "artifact", digest] => {
            (node, Some(Endpoint::Artifact(digest)), None)
        }
        ["", "bootstrap", "v1", node, "csr"] => (node, None, Some(Endpoint::Csr)),
        ["", "bootstrap", "v1", node, "status"] => (node, None, Some(Endpoint::Status)),
        ["", "bootstrap", "v1", node, "duty"] => {
            (node, Some(Endpoint::Duty), Some(Endpoint::DutyAnswer))
        }
        ["", "bootstrap", "v1", node, "join"] => {
            (node, Some(Endpoint::Join), Some(Endpoint::JoinUpload))
        }
        _ => return Err(Fault::new(StatusCode::NOT_FOUND, "There is nothing at this path.")),
    };
    let endpoint = match request.method {
        Method::GET => get,
        Method::POST => post,
        _ => None,
    };
    if let Some(endpoint) = endpoint {
        return Ok((node, endpoint));
    }
    let allow = match (get, post) {
        (Some(_), Some(_)) => "GET, POST",
        (Some(_), None) => "GET",
        _ => "POST",
    };
    let sentence = format!("{} is not allowed here; use {allow}.", request.method);
    Err(Fault { allow: Some(allow), ..Fault::new(StatusCode::METHOD_NOT_ALLOWED, sentence) })
}

/// The enrolment token, if one was sent.
pub fn token(request: &Request) -> Option<&str> {
    let (scheme, token) = request.header(AUTHORIZATION.as_str())?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// The Nova server that says it asks.
pub fn instance(request: &Request) -> Result<Uuid, Fault> {
    let text = request.header("x-magnumd-instance").unwrap_or_default();
    Uuid::try_parse(text).map_err(|_| {
        Fault::bad("The header X-Magnumd-Instance must be the UUID of the server that asks.")
    })
}

/// What Nova has given the server as our secret, if it says so. What cannot be printed is wrong,
/// not absent.
pub fn vendor_secret(request: &Request) -> Option<String> {
    let given = request.headers.get("x-magnumd-vendor-secret")?;
    Some(String::from_utf8_lossy(given.as_bytes()).into_owned())
}

/// A JSON body of a known shape.
pub fn body<T: DeserializeOwned>(request: &Request) -> Result<T, Fault> {
    let body = match &request.body {
        Ok(body) => body,
        Err(e @ BodyError::TooLarge { .. }) => {
            return Err(Fault::new(StatusCode::PAYLOAD_TOO_LARGE, e.to_string()));
        }
        Err(e @ BodyError::Crowded) => return Err(Fault::later(e.to_string())),
        Err(e) => return Err(Fault::bad(e.to_string())),
    };
    let kind = request.header(CONTENT_TYPE.as_str()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    if !kind.eq_ignore_ascii_case("application/json") {
        let sentence = "The body must be JSON, with Content-Type: application/json.";
        return Err(Fault::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, sentence));
    }
    serde_json::from_slice(body).map_err(|e| Fault::bad(format!("The body is not usable: {e}.")))
}

/// Why a node does not get what it wants: a status and a sentence for its log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    pub status: StatusCode,
    pub message: String,
    allow: Option<&'static str>,
}

impl Fault {
    pub fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into(), allow: None }
    }

    pub fn bad(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    pub fn forbidden(message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, message)
    }

    pub fn gone() -> Self {
        Self::new(StatusCode::NOT_FOUND, "The cluster is gone.")
    }

    /// The node asks again after a moment.
    pub fn later(message: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, message)
    }

    /// Our own fault; the node is told no detail.
    pub fn ours(cause: &dyn std::fmt::Display) -> Self {
        error!(%cause, "the bootstrap interface is at fault");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "The service is at fault; see its log.")
    }

    pub fn answer(self) -> Response {
        let code = self.status.as_u16();
        let body = json!({ "error": { "code": code, "message": self.message } });
        let mut response = json_response(self.status, &body);
        if let Some(allow) = self.allow {
            response.headers_mut().insert(ALLOW, HeaderValue::from_static(allow));
        }
        let later = [StatusCode::SERVICE_UNAVAILABLE, StatusCode::TOO_MANY_REQUESTS];
        if later.contains(&self.status) {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("5"));
        }
        response
    }
}

/// A node has done nothing that OpenStack could refuse, and cannot mend it: whatever the
/// cloud does not grant now, the node asks for again.
impl From<RequestError> for Fault {
    fn from(e: RequestError) -> Self {
        match e {
            RequestError::Missing(_) => Self::gone(),
            RequestError::Internal(cause) => Self::ours(&cause),
            RequestError::Invalid(sentence)
            | RequestError::Conflict(sentence)
            | RequestError::Forbidden(sentence)
            | RequestError::NotAccepted(sentence)
            | RequestError::Unavailable(sentence) => Self::later(sentence),
        }
    }
}

impl From<NotLetIn> for Fault {
    fn from(e: NotLetIn) -> Self {
        match e {
            NotLetIn::Refused(sentence) => Self::forbidden(sentence),
            NotLetIn::Unclear(refusal) => refusal.into(),
        }
    }
}

impl From<StoreError> for Fault {
    fn from(e: StoreError) -> Self {
        RequestError::from(e).into()
    }
}

impl From<PkiError> for Fault {
    fn from(e: PkiError) -> Self {
        match e {
            PkiError::Request(sentence) => Self::bad(sentence),
            e @ PkiError::Material(_) => Self::ours(&e),
        }
    }
}
