//! Flavors, key pairs and servers: Nova's facts.

use std::collections::{BTreeMap, HashMap};

use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::base::clock::Timestamp;

use super::guest::swarm::Tokens;
use super::guest::{Disk, Identity};
use super::heat::services::Refused;
use super::refusal::Answer;

/// What all hosts together offer to one server; anything larger finds no place.
pub(super) const LARGEST: (u64, u64) = (64, 262_144);
/// Nova's limit for user data, counted in base64.
pub(super) const MOST_USER_DATA: usize = 65_535;

#[derive(Clone, Debug)]
pub(super) struct Flavor {
    pub id: String,
    pub name: String,
    pub vcpus: u64,
    /// MiB.
    pub ram: u64,
    /// GiB.
    pub disk: u64,
}

#[derive(Clone, Debug)]
pub(super) struct Keypair {
    pub user_id: String,
    pub name: String,
    pub public_key: String,
    pub fingerprint: String,
}

#[derive(Clone, Debug)]
pub(super) struct ServerGroup {
    pub id: String,
    pub name: String,
    pub project_id: String,
    pub policy: String,
}

#[derive(Clone, Debug)]
pub(super) struct Server {
    pub id: String,
    pub name: String,
    pub project_id: String,
    pub user_id: String,
    /// Empty when the server boots from a volume.
    pub image_id: String,
    pub flavor: Flavor,
    pub keypair: Option<String>,
    /// As the guest reads it, not base64.
    pub user_data: String,
    pub config_drive: bool,
    pub metadata: Value,
    pub group: Option<String>,
    pub created_at: Timestamp,
    /// When building, or the last rebuilding, ends.
    pub built_at: Timestamp,
    pub rebuilt: bool,
    /// Why building fails, known beforehand.
    pub fault: Option<String>,
    pub resize: Option<Resize>,
    /// The last of them goes on or has ended: as `os-instance-actions` tells.
    pub resizes: Vec<ResizeAction>,
    /// Heat waits for a flavor that Nova has given up.
    pub unresized: bool,
    /// What the guest has written since it was ready; empty after building and rebuilding.
    pub disk: Option<Disk>,
    /// The guest's key, and its certificate once it has one; empty like the disk.
    pub identity: Option<Identity>,
    /// Whether its scripts know no first contact by key.
    pub is_of_before: bool,
    /// When a deletion that has begun ends.
    pub gone_at: Option<Timestamp>,
    /// The authority of the Kubernetes cluster in which the guest is a ready node.
    pub joined: Option<String>,
    /// The version of the kubelet that last joined.
    pub kubelet: Option<String>,
    /// Cancelled when the server is deleted: the guest inside stops.
    pub power: CancellationToken,
}

/// A server on its way to another flavor.
#[derive(Clone, Debug)]
pub(super) struct Resize {
    pub to: Flavor,
    pub ends_at: Timestamp,
    /// Why it will fail and the server go back, known beforehand.
    pub fault: Option<String>,
}

#[derive(Clone, Debug)]
pub(super) struct ResizeAction {
    pub request_id: String,
    pub began: Timestamp,
    /// Why it has failed.
    pub fault: Option<String>,
}

impl Server {
    /// Ends a resize that is due: confirmed at once, as Heat does, or taken back.
    pub fn pass(&mut self, now: Timestamp) {
        let Some(resize) = self.resize.take_if(|resize| resize.ends_at <= now) else { return };
        match resize.fault {
            None => self.flavor = resize.to,
            Some(fault) => {
                self.unresized = true;
                if let Some(action) = self.resizes.last_mut() {
                    action.fault = Some(fault);
                }
            }
        }
    }

    /// While it is resized Nova counts the larger one.
    fn most(&self, of: fn(&Flavor) -> u64) -> u64 {
        of(&self.flavor).max(self.resize.as_ref().map_or(0, |resize| of(&resize.to)))
    }

    pub fn status(&self, now: Timestamp) -> &'static str {
        if self.resize.is_some() {
            return "RESIZE";
        }
        match &self.fault {
            _ if now < self.built_at && self.rebuilt => "REBUILD",
            _ if now < self.built_at => "BUILD",
            Some(_) => "ERROR",
            None => "ACTIVE",
        }
    }
}

/// Everything Nova knows.
#[derive(Debug, Default)]
pub(super) struct Compute {
    pub flavors: Vec<Flavor>,
    pub keypairs: Vec<Keypair>,
    pub servers: BTreeMap<String, Server>,
    /// What nodes join the swarms with, by the cluster's id.
    pub swarms: BTreeMap<String, Tokens>,
    pub groups: BTreeMap<String, ServerGroup>,
    /// Limits that differ from the defaults, by project and resource.
    pub quotas: HashMap<(String, String), u64>,
    /// Whether the hosts lack what makes config drives.
    pub driveless: bool,
    /// Whether nova.conf names magnumd in `vendordata_dynamic_targets`.
    pub asks_for_vendor_data: bool,
    pub nova_token: Option<String>,
    /// Through which address of this machine every guest is seen, whatever Neutron says.
    pub behind: Option<std::net::Ipv4Addr>,
}

impl Compute {
    pub fn flavor(&self, id_or_name: &str) -> Option<&Flavor> {
        let by_id = self.flavors.iter().find(|f| f.id == id_or_name);
        by_id.or_else(|| self.flavors.iter().find(|f| f.name == id_or_name))
    }

    pub fn keypair(&self, user: &str, name: &str) -> Option<&Keypair> {
        self.keypairs.iter().find(|k| k.user_id == user && k.name == name)
    }

    pub fn limit(&self, project: &str, resource: &str) -> u64 {
        let usual = match resource {
            "instances" => 500,
            "cores" => 2_000,
            "server_group_members" => 100,
            _ => 4_194_304,
        };
        let key = (project.to_owned(), resource.to_owned());
        self.quotas.get(&key).copied().unwrap_or(usual)
    }

    /// Instances, cores and MiB in use by a project.
    pub fn used(&self, project: &str) -> [(&'static str, u64); 3] {
        let mine = || self.servers.values().filter(|s| s.project_id == project);
        [
            ("instances", mine().count() as u64),
            ("cores", mine().map(|s| s.most(|f| f.vcpus)).sum()),
            ("ram", mine().map(|s| s.most(|f| f.ram)).sum()),
        ]
    }

    /// Refuses what would exceed the project's limits.
    pub fn check_quota(&self, project: &str, flavor: &Flavor) -> Answer<()> {
        let wanted = [1, flavor.vcpus, flavor.ram];
        for ((resource, used), wanted) in self.used(project).into_iter().zip(wanted) {
            let limit = self.limit(project, resource);
            if used + wanted > limit {
                return Err(Refused::forbidden(format!(
                    "Quota exceeded for {resource}: Requested {wanted}, but already used {used} \
                     of {limit} {resource}"
                )));
            }
        }
        Ok(())
    }

    /// Refuses what a resize would exceed the limits by: the difference counts.
    pub fn check_resize(&self, server: &Server, to: &Flavor) -> Answer<()> {
        let more = [
            0,
            to.vcpus.saturating_sub(server.flavor.vcpus),
            to.ram.saturating_sub(server.flavor.ram),
        ];
        for ((resource, used), more) in self.used(&server.project_id).into_iter().zip(more) {
            let limit = self.limit(&server.project_id, resource);
            if more > 0 && used + more > limit {
                return Err(Refused::forbidden(format!(
                    "Quota exceeded for {resource}: Requested {more}, but already used {used} of \
                     {limit} {resource}"
                )));
            }
        }
        Ok(())
    }

    /// Refuses one server more in a group that is full.
    pub fn check_group(&self, project: &str, group: Option<&str>) -> Answer<()> {
        let Some(group) = group else { return Ok(()) };
        let members = self.servers.values().filter(|s| s.group.as_deref() == Some(group)).count();
        match (members as u64) < self.limit(project, "server_group_members") {
            true => Ok(()),
            false => Err(Refused::forbidden("Quota exceeded, too many servers in group")),
        }
    }
}
