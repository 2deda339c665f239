//! Making and deleting servers, from bodies as Nova's interface takes them.

use std::time::Duration;

use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::compute::{LARGEST, MOST_USER_DATA, Resize, ResizeAction, Server};
use super::heat::services::Refused;
use super::network::not_found;
use super::refusal::Answer;
use super::world::{Caller, State, World};

const BUILD_TIME: Duration = Duration::from_millis(600);
const RESIZE_TIME: Duration = Duration::from_millis(900);
const DELETE_TIME: Duration = Duration::from_millis(300);

/// A server, as asked for; `user_data` is what the guest will read.
#[derive(Clone, Debug, Default)]
pub(super) struct NewServer {
    pub name: String,
    /// None boots from a volume.
    pub image: Option<String>,
    pub flavor: String,
    pub keypair: Option<String>,
    pub user_data: String,
    pub config_drive: bool,
    pub metadata: Value,
    pub group: Option<String>,
    pub networks: Vec<Interface>,
    /// Ids or names, for interfaces without a port of their own.
    pub security_groups: Option<Vec<String>>,
    /// A fault told beforehand that building fails.
    pub fault: Option<String>,
}

/// One network interface: an existing port, or a network to make one on.
#[derive(Clone, Debug, Default)]
pub(super) struct Interface {
    pub port: Option<String>,
    pub network: Option<String>,
    pub subnet: Option<String>,
    pub fixed_ip: Option<String>,
    pub pairs: Value,
}

impl World {
    /// Takes a server on; building goes on by itself.
    pub fn launch(&self, caller: &Caller, wanted: NewServer) -> Answer<String> {
        let id = {
            let mut state = self.lock();
            self.admit(&mut state, caller, wanted)?
        };
        // Without a keeper of guests (a world in a test) servers are born unattended.
        let _unattended = self.births.send(id.clone());
        Ok(id)
    }

    fn admit(&self, state: &mut State, caller: &Caller, wanted: NewServer) -> Answer<String> {
        let bad = |message: String| Err(Refused::bad(message));
        if wanted.name.is_empty() || wanted.name.len() > 255 {
            return bad(format!("Invalid input for field/attribute name. Value: {}.", wanted.name));
        }
        let encoded = wanted.user_data.len().div_ceil(3) * 4;
        if encoded > MOST_USER_DATA {
            return bad(format!(
                "Invalid input for field/attribute user_data. Value: of {encoded} characters in \
                 base64 is too long; {MOST_USER_DATA} are allowed"
            ));
        }
        let Some(flavor) = state.compute.flavor(&wanted.flavor).cloned() else {
            return bad("Invalid flavorRef provided.".to_owned());
        };
        if let Some(image) = &wanted.image
            && !state.images.iter().any(|i| i.id == *image)
        {
            return bad(format!("Image {image} could not be found."));
        }
        if let Some(key) = &wanted.keypair
            && state.compute.keypair(&caller.user_id, key).is_none()
        {
            return bad("Invalid key_name provided.".to_owned());
        }
        state.compute.check_quota(&caller.project_id, &flavor)?;
        state.compute.check_group(&caller.project_id, wanted.group.as_deref())?;
        let now = self.clock.now();
        let id = self.entropy.uuid().to_string();
        let ports = self.wire(state, caller, &id, &wanted);
        if let Err(refused) = ports {
            unwire(state, &id);
            return Err(refused);
        }
        let too_large = flavor.vcpus > LARGEST.0 || flavor.ram > LARGEST.1;
        let no_host = || "No valid host was found. There are not enough hosts available.";
        let server = Server {
            id: id.clone(),
            name: wanted.name,
            project_id: caller.project_id.clone(),
            user_id: caller.user_id.clone(),
            image_id: wanted.image.unwrap_or_default(),
            flavor,
            keypair: wanted.keypair,
            user_data: wanted.user_data,
            config_drive: wanted.config_drive && !state.compute.driveless,
            metadata: wanted.metadata,
            group: wanted.group,
            created_at: now,
            built_at: now.plus(BUILD_TIME),
            rebuilt: false,
            fault: wanted.fault.or_else(|| too_large.then(|| no_host().to_owned())),
            resize: None,
            resizes: Vec::new(),
            unresized: false,
            disk: None,
            identity: None,
            is_of_before: false,
            gone_at: None,
            joined: None,
            kubelet: None,
            power: CancellationToken::new(),
        };
        state.compute.servers.insert(id.clone(), server);
        Ok(id)
    }

    /// Plugs in existing ports, makes the others.
    fn wire(&self, state: &mut State, caller: &Caller, id: &str, wanted: &NewServer) -> Answer<()> {
        for interface in &wanted.networks {
            let port = match (&interface.port, &interface.network) {
                (Some(port), _) => {
                    let owner = state.network.owner("ports", port).filter(|p| caller.sees(p));
                    if owner.is_none() {
                        return Err(Refused::bad(not_found("ports", port).message));
                    }
                    port.clone()
                }
                (None, Some(network)) => {
                    let groups = match &wanted.security_groups {
                        None => None,
                        Some(wishes) => Some(self.groups(state, caller, wishes)?),
                    };
                    let mut body = json!({"network_id": network, "fixed_ips": []});
                    if interface.subnet.is_some() || interface.fixed_ip.is_some() {
                        body["fixed_ips"] = json!([{
                            "subnet_id": interface.subnet, "ip_address": interface.fixed_ip,
                        }]);
                    }
                    if let Some(groups) = groups {
                        body["security_groups"] = json!(groups);
                    }
                    if !interface.pairs.is_null() {
                        body["allowed_address_pairs"] = interface.pairs.clone();
                    }
                    let made = state.network.create(&self.entropy, caller, "ports", &body);
                    let port = made.map_err(|no| match no.kind {
                        "OverQuota" => Refused::forbidden("Maximum number of ports exceeded"),
                        _ => Refused::bad(no.message),
                    })?;
                    state.network.ports.get_mut(&port).expect("just made").of_nova = true;
                    port
                }
                (None, None) => return Err(Refused::bad("Each network needs a uuid or a port.")),
            };
            let port = state.network.ports.get_mut(&port).expect("looked up or made");
            if !port.device_id.is_empty() {
                let message = format!("Port {} is still in use.", port.id);
                return Err(Refused::new(409, "Conflict", message));
            }
            port.device_id = id.to_owned();
            port.device_owner = "compute:nova".to_owned();
        }
        Ok(())
    }

    fn groups(&self, state: &mut State, caller: &Caller, wishes: &[String]) -> Answer<Vec<String>> {
        let mut ids = Vec::new();
        for wish in wishes {
            if wish == "default" {
                ids.push(state.network.default_group(&caller.project_id, &self.entropy));
                continue;
            }
            let mut own = state.network.groups.values().filter(|g| caller.sees(&g.project_id));
            let found = own.find(|g| g.id == *wish || g.name == *wish).map(|g| g.id.clone());
            ids.push(found.ok_or_else(|| {
                Refused::bad(format!(
                    "Security group {wish} not found for project {}.",
                    caller.project_id
                ))
            })?);
        }
        Ok(ids)
    }

    /// The same server with an empty disk from another image: the guest stops, a new one boots.
    pub fn rebuild(&self, state: &mut State, id: &str, image: &str) -> Answer<()> {
        if !state.images.iter().any(|i| i.id == image) {
            return Err(Refused::bad(format!("Image {image} could not be found.")));
        }
        let server = state.compute.servers.get_mut(id).ok_or_else(|| no_instance(id))?;
        server.power.cancel();
        server.power = CancellationToken::new();
        image.clone_into(&mut server.image_id);
        server.built_at = self.clock.now().plus(BUILD_TIME);
        server.rebuilt = true;
        server.joined = None;
        server.disk = None;
        server.identity = None;
        let _unattended = self.births.send(id.to_owned());
        Ok(())
    }

    /// The same server with its disk and another flavor: the guest stops and starts again. Where no
    /// host takes it, or the disk would have to shrink, Nova finds out later and leaves it as it was.
    /// What is rebuilt at once starts only after that.
    pub fn resize(
        &self,
        state: &mut State,
        id: &str,
        to: &str,
        fault: Option<String>,
        then_rebuilt: bool,
    ) -> Answer<()> {
        let Some(flavor) = state.compute.flavor(to).cloned() else {
            return Err(Refused::bad(format!("Flavor {to} could not be found.")));
        };
        let server = state.compute.servers.get(id).ok_or_else(|| no_instance(id))?;
        if server.flavor.id == flavor.id {
            return Err(Refused::bad("When resizing, instances must change flavor!"));
        }
        if server.resize.is_some() {
            let message =
                format!("Cannot 'resize' instance {id} while it is in task_state resize_prep");
            return Err(Refused::conflict(message));
        }
        if flavor.disk == 0 && server.flavor.disk != 0 {
            let message = "Resize to zero disk flavor is not allowed.";
            return Err(Refused::bad(format!("Resize error: {message}")));
        }
        state.compute.check_resize(server, &flavor)?;
        let too_large = flavor.vcpus > LARGEST.0 || flavor.ram > LARGEST.1;
        let no_host = || "No valid host was found. There are not enough hosts available.";
        let smaller = flavor.disk < server.flavor.disk;
        let fault = fault.or_else(|| too_large.then(|| no_host().to_owned())).or_else(|| {
            smaller.then(|| {
                "Instance rollback performed due to: Resize error: Unable to resize disk down."
                    .to_owned()
            })
        });
        let (now, request_id) = (self.clock.now(), format!("req-{}", self.entropy.uuid()));
        let server = state.compute.servers.get_mut(id).ok_or_else(|| no_instance(id))?;
        let ends_at = now.plus(RESIZE_TIME);
        if fault.is_none() && !then_rebuilt {
            server.power.cancel();
            server.power = CancellationToken::new();
            server.joined = None;
            server.built_at = ends_at;
            let _unattended = self.births.send(id.to_owned());
        }
        server.resizes.push(ResizeAction { request_id, began: now, fault: None });
        server.resize = Some(Resize { to: flavor, ends_at, fault });
        Ok(())
    }

    /// Begins a deletion: the guest stops now, the server is gone a little later.
    pub fn demolish(&self, id: &str) -> Answer<()> {
        let now = self.clock.now();
        let mut state = self.lock();
        let server = state.compute.servers.get_mut(id).ok_or_else(|| no_instance(id))?;
        server.power.cancel();
        server.gone_at.get_or_insert(now.plus(DELETE_TIME));
        Ok(())
    }
}

/// Takes the ports from a server that was refused or is replaced: those that Nova has made for it go,
/// the others are free.
pub(super) fn unwire(state: &mut State, id: &str) {
    let given = state.network.ports.values_mut().filter(|p| p.device_id == id);
    let mut made = Vec::new();
    for port in given {
        port.device_id.clear();
        port.device_owner.clear();
        if port.of_nova {
            made.push(port.id.clone());
        }
    }
    for port in made {
        state.network.remove_port(&port);
    }
}

pub(super) fn no_instance(id: &str) -> Refused {
    Refused::missing(format!("Instance {id} could not be found."))
}
