//! What the cloud said about a cluster's ingredients when the cluster was admitted.

use serde::{Deserialize, Serialize};

use super::ClusterId;

/// Names resolved once, so that later renderings build the same things.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CloudFacts {
    pub cluster_id: ClusterId,
    pub image_id: String,
    pub os_distro: String,
    /// The image's `kube_version` property, with its leading `v`.
    pub kube_version: Option<String>,
    pub master_flavor: String,
    pub worker_flavor: String,
    pub external_network_id: Option<String>,
    pub fixed_network_id: Option<String>,
    pub fixed_subnet_id: Option<String>,
    pub fixed_subnet_cidr: Option<String>,
    /// The public half of the tenant's key pair.
    pub ssh_public_key: Option<String>,
    pub region: Option<String>,
    pub has_octavia: bool,
    pub has_cinder: bool,
    /// The masters' addresses inside the cluster's network by index, once Heat knows them all.
    pub master_addresses: Vec<String>,
    /// Where nodes reach the API, once it is known: an address without scheme or port.
    pub api_internal: Option<String>,
    /// Every address of the API outside the cluster's network, known together with the above.
    pub api_public: Vec<String>,
    /// What stacks of further node groups stand on, once the first of them is asked for.
    pub foundation: Option<ClusterNetwork>,
}

impl CloudFacts {
    /// What is known of a cluster whose nodes are all of one flavor, in a cloud without options.
    pub fn plain(cluster: ClusterId, image: &str, os_distro: &str, flavor: &str) -> Self {
        Self {
            cluster_id: cluster,
            image_id: image.to_owned(),
            os_distro: os_distro.to_owned(),
            kube_version: None,
            master_flavor: flavor.to_owned(),
            worker_flavor: flavor.to_owned(),
            external_network_id: None,
            fixed_network_id: None,
            fixed_subnet_id: None,
            fixed_subnet_cidr: None,
            ssh_public_key: None,
            region: None,
            has_octavia: false,
            has_cinder: false,
            master_addresses: Vec::new(),
            api_internal: None,
            api_public: Vec::new(),
            foundation: None,
        }
    }
}

/// Things of the cluster's own stack that servers outside it need, by id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterNetwork {
    pub network: String,
    pub subnet: Option<String>,
    /// The security group of every node.
    pub security_group: String,
}
