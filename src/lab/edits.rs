//! What a test takes away from the cloud or changes in it, as a careless administrator would.

use std::net::Ipv4Addr;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::LabCloud;
use super::guest::Identity as Own;
use super::guest::line::outside;
use super::identity::{Credential, Grant, Identity, Scope, User};

/// What a server has not any more when it starts again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lost {
    /// It was cut off before that was written.
    Certificate,
    Key,
    /// It never had a key, nor knows how to get one.
    Knowledge,
}

impl LabCloud {
    /// How much Keystone's clock is ahead of ours.
    pub fn set_skew(&self, ahead: Duration) {
        self.world.lock().skew = ahead;
    }

    /// Whether Nova asks for vendor data from now on.
    pub fn give_vendor_data(&self, gives: bool) {
        self.world.lock().compute.asks_for_vendor_data = gives;
    }

    /// Puts a NAT that Neutron does not know between all guests and the outside; None takes it
    /// away again.
    pub fn put_behind(&self, nat: Option<Ipv4Addr>) {
        self.world.lock().compute.behind = nat;
    }

    /// From which address a server is seen outside.
    pub fn seen_from(&self, server: &str) -> Option<Ipv4Addr> {
        outside(&self.world.lock(), server)
    }

    /// Switches all servers of this name off and on. What they have lost of who they are, and
    /// whether their scripts are of a time before nodes had keys, is the test's to say.
    pub fn restart(&self, server: &str, lost: Lost) {
        let mut state = self.world.lock();
        let named = state.compute.servers.values_mut().filter(|s| s.name.contains(server));
        for server in named {
            server.power.cancel();
            server.power = CancellationToken::new();
            match lost {
                Lost::Certificate => {
                    server.identity = server.identity.take().map(Own::without_certificate);
                }
                Lost::Key => server.identity = None,
                Lost::Knowledge => (server.identity, server.is_of_before) = (None, true),
            }
            let _unattended = self.world.births.send(server.id.clone());
        }
    }

    /// Removes a service from the catalogue, named as there.
    pub fn forget_service(&self, kind: &str) {
        self.world.lock().registry.forget(kind);
    }

    /// Enters a service into the catalogue that answers nothing.
    pub fn announce_service(&self, name: &str, kind: &str) {
        self.world.lock().registry.enter(name, kind, "http://127.0.0.1:1");
    }

    /// A second region, in which nothing answers but Keystone.
    pub fn add_region(&self, region: &str) {
        self.world.lock().registry.add_region(region);
    }

    /// Removes a resource type, as a Heat without that plugin.
    pub fn lose_resource_type(&self, kind: &str) {
        self.world.lock().lost_kinds.insert(kind.to_owned());
    }

    /// Takes a role from a user, wherever they have it.
    pub fn take_role(&self, user: &str, role: &str) {
        let mut state = self.world.lock();
        let identity = &mut state.identity;
        let ids: Vec<String> =
            identity.users.iter().filter(|u| u.name == user).map(|u| u.id.clone()).collect();
        identity.grants.retain(|g| g.role != role || !ids.contains(&g.user));
        identity.tokens.clear();
    }

    /// Gives a user a role in a project of the domain Default.
    pub fn give_role(&self, user: &str, project: &str, role: &str) {
        let mut state = self.world.lock();
        let identity = &mut state.identity;
        let user = identity.user_named(user, "default").map(|u| u.id.clone());
        let project = identity.projects.iter().find(|p| p.name == project).map(|p| p.id.clone());
        if let (Some(user), Some(project)) = (user, project) {
            let (scope, role) = (Scope::Project(project), role.to_owned());
            identity.grants.push(Grant { user, scope, role });
        }
    }

    /// An application credential of a user for the project of the same name.
    pub fn application_credential(&self, user: &str, unrestricted: bool) -> (String, String) {
        let mut state = self.world.lock();
        let identity = &mut state.identity;
        let project = identity.projects.iter().find(|p| p.name == user).map(|p| p.id.clone());
        let owner = identity.user_named(user, "default").map(|u| u.id.clone());
        let (user_id, project_id) = (owner.unwrap_or_default(), project.unwrap_or_default());
        let (id, secret) = (self.world.entropy.hex_token(), self.world.entropy.password());
        let credential = Credential {
            id: id.clone(),
            name: "ci".to_owned(),
            secret: secret.clone(),
            roles: identity.roles_of(&user_id, &Scope::Project(project_id.clone())),
            user_id,
            project_id,
            unrestricted,
            expires_at: None,
        };
        identity.credentials.insert(id.clone(), credential);
        (id, secret)
    }

    pub fn set_password(&self, user: &str, password: &str) {
        let mut state = self.world.lock();
        for user in state.identity.users.iter_mut().filter(|u| u.name == user) {
            password.clone_into(&mut user.password);
        }
    }

    /// GiB and MiB that an image needs, and the Kubernetes in it.
    pub fn describe_image(&self, name: &str, min_disk: u64, min_ram: u64, kube_version: &str) {
        let mut state = self.world.lock();
        for image in state.images.iter_mut().filter(|i| i.name == name) {
            (image.min_disk, image.min_ram) = (min_disk, min_ram);
            image.kube_version = Some(kube_version.to_owned());
        }
    }

    /// Leaves a network no more than this many addresses, used ones included.
    pub fn shrink_network(&self, name: &str, addresses: u32) {
        let mut state = self.world.lock();
        let network = &mut state.network;
        let ids: Vec<String> =
            network.nets.values().filter(|n| n.name == name).map(|n| n.id.clone()).collect();
        for subnet in network.subnets.values_mut().filter(|s| ids.contains(&s.network_id)) {
            if let Some((first, last)) = subnet.pools.first_mut() {
                *last = (u32::from(*first) + addresses.saturating_sub(1)).into();
            }
            subnet.pools.truncate(1);
        }
    }

    /// From now on servers get no config drive, whoever asks for one.
    pub fn lose_config_drives(&self) {
        self.world.lock().compute.driveless = true;
    }

    /// A cloud in which nobody has heard of magnumd yet.
    pub fn forget_magnum(&self) {
        let mut state = self.world.lock();
        state.registry.forget("container-infra");
        let identity = &mut state.identity;
        let domain = identity.domains.iter().find(|d| d.name == "magnum").map(|d| d.id.clone());
        let of_magnum = |u: &User| u.name == "magnum" || Some(&u.domain_id) == domain.as_ref();
        let gone: Vec<String> =
            identity.users.iter().filter(|u| of_magnum(u)).map(|u| u.id.clone()).collect();
        for user in gone {
            // They were looked up a moment ago under the same lock.
            drop(identity.delete_user(&user));
        }
        identity.domains.retain(|d| d.name != "magnum");
    }

    /// Domains, services of the catalogue and users with their descriptions, for before and after.
    pub fn registered(&self) -> Vec<String> {
        let state = self.world.lock();
        let identity = &state.identity;
        let roles = |user: &str| -> Vec<String> {
            let own = identity.grants.iter().filter(|g| g.user == user);
            own.map(|g| match &g.scope {
                Scope::Project(id) => format!("{} in project {}", g.role, name_of(identity, id)),
                Scope::Domain(id) => format!("{} in domain {}", g.role, name_of(identity, id)),
                _ => g.role.clone(),
            })
            .collect()
        };
        let domains = identity.domains.iter().map(|d| format!("domain {}", d.name));
        let projects = identity.projects.iter().map(|p| format!("project {}", p.name));
        let users =
            identity.users.iter().map(|u| format!("user {}: {}", u.name, roles(&u.id).join(", ")));
        let services = state.registry.services.iter().map(|s| format!("service {}", s.kind));
        let endpoints = state.registry.endpoints.iter();
        let endpoints = endpoints.map(|e| format!("endpoint {} {}", e.interface, e.url));
        domains.chain(projects).chain(users).chain(services).chain(endpoints).collect()
    }
}

fn name_of<'i>(identity: &'i Identity, id: &str) -> &'i str {
    let project = identity.project(id).map(|p| p.name.as_str());
    project.or(identity.domain(id).map(|d| d.name.as_str())).unwrap_or_default()
}
