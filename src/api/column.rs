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

/// Columns by name, and how each is read from a record.
pub type Table<R> = &'static [(&'static str, for<'r> fn(&'r R) -> Column<'r>)];

/// A record whose columns can be named.
pub trait Columns: 'static {
    /// Every column that lists can be sorted by and rules compare with.
    const COLUMNS: Table<Self>;

    /// The column of that name, if there is one.
    fn column(&self, name: &str) -> Option<Column<'_>> {
        Self::COLUMNS.iter().find(|(known, _)| *known == name).map(|(_, read)| read(self))
    }
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
    const COLUMNS: Table<Self> = &[
        ("id", |r| Column::Number(r.sequence.0)),
        ("uuid", |r| Column::shown(r.id)),
        ("name", |r| Column::text(&r.name)),
        ("project_id", |r| Column::text(&r.project_id)),
        ("user_id", |r| Column::text(&r.user_id)),
        ("cluster_template_id", |r| Column::shown(r.template_id)),
        ("keypair", |r| Column::maybe(r.keypair.as_deref())),
        ("docker_volume_size", |r| Column::count(r.docker_volume_size)),
        ("labels", |r| Column::json(&r.labels)),
        ("master_flavor_id", |r| Column::maybe(r.master_flavor_id.as_deref())),
        ("flavor_id", |r| Column::maybe(r.flavor_id.as_deref())),
        ("fixed_network", |r| Column::maybe(r.fixed_network.as_deref())),
        ("fixed_subnet", |r| Column::maybe(r.fixed_subnet.as_deref())),
        ("floating_ip_enabled", |r| Column::Flag(r.floating_ip_enabled)),
        ("master_lb_enabled", |r| Column::Flag(r.master_lb_enabled)),
        ("create_timeout", |r| Column::Number(r.create_timeout.into())),
        // It is a secret: whether there is one is all that lists are sorted by.
        ("discovery_url", |r| Column::maybe(r.discovery_url.as_ref().map(|_| "sealed"))),
        ("api_address", |r| Column::maybe(r.api_address.as_deref())),
        ("coe_version", |r| Column::maybe(r.coe_version.as_deref())),
        ("container_version", |r| Column::maybe(r.container_version.as_deref())),
        ("stack_id", |r| Column::maybe(r.stack_id.as_deref())),
        ("status", |r| Column::text(r.status.as_str())),
        ("status_reason", |r| Column::maybe(r.status_reason.as_deref())),
        ("health_status", |r| Column::maybe(r.health_status.map(|h| h.as_str()))),
        ("health_status_reason", |r| Column::json(&r.health_status_reason)),
        ("created_at", |r| Column::shown(r.created_at)),
        ("updated_at", |r| Column::moment(r.updated_at)),
    ];
}

impl Columns for ClusterTemplate {
    const COLUMNS: Table<Self> = &[
        ("id", |r| Column::Number(r.sequence.0)),
        ("uuid", |r| Column::shown(r.id)),
        ("name", |r| Column::text(&r.name)),
        ("coe", |r| Column::text(r.coe.as_str())),
        ("project_id", |r| Column::text(&r.project_id)),
        ("user_id", |r| Column::text(&r.user_id)),
        ("image_id", |r| Column::text(&r.image_id)),
        ("flavor_id", |r| Column::maybe(r.flavor_id.as_deref())),
        ("master_flavor_id", |r| Column::maybe(r.master_flavor_id.as_deref())),
        ("keypair_id", |r| Column::maybe(r.keypair_id.as_deref())),
        ("external_network_id", |r| Column::maybe(r.external_network_id.as_deref())),
        ("fixed_network", |r| Column::maybe(r.fixed_network.as_deref())),
        ("fixed_subnet", |r| Column::maybe(r.fixed_subnet.as_deref())),
        ("dns_nameserver", |r| Column::maybe(r.dns_nameserver.as_deref())),
        ("network_driver", |r| Column::maybe(r.network_driver.as_deref())),
        ("volume_driver", |r| Column::maybe(r.volume_driver.as_deref())),
        ("apiserver_port", |r| Column::count(r.apiserver_port.map(u32::from))),
        ("docker_volume_size", |r| Column::count(r.docker_volume_size)),
        ("docker_storage_driver", |r| Column::maybe(r.docker_storage_driver.as_deref())),
        ("cluster_distro", |r| Column::maybe(r.cluster_distro.as_deref())),
        ("http_proxy", |r| Column::maybe(r.http_proxy.as_deref())),
        ("https_proxy", |r| Column::maybe(r.https_proxy.as_deref())),
        ("no_proxy", |r| Column::maybe(r.no_proxy.as_deref())),
        ("insecure_registry", |r| Column::maybe(r.insecure_registry.as_deref())),
        ("registry_enabled", |r| Column::Flag(r.registry_enabled)),
        ("tls_disabled", |r| Column::Flag(r.tls_disabled)),
        ("public", |r| Column::Flag(r.public)),
        ("hidden", |r| Column::Flag(r.hidden)),
        ("master_lb_enabled", |r| Column::Flag(r.master_lb_enabled)),
        ("floating_ip_enabled", |r| Column::Flag(r.floating_ip_enabled)),
        ("labels", |r| Column::json(&r.labels)),
        ("server_type", |r| Column::text(r.server_type.as_str())),
        ("tags", |r| Column::maybe(r.tags.as_deref())),
        ("driver", |r| Column::maybe(r.driver.as_deref())),
        ("created_at", |r| Column::shown(r.created_at)),
        ("updated_at", |r| Column::moment(r.updated_at)),
    ];
}

impl Columns for NodeGroup {
    const COLUMNS: Table<Self> = &[
        ("id", |r| Column::Number(r.sequence.0)),
        ("uuid", |r| Column::shown(r.id)),
        ("name", |r| Column::text(&r.name)),
        ("cluster_id", |r| Column::shown(r.cluster_id)),
        ("project_id", |r| Column::text(&r.project_id)),
        ("docker_volume_size", |r| Column::count(r.docker_volume_size)),
        ("labels", |r| Column::json(&r.labels)),
        ("flavor_id", |r| Column::maybe(r.flavor_id.as_deref())),
        ("image_id", |r| Column::maybe(r.image_id.as_deref())),
        ("node_addresses", |r| Column::json(&r.node_addresses)),
        ("node_count", |r| Column::Number(r.node_count.into())),
        ("role", |r| Column::text(&r.role)),
        ("min_node_count", |r| Column::Number(r.min_node_count.into())),
        ("max_node_count", |r| Column::count(r.max_node_count)),
        ("is_default", |r| Column::Flag(r.is_default)),
        ("stack_id", |r| Column::maybe(r.stack_id.as_deref())),
        ("status", |r| Column::text(r.status.as_str())),
        ("status_reason", |r| Column::maybe(r.status_reason.as_deref())),
        ("version", |r| Column::maybe(r.version.as_deref())),
        ("created_at", |r| Column::shown(r.created_at)),
        ("updated_at", |r| Column::moment(r.updated_at)),
    ];
}

impl Columns for Quota {
    const COLUMNS: Table<Self> = &[
        ("id", |r| Column::Number(r.sequence.0)),
        ("project_id", |r| Column::text(&r.project_id)),
        ("resource", |_| Column::text(quota::CLUSTER)),
        ("hard_limit", |r| Column::Number(r.hard_limit.into())),
        ("created_at", |r| Column::shown(r.created_at)),
        ("updated_at", |r| Column::moment(r.updated_at)),
    ];
}

#[cfg(test)]
mod tests {
    use super::*;

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
