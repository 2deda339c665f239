//! A small cloud behind loopback HTTP: Keystone, Heat, Nova, Neutron and Glance as far as
//! magnumd and the usual command-line clients need them, with nodes that boot.
//!
//! It knows the wire formats from OpenStack's documentation and never from our own clients:
//! two readings of one specification check each other. Nothing in it is durable, and it binds
//! to the loopback address only.

mod auth;
mod cidr;
mod compute;
mod credentials;
mod edits;
mod fault;
#[cfg(fuzzing)]
pub mod fuzzing;
mod glance;
mod guest;
pub mod heat;
mod http;
mod identity;
mod keystone;
mod launch;
mod make;
mod network;
mod neutron;
mod nova;
mod octavia;
mod places;
mod plugins;
mod range;
mod refusal;
mod registry;
mod seed;
mod server_view;
mod services;
mod trusts;
mod vendor_data;
mod wire;
mod world;

#[cfg(test)]
mod tests;

use std::fmt::Write;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::base::clock::Clock;

use heat::Heat;
use http::{Front, Part};
use range::Range;
use world::World;

pub use edits::Lost;
pub use fault::{Fault, FaultError};

/// How the lab shall be.
#[derive(Clone, Debug)]
pub struct LabOptions {
    /// Identity's port; Heat, Nova, Neutron and Glance take the next four. None: free ports.
    pub port: Option<u16>,
    /// The catalogue's `container-infra` entry; ends in `/v1`.
    pub api_url: String,
    /// Seconds of the lab in one second of the wall.
    pub speed: f64,
    pub faults: Vec<Fault>,
    /// Whether Nova asks magnumd for the vendor data of servers.
    pub vendor_data: bool,
}

impl Default for LabOptions {
    fn default() -> Self {
        let api_url = "http://127.0.0.1:9511/v1".to_owned();
        Self { port: None, api_url, speed: 1.0, faults: Vec::new(), vendor_data: false }
    }
}

/// Why the lab cannot start.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    #[error(
        "port {port} for the lab's {service} is taken by another program; \
         stop it, or choose other ports with --port"
    )]
    PortTaken { port: u16, service: &'static str },
    #[error("cannot listen on 127.0.0.1:{port} for the lab's {service}: {reason}")]
    Listen { port: u16, service: &'static str, reason: String },
    #[error("port {0} leaves no room for five services; choose one up to 65531")]
    NoRoom(u16),
    #[error(
        "the API's address '{0}' is not on this machine; a lab's passwords are public, \
         so use http://127.0.0.1:PORT/v1"
    )]
    NotLoopback(String),
    #[error("speed {0} is not possible; choose a number from 0.01 to 1000")]
    Speed(f64),
}

/// A running cloud; dropping it ends it.
#[derive(Debug)]
pub struct LabCloud {
    world: Arc<World>,
    heat: Arc<Heat<World>>,
    fronts: Vec<Mutex<Running>>,
    range: Range,
    stop: CancellationToken,
}

/// One service's listener.
#[derive(Debug)]
struct Running {
    part: Part,
    port: u16,
    stop: CancellationToken,
}

impl LabCloud {
    /// Opens every port, fills the world and serves until `stop`.
    pub async fn start(options: LabOptions, stop: CancellationToken) -> Result<Self, LabError> {
        let LabOptions { port, api_url, speed, faults, vendor_data } = options;
        if !(0.01..=1000.0).contains(&speed) {
            return Err(LabError::Speed(speed));
        }
        if !is_local(&api_url) {
            return Err(LabError::NotLoopback(api_url));
        }
        let clock =
            if (speed - 1.0).abs() < f64::EPSILON { Clock::real() } else { Clock::fast(speed) };
        let mut doors = Vec::new();
        for (number, part) in Part::ALL.into_iter().enumerate() {
            let number = u16::try_from(number).expect("five parts");
            let wanted = match port {
                None | Some(0) => 0,
                Some(first) => first.checked_add(number).ok_or(LabError::NoRoom(first))?,
            };
            let service = part.kind();
            let listen = |e: std::io::Error| match e.kind() {
                std::io::ErrorKind::AddrInUse => LabError::PortTaken { port: wanted, service },
                _ => LabError::Listen { port: wanted, service, reason: e.to_string() },
            };
            let door = http::open(wanted).await.map_err(listen)?;
            let taken = door.address().map_err(listen)?.port();
            doors.push((part, door, taken));
        }
        let stop = stop.child_token();
        let (births, born) = mpsc::unbounded_channel();
        let world = Arc::new(World::new(clock, births));
        let range = Range::take(&world.entropy);
        seed::seed(&world, &range.cidr);
        for fault in faults {
            world.faults.inject(fault);
        }
        {
            let mut state = world.lock();
            for (part, _, port) in &doors {
                let url = format!("http://127.0.0.1:{port}{}", part.root());
                state.registry.enter(part.name(), part.kind(), &url);
            }
            state.registry.enter("magnum", "container-infra", &api_url);
            state.compute.asks_for_vendor_data = vendor_data;
        }
        guest::keep(Arc::clone(&world), born, stop.clone());
        let heat = Heat::new(Arc::clone(&world), world.clock.clone(), world.entropy.clone());
        let heat = Arc::new(heat);
        let mut fronts = Vec::new();
        for (part, door, port) in doors {
            let own = stop.child_token();
            http::serve(door, front(part, &world, &heat, port, &own));
            fronts.push(Mutex::new(Running { part, port, stop: own }));
        }
        Ok(Self { world, heat, fronts, range, stop })
    }

    /// Adds Octavia, which answers at a free port.
    pub async fn open_octavia(&mut self) -> std::io::Result<()> {
        let part = Part::Octavia;
        let door = http::open(0).await?;
        let port = door.address()?.port();
        let own = self.stop.child_token();
        let front = front(part, &self.world, &self.heat, port, &own);
        let url = format!("{}{}", front.base, part.root());
        self.world.lock().registry.enter(part.name(), part.kind(), &url);
        http::serve(door, front);
        self.fronts.push(Mutex::new(Running { part, port, stop: own }));
        Ok(())
    }

    /// Where clients log in: `…/v3`.
    pub fn identity_url(&self) -> String {
        self.endpoint("identity")
    }

    /// Where a service is, by the catalogue's name of its kind.
    pub fn endpoint(&self, kind: &str) -> String {
        self.world.lock().registry.url(kind).unwrap_or_default().to_owned()
    }

    /// Every service's type and address.
    pub fn endpoints(&self) -> Vec<(&'static str, String)> {
        let state = self.world.lock();
        let kinds = Part::ALL.map(Part::kind).into_iter().chain(["container-infra"]);
        kinds.filter_map(|kind| Some((kind, state.registry.url(kind)?.to_owned()))).collect()
    }

    /// Changes the catalogue's `container-infra` entry, for an API on a port drawn later.
    pub fn set_api_url(&self, url: &str) {
        self.world.lock().registry.set_url("container-infra", url);
    }

    /// A `clouds.yaml` with an entry per account.
    pub fn clouds_yaml(&self) -> String {
        let url = self.identity_url();
        let mut yaml = "clouds:\n".to_owned();
        let accounts = [
            ("demo", "demo"),
            ("demo2", "demo"),
            ("admin", "admin"),
            ("reader", "demo"),
            ("alt", "alt"),
        ];
        for (user, project) in accounts {
            let written = write!(
                yaml,
                "  {user}:\n    auth:\n      auth_url: {url}\n      username: {user}\n      \
                 password: {password}\n      project_name: {project}\n      \
                 user_domain_name: Default\n      project_domain_name: Default\n    \
                 region_name: {region}\n    interface: public\n    identity_api_version: 3\n",
                password = seed::PASSWORD,
                region = seed::REGION,
            );
            written.expect("writing to a String does not fail");
        }
        yaml
    }

    pub fn inject(&self, fault: Fault) {
        self.world.faults.inject(fault);
    }

    pub fn clear_faults(&self) {
        self.world.faults.clear();
    }

    /// Closes a service's port: connections are refused and what is under way breaks. The
    /// service is named as in faults (`heat`) or as in the catalogue (`orchestration`).
    pub fn stop_service(&self, service: &str) {
        self.running(service, |running| running.stop.cancel());
    }

    /// Opens the port again; it answers a moment later.
    pub fn start_service(&self, service: &str) {
        let (world, heat, lab) = (&self.world, &self.heat, &self.stop);
        self.running(service, |running| {
            if !running.stop.is_cancelled() {
                return;
            }
            running.stop = lab.child_token();
            let (part, port, own) = (running.part, running.port, running.stop.clone());
            let front = front(part, world, heat, port, &own);
            tokio::spawn(async move {
                // The old listener may need a moment to let go of the port.
                while !own.is_cancelled() {
                    match http::open(port).await {
                        Ok(door) => return http::serve(door, front),
                        Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
                    }
                }
            });
        });
    }

    fn running(&self, service: &str, act: impl FnOnce(&mut Running)) {
        let fits = |front: &&Mutex<Running>| {
            let part = front.lock().expect("no panic while holding a listener").part;
            part.name() == service || part.kind() == service
        };
        match self.fronts.iter().find(fits) {
            Some(front) => act(&mut front.lock().expect("no panic while holding a listener")),
            None => tracing::warn!(service, "the lab has no such service"),
        }
    }

    /// Everything that is there and was not at the beginning, one line each.
    pub fn leftovers(&self) -> Vec<String> {
        let state = self.world.lock();
        let kinds = [
            "server",
            "server_group",
            "port",
            "floating_ip",
            "router",
            "subnet",
            "network",
            "security_group",
            "balancer",
            "trust",
            "user",
        ];
        let of = |kind: &&'static str| {
            let kind = *kind;
            state.made(kind).into_iter().map(move |(id, name)| format!("{kind} {id} ({name})"))
        };
        let stacks = self.heat.stacks().into_iter();
        let stacks = stacks.map(|(_, name, id, status)| format!("stack {id} ({name}, {status})"));
        stacks.chain(kinds.iter().flat_map(of)).collect()
    }

    /// How many things of a kind were made since the beginning and are still there: `stacks`,
    /// `servers`, `ports`, `networks`, `subnets`, `routers`, `security_groups`, `floating_ips`,
    /// `server_groups`, `keypairs`, `balancers`, `trusts`, `users`, `tokens`.
    pub fn count(&self, kind: &str) -> usize {
        match kind {
            "stack" | "stacks" => self.heat.stacks().len(),
            _ => self.world.lock().made(kind).len(),
        }
    }

    /// The addresses of the public network, in CIDR notation.
    pub fn public_range(&self) -> &str {
        &self.range.cidr
    }

    /// Every call so far, from outside and by Heat's plugins: `POST heat /stacks 201`.
    pub fn calls(&self) -> Vec<String> {
        self.world.calls()
    }

    /// Limits a project by name: `instances`, `cores`, `ram`, `server_group_members` of Nova, or a
    /// collection of Neutron such as `ports` or `floatingips`.
    pub fn set_quota(&self, project: &str, resource: &str, limit: usize) {
        let mut guard = self.world.lock();
        let state = &mut *guard;
        let found = state.identity.projects.iter().find(|p| p.name == project);
        let Some(id) = found.map(|p| p.id.clone()) else { return };
        let key = (id, resource.to_owned());
        match resource {
            "instances" | "cores" | "ram" | "server_group_members" => {
                state.compute.quotas.insert(key, limit as u64);
            }
            _ => {
                state.network.quotas.insert(key, limit);
            }
        }
    }

    /// The time by which this cloud lives; whoever reads its dates needs the same.
    pub fn clock(&self) -> Clock {
        self.world.clock.clone()
    }

    /// How long tokens live from now on, on the lab's clock.
    pub fn set_token_life(&self, life: Duration) {
        self.world.lock().token_life = life;
    }

    /// Ends every token, as a restart of Keystone with new keys does.
    pub fn revoke_tokens(&self) {
        self.world.lock().identity.tokens.clear();
    }
}

impl Drop for LabCloud {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn front(
    part: Part,
    world: &Arc<World>,
    heat: &Arc<Heat<World>>,
    port: u16,
    stop: &CancellationToken,
) -> Front {
    let (world, heat) = (Arc::clone(world), Arc::clone(heat));
    Front { part, world, heat, base: format!("http://127.0.0.1:{port}"), stop: stop.clone() }
}

/// Whether a URL leads to this machine.
fn is_local(url: &str) -> bool {
    let host = url.parse::<hyper::Uri>().ok().and_then(|uri| uri.host().map(str::to_owned));
    host.is_some_and(|host| {
        let host = host.trim_matches(['[', ']']);
        host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
    })
}
