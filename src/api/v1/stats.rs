//! How many clusters and nodes there are.

use serde_json::json;

use super::super::context::Context;
use super::super::error::{ApiError, Outcome};
use super::super::reply::Reply;
use crate::store::Scope;

/// `GET /v1/stats`
pub async fn show(cx: &Context<'_>) -> Outcome<Reply> {
    let query = cx.query(&["project_id", "type"])?;
    cx.allow("stats:get_all")?;
    if let Some(kind) = query.get("type").filter(|kind| *kind != "cluster") {
        return Err(ApiError::field("type", kind, "Value should be one of: cluster"));
    }
    let asked = query.get("project_id").filter(|project| !project.is_empty());
    let scope = match (asked, cx.is_admin) {
        (Some(project), true) => Scope::Project(project),
        (None, true) => Scope::Everyone,
        (asked, false) => {
            let own = cx.project()?;
            if asked.is_some_and(|project| project != own) {
                return Err(ApiError::not_authorized());
            }
            Scope::Project(own)
        }
    };
    let count = cx.scan(scope, |view, scope| {
        let mut nodes = 0_u64;
        view.each_nodegroup(scope, |group| nodes += u64::from(group.node_count))?;
        Ok((view.count_clusters(scope)?, nodes))
    });
    let (clusters, nodes) = count.await?;
    Reply::shown(&json!({ "clusters": clusters, "nodes": nodes }))
}
