//! Credentials of clusters: who acts for them.

use super::super::context::Context;
use super::super::error::{ApiError, Outcome};
use super::super::reply::Reply;
use super::super::version::Version;

/// `PATCH /v1/credentials/{cluster}`
pub fn rotate(cx: &Context<'_>, id: &str) -> Outcome<Reply> {
    cx.since(Version::CREDENTIALS, "patch")?;
    cx.query(&[])?;
    cx.cluster(id, None)?;
    cx.allow("credential:rotate")?;
    Err(ApiError::invalid("Credential rotation is not supported by driver."))
}
