//! Changes of clusters that exist: patched, resized, upgraded.

use serde_json::{Map, Value};

use super::super::super::coerce::{Fields, mandatory};
use super::super::super::context::{Context, body_first, find_cluster};
use super::super::super::error::{ApiError, Outcome};
use super::super::super::patch::{Patch, Rules};
use super::super::super::reply::Reply;
use super::super::super::version::Version;
use super::super::nodegroups::find_group;
use super::groups;
use super::view::{Shown, full_view};
use crate::conductor::{ResizeOrder, UpgradeOrder};
use crate::model::ClusterId;
use crate::model::cluster::Cluster;
use crate::model::labels::Labels;
use crate::model::nodegroup::{DEFAULT_WORKER, NodeGroup};
use crate::model::status::HealthStatus;
use crate::store::{Stored, View};

const PATCH_RULES: Rules = Rules {
    internal: &[
        "api_address",
        "node_addresses",
        "master_addresses",
        "stack_id",
        "cluster_id",
        "ca_cert_ref",
        "magnum_cert_ref",
        "etcd_ca_cert_ref",
        "front_proxy_ca_cert_ref",
        "trust_id",
        "trustee_user_name",
        "trustee_password",
        "trustee_user_id",
    ],
    mandatory: &["cluster_template_id"],
    structured: &["labels", "health_status_reason"],
};
const HEALTHS: [&str; 3] = ["HEALTHY", "UNHEALTHY", "UNKNOWN"];
/// More nodes than any cloud gives one cluster.
const MOST_NODES: u32 = 100_000;

/// `PATCH /v1/clusters/{id}`
pub async fn update(cx: &Context<'_>, id: &str) -> Outcome<Reply> {
    let query = match cx.asked.version >= Version::of(3) {
        true => cx.query(&["rollback"])?,
        false => cx.query(&[])?,
    };
    let rollback = query.flag("rollback")?.unwrap_or(false);
    let named = || {
        let cluster = cx.cluster(id, Some("cluster:update_all_projects"))?;
        let is_trustee = cluster.trustee_user_id.as_ref() == Some(&cx.requester().user_id);
        if is_trustee {
            cx.allow_cluster("cluster:update_health_status", &cluster)?;
        } else {
            cx.allow_cluster("cluster:update", &cluster)?;
            cx.allow("cluster:update_health_status")?;
        }
        Ok((cluster.id, is_trustee))
    };
    let patch = || Patch::read(&cx.body("patch")?, &PATCH_RULES);
    let ((uuid, is_trustee), patch) = body_first(named(), patch())?;
    let held = cx.api.locks.acquire(&uuid.to_string()).await;
    let mut is_counted = false;
    loop {
        let (cluster, groups) = cx.read(|view| {
            let reach = cx.reach(None)?;
            let cluster = find_cluster(view, &uuid.to_string(), reach)?;
            let groups = groups(view, cluster.id)?;
            Ok((cluster, groups))
        })?;
        let mut wish = CreateRequest::read(
            &patch,
            Shown { cluster: &cluster, groups: &groups, sealer: cx.api.store.sealer() },
        )?;
        wish.node_count = wish.node_count.filter(|_| !is_counted);
        if wish.node_count.is_some() && is_trustee {
            return Err(ApiError::policy("cluster:update"));
        }
        // One change at a time: the second is made from what the first one left.
        let outcome = match (wish.node_count, wish.health) {
            (Some(count), _) => count_workers(cx, &cluster, &groups, count, rollback).await,
            (None, Some((status, reason))) => {
                let reason = reason.iter().map(|(k, v)| (k.clone(), v.clone())).collect();
                let set = cx.api.conductor.set_health(&cluster, status, reason).await;
                set.map_err(ApiError::from)
            }
            (None, None) => return Reply::accepted(uuid),
        };
        match outcome {
            Ok(()) if wish.node_count.is_some() => is_counted = true,
            Ok(()) => return Reply::accepted(uuid),
            // Somebody was faster: the patch is laid over what they left.
            Err(e) if held.goes_on_after(&e) => {
                let now = cx.read(|view| Ok(view.cluster(uuid)?))?;
                if now.is_some_and(|now| now.revision == cluster.revision) {
                    return Err(e);
                }
            }
            Err(e) => return Err(e),
        }
    }
}

/// What a patch changes, if it changes it.
#[derive(Clone, Debug, PartialEq)]
struct CreateRequest {
    node_count: Option<u32>,
    health: Option<(Option<HealthStatus>, Labels)>,
}

impl CreateRequest {
    fn read(patch: &Patch, shown: Shown<'_>) -> Outcome<Self> {
        let before = attributes(shown);
        let after = patch.apply(before.clone())?;
        let changed: Vec<&str> = before
            .iter()
            .filter(|(name, value)| after.get(*name) != Some(value))
            .map(|(name, _)| name.as_str())
            .collect();
        let fixed: Vec<&str> = changed
            .iter()
            .copied()
            .filter(|n| !matches!(*n, "node_count" | "health_status" | "health_status_reason"))
            .collect();
        if !fixed.is_empty() {
            return Err(ApiError::invalid(format!(
                "cannot change cluster property(ies) {}.",
                fixed.join(", ")
            )));
        }
        let was = before.get("node_count").and_then(Value::as_u64);
        let is_health = changed.iter().any(|name| name.starts_with("health"));
        let mut fields = Fields::of(after);
        let node_count = match changed.contains(&"node_count") {
            false => None,
            // A group has one node unless something is said.
            true => Some(fields.whole("node_count", 0..=MOST_NODES)?.unwrap_or(1)),
        };
        let health = match is_health {
            false => None,
            true => {
                let status = fields.choice("health_status", &HEALTHS, HealthStatus::parse)?;
                Some((status, fields.labels("health_status_reason")?.unwrap_or_default()))
            }
        };
        Ok(Self { node_count: node_count.filter(|count| was != Some(u64::from(*count))), health })
    }
}

/// The default group shall have so many workers.
async fn count_workers(
    cx: &Context<'_>,
    cluster: &Stored<Cluster>,
    groups: &[NodeGroup],
    node_count: u32,
    rollback: bool,
) -> Outcome<()> {
    let worker = groups.iter().find(|g| g.name == DEFAULT_WORKER);
    let worker = worker.ok_or_else(|| ApiError::missing("Nodegroup", DEFAULT_WORKER))?;
    may_be(cx, worker, node_count)?;
    let nodes_to_remove = Vec::new();
    let order = ResizeOrder { nodegroup: worker.id, node_count, nodes_to_remove, rollback };
    cx.api.conductor.resize(&cx.tenant(), cluster, order).await?;
    Ok(())
}

/// What the body of a resize says.
struct Resize {
    node_count: u32,
    nodes_to_remove: Vec<String>,
    nodegroup: Option<String>,
}

impl Resize {
    fn read(cx: &Context<'_>) -> Outcome<Self> {
        let argument = "cluster_resize_req";
        let known = ["node_count", "nodes_to_remove", "nodegroup"];
        let mut fields = Fields::new(argument, cx.body(argument)?, &known, &[])?;
        let node_count = fields.whole("node_count", 0..=MOST_NODES)?;
        Ok(Self {
            node_count: node_count.ok_or_else(|| mandatory("node_count"))?,
            nodes_to_remove: fields.texts("nodes_to_remove", 1000)?.unwrap_or_default(),
            nodegroup: fields.text("nodegroup", 1..=255)?,
        })
    }
}

/// `POST /v1/clusters/{id}/actions/resize`
pub async fn resize(cx: &Context<'_>, id: &str) -> Outcome<Reply> {
    cx.since(Version::RESIZE, "resize")?;
    cx.query(&[])?;
    let named = || {
        let cluster = cx.cluster(id, None)?;
        cx.allow_cluster("cluster:resize", &cluster)?;
        Ok(cluster)
    };
    let (cluster, asked) = body_first(named(), Resize::read(cx))?;
    let Resize { node_count, nodes_to_remove, nodegroup } = asked;
    let group = cx.read(|view| group_of(view, cluster.id, nodegroup.as_deref()))?;
    if group.is_master() {
        return Err(ApiError::invalid(
            "Resizing the master nodegroup is not supported by this driver.",
        ));
    }
    may_be(cx, &group, node_count)?;
    let order = ResizeOrder { nodegroup: group.id, node_count, nodes_to_remove, rollback: false };
    cx.api.conductor.resize(&cx.tenant(), &cluster, order).await?;
    Reply::accepted(cluster.id)
}

/// What the body of an upgrade says.
struct Upgrade {
    cluster_template: String,
    max_batch_size: u32,
    nodegroup: Option<String>,
}

impl Upgrade {
    fn read(cx: &Context<'_>) -> Outcome<Self> {
        let argument = "cluster_upgrade_req";
        let known = ["cluster_template", "max_batch_size", "nodegroup"];
        let mut fields = Fields::new(argument, cx.body(argument)?, &known, &[])?;
        Ok(Self {
            cluster_template: fields.required_text("cluster_template")?,
            max_batch_size: fields.whole("max_batch_size", 1..=MOST_NODES)?.unwrap_or(1),
            nodegroup: fields.text("nodegroup", 1..=255)?,
        })
    }
}

/// `POST /v1/clusters/{id}/actions/upgrade`
pub async fn upgrade(cx: &Context<'_>, id: &str) -> Outcome<Reply> {
    cx.since(Version::RESIZE, "upgrade")?;
    cx.query(&[])?;
    if cx.asked.version < Version::UPGRADE {
        return Err(ApiError::invalid(
            "Cluster upgrade is not supported in the provided microversion.",
        ));
    }
    let named = || {
        let cluster = cx.cluster(id, Some("cluster:upgrade_all_projects"))?;
        cx.allow_cluster("cluster:upgrade", &cluster)?;
        Ok(cluster)
    };
    let (cluster, asked) = body_first(named(), Upgrade::read(cx))?;
    let Upgrade { cluster_template, max_batch_size, nodegroup } = asked;
    let template = cx.template(&cluster_template, None)?;
    let group = cx.read(|view| group_of(view, cluster.id, nodegroup.as_deref()))?;
    if !group.is_default && template.id != cluster.template_id {
        return Err(ApiError::conflict(format!(
            "Cluster Template is not valid for upgrade: nodegroup {} is not a default one and \
             can only move to the cluster's own template, {}. Upgrade the cluster first.",
            group.name, cluster.template_id
        )));
    }
    let order = UpgradeOrder { template: template.record, nodegroup: group.id, max_batch_size };
    cx.api.conductor.upgrade(&cx.tenant(), &cluster, order).await?;
    Reply::accepted(cluster.id)
}

/// A named group of the cluster, or the one that is meant when none is named.
fn group_of(view: &View, id: ClusterId, ident: Option<&str>) -> Outcome<Stored<NodeGroup>> {
    find_group(view, id, ident.unwrap_or(DEFAULT_WORKER))
}

/// Whether the group may have so many nodes.
fn may_be(cx: &Context<'_>, group: &NodeGroup, count: u32) -> Outcome<()> {
    if count == 0 && cx.asked.is_explicitly_before(Version::ZERO_NODES) {
        let why = "Value should be greater or equal to 1 before version 1.10.";
        return Err(ApiError::field("node_count", count, why));
    }
    let most = group.max_node_count.filter(|most| *most > 0);
    if count < group.min_node_count || most.is_some_and(|most| count > most) {
        let most = most.map_or_else(|| "None".to_owned(), |most| most.to_string());
        return Err(ApiError::invalid(format!(
            "Resizing {} outside the allowed range: min_node_count = {}, max_node_count = {most}.",
            group.name, group.min_node_count
        )));
    }
    Ok(())
}

/// The attributes that a patch works on: what is shown, without the links.
fn attributes(shown: Shown<'_>) -> Map<String, Value> {
    let view = full_view(shown, &shown.cluster.labels, "", Version::of(1));
    match serde_json::to_value(view) {
        Ok(Value::Object(mut map)) => {
            map.remove("links");
            // Shown is the sum over all groups; what is patched is the default one's.
            if let Some(worker) = shown.groups.iter().find(|g| g.name == DEFAULT_WORKER) {
                map.insert("node_count".to_owned(), Value::from(worker.node_count));
            }
            map
        }
        _ => Map::new(),
    }
}
