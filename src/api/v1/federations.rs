//! Federations: deprecated upstream, where they never came to be. Lists are empty.

use serde_json::json;

use super::super::context::Context;
use super::super::error::{ApiError, Outcome};
use super::super::page::LIST_ARGUMENTS;
use super::super::reply::Reply;

/// `GET /v1/federations` and `/detail`
pub fn list(cx: &Context<'_>, detail: bool) -> Outcome<Reply> {
    cx.query(&LIST_ARGUMENTS)?;
    cx.allow(if detail { "federation:detail" } else { "federation:get_all" })?;
    Reply::shown(&json!({ "federations": [] }))
}

/// `POST /v1/federations`
pub fn create(cx: &Context<'_>) -> Outcome<Reply> {
    cx.allow("federation:create")?;
    Err(ApiError::invalid("Creating a federation is not supported."))
}

pub fn missing(id: &str) -> ApiError {
    ApiError::missing("Federation", id.chars().take(300).collect::<String>())
}
