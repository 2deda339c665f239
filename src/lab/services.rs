//! The world as Heat's plugins see it: their properties turned into calls to Nova, Neutron and
//! Keystone, under the same rules, faults and record as calls from outside.

use serde_json::{Value, json};

use super::fault::Outcome;
use super::heat::services::{Owner, Refused, Services, State};
use super::identity::{NewTrust, Scope};
use super::launch::unwire;
use super::network::not_found;
use super::plugins;
use super::refusal::Answer;
use super::world::{Caller, World};

/// The collection that holds a kind of resource, at its service.
fn place(kind: &str) -> Option<(&'static str, &'static str)> {
    Some(match kind {
        "OS::Neutron::Net" => ("neutron", "networks"),
        "OS::Neutron::Subnet" => ("neutron", "subnets"),
        "OS::Neutron::Port" => ("neutron", "ports"),
        "OS::Neutron::Router" => ("neutron", "routers"),
        "OS::Neutron::RouterInterface" => ("neutron", "routers"),
        "OS::Neutron::SecurityGroup" => ("neutron", "security-groups"),
        "OS::Neutron::SecurityGroupRule" => ("neutron", "security-group-rules"),
        "OS::Neutron::FloatingIP" => ("neutron", "floatingips"),
        "OS::Neutron::FloatingIPAssociation" => ("neutron", "floatingips"),
        "OS::Nova::Server" => ("nova", "servers"),
        "OS::Nova::ServerGroup" => ("nova", "os-server-groups"),
        "OS::Nova::KeyPair" => ("nova", "os-keypairs"),
        _ => return None,
    })
}

fn no_plugin(kind: &str) -> Refused {
    let message = format!("The Resource Type ({kind}) could not be found.");
    Refused::missing(message)
}

impl World {
    /// One call of a plugin: recorded, and wrong when a fault says so. A plugin waits for no
    /// delay, because the engine may not be held up; a broken connection is a 503 to it.
    fn inner_call<T>(
        &self,
        service: &'static str,
        method: &str,
        path: &str,
        good: u16,
        act: impl FnOnce(Option<String>) -> Answer<T>,
    ) -> Answer<T> {
        let harm = self.harm(service, method, path);
        let injected = |outcome: &Outcome| {
            let status = match outcome {
                Outcome::Status(status) => *status,
                Outcome::Drop | Outcome::Late(_) | Outcome::Truncate => 503,
                Outcome::Normal | Outcome::Error(_) => return None,
            };
            let message = format!("{service} answered {status}, as a fault of the lab demands");
            let kind = match status {
                403 => "Forbidden",
                404 => "NotFound",
                409 => "Conflict",
                _ => "ClientException",
            };
            Some(Refused::new(status, kind, message))
        };
        let refusal = harm.as_ref().and_then(|h| injected(&h.outcome));
        let performed = harm.as_ref().is_some_and(|h| h.performed);
        if let Some(refused) = refusal.as_ref().filter(|_| !performed) {
            self.record(service, method, path, refused.status);
            return Err(refused.clone());
        }
        let sentence = match harm.map(|h| h.outcome) {
            Some(Outcome::Error(sentence)) => Some(sentence),
            _ => None,
        };
        let mut answer = act(sentence);
        if let Some(refused) = refusal {
            answer = Err(refused);
        }
        let status = answer.as_ref().map_or_else(|no| no.status, |_| good);
        self.record(service, method, path, status);
        answer
    }
}

impl Services for World {
    fn create(
        &self,
        owner: &Owner,
        kind: &str,
        name: &str,
        properties: &Value,
    ) -> Result<String, Refused> {
        let (service, collection) = place(kind).ok_or_else(|| no_plugin(kind))?;
        let caller = Caller::from(owner);
        let name = properties["name"].as_str().filter(|n| !n.is_empty()).unwrap_or(name);
        let (method, path, good) = match kind {
            "OS::Neutron::RouterInterface" => {
                let router = plugins::router_of(properties);
                ("PUT", format!("/routers/{router}/add_router_interface"), 200)
            }
            "OS::Neutron::FloatingIPAssociation" => {
                let id = properties["floatingip_id"].as_str().unwrap_or_default();
                ("PUT", format!("/floatingips/{id}"), 200)
            }
            "OS::Nova::Server" => ("POST", format!("/{collection}"), 202),
            "OS::Nova::ServerGroup" => ("POST", format!("/{collection}"), 200),
            _ => ("POST", format!("/{collection}"), 201),
        };
        self.inner_call(service, method, &path, good, |build_fault| {
            plugins::create(self, &caller, kind, collection, name, properties, build_fault)
        })
    }

    fn state(&self, kind: &str, id: &str) -> State {
        let now = self.clock.now();
        let state = self.lock();
        if kind == "OS::Nova::Server" {
            return match state.compute.servers.get(id) {
                None => State::Gone,
                Some(server) => match (server.status(now), &server.fault) {
                    ("BUILD" | "REBUILD" | "RESIZE", _) => State::Building,
                    // Heat takes it for a resize that has not begun.
                    ("ACTIVE", _) if server.unresized => State::Building,
                    ("ERROR", Some(sentence)) => State::Error(sentence.clone()),
                    _ => State::Active,
                },
            };
        }
        match plugins::is_there(&state, kind, place(kind).map_or("", |p| p.1), id) {
            true => State::Active,
            false => State::Gone,
        }
    }

    fn attribute(&self, kind: &str, id: &str, name: &str) -> Option<Value> {
        plugins::attribute(self, kind, place(kind)?.1, id, name)
    }

    fn delete(&self, kind: &str, id: &str) -> Result<(), Refused> {
        let (service, collection) = place(kind).ok_or_else(|| no_plugin(kind))?;
        let (method, path, good) = match kind {
            "OS::Neutron::RouterInterface" => {
                let router = id.split(':').next().unwrap_or_default();
                ("PUT", format!("/routers/{router}/remove_router_interface"), 200)
            }
            "OS::Neutron::FloatingIPAssociation" => {
                ("PUT", format!("/floatingips/{}", id.split(':').next().unwrap_or_default()), 200)
            }
            _ => ("DELETE", format!("/{collection}/{id}"), 204),
        };
        self.inner_call(service, method, &path, good, |_| {
            plugins::delete(self, kind, collection, id)
        })
    }

    fn prepare_for_replace(&self, kind: &str, id: &str) {
        if kind == "OS::Nova::Server" {
            unwire(&mut self.lock(), id);
        }
    }

    fn update(
        &self,
        owner: &Owner,
        kind: &str,
        id: &str,
        properties: &Value,
        changed: &[String],
    ) -> Result<(), Refused> {
        let (service, collection) = place(kind).ok_or_else(|| no_plugin(kind))?;
        let caller = Caller::from(owner);
        let acts = |name: &String| matches!(name.as_str(), "flavor" | "image");
        let (method, path, good) = match kind == "OS::Nova::Server" && changed.iter().any(acts) {
            true => ("POST", format!("/{collection}/{id}/action"), 202),
            false => ("PUT", format!("/{collection}/{id}"), 200),
        };
        self.inner_call(service, method, &path, good, |fault| {
            let update = plugins::Update { kind, collection, id, properties, changed, fault };
            plugins::update(self, &caller, update)
        })
    }

    fn exists(&self, owner: &Owner, constraint: &str, value: &str) -> Result<(), String> {
        plugins::exists(self, &Caller::from(owner), constraint, value)
    }

    /// No Cinder, no Octavia, no Barbican here.
    fn has_kind(&self, kind: &str) -> bool {
        let lost = self.lock().lost_kinds.contains(kind);
        !lost && (place(kind).is_some() || kind.starts_with("OS::Heat::"))
    }

    fn stack_trust(&self, token: &str) -> Result<String, Refused> {
        let now = self.clock.now();
        self.inner_call("keystone", "POST", "/OS-TRUST/trusts", 201, |_| {
            let mut state = self.lock();
            let identity = &mut state.identity;
            let token = identity.token(token, now).cloned().ok_or_else(Refused::unauthorised)?;
            let Scope::Project(project) = token.scope.clone() else {
                return Err(Refused::forbidden("A stack needs a project-scoped token."));
            };
            let heat = identity.user_named("heat", "default").map(|u| u.id.clone());
            let wanted = NewTrust {
                trustor: token.user_id.clone(),
                trustee: heat.ok_or_else(|| Refused::missing("Could not find user: heat."))?,
                project,
                roles: token.roles.clone(),
                impersonation: true,
                expires_at: None,
            };
            identity.create_trust(&self.entropy, &token, wanted).map(|trust| trust.id)
        })
    }

    fn has_stack_trust(&self, id: &str) -> bool {
        self.lock().identity.trusts.contains_key(id)
    }

    fn drop_stack_trust(&self, id: &str) {
        let path = format!("/OS-TRUST/trusts/{id}");
        let dropped = self.inner_call("keystone", "DELETE", &path, 204, |_| {
            let mut state = self.lock();
            match state.identity.trusts.contains_key(id) {
                true => {
                    state.identity.end_trust(id);
                    Ok(())
                }
                false => Err(not_found("trusts", id)),
            }
        });
        if let Err(refused) = dropped {
            tracing::debug!(trust = id, status = refused.status, "Heat's trust was not dropped");
        }
    }
}

/// A value as a list of texts.
pub(super) fn texts(value: &Value) -> Option<Vec<String>> {
    let list = value.as_array()?;
    Some(list.iter().filter_map(Value::as_str).map(str::to_owned).collect())
}

/// Whether a property is set to something.
pub(super) fn set<'v>(properties: &'v Value, keys: &[&str]) -> Option<&'v str> {
    keys.iter().find_map(|key| properties[*key].as_str().filter(|text| !text.is_empty()))
}

/// An object with only the keys that are set.
pub(super) fn picked(properties: &Value, keys: &[&str]) -> Value {
    let mut body = json!({});
    for key in keys {
        if let Some(value) = properties.get(*key).filter(|v| !v.is_null()) {
            body[*key] = value.clone();
        }
    }
    body
}
