//! The driver from outside: plans go in, bundles come out.

mod golden;
mod refusals;
mod schema;
mod scripts;

use super::*;
use crate::base::clock::Timestamp;
use crate::base::secret::Secret;
use crate::driver::plan::{Enrolment, NodeCertificates, NodeImages, Settings};
use crate::model::cluster::Cluster;
use crate::model::cluster_template::ClusterTemplate;
use crate::model::facts::CloudFacts;
use crate::model::nodegroup::{DEFAULT_MASTER, DEFAULT_WORKER, NodeGroup};
use crate::model::status::Status;
use crate::model::{ClusterId, NodeGroupId, Sequence, TemplateId, name};
use uuid::Uuid;

/// A cluster as the conductor would hand it over, on a cloud with every service.
pub fn plan(masters: u32, workers: u32) -> ClusterPlan {
    let id = ClusterId::new(Uuid::from_u128(31));
    let group = |name: &str, role: &str, node_count: u32| NodeGroup {
        id: NodeGroupId::new(Uuid::from_u128(1)),
        sequence: Sequence(1),
        cluster_id: id,
        project_id: "project-1".to_owned(),
        name: name.to_owned(),
        role: role.to_owned(),
        flavor_id: None,
        image_id: None,
        image: None,
        node_count,
        min_node_count: 0,
        max_node_count: None,
        docker_volume_size: None,
        labels: Labels::default(),
        is_default: true,
        stack_id: None,
        status: Status::CreateInProgress,
        status_reason: None,
        node_addresses: Vec::new(),
        version: None,
        node_labels: Default::default(),
        node_taints: Vec::new(),
        created_at: Timestamp::EPOCH,
        updated_at: None,
    };
    ClusterPlan {
        cluster: Cluster {
            id,
            sequence: Sequence(1),
            project_id: "project-1".to_owned(),
            user_id: "user-1".to_owned(),
            name: "k1".to_owned(),
            template_id: TemplateId::new(Uuid::from_u128(2)),
            keypair: Some("default".to_owned()),
            docker_volume_size: None,
            labels: Labels::default(),
            master_flavor_id: None,
            flavor_id: None,
            fixed_network: None,
            fixed_subnet: None,
            floating_ip_enabled: false,
            master_lb_enabled: false,
            create_timeout: 0,
            discovery_url: None,
            api_address: None,
            coe_version: None,
            container_version: None,
            stack_id: None,
            status: Status::CreateInProgress,
            status_reason: None,
            health_status: None,
            health_status_reason: Default::default(),
            driver: NAME.to_owned(),
            trustee_user_id: None,
            created_at: Timestamp::EPOCH,
            updated_at: None,
        },
        template: ClusterTemplate {
            id: TemplateId::new(Uuid::from_u128(2)),
            sequence: Sequence(1),
            project_id: "project-1".to_owned(),
            user_id: "user-1".to_owned(),
            name: "t1".to_owned(),
            coe: Coe::Kubernetes,
            image_id: "ubuntu".to_owned(),
            cluster_distro: Some("ubuntu".to_owned()),
            flavor_id: None,
            master_flavor_id: None,
            keypair_id: None,
            external_network_id: Some("public".to_owned()),
            fixed_network: None,
            fixed_subnet: None,
            dns_nameserver: Some("192.0.2.53".to_owned()),
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
        },
        groups: vec![
            group(DEFAULT_MASTER, nodegroup::MASTER, masters),
            group(DEFAULT_WORKER, nodegroup::WORKER, workers),
        ],
        facts: CloudFacts {
            cluster_id: id,
            image_id: "6b0a0b5e-0000-4000-8000-000000000001".to_owned(),
            os_distro: "ubuntu".to_owned(),
            kube_version: Some("v1.31.4".to_owned()),
            master_flavor: "flavor-master".to_owned(),
            worker_flavor: "flavor-worker".to_owned(),
            external_network_id: Some("6b0a0b5e-0000-4000-8000-000000000002".to_owned()),
            fixed_network_id: None,
            fixed_subnet_id: None,
            fixed_subnet_cidr: None,
            ssh_public_key: Some("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIExample demo".to_owned()),
            region: Some("RegionOne".to_owned()),
            has_octavia: true,
            has_cinder: true,
            master_addresses: Vec::new(),
            api_internal: None,
            api_public: Vec::new(),
            foundation: None,
        },
        settings: Settings {
            auth_url: "http://203.0.113.2:5000/v3".to_owned(),
            region: Some("RegionOne".to_owned()),
            bootstrap_url: "https://203.0.113.2:9513".to_owned(),
            bootstrap_ca: "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"
                .to_owned(),
            default_network_driver: "flannel".to_owned(),
            create_timeout: 60,
            nested: false,
        },
        enrolment: Enrolment {
            masters: (0..masters).map(|i| Secret::new(format!("token-master-{i}"))).collect(),
            workers: vec![(DEFAULT_WORKER.to_owned(), Secret::new("token-worker".to_owned()))],
        },
        foundation: None,
        revision: String::new(),
        removals: Vec::new(),
        images: NodeImages::default(),
    }
}

/// The certificates of a cluster: recognisable, not real.
pub fn node(plan: &ClusterPlan, master_index: Option<u32>) -> NodePlan {
    let (masters, _) = counts(plan);
    let stack = plan.cluster.stack_name();
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
        },
    }
}

fn driver() -> KubeadmV1 {
    KubeadmV1::new().unwrap()
}

fn labelled(masters: u32, workers: u32, labels: &[(&str, &str)]) -> ClusterPlan {
    let mut plan = plan(masters, workers);
    plan.cluster.labels = Labels::from_iter(labels.iter().copied());
    plan
}

/// Load balancer, floating IPs, every volume, a boot volume and server groups.
fn everything() -> ClusterPlan {
    let mut plan = labelled(
        3,
        2,
        &[
            ("etcd_volume_size", "5"),
            ("etcd_volume_type", "fast"),
            ("boot_volume_size", "20"),
            ("availability_zone", "nova"),
            ("nodes_affinity_policy", "soft-anti-affinity"),
            ("master_lb_allowed_cidrs", "198.51.100.0/24"),
            ("octavia_provider", "amphora"),
            ("container_infra_prefix", "registry.example.org/magnum/"),
            ("kube_tag", "v1.30.2"),
        ],
    );
    plan.facts.kube_version = None;
    plan.cluster.floating_ip_enabled = true;
    plan.cluster.master_lb_enabled = true;
    plan.cluster.docker_volume_size = Some(10);
    plan.template.http_proxy = Some("http://proxy.example.org:3128".to_owned());
    plan.template.insecure_registry = Some("192.0.2.7:5000".to_owned());
    plan
}

/// Floating IPs everywhere, so that workers are templates of their own; nothing else.
fn public() -> ClusterPlan {
    let mut plan = plan(1, 2);
    plan.cluster.floating_ip_enabled = true;
    plan
}

/// On a network that is there already and may belong to somebody else.
fn existing() -> ClusterPlan {
    let mut plan = plan(1, 1);
    plan.cluster.fixed_network = Some("private".to_owned());
    plan.facts.fixed_network_id = Some("6b0a0b5e-0000-4000-8000-000000000003".to_owned());
    plan.facts.fixed_subnet_id = Some("6b0a0b5e-0000-4000-8000-000000000004".to_owned());
    plan.facts.fixed_subnet_cidr = Some("192.168.7.0/24".to_owned());
    plan
}

/// No image but kubeadm's own, an existing network, discovery instead of a member list.
fn nested() -> ClusterPlan {
    let mut plan = labelled(3, 0, &[("etcd_bootstrap", "discovery"), ("nodeport_open", "false")]);
    plan.settings.nested = true;
    plan.facts.kube_version = None;
    plan.template.network_driver = Some("bridge".to_owned());
    plan.cluster.discovery_url = Some("http://203.0.113.2:9512/0123456789abcdef".to_owned());
    plan.cluster.fixed_network = Some("private".to_owned());
    plan.facts.fixed_network_id = Some("6b0a0b5e-0000-4000-8000-000000000003".to_owned());
    plan.facts.fixed_subnet_id = Some("6b0a0b5e-0000-4000-8000-000000000004".to_owned());
    plan.facts.fixed_subnet_cidr = Some("192.168.7.0/24".to_owned());
    plan
}
