//! The world: every fact of the simulated cloud behind one lock.
//!
//! Two doors lead in: HTTP for clients, and the seam to Heat's plugins. Both meet the same
//! rules. Time passes on the lab's clock: what was due is done before anyone looks.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::mpsc;

use crate::base::clock::{Clock, Timestamp};
use crate::base::id::Entropy;

use super::compute::Compute;
use super::fault::{Faults, Harm};
use super::glance::Image;
use super::heat::services::Owner;
use super::identity::{Identity, Scope, Token};
use super::network::Network;
use super::octavia::Balancer;
use super::registry::Registry;

/// How long a token lives; longer than Keystone's usual hour, because a lab's clock may run fast.
const TOKEN_LIFE: Duration = Duration::from_secs(12 * 3600);

#[derive(Debug)]
pub(super) struct World {
    state: Mutex<State>,
    pub clock: Clock,
    pub entropy: Entropy,
    pub faults: Faults,
    /// Servers on their way to become active; the guests' keeper listens.
    pub births: mpsc::UnboundedSender<String>,
    calls: Mutex<Vec<String>>,
}

/// All facts.
#[derive(Debug)]
pub(super) struct State {
    pub identity: Identity,
    pub network: Network,
    pub compute: Compute,
    pub images: Vec<Image>,
    pub balancers: Vec<Balancer>,
    /// Ids that were there at the beginning.
    pub seeded: BTreeSet<String>,
    pub token_life: Duration,
    pub registry: Registry,
    /// Resource types that Heat has no plugin for, though the service is there.
    pub lost_kinds: BTreeSet<String>,
    /// How much the dates of answers are ahead of the lab's clock.
    pub skew: Duration,
}

/// Whoever makes or asks for something at a service.
#[derive(Clone, Debug)]
pub(super) struct Caller {
    pub user_id: String,
    /// Empty for a token without a project.
    pub project_id: String,
    pub roles: Vec<String>,
}

impl Caller {
    pub fn is_admin(&self) -> bool {
        self.roles.iter().any(|r| r == "admin")
    }

    /// Whether they may see what a project owns.
    pub fn sees(&self, project: &str) -> bool {
        self.is_admin() || self.project_id == project
    }

    pub fn may_write(&self) -> bool {
        self.roles.iter().any(|r| r == "member" || r == "admin")
    }
}

impl From<&Token> for Caller {
    fn from(token: &Token) -> Self {
        let project_id = match &token.scope {
            Scope::Project(id) => id.clone(),
            _ => String::new(),
        };
        Self { user_id: token.user_id.clone(), project_id, roles: token.roles.clone() }
    }
}

impl From<&Owner> for Caller {
    fn from(owner: &Owner) -> Self {
        Self {
            user_id: owner.user_id.clone(),
            project_id: owner.project_id.clone(),
            roles: owner.roles.clone(),
        }
    }
}

impl World {
    pub fn new(clock: Clock, births: mpsc::UnboundedSender<String>) -> Self {
        let state = State {
            identity: Identity::default(),
            network: Network::default(),
            compute: Compute::default(),
            images: Vec::new(),
            balancers: Vec::new(),
            seeded: BTreeSet::new(),
            token_life: TOKEN_LIFE,
            registry: Registry::default(),
            lost_kinds: BTreeSet::new(),
            skew: Duration::ZERO,
        };
        let entropy = Entropy::new();
        let (faults, calls) = (Faults::default(), Mutex::default());
        Self { state: Mutex::new(state), clock, entropy, faults, births, calls }
    }

    /// The facts as of now.
    pub fn lock(&self) -> MutexGuard<'_, State> {
        let mut state = self.state.lock().expect("no panic while holding the world");
        state.pass(self.clock.now());
        state
    }

    /// Whose token this is, if it is valid.
    pub fn caller(&self, token: &str) -> Option<Caller> {
        let now = self.clock.now();
        self.lock().identity.token(token, now).map(Caller::from)
    }

    /// A call to a service, from outside or from Heat's plugins: what is to go wrong with it.
    pub fn harm(&self, service: &str, method: &str, path: &str) -> Option<Harm> {
        self.faults.of_call(service, method, path)
    }

    pub fn record(&self, service: &str, method: &str, path: &str, status: impl std::fmt::Display) {
        let mut calls = self.calls.lock().expect("no panic while holding the calls");
        calls.push(format!("{method} {service} {path} {status}"));
    }

    pub fn calls(&self) -> Vec<String> {
        self.calls.lock().expect("no panic while holding the calls").clone()
    }
}

impl State {
    /// Ends the deletions that are due.
    fn pass(&mut self, now: Timestamp) {
        let gone = |b: &mut Balancer| b.gone_at.is_some_and(|at| at <= now);
        for balancer in self.balancers.extract_if(.., gone) {
            self.network.remove_port(&balancer.port);
        }
        self.compute.servers.values_mut().for_each(|server| server.pass(now));
        let due = |s: &&super::compute::Server| s.gone_at.is_some_and(|at| at <= now);
        let gone: Vec<String> =
            self.compute.servers.values().filter(due).map(|s| s.id.clone()).collect();
        for server in gone {
            self.compute.servers.remove(&server);
            let ports = self.network.ports.values().filter(|p| p.device_id == server);
            let ports: Vec<(String, bool)> = ports.map(|p| (p.id.clone(), p.of_nova)).collect();
            for (port, of_nova) in ports {
                if of_nova {
                    self.network.remove_port(&port);
                } else if let Some(port) = self.network.ports.get_mut(&port) {
                    port.device_id.clear();
                    port.device_owner.clear();
                }
            }
        }
    }

    /// Ids and descriptions of everything that was made since the beginning.
    pub fn made(&self, kind: &str) -> Vec<(String, String)> {
        let kind = kind.trim_end_matches('s').replace('-', "_");
        let named = |id: &String, name: &str| (id.clone(), name.to_owned());
        let mut found: Vec<(String, String)> = match kind.as_str() {
            "server" => self.compute.servers.values().map(|s| named(&s.id, &s.name)).collect(),
            "server_group" => self.compute.groups.values().map(|g| named(&g.id, &g.name)).collect(),
            "keypair" => self.compute.keypairs.iter().map(|k| named(&k.name, &k.user_id)).collect(),
            "port" => self.network.ports.values().map(|p| named(&p.id, &p.name)).collect(),
            "network" => self.network.nets.values().map(|n| named(&n.id, &n.name)).collect(),
            "subnet" => self.network.subnets.values().map(|s| named(&s.id, &s.name)).collect(),
            "router" => self.network.routers.values().map(|r| named(&r.id, &r.name)).collect(),
            "security_group" | "secgroup" => {
                // Each project's own default group comes with the project.
                let groups = self.network.groups.values().filter(|g| g.name != "default");
                groups.map(|g| named(&g.id, &g.name)).collect()
            }
            "floating_ip" | "floatingip" => {
                let all = self.network.floating.values();
                all.map(|f| (f.id.clone(), f.address.to_string())).collect()
            }
            "balancer" => self.balancers.iter().map(|b| named(&b.id, &b.name)).collect(),
            "trust" => {
                let all = self.identity.trusts.values();
                all.map(|t| (t.id.clone(), format!("to user {}", t.trustee))).collect()
            }
            "user" => self.identity.users.iter().map(|u| named(&u.id, &u.name)).collect(),
            "token" => self.identity.tokens.values().map(|t| named(&t.id, &t.user_id)).collect(),
            _ => Vec::new(),
        };
        found.retain(|(id, _)| !self.seeded.contains(id));
        found
    }
}
