//! Clusters.

mod change;
mod form;
mod view;

use std::collections::HashMap;

pub use change::{resize, update, upgrade};
use form::{KNOWN, Origin, READ_ONLY, Wish};
use view::{ClusterList, Shown, full_view, short_view};

use super::super::coerce::Fields;
use super::super::context::{Context, find_cluster};
use super::super::error::{ApiError, Outcome};
use super::super::page::{LIST_ARGUMENTS, Listing, SortKey};
use super::super::reply::Reply;
use super::super::version::Version;
use crate::model::cluster::Cluster;
use crate::model::labels::Labels;
use crate::model::nodegroup::NodeGroup;
use crate::model::{ClusterId, TemplateId, name};
use crate::store::{Page, View};

const SORT_KEYS: &[SortKey] = &[
    ("uuid", "id"),
    ("name", "name"),
    ("project_id", "project_id"),
    ("user_id", "user_id"),
    ("cluster_template_id", "template_id"),
    ("keypair", "keypair"),
    ("docker_volume_size", "docker_volume_size"),
    ("labels", "labels"),
    ("master_flavor_id", "master_flavor_id"),
    ("flavor_id", "flavor_id"),
    ("fixed_network", "fixed_network"),
    ("fixed_subnet", "fixed_subnet"),
    ("floating_ip_enabled", "floating_ip_enabled"),
    ("master_lb_enabled", "master_lb_enabled"),
    ("create_timeout", "create_timeout"),
    ("discovery_url", "discovery_url"),
    ("api_address", "api_address"),
    ("coe_version", "coe_version"),
    ("container_version", "container_version"),
    ("stack_id", "stack_id"),
    ("status", "status"),
    ("status_reason", "status_reason"),
    ("health_status", "health_status"),
    ("health_status_reason", "health_status_reason"),
    ("created_at", "created_at"),
    ("updated_at", "updated_at"),
];

/// `GET /v1/clusters` and `/detail`
pub fn list(cx: &Context<'_>, detail: bool) -> Outcome<Reply> {
    let query = cx.query(&LIST_ARGUMENTS)?;
    let (rule, everywhere, path) = match detail {
        false => ("cluster:get_all", "cluster:get_all_all_projects", "clusters"),
        true => ("cluster:detail", "cluster:detail_all_projects", "clusters/detail"),
    };
    cx.allow(rule)?;
    let reach = cx.reach(Some(everywhere))?;
    let scope = reach.scope().ok_or_else(|| ApiError::policy(rule))?;
    let listing = Listing::read(query, SORT_KEYS, cx.api.settings.max_limit)?;
    let (found, templates) = cx.read(|view| {
        let marker = match listing.marker {
            None => None,
            Some(id) => {
                let found = view.cluster(ClusterId::new(id))?.filter(|c| reach.covers(c));
                Some(found.ok_or_else(|| ApiError::missing("Cluster", id))?.sequence)
            }
        };
        let records = |page: Page| -> Outcome<Vec<Cluster>> {
            Ok(view.clusters(scope, page)?.into_iter().map(|c| c.record).collect())
        };
        let clusters = match listing.page(marker) {
            Some(page) => records(page)?,
            None => listing.cut(
                records(Page::ALL)?,
                |c| c.sequence,
                |c| Some(c.id.uuid()) == listing.marker,
            ),
        };
        let mut templates = HashMap::new();
        let mut found = Vec::with_capacity(clusters.len());
        for cluster in clusters {
            if detail && !templates.contains_key(&cluster.template_id) {
                let labels = parent_labels(view, cluster.template_id)?;
                templates.insert(cluster.template_id, labels);
            }
            let groups = groups(view, cluster.id)?;
            found.push((cluster, groups));
        }
        Ok((found, templates))
    })?;
    let none = Labels::default();
    let last = found.last().map(|(cluster, _)| cluster.id.uuid());
    let clusters = found.iter().map(|(cluster, groups)| {
        let shown = Shown { cluster, groups };
        match detail {
            false => short_view(shown, cx.base, cx.asked.version),
            true => {
                let parent = templates.get(&cluster.template_id).unwrap_or(&none);
                full_view(shown, parent, cx.base, cx.asked.version)
            }
        }
    });
    Reply::shown(&ClusterList {
        clusters: clusters.collect(),
        next: listing.next(cx.base, path, found.len(), last),
    })
}

/// `GET /v1/clusters/{id}`
pub fn show(cx: &Context<'_>, id: &str) -> Outcome<Reply> {
    cx.query(&[])?;
    let reach = cx.reach(Some("cluster:get_one_all_projects"))?;
    let (cluster, groups, parent) = cx.read(|view| {
        let cluster = find_cluster(view, id, reach)?;
        let groups = groups(view, cluster.id)?;
        let parent = parent_labels(view, cluster.template_id)?;
        Ok((cluster, groups, parent))
    })?;
    cx.allow_cluster("cluster:get", &cluster)?;
    let shown = Shown { cluster: &cluster, groups: &groups };
    Reply::shown(&full_view(shown, &parent, cx.base, cx.asked.version).with_faults(shown))
}

/// `POST /v1/clusters`
pub async fn create(cx: &Context<'_>) -> Outcome<Reply> {
    cx.query(&[])?;
    cx.allow("cluster:create")?;
    let fields = Fields::new("cluster", cx.body("cluster")?, &KNOWN, &READ_ONLY)?;
    let wish = Wish::read(fields)?;
    let template = cx.template(&wish.template, None).map_err(|e| {
        match cx.asked.version < Version::ZERO_NODES {
            true => e.in_a_body(),
            false => e,
        }
    })?;
    if wish.wants_no_workers() && cx.asked.is_explicitly_before(Version::ZERO_NODES) {
        let why = "Value should be greater or equal to 1 before version 1.10.";
        return Err(ApiError::field("node_count", 0, why));
    }
    if template.hidden && !cx.is_admin {
        return Err(ApiError::not_authorized());
    }
    let origin = Origin {
        id: ClusterId::new(cx.api.entropy.uuid()),
        sequence: cx.api.store.next_sequence(),
        project_id: cx.project()?.to_owned(),
        user_id: cx.requester().user_id.clone(),
        fallback_name: name::generated("cluster", cx.api.entropy.bytes()),
        created_at: cx.api.clock.now(),
    };
    let order = wish.order(&template, origin)?;
    let id = cx.api.conductor.create_cluster(&cx.tenant(), order, &template).await?;
    Reply::accepted(id)
}

/// `DELETE /v1/clusters/{id}`
pub async fn delete(cx: &Context<'_>, id: &str) -> Outcome<Reply> {
    cx.query(&[])?;
    let cluster = cx.cluster(id, Some("cluster:delete_all_projects"))?;
    cx.allow_cluster("cluster:delete", &cluster)?;
    cx.api.conductor.delete_cluster(&cx.tenant(), &cluster).await?;
    Ok(Reply::gone())
}

fn groups(view: &View, id: ClusterId) -> Outcome<Vec<NodeGroup>> {
    Ok(view.nodegroups(id)?.into_iter().map(|g| g.record).collect())
}

/// The labels of a cluster's template. Templates in use cannot be deleted, but should one be
/// missing the cluster is still shown.
fn parent_labels(view: &View, id: TemplateId) -> Outcome<Labels> {
    Ok(view.template(id)?.map(|t| t.record.labels).unwrap_or_default())
}
