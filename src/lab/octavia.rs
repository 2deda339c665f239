//! Octavia, as far as the balancers go that Kubernetes makes for services of its own. A cloud
//! has it only when a test opens it: most labs have none.

use std::time::Duration;

use serde_json::{Value, json};

use crate::base::clock::Timestamp;

use super::heat::services::Refused;
use super::refusal::Answer;
use super::wire::{Ask, Reply};
use super::world::{Caller, World};

/// How long a balancer is on its way out, on the lab's clock.
const DELETION: Duration = Duration::from_secs(5);

#[derive(Clone, Debug)]
pub(super) struct Balancer {
    pub id: String,
    pub name: String,
    pub description: String,
    pub project_id: String,
    /// Keeps its subnet from being deleted while the balancer is there.
    pub port: String,
    pub gone_at: Option<Timestamp>,
}

pub(super) fn refuse(refused: &Refused) -> Reply {
    let body = json!({"faultcode": "Client", "faultstring": refused.message, "debuginfo": null});
    Reply::json(refused.status, &body)
}

pub(super) fn answer(world: &World, caller: &Caller, ask: &Ask) -> Answer<Reply> {
    let mut state = world.lock();
    let path = ask.path();
    let Some(["v2.0", "lbaas", "loadbalancers", rest @ ..]) = path.get(..) else {
        return Err(Refused::missing("The resource could not be found."));
    };
    match (ask.method.as_str(), rest) {
        ("GET", []) => {
            let seen = state.balancers.iter().filter(|b| caller.sees(&b.project_id));
            let seen: Vec<Value> = seen.map(view).collect();
            Ok(Reply::json(200, &json!({"loadbalancers": seen, "loadbalancers_links": []})))
        }
        ("POST", []) => {
            if !caller.may_write() {
                return Err(Refused::forbidden("Policy does not allow this request."));
            }
            let body = ask.body()?;
            let given = &body["loadbalancer"];
            let text = |key: &str| given[key].as_str().unwrap_or_default().to_owned();
            let subnet = state.network.subnets.get(&text("vip_subnet_id"));
            let network = subnet.map(|s| s.network_id.clone()).ok_or_else(|| {
                Refused::bad(format!("Subnet {} not found.", text("vip_subnet_id")))
            })?;
            let id = world.entropy.uuid().to_string();
            let port = json!({"network_id": network, "device_owner": "Octavia",
                              "fixed_ips": [{"subnet_id": text("vip_subnet_id")}],
                              "name": format!("octavia-lb-{id}"), "device_id": format!("lb-{id}")});
            let port = state.network.create(&world.entropy, caller, "ports", &port)?;
            let (name, description) = (text("name"), text("description"));
            let project_id = caller.project_id.clone();
            let made = Balancer { id, name, description, project_id, port, gone_at: None };
            let shown = view(&made);
            state.balancers.push(made);
            Ok(Reply::json(201, &json!({"loadbalancer": shown})))
        }
        ("DELETE", [id]) => {
            let own = |b: &&mut Balancer| b.id == *id && caller.sees(&b.project_id);
            let balancer = state
                .balancers
                .iter_mut()
                .find(own)
                .ok_or_else(|| Refused::missing(format!("Load Balancer {id} not found.")))?;
            if ask.query("cascade") != Some("true") {
                let message = format!("Cannot delete Load Balancer {id} - it has children");
                return Err(Refused::bad(message));
            }
            if balancer.gone_at.is_some() {
                let message = format!("Load Balancer {id} is immutable and cannot be updated.");
                return Err(Refused::conflict(message));
            }
            balancer.gone_at = Some(world.clock.now().plus(DELETION));
            Ok(Reply::empty(204))
        }
        _ => Err(Refused::new(405, "MethodNotAllowed", "The method is not allowed here.")),
    }
}

fn view(b: &Balancer) -> Value {
    let status = if b.gone_at.is_some() { "PENDING_DELETE" } else { "ACTIVE" };
    json!({"id": b.id, "name": b.name, "description": b.description, "project_id": b.project_id,
           "provisioning_status": status, "operating_status": "ONLINE", "vip_port_id": b.port})
}
