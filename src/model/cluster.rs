//! Cluster: one Kubernetes cluster of one tenant.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::labels::Labels;
use super::status::{HealthStatus, Status};
use super::{ClusterId, Sequence, TemplateId};
use crate::base::clock::Timestamp;
use crate::base::secret::{CannotOpen, Sealed, Sealer};

/// A cluster as the tenant sees it, with the little that only we need.
///
/// Node counts and addresses live in its node groups.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cluster {
    pub id: ClusterId,
    pub sequence: Sequence,
    pub project_id: String,
    pub user_id: String,
    pub name: String,
    pub template_id: TemplateId,
    pub keypair: Option<String>,
    /// GiB.
    pub docker_volume_size: Option<u32>,
    pub labels: Labels,
    pub master_flavor_id: Option<String>,
    pub flavor_id: Option<String>,
    pub fixed_network: Option<String>,
    pub fixed_subnet: Option<String>,
    pub floating_ip_enabled: bool,
    pub master_lb_enabled: bool,
    /// Minutes; 0 means the configured default.
    pub create_timeout: u32,
    /// Sealed for [`Cluster::discovery_owner`]: the token in it opens the cluster's etcd to
    /// whoever registers first. It is kept whole, because the address that magnumd advertises may
    /// change and a server's user data must not.
    pub discovery_url: Option<Sealed>,
    pub api_address: Option<String>,
    pub coe_version: Option<String>,
    pub container_version: Option<String>,
    pub stack_id: Option<String>,
    pub status: Status,
    pub status_reason: Option<String>,
    pub health_status: Option<HealthStatus>,
    pub health_status_reason: BTreeMap<String, String>,
    /// The driver that builds it, by name.
    pub driver: String,
    /// The Keystone user that acts for this cluster, once made.
    pub trustee_user_id: Option<String>,
    pub created_at: Timestamp,
    pub updated_at: Option<Timestamp>,
}

impl Cluster {
    /// One that is about to be made and asks for nothing of its own; nobody's, by no driver, made
    /// at the epoch.
    pub fn plain(id: ClusterId, name: &str, template: TemplateId) -> Self {
        Self {
            id,
            sequence: Sequence(0),
            project_id: String::new(),
            user_id: String::new(),
            name: name.to_owned(),
            template_id: template,
            keypair: None,
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
            health_status_reason: BTreeMap::new(),
            driver: String::new(),
            trustee_user_id: None,
            created_at: Timestamp::EPOCH,
            updated_at: None,
        }
    }

    /// What a discovery URL is bound to when sealed.
    pub fn discovery_owner(id: ClusterId) -> String {
        format!("discovery/{id}")
    }

    pub fn seal_discovery_url(&mut self, sealer: &Sealer, url: &str) {
        self.discovery_url = Some(sealer.seal(&Self::discovery_owner(self.id), url.as_bytes()));
    }

    /// The URL by which the members of its etcd find each other, if it has one.
    pub fn open_discovery_url(&self, sealer: &Sealer) -> Result<Option<String>, CannotOpen> {
        let Some(sealed) = &self.discovery_url else { return Ok(None) };
        let url = sealer.open_text(&Self::discovery_owner(self.id), sealed)?;
        Ok(Some(url.expose().clone()))
    }

    /// The stack's name; see [`super::name::stack_name`].
    pub fn stack_name(&self) -> String {
        super::name::stack_name(&self.name, self.id)
    }
}
