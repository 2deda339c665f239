//! Reply: a success, before it becomes HTTP.

use hyper::StatusCode;
use hyper::header::{HeaderValue, LOCATION};
use serde::Serialize;

use super::error::{ApiError, Outcome};
use crate::base::http::server::{self, Response};

/// What a handler answers.
#[derive(Debug)]
pub struct Reply {
    status: StatusCode,
    body: Option<Vec<u8>>,
    location: Option<String>,
}

impl Reply {
    fn json(status: StatusCode, body: &impl Serialize) -> Outcome<Self> {
        let body = serde_json::to_vec(body).map_err(|e| ApiError::internal().because(e))?;
        Ok(Self { status, body: Some(body), location: None })
    }

    /// 200 with a representation.
    pub fn shown(body: &impl Serialize) -> Outcome<Self> {
        Self::json(StatusCode::OK, body)
    }

    /// 201 with what was made.
    pub fn created(body: &impl Serialize) -> Outcome<Self> {
        Self::json(StatusCode::CREATED, body)
    }

    /// 202: it is durable, and being worked on.
    pub fn accepted(uuid: impl std::fmt::Display) -> Outcome<Self> {
        let body = serde_json::json!({ "uuid": uuid.to_string() });
        Self::json(StatusCode::ACCEPTED, &body)
    }

    /// 202 with a representation.
    pub fn accepted_with(body: &impl Serialize) -> Outcome<Self> {
        Self::json(StatusCode::ACCEPTED, body)
    }

    /// 204
    pub fn gone() -> Self {
        Self { status: StatusCode::NO_CONTENT, body: None, location: None }
    }

    pub fn at(mut self, location: String) -> Self {
        self.location = Some(location);
        self
    }

    pub fn into_response(self) -> Response {
        let mut response = match self.body {
            Some(body) => server::response(self.status, "application/json", body),
            None => server::empty(self.status),
        };
        if let Some(location) = self.location.and_then(|l| HeaderValue::try_from(l).ok()) {
            response.headers_mut().insert(LOCATION, location);
        }
        response
    }
}
