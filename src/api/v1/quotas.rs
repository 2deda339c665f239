//! Quotas: for now every project has the configured limit.

use serde_json::json;

use super::super::context::Context;
use super::super::error::{ApiError, Outcome};
use super::super::page::LIST_ARGUMENTS;
use super::super::reply::Reply;

/// `GET /v1/quotas`
pub fn list(cx: &Context<'_>) -> Outcome<Reply> {
    let [marker, limit, key, direction] = LIST_ARGUMENTS;
    cx.query(&[marker, limit, key, direction, "all_tenants"])?;
    cx.allow("quota:get_all")?;
    Reply::shown(&json!({ "quotas": [] }))
}

/// `GET /v1/quotas/{project}/{resource}`
pub fn show(cx: &Context<'_>, project: &str, _resource: &str) -> Outcome<Reply> {
    cx.query(&[])?;
    cx.allow("quota:get")?;
    if !cx.is_admin && cx.requester().project_id.as_deref() != Some(project) {
        return Err(ApiError::not_authorized());
    }
    Reply::shown(&json!({
        "project_id": project,
        "resource": "Cluster",
        "hard_limit": cx.api.settings.max_clusters_per_project,
    }))
}

/// What changes quotas.
pub fn change(cx: &Context<'_>, rule: &str) -> Outcome<Reply> {
    cx.allow(rule)?;
    Err(ApiError::invalid(
        "Changing quotas is not supported; every project has the configured limit.",
    ))
}
