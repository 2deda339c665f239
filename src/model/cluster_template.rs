//! ClusterTemplate: what clusters made from it inherit, and who may see it.

use serde::{Deserialize, Serialize};

use super::labels::Labels;
use super::status::spelled;
use super::{Sequence, TemplateId};
use crate::base::clock::Timestamp;
use std::fmt;

spelled! {
    /// The container orchestration engine.
    Coe {
        Kubernetes = "kubernetes",
        Swarm = "swarm",
        SwarmMode = "swarm-mode",
        Mesos = "mesos",
    }
}

spelled! {
    /// What nodes run on.
    ServerType {
        Vm = "vm",
        Bm = "bm",
    }
}

/// A tenant's recipe for clusters. Names of images, flavors and networks are kept as given.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClusterTemplate {
    pub id: TemplateId,
    pub sequence: Sequence,
    pub project_id: String,
    pub user_id: String,
    pub name: String,
    pub coe: Coe,
    pub image_id: String,
    /// The image's `os_distro`.
    pub cluster_distro: Option<String>,
    pub flavor_id: Option<String>,
    pub master_flavor_id: Option<String>,
    pub keypair_id: Option<String>,
    pub external_network_id: Option<String>,
    pub fixed_network: Option<String>,
    pub fixed_subnet: Option<String>,
    /// One address or a comma list.
    pub dns_nameserver: Option<String>,
    pub network_driver: Option<String>,
    pub volume_driver: Option<String>,
    pub apiserver_port: Option<u16>,
    /// GiB.
    pub docker_volume_size: Option<u32>,
    pub docker_storage_driver: Option<String>,
    pub http_proxy: Option<String>,
    pub https_proxy: Option<String>,
    pub no_proxy: Option<String>,
    pub insecure_registry: Option<String>,
    pub registry_enabled: bool,
    pub tls_disabled: bool,
    pub public: bool,
    pub hidden: bool,
    pub master_lb_enabled: bool,
    pub floating_ip_enabled: bool,
    pub labels: Labels,
    pub server_type: ServerType,
    /// Comma list.
    pub tags: Option<String>,
    /// The driver's name as requested; none means the default for image and COE.
    pub driver: Option<String>,
    pub created_at: Timestamp,
    pub updated_at: Option<Timestamp>,
}

impl ClusterTemplate {
    /// One that says what every template must and nothing else; nobody's, made at the epoch.
    pub fn plain(id: TemplateId, name: &str, coe: Coe, image: &str) -> Self {
        Self {
            id,
            sequence: Sequence(0),
            project_id: String::new(),
            user_id: String::new(),
            name: name.to_owned(),
            coe,
            image_id: image.to_owned(),
            cluster_distro: None,
            flavor_id: None,
            master_flavor_id: None,
            keypair_id: None,
            external_network_id: None,
            fixed_network: None,
            fixed_subnet: None,
            dns_nameserver: None,
            network_driver: None,
            volume_driver: None,
            apiserver_port: None,
            docker_volume_size: None,
            docker_storage_driver: None,
            http_proxy: None,
            https_proxy: None,
            no_proxy: None,
            insecure_registry: None,
            registry_enabled: false,
            tls_disabled: false,
            public: false,
            hidden: false,
            master_lb_enabled: false,
            floating_ip_enabled: false,
            labels: Labels::default(),
            server_type: ServerType::Vm,
            tags: None,
            driver: None,
            created_at: Timestamp::EPOCH,
            updated_at: None,
        }
    }

    /// Whether members of `project` may see it at all.
    pub fn is_visible_to(&self, project: &str) -> bool {
        self.project_id == project || (self.public && !self.hidden)
    }
}
