//! ApiError: the only place that knows status codes and Magnum's error body.
//!
//! Each error carries one public sentence and, apart from it, a private cause for the log.

use std::fmt::Display;

use hyper::StatusCode;
use hyper::header::{ALLOW, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use serde_json::json;
use tracing::{error, warn};

use super::version::{self, VersionError};
use crate::base::http::server::{BodyError, Response, json};
use crate::conductor::RequestError;
use crate::openstack::token::TokenError;
use crate::store::StoreError;

/// Why a request gets no success.
#[derive(Debug)]
pub struct ApiError {
    kind: Kind,
    detail: String,
    cause: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Invalid,
    Unauthenticated,
    /// Keystone accepts the token, another service does not.
    NotAccepted,
    Forbidden,
    Missing,
    Conflict,
    /// No such path.
    NoRoute,
    /// The path takes only these methods.
    WrongMethod(&'static str),
    NotAcceptable,
    VersionOutOfRange,
    BodyTooLarge,
    BodyTooSlow,
    NotJson,
    Unavailable,
    Internal,
}

/// What every handler returns.
pub type Outcome<T> = Result<T, ApiError>;

impl ApiError {
    fn new(kind: Kind, detail: impl Into<String>) -> Self {
        Self { kind, detail: detail.into(), cause: None }
    }

    /// What was asked for cannot be.
    pub fn invalid(sentence: impl Into<String>) -> Self {
        Self::new(Kind::Invalid, sentence)
    }

    /// One field is at fault: its name, its value as sent, and what it should be.
    pub fn field(name: &str, value: impl Display, why: impl Display) -> Self {
        const MOST: usize = 300;
        let mut value = value.to_string();
        if let Some((cut, _)) = value.char_indices().nth(MOST) {
            value.truncate(cut);
            value.push('…');
        }
        Self::invalid(format!("Invalid input for field/attribute {name}. Value: '{value}'. {why}"))
    }

    pub fn forbidden(sentence: impl Into<String>) -> Self {
        Self::new(Kind::Forbidden, sentence)
    }

    pub fn not_authorized() -> Self {
        Self::forbidden("Not authorized.")
    }

    pub fn policy(rule: &str) -> Self {
        Self::forbidden(format!("Policy doesn't allow {rule} to be performed."))
    }

    pub fn missing(kind: &str, ident: impl Display) -> Self {
        Self::new(Kind::Missing, format!("{kind} {ident} could not be found."))
    }

    pub fn missing_sentence(sentence: impl Into<String>) -> Self {
        Self::new(Kind::Missing, sentence)
    }

    pub fn conflict(sentence: impl Into<String>) -> Self {
        Self::new(Kind::Conflict, sentence)
    }

    pub fn no_route() -> Self {
        Self::new(Kind::NoRoute, "")
    }

    pub fn wrong_method(allow: &'static str) -> Self {
        Self::new(Kind::WrongMethod(allow), "")
    }

    pub fn not_acceptable(sentence: impl Into<String>) -> Self {
        Self::new(Kind::NotAcceptable, sentence)
    }

    pub fn not_json(content_type: &str) -> Self {
        Self::new(
            Kind::NotJson,
            format!("Unknown mimetype: {content_type}. Send the body as application/json."),
        )
    }

    pub fn unauthenticated() -> Self {
        Self::new(Kind::Unauthenticated, TokenError::Invalid.to_string())
    }

    pub fn internal() -> Self {
        Self::new(
            Kind::Internal,
            "The service met an internal error. Its log tells more under this request id.",
        )
    }

    /// The cause, for the log only.
    pub fn because(mut self, cause: impl Display) -> Self {
        self.cause = Some(cause.to_string());
        self
    }

    /// The same sentence with 400 in place of 404: what is named in a body, not in the path.
    pub fn in_a_body(mut self) -> Self {
        if self.kind == Kind::Missing {
            self.kind = Kind::Invalid;
        }
        self
    }

    /// Whether something else was in the way; perhaps it no longer is.
    pub fn is_conflict(&self) -> bool {
        self.kind == Kind::Conflict
    }

    /// Whether a token was refused by a service of the cloud; perhaps it is the caller's.
    pub fn is_not_accepted(&self) -> bool {
        self.kind == Kind::NotAccepted
    }

    pub fn status(&self) -> StatusCode {
        match self.kind {
            Kind::Invalid => StatusCode::BAD_REQUEST,
            Kind::Unauthenticated => StatusCode::UNAUTHORIZED,
            Kind::Forbidden | Kind::NotAccepted => StatusCode::FORBIDDEN,
            Kind::Missing | Kind::NoRoute => StatusCode::NOT_FOUND,
            Kind::Conflict => StatusCode::CONFLICT,
            Kind::WrongMethod(_) => StatusCode::METHOD_NOT_ALLOWED,
            Kind::NotAcceptable | Kind::VersionOutOfRange => StatusCode::NOT_ACCEPTABLE,
            Kind::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Kind::BodyTooSlow => StatusCode::REQUEST_TIMEOUT,
            Kind::NotJson => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Kind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            Kind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    #[cfg(test)]
    pub fn detail(&self) -> &str {
        &self.detail
    }

    /// An answer was made, and there is no room for it.
    pub fn crowded() -> Self {
        let words = "Too many large answers are being sent at this moment; try again in a few \
                     seconds, or ask for less with limit.";
        Self::new(Kind::Unavailable, words)
    }

    /// The answer, after the log has been told what the tenant is not.
    pub fn into_response(self, request_id: &str, www_authenticate_uri: &str) -> Response {
        let status = self.status();
        if status == StatusCode::INTERNAL_SERVER_ERROR {
            error!(cause = self.cause.as_deref().unwrap_or("unknown"), "internal error");
        } else if let Some(cause) = &self.cause {
            warn!(status = status.as_u16(), cause, "request refused");
        }
        let mut response = match self.kind {
            Kind::Unauthenticated => {
                let error = json!({ "code": 401, "title": "Unauthorized", "message": self.detail });
                json(status, &json!({ "error": error }))
            }
            _ => json(status, &self.body(status, request_id)),
        };
        let headers = response.headers_mut();
        match self.kind {
            Kind::Unauthenticated => {
                let value = format!("Keystone uri=\"{www_authenticate_uri}\"");
                if let Ok(value) = HeaderValue::try_from(value) {
                    headers.insert(WWW_AUTHENTICATE, value);
                }
            }
            Kind::WrongMethod(allow) => {
                headers.insert(ALLOW, HeaderValue::from_static(allow));
            }
            Kind::Unavailable => {
                headers.insert(RETRY_AFTER, HeaderValue::from_static("5"));
            }
            _ => {}
        }
        response
    }

    fn body(&self, status: StatusCode, request_id: &str) -> serde_json::Value {
        if self.kind == Kind::VersionOutOfRange {
            return json!({ "errors": [{
                "request_id": request_id,
                "code": "magnum.microversion-unsupported",
                "status": status.as_u16(),
                "title": "Requested microversion is unsupported",
                "description": self.detail,
                "detail": self.detail,
                "max_version": version::MAX.to_string(),
                "min_version": version::MIN.to_string(),
                "links": [{
                    "rel": "help",
                    "href": "https://docs.openstack.org/magnum/latest/",
                }],
            }]});
        }
        let code = match self.kind {
            Kind::NoRoute | Kind::WrongMethod(_) | Kind::NotAcceptable => "",
            _ if status.is_server_error() => "server",
            _ => "client",
        };
        // magnumclient cannot do without a title, and its commands show nothing else: upstream's
        // cut at the first dot would hide value and cure from their users.
        let title = match self.kind {
            Kind::NoRoute | Kind::WrongMethod(_) | Kind::NotAcceptable => {
                status.canonical_reason().unwrap_or_default()
            }
            _ => self.detail.trim_end_matches('.'),
        };
        json!({ "errors": [{
            "request_id": request_id,
            "code": code,
            "status": status.as_u16(),
            "title": title,
            "detail": self.detail,
            "links": [],
        }]})
    }
}

impl From<RequestError> for ApiError {
    fn from(refusal: RequestError) -> Self {
        let kind = match &refusal {
            RequestError::Invalid(_) => Kind::Invalid,
            RequestError::Missing(_) => Kind::Missing,
            RequestError::Conflict(_) => Kind::Conflict,
            RequestError::Forbidden(_) => Kind::Forbidden,
            RequestError::NotAccepted(_) => Kind::NotAccepted,
            RequestError::Unavailable(_) => Kind::Unavailable,
            RequestError::Internal(_) => return Self::internal().because(refusal),
        };
        Self::new(kind, refusal.to_string())
    }
}

impl From<StoreError> for ApiError {
    fn from(e: StoreError) -> Self {
        match e {
            StoreError::Disk(_) | StoreError::Closed => Self::new(
                Kind::Unavailable,
                "The service cannot read or write its state now; try again.",
            )
            .because(e),
            StoreError::Corrupt(_) => Self::new(
                Kind::Internal,
                "The record of what was asked for is damaged and cannot be read; others are not \
                 concerned. An administrator can see and delete it: magnumd damage.",
            )
            .because(e),
            e => RequestError::from(e).into(),
        }
    }
}

impl From<TokenError> for ApiError {
    fn from(e: TokenError) -> Self {
        let kind = match &e {
            TokenError::Invalid => Kind::Unauthenticated,
            TokenError::Unavailable(_) => Kind::Unavailable,
        };
        Self::new(kind, e.to_string())
    }
}

impl From<BodyError> for ApiError {
    fn from(e: BodyError) -> Self {
        let kind = match e {
            BodyError::TooLarge { .. } => Kind::BodyTooLarge,
            BodyError::Slow => Kind::BodyTooSlow,
            BodyError::Broken => Kind::Invalid,
            BodyError::Crowded => Kind::Unavailable,
        };
        Self::new(kind, e.to_string())
    }
}

impl From<&VersionError> for ApiError {
    fn from(e: &VersionError) -> Self {
        let kind = match e {
            VersionError::OutOfRange(_) => Kind::VersionOutOfRange,
            VersionError::Malformed(_) => Kind::NotAcceptable,
        };
        Self::new(kind, e.to_string())
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;
    use serde_json::Value;

    use super::*;

    async fn body(error: ApiError) -> Value {
        let response = error.into_response("req-1", "http://keystone/v3");
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        serde_json::from_slice(&bytes).unwrap()
    }

    #[tokio::test]
    async fn bodies_have_magnums_shape() {
        let missing = body(ApiError::missing("Cluster", "k1")).await;
        assert_eq!(
            missing,
            json!({ "errors": [{ "request_id": "req-1", "code": "client", "status": 404,
                "title": "Cluster k1 could not be found",
                "detail": "Cluster k1 could not be found.", "links": [] }] })
        );
        let whole = body(ApiError::field("node_count", "x", "Value should be a number.")).await;
        let title = whole["errors"][0]["title"].as_str().unwrap();
        assert!(title.contains("'x'") && title.ends_with("should be a number"), "{title}");
        let route = body(ApiError::no_route()).await;
        assert_eq!(route["errors"][0]["title"], "Not Found");
        assert_eq!(route["errors"][0]["code"], "");
        let token = body(ApiError::unauthenticated()).await;
        assert_eq!(token["error"]["code"], 401);
        assert!(token.get("errors").is_none());
    }

    #[tokio::test]
    async fn an_internal_cause_stays_inside() {
        let shown = body(ApiError::internal().because("/var/lib/x: page 7")).await;
        assert!(!shown.to_string().contains("page 7"));
        assert_eq!(shown["errors"][0]["code"], "server");
    }

    #[test]
    fn a_401_names_keystone_and_a_405_the_methods() {
        let response = ApiError::unauthenticated().into_response("r", "http://k:5000/v3");
        assert_eq!(response.headers()["www-authenticate"], "Keystone uri=\"http://k:5000/v3\"");
        let response = ApiError::wrong_method("GET, POST").into_response("r", "");
        assert_eq!(response.headers()["allow"], "GET, POST");
    }

    #[test]
    fn a_long_value_is_cut_between_characters() {
        let error = ApiError::field("name", "ä".repeat(10_000), "No.");
        assert!(error.detail().chars().count() < 400);
    }
}
