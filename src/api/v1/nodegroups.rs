//! Node groups of a cluster, from version 1.9 on.

use std::collections::BTreeMap;

use serde::Serialize;
use uuid::Uuid;

use super::super::context::{Context, find_cluster, only};
use super::super::error::{ApiError, Outcome};
use super::super::link::{Link, links};
use super::super::page::{LIST_ARGUMENTS, Listing, SortKey};
use super::super::reply::Reply;
use super::super::version::Version;
use super::text;
use crate::model::cluster::Cluster;
use crate::model::labels::{LabelDiff, Labels};
use crate::model::nodegroup::{NodeGroup, Taint};
use crate::model::{ClusterId, NodeGroupId};
use crate::store::Stored;

const SORT_KEYS: &[SortKey] = &[
    ("uuid", "id"),
    ("name", "name"),
    ("cluster_id", "cluster_id"),
    ("project_id", "project_id"),
    ("docker_volume_size", "docker_volume_size"),
    ("labels", "labels"),
    ("flavor_id", "flavor_id"),
    ("image_id", "image_id"),
    ("node_addresses", "node_addresses"),
    ("node_count", "node_count"),
    ("role", "role"),
    ("min_node_count", "min_node_count"),
    ("max_node_count", "max_node_count"),
    ("is_default", "is_default"),
    ("stack_id", "stack_id"),
    ("status", "status"),
    ("status_reason", "status_reason"),
    ("version", "version"),
    ("created_at", "created_at"),
    ("updated_at", "updated_at"),
];

#[derive(Serialize)]
struct ShortView<'g> {
    uuid: NodeGroupId,
    name: &'g str,
    flavor_id: Option<&'g str>,
    image_id: Option<&'g str>,
    node_count: u32,
    role: &'g str,
    min_node_count: u32,
    max_node_count: Option<u32>,
    is_default: bool,
    stack_id: Option<&'g str>,
    status: &'static str,
    /// Meaningless in an answer; upstream shows it.
    merge_labels: bool,
}

fn short_view(group: &NodeGroup) -> ShortView<'_> {
    ShortView {
        uuid: group.id,
        name: &group.name,
        flavor_id: group.flavor_id.as_deref(),
        image_id: group.image_id.as_deref(),
        node_count: group.node_count,
        role: &group.role,
        min_node_count: group.min_node_count,
        max_node_count: group.max_node_count,
        is_default: group.is_default,
        stack_id: group.stack_id.as_deref(),
        status: group.status.as_str(),
        merge_labels: false,
    }
}

#[derive(Serialize)]
struct FullView<'g> {
    id: u64,
    uuid: NodeGroupId,
    name: &'g str,
    cluster_id: ClusterId,
    project_id: &'g str,
    docker_volume_size: Option<u32>,
    labels: &'g Labels,
    links: [Link; 2],
    flavor_id: Option<&'g str>,
    image_id: Option<&'g str>,
    node_addresses: &'g [String],
    node_count: u32,
    role: &'g str,
    min_node_count: u32,
    max_node_count: Option<u32>,
    is_default: bool,
    stack_id: Option<&'g str>,
    status: &'static str,
    status_reason: Option<&'g str>,
    version: Option<&'g str>,
    merge_labels: bool,
    labels_overridden: Labels,
    labels_added: Labels,
    labels_skipped: Labels,
    #[serde(skip_serializing_if = "Option::is_none")]
    node_labels: Option<&'g BTreeMap<String, String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    node_taints: Option<&'g [Taint]>,
    created_at: String,
    updated_at: Option<String>,
}

fn full_view<'g>(
    group: &'g NodeGroup,
    cluster: &Cluster,
    base: &str,
    version: Version,
) -> FullView<'g> {
    let LabelDiff { overridden, added, skipped } = group.labels.diff(&cluster.labels);
    let has_node_labels = version >= Version::NODE_LABELS;
    FullView {
        id: group.sequence.0,
        uuid: group.id,
        name: &group.name,
        cluster_id: group.cluster_id,
        project_id: &group.project_id,
        docker_volume_size: group.docker_volume_size,
        labels: &group.labels,
        links: links(base, &format!("clusters/{}/nodegroups/{}", group.cluster_id, group.id)),
        flavor_id: group.flavor_id.as_deref(),
        image_id: group.image_id.as_deref(),
        node_addresses: &group.node_addresses,
        node_count: group.node_count,
        role: &group.role,
        min_node_count: group.min_node_count,
        max_node_count: group.max_node_count,
        is_default: group.is_default,
        stack_id: group.stack_id.as_deref(),
        status: group.status.as_str(),
        status_reason: group.status_reason.as_deref(),
        version: group.version.as_deref(),
        merge_labels: false,
        labels_overridden: overridden,
        labels_added: added,
        labels_skipped: skipped,
        node_labels: has_node_labels.then_some(&group.node_labels),
        node_taints: has_node_labels.then_some(&*group.node_taints),
        created_at: group.created_at.to_string(),
        updated_at: text(group.updated_at),
    }
}

#[derive(Serialize)]
struct List<'g> {
    nodegroups: Vec<ShortView<'g>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// `GET /v1/clusters/{id}/nodegroups`
pub fn list(cx: &Context<'_>, id: &str) -> Outcome<Reply> {
    cx.since(Version::NODEGROUPS, "get_all")?;
    let [marker, limit, key, direction] = LIST_ARGUMENTS;
    let query = cx.query(&[marker, limit, key, direction, "role"])?;
    let listing = Listing::read(query, SORT_KEYS, cx.api.settings.max_limit)?;
    let reach = cx.reach(Some("nodegroup:get_all_all_projects"))?;
    let (cluster, groups) = cx.read(|view| {
        let cluster = find_cluster(view, id, reach)?;
        let groups = view.nodegroups(cluster.id)?;
        Ok((cluster, groups))
    })?;
    cx.allow("nodegroup:get_all")?;
    if let Some(marker) = listing.marker
        && !groups.iter().any(|g| g.id.uuid() == marker)
    {
        return Err(missing(&marker.to_string()));
    }
    let role = query.get("role");
    let groups: Vec<NodeGroup> = groups.into_iter().map(|g| g.record).collect();
    let shown: Vec<NodeGroup> = listing
        .cut(groups, |g| g.sequence, |g| Some(g.id.uuid()) == listing.marker)
        .into_iter()
        .filter(|g| role.is_none_or(|role| g.role == role))
        .collect();
    let path = format!("clusters/{}/nodegroups", cluster.id);
    let last = shown.last().map(|g| g.id.uuid());
    let next = listing.next(cx.base, &path, shown.len(), last);
    Reply::shown(&List { nodegroups: shown.iter().map(short_view).collect(), next })
}

/// `GET /v1/clusters/{id}/nodegroups/{group}`
pub fn show(cx: &Context<'_>, id: &str, group: &str) -> Outcome<Reply> {
    cx.query(&[])?;
    let (cluster, group) = find(cx, id, group, Some("nodegroup:get_one_all_projects"), "get_one")?;
    cx.allow("nodegroup:get")?;
    Reply::shown(&full_view(&group, &cluster, cx.base, cx.asked.version))
}

/// `POST /v1/clusters/{id}/nodegroups`
pub fn create(cx: &Context<'_>, id: &str) -> Outcome<Reply> {
    cx.since(Version::NODEGROUPS, "post")?;
    cx.cluster(id, None)?;
    cx.allow("nodegroup:create")?;
    Err(ApiError::invalid("Creating a nodegroup is not supported by this driver."))
}

/// `PATCH /v1/clusters/{id}/nodegroups/{group}`
pub fn update(cx: &Context<'_>, id: &str, group: &str) -> Outcome<Reply> {
    find(cx, id, group, None, "patch")?;
    cx.allow("nodegroup:update")?;
    Err(ApiError::invalid("Updating a nodegroup is not supported by this driver."))
}

/// `DELETE /v1/clusters/{id}/nodegroups/{group}`
pub fn delete(cx: &Context<'_>, id: &str, group: &str) -> Outcome<Reply> {
    let (_, group) = find(cx, id, group, None, "delete")?;
    cx.allow("nodegroup:delete")?;
    Err(ApiError::invalid(match group.is_default {
        true => "Deleting a default nodegroup is not supported.",
        false => "Deleting a nodegroup is not supported by this driver.",
    }))
}

/// A cluster and one of its groups, by uuid or name.
fn find(
    cx: &Context<'_>,
    id: &str,
    group: &str,
    everywhere: Option<&str>,
    method: &str,
) -> Outcome<(Stored<Cluster>, NodeGroup)> {
    cx.since(Version::NODEGROUPS, method)?;
    let reach = cx.reach(everywhere)?;
    cx.read(|view| {
        let cluster = find_cluster(view, id, reach)?;
        let found = match Uuid::parse_str(group) {
            Ok(uuid) => Vec::from_iter(view.nodegroup(cluster.id, NodeGroupId::new(uuid))?),
            Err(_) => {
                let mut groups = view.nodegroups(cluster.id)?;
                groups.retain(|g| g.name == group);
                groups
            }
        };
        let group = only(found, || missing(group), "nodegroups", "nodegroup")?;
        Ok((cluster, group.record))
    })
}

fn missing(ident: &str) -> ApiError {
    ApiError::missing("Nodegroup", ident.chars().take(300).collect::<String>())
}
