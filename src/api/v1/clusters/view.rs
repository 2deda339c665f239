//! How a cluster is shown: short in lists, whole otherwise.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::Serialize;
use tracing::error;

use super::super::super::link::{Link, links};
use super::super::super::version::Version;
use super::super::text;
use crate::base::secret::Sealer;
use crate::model::cluster::Cluster;
use crate::model::labels::{LabelDiff, Labels};
use crate::model::node_key::NodeKey;
use crate::model::nodegroup::{NodeGroup, counts};
use crate::model::{ClusterId, TemplateId};

/// The fields of both forms, in upstream's order.
#[derive(Serialize)]
pub struct ShortView<'c> {
    uuid: ClusterId,
    name: &'c str,
    cluster_template_id: TemplateId,
    keypair: Option<&'c str>,
    node_count: u32,
    master_count: u32,
    docker_volume_size: Option<u32>,
    labels: &'c Labels,
    master_flavor_id: Option<&'c str>,
    flavor_id: Option<&'c str>,
    create_timeout: u32,
    links: [Link; 2],
    /// Up to 1.12; null while there is no stack.
    #[serde(skip_serializing_if = "Option::is_none")]
    stack_id: Option<Option<&'c str>>,
    /// From 1.13 on, the same value under another name.
    #[serde(skip_serializing_if = "Option::is_none")]
    cluster_id: Option<Option<&'c str>>,
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    status_reason: Option<Option<&'c str>>,
    health_status: Option<&'static str>,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    rest: Option<Rest<'c>>,
    /// Meaningless in an answer; upstream shows it.
    merge_labels: bool,
}

/// What only the whole form has.
#[derive(Serialize)]
struct Rest<'c> {
    health_status_reason: &'c BTreeMap<String, String>,
    discovery_url: Option<String>,
    api_address: Option<&'c str>,
    coe_version: Option<&'c str>,
    container_version: Option<&'c str>,
    project_id: &'c str,
    user_id: &'c str,
    node_addresses: Vec<&'c str>,
    master_addresses: Vec<&'c str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    faults: Option<BTreeMap<&'c str, Cow<'c, str>>>,
    fixed_network: Option<&'c str>,
    fixed_subnet: Option<&'c str>,
    floating_ip_enabled: bool,
    labels_overridden: Labels,
    labels_added: Labels,
    labels_skipped: Labels,
    master_lb_enabled: bool,
    created_at: String,
    updated_at: Option<String>,
}

/// A cluster with what lies in its groups.
#[derive(Clone, Copy, Debug)]
pub struct Shown<'c> {
    pub cluster: &'c Cluster,
    pub groups: &'c [NodeGroup],
    /// Opens what is shown of it and sealed.
    pub sealer: &'c Sealer,
}

impl Shown<'_> {
    fn discovery_url(&self) -> Option<String> {
        self.cluster.open_discovery_url(self.sealer).unwrap_or_else(|error| {
            error!(cluster = %self.cluster.id, %error, "the discovery URL is not shown");
            None
        })
    }
}

/// The form of `GET /v1/clusters`.
pub fn short_view<'c>(shown: Shown<'c>, base: &str, version: Version) -> ShortView<'c> {
    let Shown { cluster, groups, .. } = shown;
    let (master_count, node_count) = counts(groups);
    let stack = cluster.stack_id.as_deref();
    let is_new = version >= Version::CLUSTER_ID;
    ShortView {
        uuid: cluster.id,
        name: &cluster.name,
        cluster_template_id: cluster.template_id,
        keypair: cluster.keypair.as_deref(),
        node_count,
        master_count,
        docker_volume_size: cluster.docker_volume_size,
        labels: &cluster.labels,
        master_flavor_id: cluster.master_flavor_id.as_deref(),
        flavor_id: cluster.flavor_id.as_deref(),
        create_timeout: cluster.create_timeout,
        links: links(base, &format!("clusters/{}", cluster.id)),
        stack_id: (!is_new).then_some(stack),
        cluster_id: is_new.then_some(stack),
        status: cluster.status.as_str(),
        status_reason: None,
        health_status: cluster.health_status.map(|h| h.as_str()),
        rest: None,
        merge_labels: false,
    }
}

/// The form of details and of one cluster; `template` is the labels' parent.
pub fn full_view<'c>(
    shown: Shown<'c>,
    template: &Labels,
    base: &str,
    version: Version,
) -> ShortView<'c> {
    let Shown { cluster, groups, .. } = shown;
    let LabelDiff { overridden, added, skipped } = cluster.labels.diff(template);
    let addresses = |masters: bool| {
        let groups = groups.iter().filter(|g| g.is_master() == masters);
        groups.flat_map(|g| g.node_addresses.iter().map(String::as_str)).collect()
    };
    let rest = Rest {
        health_status_reason: &cluster.health_status_reason,
        discovery_url: shown.discovery_url(),
        api_address: cluster.api_address.as_deref(),
        coe_version: cluster.coe_version.as_deref(),
        container_version: cluster.container_version.as_deref(),
        project_id: &cluster.project_id,
        user_id: &cluster.user_id,
        node_addresses: addresses(false),
        master_addresses: addresses(true),
        faults: None,
        fixed_network: cluster.fixed_network.as_deref(),
        fixed_subnet: cluster.fixed_subnet.as_deref(),
        floating_ip_enabled: cluster.floating_ip_enabled,
        labels_overridden: overridden,
        labels_added: added,
        labels_skipped: skipped,
        master_lb_enabled: cluster.master_lb_enabled,
        created_at: cluster.created_at.to_string(),
        updated_at: text(cluster.updated_at),
    };
    let short = short_view(shown, base, version);
    ShortView { status_reason: Some(cluster.status_reason.as_deref()), rest: Some(rest), ..short }
}

impl<'c> ShortView<'c> {
    /// Adds why groups failed, if the cluster has failed, and whose name was claimed twice,
    /// whatever its status: somebody may have that node's keys.
    pub fn with_faults(mut self, shown: Shown<'c>, keys: &'c [NodeKey]) -> Self {
        let has_failed = shown.cluster.status.is_failed();
        let failed = shown.groups.iter().filter(|g| has_failed && g.status.is_failed());
        let failed =
            failed.map(|g| (g.name.as_str(), g.status_reason.as_deref().unwrap_or("").into()));
        let disputed = keys.iter().filter_map(|key| {
            Some((key.node.as_str(), key.dispute.as_ref()?.sentence(&key.node).into()))
        });
        let faults: BTreeMap<&str, Cow<'_, str>> = failed.chain(disputed).collect();
        if let Some(rest) = self.rest.as_mut().filter(|_| has_failed || !faults.is_empty()) {
            rest.faults = Some(faults);
        }
        self
    }
}

#[derive(Serialize)]
pub struct ClusterList<'c> {
    pub clusters: Vec<ShortView<'c>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}
