//! Node groups of a cluster, from version 1.9 on.

mod form;

use std::collections::BTreeMap;

use form::{CreateRequest, KNOWN, Origin, READ_ONLY};
use serde::Serialize;
use serde_json::Value;
use uuid::Uuid;

use super::super::bookmark::{Listed, Shelf};
use super::super::coerce::Fields;
use super::super::context::{Context, body_first, find_cluster, only};
use super::super::error::{ApiError, Outcome};
use super::super::link::{Link, links};
use super::super::page::{LIST_ARGUMENTS, Listing, PAGE_BYTES, Shown, encoded};
use super::super::patch::{Patch, Rules};
use super::super::reply::Reply;
use super::super::version::Version;
use super::text;
use crate::model::cluster::Cluster;
use crate::model::labels::{LabelDiff, Labels};
use crate::model::nodegroup::{NodeGroup, Taint};
use crate::model::{ClusterId, NodeGroupId};
use crate::store::{Scope, Stored, View};

const PATCH_RULES: Rules = Rules {
    internal: &[
        "name",
        "cluster_id",
        "docker_volume_size",
        "labels",
        "flavor_id",
        "image_id",
        "node_addresses",
        "node_count",
        "role",
        "is_default",
        "stack_id",
        "status",
        "status_reason",
        "version",
        "merge_labels",
        "labels_overridden",
        "labels_added",
        "labels_skipped",
    ],
    mandatory: &[],
    structured: &["node_labels", "node_taints"],
};

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
pub async fn list(cx: &Context<'_>, id: &str) -> Outcome<Reply> {
    // Upstream calls the list by the name of its neighbour.
    cx.since(Version::NODEGROUPS, "get_one")?;
    let [marker, limit, key, direction] = LIST_ARGUMENTS;
    let query = cx.query(&[marker, limit, key, direction, "role"])?;
    let listing = Listing::read::<NodeGroup>(query, cx.api.settings.max_limit)?;
    let cluster = cx.cluster(id, Some("nodegroup:get_all_all_projects"))?;
    cx.allow("nodegroup:get_all")?;
    let role = query.get("role").map(str::to_owned);
    let (id, base) = (cluster.id, cx.base.to_owned());
    // A trustee has no scope, and reaches this cluster.
    let shelf = cx.api.bookmarks.shelf(Listed::NodeGroups(id), Scope::Everyone);
    cx.scan(Scope::Everyone, move |view, _| {
        let (groups, shown) = page(view, &listing, &shelf, id, role.as_deref())?;
        let last = groups.last();
        let last = last.map(|g| (g.id.uuid().into(), listing.place(&g.record, g.sequence)));
        let path = format!("clusters/{id}/nodegroups");
        let mut next = listing.next(&base, &path, shown, last, &shelf);
        if let (Some(next), Some(role)) = (&mut next, &role) {
            next.push_str(&format!("&role={}", encoded(role)));
        }
        Reply::shown(&List { nodegroups: groups.iter().map(|g| short_view(g)).collect(), next })
    })
    .await
}

/// A page of a cluster's groups. A group shows its labels nowhere in a list, but whoever reads a
/// page has all of it in memory.
fn page(
    view: &View,
    listing: &Listing,
    shelf: &Shelf,
    cluster: ClusterId,
    role: Option<&str>,
) -> Outcome<(Vec<Stored<NodeGroup>>, Shown)> {
    let (mut ranked, mut here) = (Vec::new(), None);
    view.each_of_its_nodegroups(cluster, |group| {
        // The marker has its place, whatever its role.
        if Some(group.id.uuid()) == listing.marker {
            here = Some(listing.place(group, group.sequence));
        }
        if role.is_none_or(|role| group.role == role) {
            ranked.push(listing.rank(group, group.sequence, group.id));
        }
    })?;
    let marker = match listing.marker {
        None => None,
        Some(id) => {
            let marker = listing.behind(id, shelf, || Ok(here))?;
            Some(marker.ok_or_else(|| missing(&id.to_string()))?)
        }
    };
    let picked = listing.pick(ranked, marker.as_ref(), |id| id.uuid());
    let groups = view.nodegroups_by_id(cluster, &picked, PAGE_BYTES)?;
    let shown = Shown::of(groups.len(), groups.iter().map(|g| g.size).sum());
    Ok((groups, shown))
}

/// `GET /v1/clusters/{id}/nodegroups/{group}`
pub fn show(cx: &Context<'_>, id: &str, group: &str) -> Outcome<Reply> {
    cx.query(&[])?;
    let (cluster, group) = find(cx, id, group, Some("nodegroup:get_one_all_projects"), "get_one")?;
    cx.allow("nodegroup:get")?;
    Reply::shown(&full_view(&group, &cluster, cx.base, cx.asked.version))
}

/// `POST /v1/clusters/{id}/nodegroups`
pub async fn create(cx: &Context<'_>, id: &str) -> Outcome<Reply> {
    cx.since(Version::NODEGROUPS, "post")?;
    cx.query(&[])?;
    let named = || {
        let reach = cx.reach(None)?;
        let found = cx.read(|view| {
            let cluster = find_cluster(view, id, reach)?;
            let groups = view.nodegroups(cluster.id)?;
            Ok((cluster, groups))
        })?;
        cx.allow("nodegroup:create")?;
        Ok(found)
    };
    let wish = || {
        let fields = Fields::new("nodegroup", cx.body("nodegroup")?, &KNOWN, &READ_ONLY)?;
        knows_node_labels(cx, |name| fields.has(name))?;
        CreateRequest::read(fields)
    };
    let ((cluster, groups), wish) = body_first(named(), wish())?;
    let worker = groups.iter().find(|g| g.is_default && !g.is_master());
    let now = cx.api.clock.now();
    let origin = Origin {
        id: NodeGroupId::new(cx.api.entropy.record_id(now)),
        sequence: cx.api.store.next_sequence(),
        image_id: worker.and_then(|g| g.image_id.clone()),
        created_at: now,
    };
    let group = wish.group(&cluster, origin)?;
    if group.is_master() {
        return Err(ApiError::invalid("Creating master nodegroups is currently not supported."));
    }
    if groups.iter().any(|g| g.name == group.name) {
        return Err(ApiError::conflict(format!(
            "A node group with name {} already exists in the cluster {}.",
            group.name, cluster.name
        )));
    }
    if cluster.api_address.is_none() {
        return Err(ApiError::conflict("Cluster API address is not available yet."));
    }
    cx.confirm_token().await?;
    let made = cx.api.conductor.create_nodegroup(&cx.tenant(), &cluster, group).await?;
    Reply::accepted_with(&full_view(&made, &cluster, cx.base, cx.asked.version))
}

/// `PATCH /v1/clusters/{id}/nodegroups/{group}`
pub async fn update(cx: &Context<'_>, id: &str, ident: &str) -> Outcome<Reply> {
    cx.query(&[])?;
    cx.since(Version::NODEGROUPS, "patch")?;
    let named = || {
        let found = find(cx, id, ident, None, "patch")?;
        cx.allow("nodegroup:update")?;
        Ok(found)
    };
    let patch = || {
        let patch = Patch::read(&cx.body("patch")?, &PATCH_RULES)?;
        knows_node_labels(cx, |name| patch.touches(name))?;
        Ok(patch)
    };
    let ((cluster, group), patch) = body_first(named(), patch())?;
    let uuids = (cluster.id.to_string(), group.id.to_string());
    let held = cx.api.locks.acquire(&uuids.1).await;
    let (mut cluster, mut group) = find(cx, &uuids.0, &uuids.1, None, "patch")?;
    loop {
        let before = full_view(&group, &cluster, "", Version::NODE_LABELS);
        let Ok(Value::Object(before)) = serde_json::to_value(before) else {
            return Err(ApiError::internal());
        };
        let mut changed = form::changed(Fields::of(patch.apply(before)?), &group)?;
        if changed == group.record {
            return Reply::accepted_with(&full_view(&group, &cluster, cx.base, cx.asked.version));
        }
        changed.updated_at = Some(cx.api.clock.now());
        let tenant = cx.tenant();
        let order = cx.api.conductor.update_nodegroup(&tenant, &cluster, &group, changed);
        let outcome = order.await.map_err(ApiError::from);
        let read = group.revision;
        (cluster, group) = find(cx, &uuids.0, &uuids.1, None, "patch")?;
        match outcome {
            Ok(()) => {
                let shown = full_view(&group, &cluster, cx.base, cx.asked.version);
                return Reply::accepted_with(&shown);
            }
            Err(e) if held.goes_on_after(&e) && group.revision != read => {}
            Err(e) => return Err(e),
        }
    }
}

/// `DELETE /v1/clusters/{id}/nodegroups/{group}`
pub async fn delete(cx: &Context<'_>, id: &str, group: &str) -> Outcome<Reply> {
    cx.query(&[])?;
    let (cluster, group) = find(cx, id, group, None, "delete")?;
    cx.allow("nodegroup:delete")?;
    if group.is_default {
        return Err(ApiError::invalid("Deleting a default nodegroup is not supported."));
    }
    cx.api.conductor.delete_nodegroup(&cx.tenant(), &cluster, &group).await?;
    Ok(Reply::gone())
}

/// Labels and taints of nodes came with 1.14; whoever speaks an older version is told so.
fn knows_node_labels(cx: &Context<'_>, has: impl Fn(&str) -> bool) -> Outcome<()> {
    let asked = ["node_labels", "node_taints"].into_iter().find(|name| has(name));
    match asked {
        Some(name) if cx.asked.version < Version::NODE_LABELS => Err(ApiError::invalid(format!(
            "Unknown attribute for argument nodegroup: {name}. It needs version 1.14, and \
                 {} was requested.",
            cx.asked.version
        ))),
        _ => Ok(()),
    }
}

/// A cluster and one of its groups, by uuid or name.
fn find(
    cx: &Context<'_>,
    id: &str,
    group: &str,
    everywhere: Option<&str>,
    method: &str,
) -> Outcome<(Stored<Cluster>, Stored<NodeGroup>)> {
    cx.since(Version::NODEGROUPS, method)?;
    let reach = cx.reach(everywhere)?;
    cx.read(|view| {
        let cluster = find_cluster(view, id, reach)?;
        let group = find_group(view, cluster.id, group)?;
        Ok((cluster, group))
    })
}

/// One group of a cluster, by uuid or name.
pub fn find_group(view: &View, cluster: ClusterId, ident: &str) -> Outcome<Stored<NodeGroup>> {
    let found = match Uuid::parse_str(ident) {
        Ok(uuid) => Vec::from_iter(view.nodegroup(cluster, NodeGroupId::new(uuid))?),
        Err(_) => {
            let mut groups = view.nodegroups(cluster)?;
            groups.retain(|g| g.name == ident);
            groups
        }
    };
    only(found, || missing(ident), "nodegroups", "nodegroup")
}

fn missing(ident: &str) -> ApiError {
    ApiError::missing("Nodegroup", ident.chars().take(300).collect::<String>())
}
