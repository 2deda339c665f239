//! Answers in etcd's own JSON, and its error codes.
//!
//! Clients dereference `node` unchecked, compare field names by case, and take the size's
//! answer for a Python literal: no `true`, `false` or `null` may stand in it.

use hyper::header::{ALLOW, HeaderName, HeaderValue, RETRY_AFTER};
use hyper::{Method, StatusCode};
use serde_json::{Value, json};

use super::SIZE_INDEX;
use super::registry::Token;
use crate::base::http::server::{BodyError, Response, response};
use crate::model::discovery::{DiscoveryMember, RegisterError};

const INDEX: HeaderName = HeaderName::from_static("x-etcd-index");
const JSON: &str = "application/json";

/// The number of members the token is for.
pub fn size(token: &Token) -> Response {
    let node = json!({
        "key": format!("{}/_config/size", key(token)),
        "value": token.size.to_string(),
        "modifiedIndex": SIZE_INDEX,
        "createdIndex": SIZE_INDEX,
    });
    success(StatusCode::OK, "get", node, token)
}

/// All members that have registered; the hidden `_config` is not among them.
pub fn members(token: &Token) -> Response {
    let nodes: Vec<Value> = token.members.iter().map(|m| node(token, m)).collect();
    let directory = json!({
        "key": key(token),
        "dir": true,
        "nodes": nodes,
        "modifiedIndex": SIZE_INDEX,
        "createdIndex": SIZE_INDEX,
    });
    success(StatusCode::OK, "get", directory, token)
}

pub fn member(token: &Token, member: &DiscoveryMember) -> Response {
    success(StatusCode::OK, "get", node(token, member), token)
}

/// A member was taken in, now or before.
pub fn registered(token: &Token, member: &DiscoveryMember) -> Response {
    success(StatusCode::CREATED, "create", node(token, member), token)
}

/// One event for somebody who waits.
pub fn event(token: &Token, member: &DiscoveryMember) -> Response {
    success(StatusCode::OK, "create", node(token, member), token)
}

/// Nothing yet: the client asks again at once.
pub fn nothing_yet(token: &Token) -> Response {
    indexed(response(StatusCode::OK, JSON, ""), token.current_index())
}

fn success(status: StatusCode, action: &str, node: Value, token: &Token) -> Response {
    let body = json!({ "action": action, "node": node });
    indexed(response(status, JSON, format!("{body}\n")), token.current_index())
}

fn node(token: &Token, member: &DiscoveryMember) -> Value {
    json!({
        "key": format!("{}/{}", key(token), member.id),
        "value": member.value,
        "modifiedIndex": member.created_index,
        "createdIndex": member.created_index,
    })
}

fn key(token: &Token) -> String {
    format!("/_etcd/registry/{}", token.text)
}

fn indexed(mut response: Response, index: u64) -> Response {
    response.headers_mut().insert(INDEX, HeaderValue::from(index));
    response
}

/// An error as etcd spells it. Members print `code: message (cause)` and exit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    pub status: StatusCode,
    pub code: u16,
    message: &'static str,
    cause: String,
    /// What is allowed instead.
    allow: Option<&'static str>,
}

impl Fault {
    fn new(status: StatusCode, code: u16, cause: impl Into<String>) -> Self {
        let message = match code {
            100 => "Key not found",
            105 => "Key already exists",
            110 => "The request requires user authentication",
            203 => "The given index in POST form is not a number",
            209 => "Invalid field",
            210 => "Invalid POST form",
            _ => "Raft Internal Error",
        };
        Self { status, code, message, cause: cause.into(), allow: None }
    }

    /// Unknown and malformed tokens look the same.
    pub fn not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND, 100, "unknown discovery token or path")
    }

    /// A member of a token that is known.
    pub fn no_member(id: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, 100, format!("member {id} has not registered"))
    }

    pub fn bad_field(cause: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, 209, cause)
    }

    pub fn bad_form(cause: String) -> Self {
        Self::new(StatusCode::BAD_REQUEST, 210, cause)
    }

    pub fn bad_index() -> Self {
        Self::new(StatusCode::BAD_REQUEST, 203, "waitIndex must be a whole number")
    }

    pub fn too_large(error: &BodyError) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, 210, error.to_string())
    }

    pub fn forbidden(cause: String) -> Self {
        Self::new(StatusCode::FORBIDDEN, 110, cause)
    }

    pub fn not_allowed(method: &Method, allow: &'static str) -> Self {
        let cause = format!("{method} is not allowed here; use one of: {allow}");
        let fault = Self::new(StatusCode::METHOD_NOT_ALLOWED, 110, cause);
        Self { allow: Some(allow), ..fault }
    }

    /// Only for a disk that fails: members ask again after a 503 to a GET.
    pub fn unavailable() -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, 300, "the state cannot be read or written now")
    }

    /// `index` is the token's; 1 while there is none, because clients take 0 for "from now on".
    pub fn answer(self, index: u64) -> Response {
        let Self { status, code, message, cause, allow } = self;
        let body = json!({ "errorCode": code, "message": message, "cause": cause, "index": index });
        let mut response = indexed(response(status, JSON, format!("{body}\n")), index);
        if let Some(allow) = allow {
            response.headers_mut().insert(ALLOW, HeaderValue::from_static(allow));
        }
        if status == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("2"));
        }
        response
    }
}

impl From<RegisterError> for Fault {
    fn from(e: RegisterError) -> Self {
        match e {
            RegisterError::Refused(sentence) => Self::bad_field(sentence),
            e => Self::new(StatusCode::PRECONDITION_FAILED, 105, e.to_string()),
        }
    }
}
