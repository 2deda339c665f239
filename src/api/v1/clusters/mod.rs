//! Clusters.

mod change;
mod form;
mod view;

use std::collections::HashMap;
use std::collections::hash_map::Entry;

pub use change::{resize, update, upgrade};
use form::{CreateRequest, KNOWN, Origin, READ_ONLY};
use view::{ClusterList, Shown, full_view, short_view};

use super::super::bookmark::{Listed, Shelf};
use super::super::coerce::Fields;
use super::super::context::{Context, concerns, find_cluster};
use super::super::error::{ApiError, Outcome};
use super::super::page::{self, LIST_ARGUMENTS, Listing, Marker};
use super::super::reply::Reply;
use super::super::version::Version;
use crate::model::cluster::Cluster;
use crate::model::labels::Labels;
use crate::model::nodegroup::NodeGroup;
use crate::model::{ClusterId, TemplateId, name};
use crate::store::{Scope, View};

/// `GET /v1/clusters` and `/detail`
pub async fn list(cx: &Context<'_>, detail: bool) -> Outcome<Reply> {
    let query = cx.query(&LIST_ARGUMENTS)?;
    let (rule, everywhere, path) = match detail {
        false => ("cluster:get_all", "cluster:get_all_all_projects", "clusters"),
        true => ("cluster:detail", "cluster:detail_all_projects", "clusters/detail"),
    };
    cx.allow(rule)?;
    let scope = cx.reach(Some(everywhere))?.scope().ok_or_else(|| ApiError::policy(rule))?;
    let listing = Listing::read::<Cluster>(query, cx.api.settings.max_limit)?;
    let (base, version) = (cx.base.to_owned(), cx.asked.version);
    let store = cx.api.store.clone();
    let shelf = cx.api.bookmarks.shelf(Listed::Clusters, scope);
    cx.scan(scope, move |view, scope| {
        let found = Found::read(view, &listing, &shelf, scope, detail)?;
        let none = Labels::default();
        let clusters = found.clusters.iter().zip(&found.groups).map(|(cluster, groups)| {
            let shown = Shown { cluster, groups, sealer: store.sealer() };
            match detail {
                false => short_view(shown, &base, version),
                true => {
                    let parent = found.parents.get(&cluster.template_id).unwrap_or(&none);
                    full_view(shown, parent, &base, version)
                }
            }
        });
        let last = found.clusters.last();
        let last = last.map(|c| (c.id.uuid().into(), listing.place(c, c.sequence)));
        Reply::shown(&ClusterList {
            clusters: clusters.collect(),
            next: listing.next(&base, path, found.shown, last, &shelf),
        })
    })
    .await
}

/// One page, read at one moment.
struct Found {
    clusters: Vec<Cluster>,
    /// Of each of them.
    groups: Vec<Vec<NodeGroup>>,
    /// The labels of their templates, for details.
    parents: HashMap<TemplateId, Labels>,
    shown: page::Shown,
}

impl Found {
    fn read(
        view: &View,
        listing: &Listing,
        shelf: &Shelf,
        scope: Scope<'_>,
        detail: bool,
    ) -> Outcome<Self> {
        let marker = match listing.marker {
            None => None,
            Some(id) => {
                let marker = listing.behind(id, shelf, || {
                    let found = view.clusters_of(&[ClusterId::new(id)], usize::MAX)?.pop();
                    let found = found.filter(|c| scope.covers(&c.project_id));
                    Ok(found.map(|c| listing.place(&c.record, c.sequence)))
                })?;
                Some(marker.ok_or_else(|| ApiError::missing("Cluster", id))?)
            }
        };
        let stored = if listing.is_by_making() {
            let after = match &marker {
                None => None,
                Some(Marker::At(place)) => Some(place.made),
                Some(Marker::Departed(gone)) => {
                    view.cluster_place(scope, gone.drawn, listing.descending)?
                }
            };
            view.clusters(scope, listing.page(after))?
        } else {
            let mut ranked = Vec::new();
            view.each_cluster(scope, |c| ranked.push(listing.rank(c, c.sequence, c.id)))?;
            let picked = listing.pick(ranked, marker.as_ref(), |id| id.uuid());
            view.clusters_of(&picked, page::PAGE_BYTES)?
        };
        let shown = page::Shown::of(stored.len(), stored.iter().map(|c| c.size).sum());
        let clusters: Vec<Cluster> = stored.into_iter().map(|c| c.record).collect();
        let groups = view.nodegroups_of(clusters.iter().map(|c| &c.id))?;
        let mut parents = HashMap::new();
        for cluster in clusters.iter().filter(|_| detail) {
            if let Entry::Vacant(place) = parents.entry(cluster.template_id) {
                place.insert(parent_labels(view, cluster)?);
            }
        }
        Ok(Self { clusters, groups, parents, shown })
    }
}

/// `GET /v1/clusters/{id}`
pub fn show(cx: &Context<'_>, id: &str) -> Outcome<Reply> {
    cx.query(&[])?;
    let reach = cx.reach(Some("cluster:get_one_all_projects"))?;
    let (cluster, groups, parent, keys) = cx.read(|view| {
        let cluster = find_cluster(view, id, reach)?;
        let groups = groups(view, cluster.id)?;
        let parent = parent_labels(view, &cluster)?;
        let keys =
            view.node_keys(cluster.id)?.into_iter().map(|key| key.record).collect::<Vec<_>>();
        Ok((cluster, groups, parent, keys))
    })?;
    cx.allow_cluster("cluster:get", &cluster)?;
    let shown = Shown { cluster: &cluster, groups: &groups, sealer: cx.api.store.sealer() };
    Reply::shown(&full_view(shown, &parent, cx.base, cx.asked.version).with_faults(shown, &keys))
}

/// `POST /v1/clusters`
pub async fn create(cx: &Context<'_>) -> Outcome<Reply> {
    cx.query(&[])?;
    cx.allow("cluster:create")?;
    let fields = Fields::new("cluster", cx.body("cluster")?, &KNOWN, &READ_ONLY)?;
    let wish = CreateRequest::read(fields)?;
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
    let now = cx.api.clock.now();
    let origin = Origin {
        id: ClusterId::new(cx.api.entropy.record_id(now)),
        sequence: cx.api.store.next_sequence(),
        project_id: cx.project()?.to_owned(),
        user_id: cx.requester().user_id.clone(),
        fallback_name: name::generated("cluster", cx.api.entropy.bytes()),
        created_at: now,
    };
    concerns(origin.id);
    let order = wish.order(&template, origin, cx.api.store.sealer())?;
    cx.confirm_token().await?;
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
/// missing or damaged the cluster is still shown.
fn parent_labels(view: &View, cluster: &Cluster) -> Outcome<Labels> {
    Ok(view.template_of(cluster)?.map(|t| t.record.labels).unwrap_or_default())
}
