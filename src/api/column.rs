//! Columns: the stored attributes of a record by the names clients know, to sort by and for
//! rules to compare with.

use std::borrow::Cow;

use serde::Serialize;

use crate::base::clock::Timestamp;
use crate::model::cluster::Cluster;
use crate::model::cluster_template::ClusterTemplate;
use crate::model::nodegroup::NodeGroup;
use crate::model::quota::{self, Quota};

/// One value, in the order of sorting: nothing first, then numbers, then text.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Column<'r> {
    Null,
    Flag(bool),
    Number(u64),
    Text(Cow<'r, str>),
}

/// A record whose columns can be named.
pub trait Columns {
    /// Every column that lists can be sorted by, besides `id`.
    const NAMES: &[&str];

    /// The column of that name, if there is one.
    fn column(&self, name: &str) -> Option<Column<'_>>;
}

impl<'r> Column<'r> {
    fn text(text: &'r str) -> Self {
        Self::Text(Cow::Borrowed(text))
    }

    fn shown(value: impl ToString) -> Self {
        Self::Text(Cow::Owned(value.to_string()))
    }

    fn maybe(text: Option<&'r str>) -> Self {
        text.map_or(Self::Null, Self::text)
    }

    fn count(number: Option<u32>) -> Self {
        number.map_or(Self::Null, |number| Self::Number(number.into()))
    }

    /// Moments are written so that text sorts them.
    fn moment(at: Option<Timestamp>) -> Self {
        at.map_or(Self::Null, Self::shown)
    }

    /// Maps and lists, as upstream's database keeps them.
    fn json(value: &impl Serialize) -> Self {
        serde_json::to_string(value).map_or(Self::Null, |text| Self::Text(Cow::Owned(text)))
    }

    pub fn into_owned(self) -> Column<'static> {
        match self {
            Self::Null => Column::Null,
            Self::Flag(flag) => Column::Flag(flag),
            Self::Number(number) => Column::Number(number),
            Self::Text(text) => Column::Text(Cow::Owned(text.into_owned())),
        }
    }

    /// As Python prints it, which is what rules compare with.
    pub fn printed(self) -> Cow<'r, str> {
        match self {
            Self::Null => Cow::Borrowed("None"),
            Self::Flag(true) => Cow::Borrowed("True"),
            Self::Flag(false) => Cow::Borrowed("False"),
            Self::Number(number) => Cow::Owned(number.to_string()),
            Self::Text(text) => text,
        }
    }
}

impl Columns for Cluster {
    const NAMES: &[&str] = &[
        "uuid",
        "name",
        "project_id",
        "user_id",
        "cluster_template_id",
        "keypair",
        "docker_volume_size",
        "labels",
        "master_flavor_id",
        "flavor_id",
        "fixed_network",
        "fixed_subnet",
        "floating_ip_enabled",
        "master_lb_enabled",
        "create_timeout",
        "discovery_url",
        "api_address",
        "coe_version",
        "container_version",
        "stack_id",
        "status",
        "status_reason",
        "health_status",
        "health_status_reason",
        "created_at",
        "updated_at",
    ];

    fn column(&self, name: &str) -> Option<Column<'_>> {
        Some(match name {
            "id" => Column::Number(self.sequence.0),
            "uuid" => Column::shown(self.id),
            "name" => Column::text(&self.name),
            "project_id" => Column::text(&self.project_id),
            "user_id" => Column::text(&self.user_id),
            "cluster_template_id" => Column::shown(self.template_id),
            "keypair" => Column::maybe(self.keypair.as_deref()),
            "docker_volume_size" => Column::count(self.docker_volume_size),
            "labels" => Column::json(&self.labels),
            "master_flavor_id" => Column::maybe(self.master_flavor_id.as_deref()),
            "flavor_id" => Column::maybe(self.flavor_id.as_deref()),
            "fixed_network" => Column::maybe(self.fixed_network.as_deref()),
            "fixed_subnet" => Column::maybe(self.fixed_subnet.as_deref()),
            "floating_ip_enabled" => Column::Flag(self.floating_ip_enabled),
            "master_lb_enabled" => Column::Flag(self.master_lb_enabled),
            "create_timeout" => Column::Number(self.create_timeout.into()),
            "discovery_url" => Column::maybe(self.discovery_url.as_deref()),
            "api_address" => Column::maybe(self.api_address.as_deref()),
            "coe_version" => Column::maybe(self.coe_version.as_deref()),
            "container_version" => Column::maybe(self.container_version.as_deref()),
            "stack_id" => Column::maybe(self.stack_id.as_deref()),
            "status" => Column::text(self.status.as_str()),
            "status_reason" => Column::maybe(self.status_reason.as_deref()),
            "health_status" => Column::maybe(self.health_status.map(|h| h.as_str())),
            "health_status_reason" => Column::json(&self.health_status_reason),
            "created_at" => Column::shown(self.created_at),
            "updated_at" => Column::moment(self.updated_at),
            _ => return None,
        })
    }
}

impl Columns for ClusterTemplate {
    const NAMES: &[&str] = &[
        "uuid",
        "name",
        "coe",
        "project_id",
        "user_id",
        "image_id",
        "flavor_id",
        "master_flavor_id",
        "keypair_id",
        "external_network_id",
        "fixed_network",
        "fixed_subnet",
        "dns_nameserver",
        "network_driver",
        "volume_driver",
        "apiserver_port",
        "docker_volume_size",
        "docker_storage_driver",
        "cluster_distro",
        "http_proxy",
        "https_proxy",
        "no_proxy",
        "insecure_registry",
        "registry_enabled",
        "tls_disabled",
        "public",
        "hidden",
        "master_lb_enabled",
        "floating_ip_enabled",
        "labels",
        "server_type",
        "tags",
        "driver",
        "created_at",
        "updated_at",
    ];

    fn column(&self, name: &str) -> Option<Column<'_>> {
        Some(match name {
            "id" => Column::Number(self.sequence.0),
            "uuid" => Column::shown(self.id),
            "name" => Column::text(&self.name),
            "coe" => Column::text(self.coe.as_str()),
            "project_id" => Column::text(&self.project_id),
            "user_id" => Column::text(&self.user_id),
            "image_id" => Column::text(&self.image_id),
            "flavor_id" => Column::maybe(self.flavor_id.as_deref()),
            "master_flavor_id" => Column::maybe(self.master_flavor_id.as_deref()),
            "keypair_id" => Column::maybe(self.keypair_id.as_deref()),
            "external_network_id" => Column::maybe(self.external_network_id.as_deref()),
            "fixed_network" => Column::maybe(self.fixed_network.as_deref()),
            "fixed_subnet" => Column::maybe(self.fixed_subnet.as_deref()),
            "dns_nameserver" => Column::maybe(self.dns_nameserver.as_deref()),
            "network_driver" => Column::maybe(self.network_driver.as_deref()),
            "volume_driver" => Column::maybe(self.volume_driver.as_deref()),
            "apiserver_port" => Column::count(self.apiserver_port.map(u32::from)),
            "docker_volume_size" => Column::count(self.docker_volume_size),
            "docker_storage_driver" => Column::maybe(self.docker_storage_driver.as_deref()),
            "cluster_distro" => Column::maybe(self.cluster_distro.as_deref()),
            "http_proxy" => Column::maybe(self.http_proxy.as_deref()),
            "https_proxy" => Column::maybe(self.https_proxy.as_deref()),
            "no_proxy" => Column::maybe(self.no_proxy.as_deref()),
            "insecure_registry" => Column::maybe(self.insecure_registry.as_deref()),
            "registry_enabled" => Column::Flag(self.registry_enabled),
            "tls_disabled" => Column::Flag(self.tls_disabled),
            "public" => Column::Flag(self.public),
            "hidden" => Column::Flag(self.hidden),
            "master_lb_enabled" => Column::Flag(self.master_lb_enabled),
            "floating_ip_enabled" => Column::Flag(self.floating_ip_enabled),
            "labels" => Column::json(&self.labels),
            "server_type" => Column::text(self.server_type.as_str()),
            "tags" => Column::maybe(self.tags.as_deref()),
            "driver" => Column::maybe(self.driver.as_deref()),
            "created_at" => Column::shown(self.created_at),
            "updated_at" => Column::moment(self.updated_at),
            _ => return None,
        })
    }
}

impl Columns for NodeGroup {
    const NAMES: &[&str] = &[
        "uuid",
        "name",
        "cluster_id",
        "project_id",
        "docker_volume_size",
        "labels",
        "flavor_id",
        "image_id",
        "node_addresses",
        "node_count",
        "role",
        "min_node_count",
        "max_node_count",
        "is_default",
        "stack_id",
        "status",
        "status_reason",
        "version",
        "created_at",
        "updated_at",
    ];

    fn column(&self, name: &str) -> Option<Column<'_>> {
        Some(match name {
            "id" => Column::Number(self.sequence.0),
            "uuid" => Column::shown(self.id),
            "name" => Column::text(&self.name),
            "cluster_id" => Column::shown(self.cluster_id),
            "project_id" => Column::text(&self.project_id),
            "docker_volume_size" => Column::count(self.docker_volume_size),
            "labels" => Column::json(&self.labels),
            "flavor_id" => Column::maybe(self.flavor_id.as_deref()),
            "image_id" => Column::maybe(self.image_id.as_deref()),
            "node_addresses" => Column::json(&self.node_addresses),
            "node_count" => Column::Number(self.node_count.into()),
            "role" => Column::text(&self.role),
            "min_node_count" => Column::Number(self.min_node_count.into()),
            "max_node_count" => Column::count(self.max_node_count),
            "is_default" => Column::Flag(self.is_default),
            "stack_id" => Column::maybe(self.stack_id.as_deref()),
            "status" => Column::text(self.status.as_str()),
            "status_reason" => Column::maybe(self.status_reason.as_deref()),
            "version" => Column::maybe(self.version.as_deref()),
            "created_at" => Column::shown(self.created_at),
            "updated_at" => Column::moment(self.updated_at),
            _ => return None,
        })
    }
}

impl Columns for Quota {
    const NAMES: &[&str] = &["project_id", "resource", "hard_limit", "created_at", "updated_at"];

    fn column(&self, name: &str) -> Option<Column<'_>> {
        Some(match name {
            "id" => Column::Number(self.sequence.0),
            "project_id" => Column::text(&self.project_id),
            "resource" => Column::text(quota::CLUSTER),
            "hard_limit" => Column::Number(self.hard_limit.into()),
            "created_at" => Column::shown(self.created_at),
            "updated_at" => Column::moment(self.updated_at),
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::tests::place::Place;

    fn all_there<R: Columns>(record: &R) {
        for name in R::NAMES {
            assert!(record.column(name).is_some(), "{name}");
        }
        assert!(record.column("id").is_some() && record.column("colour").is_none());
    }

    #[tokio::test]
    async fn every_name_has_a_column() {
        let place = Place::new();
        all_there(&place.template(1, "p1", "base"));
        let cluster = place.cluster(7, "p1", "k1").await;
        all_there(&cluster);
        all_there(&place.store.read(|v| v.nodegroups(cluster.id)).unwrap().remove(0).record);
    }

    #[test]
    fn nothing_sorts_first_and_prints_as_python_does() {
        let mut columns = [
            Column::text("b"),
            Column::Number(10),
            Column::text("a"),
            Column::Number(9),
            Column::Flag(true),
            Column::Null,
        ];
        columns.sort();
        let printed: Vec<String> = columns.map(|c| c.into_owned().printed().into_owned()).to_vec();
        assert_eq!(printed, ["None", "True", "9", "10", "a", "b"]);
    }
}
