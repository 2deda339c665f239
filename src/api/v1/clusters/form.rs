//! What a tenant asks for in a cluster: from fields and a template to a [`ClusterOrder`].

use super::super::super::coerce::{Fields, SHORT_TEXT, check_size};
use super::super::super::error::{ApiError, Outcome};
use super::super::clustertemplates::check_storage;
use crate::base::clock::Timestamp;
use crate::base::secret::Sealer;
use crate::conductor::ClusterOrder;
use crate::model::cluster::Cluster;
use crate::model::cluster_template::ClusterTemplate;
use crate::model::labels::Labels;
use crate::model::{ClusterId, Sequence, name};

/// Every attribute that may stand in a request.
pub const KNOWN: [&str; 16] = [
    "name",
    "cluster_template_id",
    "keypair",
    "node_count",
    "master_count",
    "docker_volume_size",
    "labels",
    "merge_labels",
    "master_flavor_id",
    "flavor_id",
    "fixed_network",
    "fixed_subnet",
    "create_timeout",
    "discovery_url",
    "floating_ip_enabled",
    "master_lb_enabled",
];

/// What a cluster knows better: taken from nobody, for it would come to nothing.
pub const READ_ONLY: [&str; 21] = [
    "uuid",
    "status",
    "status_reason",
    "health_status",
    "health_status_reason",
    "faults",
    "labels_overridden",
    "labels_added",
    "labels_skipped",
    "stack_id",
    "cluster_id",
    "api_address",
    "coe_version",
    "container_version",
    "project_id",
    "user_id",
    "node_addresses",
    "master_addresses",
    "links",
    "created_at",
    "updated_at",
];

/// The fields as they were written, before anything is inherited.
#[derive(Clone, Debug)]
pub struct CreateRequest {
    pub template: String,
    name: Option<String>,
    keypair: Option<String>,
    node_count: u32,
    master_count: u32,
    docker_volume_size: Option<u32>,
    labels: Option<Labels>,
    merge_labels: bool,
    master_flavor_id: Option<String>,
    flavor_id: Option<String>,
    fixed_network: Option<String>,
    fixed_subnet: Option<String>,
    create_timeout: u32,
    discovery_url: Option<String>,
    floating_ip_enabled: Option<bool>,
    master_lb_enabled: Option<bool>,
}

/// What is not in the request.
#[derive(Clone, Debug)]
pub struct Origin {
    pub id: ClusterId,
    pub sequence: Sequence,
    pub project_id: String,
    pub user_id: String,
    /// The name of a cluster that is given none.
    pub fallback_name: String,
    pub created_at: Timestamp,
}

/// More nodes than any cloud gives one cluster.
const MOST_NODES: u32 = 100_000;
/// Minutes of a year.
const LONGEST: u32 = 525_600;

impl CreateRequest {
    pub fn read(mut fields: Fields) -> Outcome<Self> {
        let f = &mut fields;
        let template = f.required_text("cluster_template_id")?;
        // One library sends an empty name where none was given.
        let name = f.text("name", 0..=242)?.filter(|name| !name.is_empty());
        if let Some(odd) = name.as_ref().filter(|name| !name::is_cluster_name(name)) {
            let why = "Value should match the pattern ^[a-zA-Z][a-zA-Z0-9_.-]*$";
            return Err(ApiError::field("name", odd, why));
        }
        let wish = Self {
            template,
            name,
            keypair: f.text("keypair", SHORT_TEXT)?,
            node_count: f.whole("node_count", 0..=MOST_NODES)?.unwrap_or(1),
            master_count: f.whole("master_count", 1..=MOST_NODES)?.unwrap_or(1),
            docker_volume_size: f.whole("docker_volume_size", 1..=i32::MAX as u32)?,
            labels: f.labels("labels")?,
            merge_labels: f.flag("merge_labels")?.unwrap_or(false),
            master_flavor_id: f.text("master_flavor_id", SHORT_TEXT)?,
            flavor_id: f.text("flavor_id", SHORT_TEXT)?,
            fixed_network: f.text("fixed_network", SHORT_TEXT)?,
            fixed_subnet: f.text("fixed_subnet", SHORT_TEXT)?,
            create_timeout: f.whole("create_timeout", 0..=LONGEST)?.unwrap_or(60),
            discovery_url: f.text("discovery_url", 0..=2048)?.filter(|url| !url.is_empty()),
            floating_ip_enabled: f.flag("floating_ip_enabled")?,
            master_lb_enabled: f.flag("master_lb_enabled")?,
        };
        match &wish.discovery_url {
            Some(url) if !is_url(url) => {
                let why = "Value should be an http or https URL.";
                Err(ApiError::field("discovery_url", url, why))
            }
            _ => Ok(wish),
        }
    }

    pub fn wants_no_workers(&self) -> bool {
        self.node_count == 0
    }

    /// What the cluster will be, with all that it inherits.
    pub fn order(
        self,
        template: &ClusterTemplate,
        origin: Origin,
        sealer: &Sealer,
    ) -> Outcome<ClusterOrder> {
        let size = self.docker_volume_size.or(template.docker_volume_size);
        check_storage(template.docker_storage_driver.as_deref(), size)?;
        let masters = self.master_count;
        if masters.is_multiple_of(2) {
            return Err(ApiError::invalid(format!(
                "master nodegroup size of {masters} is invalid, size cannot be an even number. Give \
                 an odd master_count."
            )));
        }
        let master_lb_enabled = self.master_lb_enabled.unwrap_or(template.master_lb_enabled);
        let labels = match self.labels.filter(|labels| !labels.is_empty()) {
            None => template.labels.clone(),
            Some(own) if self.merge_labels => own.over(&template.labels),
            Some(own) => own,
        };
        check_size("labels", &labels)?;
        let or = |own: Option<String>, theirs: &Option<String>| own.or_else(|| theirs.clone());
        let name = self.name.unwrap_or(origin.fallback_name);
        let mut cluster = Cluster {
            sequence: origin.sequence,
            project_id: origin.project_id,
            user_id: origin.user_id,
            keypair: or(self.keypair, &template.keypair_id),
            docker_volume_size: size,
            labels,
            master_flavor_id: or(self.master_flavor_id, &template.master_flavor_id),
            flavor_id: or(self.flavor_id, &template.flavor_id),
            fixed_network: or(self.fixed_network, &template.fixed_network),
            fixed_subnet: or(self.fixed_subnet, &template.fixed_subnet),
            floating_ip_enabled: self.floating_ip_enabled.unwrap_or(template.floating_ip_enabled),
            master_lb_enabled,
            create_timeout: self.create_timeout,
            created_at: origin.created_at,
            // The conductor knows the driver once it has seen the image.
            ..Cluster::plain(origin.id, &name, template.id)
        };
        if let Some(url) = &self.discovery_url {
            cluster.seal_discovery_url(sealer, url);
        }
        Ok(ClusterOrder { cluster, node_count: self.node_count, master_count: masters })
    }
}

/// Plain enough to be written into a node's configuration.
fn is_url(text: &str) -> bool {
    let rest = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
    rest.is_some_and(|rest| !rest.is_empty() && !rest.starts_with('/'))
        && text.bytes().all(|b| b.is_ascii_graphic() && !b"'\"\\`$<>{}|^".contains(&b))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use uuid::Uuid;

    use super::*;
    use crate::api::tests::place::Place;
    use crate::model::status::Status;

    fn order(template: &ClusterTemplate, body: Value) -> Result<ClusterOrder, String> {
        let mut body = body;
        body["cluster_template_id"] = json!("base");
        let origin = Origin {
            id: ClusterId::new(Uuid::nil()),
            sequence: Sequence(1),
            project_id: "p1".to_owned(),
            user_id: "demo".to_owned(),
            fallback_name: "alpha-1-cluster".to_owned(),
            created_at: Timestamp::EPOCH,
        };
        Fields::new("cluster", body, &KNOWN, &READ_ONLY)
            .and_then(CreateRequest::read)
            .and_then(|wish| wish.order(template, origin, &Sealer::new(&[1; 32])))
            .map_err(|e| e.detail().to_owned())
    }

    #[tokio::test]
    async fn a_cluster_inherits_what_it_does_not_say() {
        let mut template = Place::new().template(1, "p1", "base");
        template.fixed_network = Some("private".to_owned());
        template.docker_volume_size = Some(5);
        let made = order(&template, json!({ "labels": {}, "keypair": null })).unwrap();
        let cluster = made.cluster;
        assert_eq!((made.node_count, made.master_count, cluster.create_timeout), (1, 1, 60));
        assert_eq!(cluster.name, "alpha-1-cluster");
        assert_eq!(cluster.keypair.as_deref(), Some("default"));
        assert_eq!(cluster.fixed_network.as_deref(), Some("private"));
        assert_eq!(cluster.docker_volume_size, Some(5));
        assert_eq!(cluster.labels, template.labels);
        assert!(!cluster.floating_ip_enabled && !cluster.master_lb_enabled);
        let made = order(
            &template,
            json!({
                "name": "k1", "keypair": "own", "flavor_id": "m1.big", "master_count": "3",
                "master_lb_enabled": "True", "floating_ip_enabled": true, "node_count": 0,
                "create_timeout": 0, "discovery_url": "https://d.example/abc",
                "health_status": null, "status": null,
            }),
        )
        .unwrap();
        let cluster = made.cluster;
        assert_eq!((made.node_count, made.master_count, cluster.create_timeout), (0, 3, 0));
        assert_eq!(cluster.flavor_id.as_deref(), Some("m1.big"));
        assert_eq!(cluster.master_flavor_id.as_deref(), Some("m1.small"));
        let url = cluster.open_discovery_url(&Sealer::new(&[1; 32])).unwrap();
        assert_eq!(url.as_deref(), Some("https://d.example/abc"));
        assert!(cluster.floating_ip_enabled && cluster.master_lb_enabled);
        assert_eq!(cluster.status, Status::CreateInProgress);
        for (field, value) in [("health_status", "HEALTHY"), ("status", "CREATE_COMPLETE")] {
            let refused = order(&template, json!({ field: value })).unwrap_err();
            assert!(refused.contains("Cannot set read only field."), "we know better: {refused}");
        }
    }

    #[tokio::test]
    async fn labels_stand_alone_unless_merged() {
        let template = Place::new().template(1, "p1", "base");
        let own = json!({ "kube_tag": "v1.31.0", "n": 1 });
        let alone = order(&template, json!({ "labels": own })).unwrap().cluster.labels;
        assert_eq!(alone, Labels::from_iter([("kube_tag", "v1.31.0"), ("n", "1")]));
        let merged = order(&template, json!({ "labels": own, "merge_labels": true }));
        let expected = [("from", "template"), ("kube_tag", "v1.31.0"), ("n", "1")];
        assert_eq!(merged.unwrap().cluster.labels, Labels::from_iter(expected));
    }

    #[tokio::test]
    async fn labels_are_too_long_with_those_that_they_are_laid_over() {
        let mut template = Place::new().template(1, "p1", "base");
        template.labels = Labels::from_iter([("theirs", "x".repeat(40_000))]);
        let own = json!({ "own": "x".repeat(40_000) });
        assert!(order(&template, json!({ "labels": own })).is_ok());
        let refused = order(&template, json!({ "labels": own, "merge_labels": true }));
        let refused = refused.unwrap_err();
        assert!(refused.contains("attribute labels. Value: '2 entries, 80009 bytes'"), "{refused}");
        assert!(refused.contains("at most 65536 are kept"), "{refused}");
    }

    #[tokio::test]
    async fn a_templates_storage_driver_binds_its_clusters() {
        let mut template = Place::new().template(1, "p1", "base");
        template.docker_storage_driver = Some("devicemapper".to_owned());
        template.docker_volume_size = Some(3);
        assert!(order(&template, json!({})).is_ok());
        let refused = order(&template, json!({ "docker_volume_size": 2 })).unwrap_err();
        assert!(refused.starts_with("docker volume size 2 GB is not valid"), "{refused}");
    }
}
