//! Federations: deprecated upstream, where they never came to be. Lists are empty.

use hyper::Method;
use serde_json::json;

use super::super::column::{Column, Columns, Table};
use super::super::context::Context;
use super::super::error::{ApiError, Outcome};
use super::super::page::{LIST_ARGUMENTS, Listing};
use super::super::reply::Reply;

/// `GET /v1/federations` and `/detail`
pub fn list(cx: &Context<'_>, detail: bool) -> Outcome<Reply> {
    let query = cx.query(&LIST_ARGUMENTS)?;
    Listing::read::<Federation>(query, cx.api.settings.max_limit)?;
    cx.allow(if detail { "federation:detail" } else { "federation:get_all" })?;
    Reply::shown(&json!({ "federations": [] }))
}

/// `POST /v1/federations`
pub fn create(cx: &Context<'_>) -> Outcome<Reply> {
    cx.query(&[])?;
    cx.allow("federation:create")?;
    Err(ApiError::invalid("Creating a federation is not supported."))
}

/// Whatever is asked of one federation.
pub fn missed(cx: &Context<'_>, method: &Method, id: &str) -> Outcome<Reply> {
    cx.query(&[])?;
    cx.allow(match *method {
        Method::PATCH => "federation:update",
        Method::DELETE => "federation:delete",
        _ => "federation:get",
    })?;
    Err(ApiError::missing("Federation", id.chars().take(300).collect::<String>()))
}

/// There never is one; what lists of them are sorted by is known.
enum Federation {}

impl Columns for Federation {
    const COLUMNS: Table<Self> = &[
        ("uuid", of_none),
        ("name", of_none),
        ("project_id", of_none),
        ("hostcluster_id", of_none),
        ("member_ids", of_none),
        ("properties", of_none),
        ("status", of_none),
        ("status_reason", of_none),
        ("created_at", of_none),
        ("updated_at", of_none),
    ];
}

fn of_none(federation: &Federation) -> Column<'_> {
    match *federation {}
}
