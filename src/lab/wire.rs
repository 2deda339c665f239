//! A request as the lab's services read it, and an answer as they give it.

use bytes::Bytes;
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, StatusCode};
use percent_encoding::percent_decode_str;
use serde_json::Value;

use crate::base::http::server::{self, Request, Response};

use super::heat::services::Refused;
use super::refusal::Answer;

/// What was asked, decoded.
#[derive(Debug)]
pub(super) struct Ask {
    pub method: Method,
    pub path: Vec<String>,
    pub query: Vec<(String, String)>,
    pub headers: HeaderMap,
    pub raw: Bytes,
    /// This service's own address, such as `http://127.0.0.1:9514`.
    pub base: String,
    /// A fault wants the server that is about to be made to end in error.
    pub build_fault: Option<String>,
}

impl Ask {
    /// Reads a request; the refusal says what of it is unreadable.
    pub fn read(request: &Request, base: String) -> Answer<Self> {
        let decode = |text: &str| {
            percent_decode_str(text)
                .decode_utf8()
                .map(std::borrow::Cow::into_owned)
                .map_err(|_| Refused::bad(format!("'{text}' is not UTF-8 when decoded")))
        };
        let path = request.path.split('/').filter(|part| !part.is_empty());
        let path = path.map(decode).collect::<Answer<Vec<_>>>()?;
        let pairs = request.query.as_deref().unwrap_or_default();
        let query = pairs.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            Ok((decode(key)?, decode(&value.replace('+', " "))?))
        });
        let query = query.collect::<Answer<Vec<_>>>()?;
        let raw = request.body.clone().map_err(|e| Refused::new(413, "TooLarge", e.to_string()))?;
        Ok(Self {
            method: request.method.clone(),
            path,
            query,
            headers: request.headers.clone(),
            raw,
            base,
            build_fault: None,
        })
    }

    pub fn path(&self) -> Vec<&str> {
        self.path.iter().map(String::as_str).collect()
    }

    pub fn query(&self, key: &str) -> Option<&str> {
        self.query.iter().find(|(k, _)| k == key).map(|(_, v)| v.as_str())
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The body as JSON; an empty one is null.
    pub fn body(&self) -> Answer<Value> {
        if self.raw.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_slice(&self.raw)
            .map_err(|e| Refused::bad(format!("Malformed request body: {e}.")))
    }

    /// The path without version and project, as faults and the record of calls name it.
    pub fn bare_path(&self) -> String {
        let mut rest = self.path.as_slice();
        let version = |part: &String| {
            part.starts_with('v') && part[1..].starts_with(|c: char| c.is_ascii_digit())
        };
        if let Some((_, after)) = rest.split_first().filter(|(first, _)| version(first)) {
            rest = after;
            let project =
                |part: &String| part.len() == 32 && part.bytes().all(|b| b.is_ascii_hexdigit());
            if let Some((_, after)) = rest.split_first().filter(|(first, _)| project(first)) {
                rest = after;
            }
        }
        format!("/{}", rest.join("/"))
    }
}

/// What is answered.
#[derive(Debug)]
pub(super) struct Reply {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub content_type: &'static str,
    pub body: Bytes,
}

impl Reply {
    pub fn json(status: u16, body: &Value) -> Self {
        let body = Bytes::from(body.to_string());
        Self { status, headers: Vec::new(), content_type: "application/json", body }
    }

    pub fn empty(status: u16) -> Self {
        Self { status, headers: Vec::new(), content_type: "application/json", body: Bytes::new() }
    }

    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    pub fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::IM_A_TEAPOT);
        let mut response = match self.body.is_empty() {
            true => server::empty(status),
            false => server::response(status, self.content_type, self.body),
        };
        for (name, value) in self.headers {
            if let Ok(value) = HeaderValue::from_str(&value) {
                response.headers_mut().insert(HeaderName::from_static(name), value);
            }
        }
        response
    }
}
