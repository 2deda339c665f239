//! The will: brings the cloud into line with what tenants were promised.

mod refusal;

use crate::base::secret::Secret;
use crate::driver::BundleFile;
use crate::model::ClusterId;
use crate::model::cluster::Cluster;
use crate::model::cluster_template::{ClusterTemplate, Coe, ServerType};
use crate::model::requester::Requester;
use crate::store::Stored;

pub use refusal::Refusal;

/// A tenant on whose behalf we ask OpenStack: their token, and who they are.
#[derive(Clone, Debug)]
pub struct Tenant<'r> {
    pub requester: &'r Requester,
    pub token: &'r Secret<String>,
    pub request_id: &'r str,
}

/// A cluster as its tenant asked for it, syntactically checked, inheritance applied.
#[derive(Clone, Debug)]
pub struct ClusterOrder {
    pub cluster: Cluster,
    pub node_count: u32,
    pub master_count: u32,
}

/// What the image of a template says.
#[derive(Clone, Debug)]
pub struct TemplateIngredients {
    pub cluster_distro: String,
    /// The driver that will build its clusters.
    pub driver: String,
}

/// Clones share one conductor.
#[derive(Clone)]
pub struct Conductor {}

impl Conductor {
    /// Looks up everything a template names, side by side, with the tenant's token:
    /// image (must have `os_distro`), flavors, external network (must be external), fixed
    /// network and subnet; resolves the driver; checks the network driver and root volume
    /// rule. Nothing is written.
    pub async fn check_template(
        &self,
        _tenant: &Tenant<'_>,
        _template: &ClusterTemplate,
    ) -> Result<TemplateIngredients, Refusal> {
        unimplemented!()
    }

    /// The driver that a template without an explicit or image-given driver would get.
    pub fn driver_for(
        &self,
        _requested: Option<&str>,
        _server_type: ServerType,
        _os_distro: &str,
        _coe: Coe,
    ) -> Result<String, Refusal> {
        unimplemented!()
    }

    /// The network driver of templates that name none, for this COE.
    pub fn default_network_driver(&self, _coe: Coe) -> Option<&str> {
        unimplemented!()
    }

    /// Checks everything that must hold, then makes the intention durable: cluster
    /// CREATE_IN_PROGRESS, two default groups, facts, operation. Returns when it is on disk.
    /// Quota is checked inside the same transaction. Refuses application credentials that
    /// cannot make trusts before any side effect.
    pub async fn create_cluster(
        &self,
        _tenant: &Tenant<'_>,
        _order: ClusterOrder,
        _template: &ClusterTemplate,
    ) -> Result<ClusterId, Refusal> {
        unimplemented!()
    }

    /// DELETE_IN_PROGRESS and a durable operation; overtakes whatever runs; idempotent.
    pub async fn delete_cluster(
        &self,
        _tenant: &Tenant<'_>,
        _cluster: &Stored<Cluster>,
    ) -> Result<(), Refusal> {
        unimplemented!()
    }

    /// Look at this cluster soon. Carries no news, so a lost or doubled call is harmless.
    pub fn poke(&self, _id: ClusterId) {
        unimplemented!()
    }

    /// Whether `instance` is a Nova server of this name in the cluster's project.
    pub async fn is_server_of(
        &self,
        _cluster: ClusterId,
        _name: &str,
        _instance: &str,
    ) -> Result<bool, Refusal> {
        unimplemented!()
    }

    /// What a booting node fetches; [`Refusal::Unavailable`] while addresses are not known yet.
    pub async fn node_files(
        &self,
        _cluster: ClusterId,
        _node: &str,
    ) -> Result<Vec<BundleFile>, Refusal> {
        unimplemented!()
    }

    /// The private addresses of the masters by index, asked of Heat until they are known.
    pub async fn master_addresses(&self, _cluster: ClusterId) -> Result<Vec<String>, Refusal> {
        unimplemented!()
    }
}
