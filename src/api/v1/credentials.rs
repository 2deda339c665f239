//! Credentials of clusters: who acts for them.

use super::super::context::Context;
use super::super::error::{ApiError, Outcome};
use super::super::reply::Reply;
use super::super::version::Version;
use crate::model::status::Status;

/// `PATCH /v1/credentials/{cluster}`
pub async fn rotate(cx: &Context<'_>, id: &str) -> Outcome<Reply> {
    cx.since(Version::CREDENTIALS, "patch")?;
    cx.query(&[])?;
    let cluster = cx.cluster(id, None)?;
    cx.allow("credential:rotate")?;
    let is_allowed = cluster.status.is_complete()
        || matches!(cluster.status, Status::UpdateInProgress | Status::UpdateFailed);
    if !is_allowed {
        return Err(ApiError::invalid(format!(
            "Rotating credentials of a cluster when status is \"{}\" is not supported.",
            cluster.status
        )));
    }
    cx.confirm_token().await?;
    cx.api.conductor.rotate_credential(&cx.tenant(), &cluster).await?;
    Reply::accepted(cluster.id)
}
