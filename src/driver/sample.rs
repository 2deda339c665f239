//! Samples: contexts as people write them, to look at a driver without a cloud.

use std::collections::BTreeMap;

use serde::Deserialize;
use uuid::Uuid;

use super::craft::Driver;
use super::expression::Scalar;
use super::plan::{
    ClusterPlan, DutyPlan, Enrolment, NodeCertificates, NodeFlavors, NodeImages, NodePlan,
    Settings, Trust,
};
use super::written::Wrong;
use crate::base::secret::Secret;
use crate::model::cluster::Cluster;
use crate::model::cluster_template::{ClusterTemplate, Coe, ServerType};
use crate::model::duty::DutyKind;
use crate::model::facts::{CloudFacts, ClusterNetwork};
use crate::model::labels::Labels;
use crate::model::nodegroup::{self, DEFAULT_WORKER, NodeGroup, Taint};
use crate::model::{ClusterId, NodeGroupId, Sequence, TemplateId, name};

/// A context and what is expected of it; `templates/README.md` explains the words.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Sample {
    pub about: String,
    pub masters: u32,
    pub workers: u32,
    pub labels: BTreeMap<String, Scalar>,
    pub cluster: ClusterPart,
    pub template: TemplatePart,
    pub facts: FactsPart,
    pub config: ConfigPart,
    pub group: Option<GroupPart>,
    pub expect: Expect,
}

impl Default for Sample {
    fn default() -> Self {
        Self {
            about: String::new(),
            masters: 1,
            workers: 1,
            labels: BTreeMap::new(),
            cluster: ClusterPart::default(),
            template: TemplatePart::default(),
            facts: FactsPart::default(),
            config: ConfigPart::default(),
            group: None,
            expect: Expect::default(),
        }
    }
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ClusterPart {
    pub name: String,
    pub keypair: Option<String>,
    pub create_timeout: u32,
    pub master_lb_enabled: bool,
    pub floating_ip_enabled: bool,
    pub docker_volume_size: Option<u32>,
    pub fixed_network: Option<String>,
    pub fixed_subnet: Option<String>,
    pub discovery_url: Option<String>,
}

impl Default for ClusterPart {
    fn default() -> Self {
        Self {
            name: "k1".to_owned(),
            keypair: Some("default".to_owned()),
            create_timeout: 0,
            master_lb_enabled: false,
            floating_ip_enabled: false,
            docker_volume_size: None,
            fixed_network: None,
            fixed_subnet: None,
            discovery_url: None,
        }
    }
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TemplatePart {
    pub name: String,
    pub image_id: String,
    pub coe: Option<String>,
    pub server_type: Option<String>,
    pub network_driver: Option<String>,
    pub volume_driver: Option<String>,
    pub docker_storage_driver: Option<String>,
    pub dns_nameserver: Option<String>,
    pub http_proxy: Option<String>,
    pub https_proxy: Option<String>,
    pub no_proxy: Option<String>,
    pub insecure_registry: Option<String>,
    pub registry_enabled: bool,
    pub tls_disabled: bool,
    pub apiserver_port: Option<u16>,
}

impl Default for TemplatePart {
    fn default() -> Self {
        Self {
            name: "t1".to_owned(),
            image_id: "image".to_owned(),
            coe: None,
            server_type: None,
            network_driver: None,
            volume_driver: None,
            docker_storage_driver: None,
            dns_nameserver: Some("192.0.2.53".to_owned()),
            http_proxy: None,
            https_proxy: None,
            no_proxy: None,
            insecure_registry: None,
            registry_enabled: false,
            tls_disabled: false,
            apiserver_port: None,
        }
    }
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FactsPart {
    pub image_id: String,
    pub os_distro: Option<String>,
    pub kube_version: Option<String>,
    pub has_octavia: bool,
    pub has_cinder: bool,
    pub ssh_public_key: Option<String>,
    pub region: Option<String>,
    pub external_network_id: Option<String>,
    pub fixed_network_id: Option<String>,
    pub fixed_subnet_id: Option<String>,
    pub fixed_subnet_cidr: Option<String>,
    pub master_flavor: String,
    pub worker_flavor: String,
}

impl Default for FactsPart {
    fn default() -> Self {
        Self {
            image_id: "6b0a0b5e-0000-4000-8000-000000000001".to_owned(),
            os_distro: None,
            kube_version: Some("v1.31.4".to_owned()),
            has_octavia: true,
            has_cinder: true,
            ssh_public_key: Some("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIExample demo".to_owned()),
            region: Some("RegionOne".to_owned()),
            external_network_id: Some("6b0a0b5e-0000-4000-8000-000000000002".to_owned()),
            fixed_network_id: None,
            fixed_subnet_id: None,
            fixed_subnet_cidr: None,
            master_flavor: "flavor-master".to_owned(),
            worker_flavor: "flavor-worker".to_owned(),
        }
    }
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ConfigPart {
    pub nested: bool,
    pub auth_url: String,
    pub magnum_url: String,
    pub bootstrap_url: String,
    pub bootstrap_ca: String,
    pub discovery_base: String,
    pub openstack_ca: String,
    pub default_network_driver: Option<String>,
}

impl Default for ConfigPart {
    fn default() -> Self {
        Self {
            nested: false,
            auth_url: "http://203.0.113.2:5000/v3".to_owned(),
            magnum_url: "http://203.0.113.2:9511/v1".to_owned(),
            bootstrap_url: "https://203.0.113.2:9513".to_owned(),
            bootstrap_ca: "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"
                .to_owned(),
            discovery_base: "http://203.0.113.2:9512".to_owned(),
            openstack_ca: String::new(),
            default_network_driver: None,
        }
    }
}

/// A further group, whose stack is rendered instead of the cluster's own.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GroupPart {
    pub name: String,
    #[serde(default)]
    pub role: Option<String>,
    #[serde(default)]
    pub node_labels: BTreeMap<String, String>,
    #[serde(default)]
    pub taints: Vec<Taint>,
}

/// What must be true of what is rendered.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Expect {
    pub resources: Option<u64>,
    pub refused: Option<String>,
    pub has: BTreeMap<String, Vec<String>>,
    pub has_not: BTreeMap<String, Vec<String>>,
}

impl Sample {
    pub fn parse(text: &str) -> Result<Self, Wrong> {
        serde_saphyr::from_str(text).map_err(|e| {
            let line = e.location().and_then(|at| u32::try_from(at.line()).ok());
            (line, e.without_snippet().to_string())
        })
    }

    /// The plan of a cluster like this, as the conductor would hand it over.
    pub fn plan(&self, driver: &Driver) -> ClusterPlan {
        let provided = driver.manifest().provides.first();
        let coe = self.template.coe.as_deref().and_then(Coe::parse);
        let coe = coe.or(provided.map(|p| p.coe)).unwrap_or(Coe::Kubernetes);
        let server_type = self.template.server_type.as_deref().and_then(ServerType::parse);
        let os = driver.manifest().distros().first().map(|os| (*os).to_owned());
        let id = ClusterId::new(Uuid::from_u128(31));
        let cluster = self.cluster(id, driver);
        let groups = self.groups(&cluster);
        let template = self.template(
            coe,
            server_type.or(provided.map(|p| p.server_type)).unwrap_or(ServerType::Vm),
            &cluster,
        );
        let distro = self.facts.os_distro.clone().or(os).unwrap_or_default();
        ClusterPlan {
            facts: self.facts(id, distro),
            settings: self.settings(driver),
            enrolment: Enrolment {
                masters: (0..self.masters.min(64))
                    .map(|i| Secret::new(format!("token-master-{i}")))
                    .collect(),
                workers: groups
                    .iter()
                    .filter(|g| !g.is_master())
                    .map(|g| (g.name.clone(), Secret::new("token-worker".to_owned())))
                    .collect(),
            },
            foundation: self.group.as_ref().map(|_| ClusterNetwork {
                network: "6b0a0b5e-0000-4000-8000-00000000000a".to_owned(),
                subnet: Some("6b0a0b5e-0000-4000-8000-00000000000b".to_owned()),
                security_group: "6b0a0b5e-0000-4000-8000-00000000000c".to_owned(),
            }),
            revision: String::new(),
            removals: Vec::new(),
            images: NodeImages::default(),
            flavors: NodeFlavors::default(),
            trust: driver.wants_trust().then(|| Trust {
                trustee_user_id: "0123456789abcdef0123456789abcdef".to_owned(),
                trustee_username: name::trustee_name(id, &cluster.project_id),
                trustee_password: Secret::new("trustee-TOP-SECRET".to_owned()),
                trust_id: "fedcba9876543210fedcba9876543210".to_owned(),
            }),
            inlined: None,
            discovery_url: self.cluster.discovery_url.clone(),
            cluster,
            template,
            groups,
        }
    }

    /// One of the plan's nodes, with certificates that are recognisable and not real.
    pub fn node(plan: &ClusterPlan, master_index: Option<u32>) -> NodePlan {
        let (masters, _) = nodegroup::counts(&plan.groups);
        // A further group's nodes know the cluster's masters too.
        let masters = masters.max(u32::from(plan.foundation.is_some()));
        let stack = plan.stack_name();
        let key = |name: &str| master_index.map(|_| Secret::new(format!("{name}-TOP-SECRET")));
        NodePlan {
            name: match master_index {
                Some(index) => name::master_node(&stack, index),
                None => format!("{}0", name::worker_node_prefix(&stack)),
            },
            master_index,
            master_addresses: (0..masters).map(|i| format!("10.0.0.{}", 10 + i)).collect(),
            api_public: match plan.cluster.floating_ip_enabled {
                true => (0..masters).map(|i| format!("203.0.113.{}", 10 + i)).collect(),
                false => Vec::new(),
            },
            rejoins: false,
            api_endpoint: match plan.cluster.master_lb_enabled {
                true => "https://10.0.0.5:6443".to_owned(),
                false => "https://10.0.0.10:6443".to_owned(),
            },
            certificates: NodeCertificates {
                ca: "ca PEM\n".to_owned(),
                etcd_ca: "etcd-ca PEM".to_owned(),
                front_proxy_ca: "front-proxy-ca PEM".to_owned(),
                service_account_public: "sa PEM".to_owned(),
                ca_key: key("ca"),
                etcd_ca_key: key("etcd-ca"),
                front_proxy_ca_key: key("front-proxy-ca"),
                service_account_key: key("sa"),
                bootstrap: master_index.is_none().then(|| {
                    ("bootstrap PEM".to_owned(), Secret::new("bootstrap-TOP-SECRET".to_owned()))
                }),
            },
        }
    }

    pub fn duty(plan: &ClusterPlan, kind: DutyKind) -> DutyPlan {
        let target = format!("{}0", name::worker_node_prefix(&plan.stack_name()));
        let targets = if kind == DutyKind::Drain { vec![target] } else { Vec::new() };
        DutyPlan { number: 7, kind, targets }
    }

    fn groups(&self, cluster: &Cluster) -> Vec<NodeGroup> {
        let identified =
            |group: NodeGroup| group.identified(NodeGroupId::new(Uuid::from_u128(1)), Sequence(1));
        let of = |role, count| {
            identified(NodeGroup::default_of(cluster, &self.template.image_id, role, count))
        };
        let Some(further) = &self.group else {
            return vec![of(nodegroup::MASTER, self.masters), of(nodegroup::WORKER, self.workers)];
        };
        let mut group = of(nodegroup::WORKER, self.workers);
        group.name.clone_from(&further.name);
        group.role = further.role.clone().unwrap_or_else(|| nodegroup::WORKER.to_owned());
        group.node_labels.clone_from(&further.node_labels);
        group.node_taints.clone_from(&further.taints);
        group.is_default = further.name == DEFAULT_WORKER;
        vec![group]
    }

    fn cluster(&self, id: ClusterId, driver: &Driver) -> Cluster {
        let part = &self.cluster;
        let labels = self.labels.iter().map(|(name, Scalar(value))| (name.clone(), value.clone()));
        Cluster {
            sequence: Sequence(1),
            project_id: "project-1".to_owned(),
            user_id: "user-1".to_owned(),
            keypair: part.keypair.clone(),
            docker_volume_size: part.docker_volume_size,
            labels: Labels::from_iter(labels),
            fixed_network: part.fixed_network.clone(),
            fixed_subnet: part.fixed_subnet.clone(),
            floating_ip_enabled: part.floating_ip_enabled,
            master_lb_enabled: part.master_lb_enabled,
            create_timeout: part.create_timeout,
            driver: driver.name().to_owned(),
            ..Cluster::plain(id, &part.name, TemplateId::new(Uuid::from_u128(2)))
        }
    }

    fn template(&self, coe: Coe, server_type: ServerType, cluster: &Cluster) -> ClusterTemplate {
        let part = &self.template;
        ClusterTemplate {
            sequence: Sequence(1),
            project_id: cluster.project_id.clone(),
            user_id: cluster.user_id.clone(),
            external_network_id: Some("public".to_owned()),
            dns_nameserver: part.dns_nameserver.clone(),
            network_driver: part.network_driver.clone(),
            volume_driver: part.volume_driver.clone(),
            apiserver_port: part.apiserver_port,
            docker_storage_driver: part.docker_storage_driver.clone(),
            http_proxy: part.http_proxy.clone(),
            https_proxy: part.https_proxy.clone(),
            no_proxy: part.no_proxy.clone(),
            insecure_registry: part.insecure_registry.clone(),
            registry_enabled: part.registry_enabled,
            tls_disabled: part.tls_disabled,
            server_type,
            ..ClusterTemplate::plain(cluster.template_id, &part.name, coe, &part.image_id)
        }
    }

    fn facts(&self, cluster_id: ClusterId, os_distro: String) -> CloudFacts {
        let part = self.facts.clone();
        // Whoever names a network has one; its id is of no interest.
        let named = self.cluster.fixed_network.as_ref();
        let id = |n: u32| named.map(|_| format!("6b0a0b5e-0000-4000-8000-00000000000{n}"));
        CloudFacts {
            cluster_id,
            image_id: part.image_id,
            os_distro,
            kube_version: part.kube_version,
            master_flavor: part.master_flavor,
            worker_flavor: part.worker_flavor,
            external_network_id: part.external_network_id,
            fixed_network_id: part.fixed_network_id.or_else(|| id(3)),
            fixed_subnet_id: part.fixed_subnet_id.or_else(|| id(4)),
            fixed_subnet_cidr: part
                .fixed_subnet_cidr
                .or_else(|| named.map(|_| "192.168.7.0/24".to_owned())),
            ssh_public_key: part.ssh_public_key,
            region: part.region,
            has_octavia: part.has_octavia,
            has_cinder: part.has_cinder,
            master_addresses: Vec::new(),
            api_internal: None,
            api_public: Vec::new(),
            foundation: None,
        }
    }

    fn settings(&self, driver: &Driver) -> Settings {
        let part = self.config.clone();
        let first = driver.network_drivers().first().cloned().unwrap_or_default();
        Settings {
            auth_url: part.auth_url,
            region: self.facts.region.clone(),
            bootstrap_url: part.bootstrap_url,
            bootstrap_ca: part.bootstrap_ca,
            magnum_url: part.magnum_url,
            discovery_base: part.discovery_base,
            openstack_ca: part.openstack_ca,
            default_network_driver: part.default_network_driver.unwrap_or(first),
            create_timeout: if part.nested { 240 } else { 60 },
            nested: part.nested,
        }
    }
}

/// Any value as a sample would spell it.
pub fn labels<'l>(pairs: impl IntoIterator<Item = (&'l str, &'l str)>) -> BTreeMap<String, Scalar> {
    pairs.into_iter().map(|(k, v)| (k.to_owned(), Scalar(v.to_owned()))).collect()
}
