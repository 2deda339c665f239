//! The catalogue: services and their endpoints, and what administrators change of it.

use serde_json::{Value, json};

use crate::base::id::Entropy;

use super::heat::services::Refused;
use super::keystone::absent;
use super::refusal::Answer;
use super::seed::REGION;
use super::wire::{Ask, Reply};

const INTERFACES: [&str; 3] = ["public", "internal", "admin"];

#[derive(Clone, Debug)]
pub(super) struct Service {
    pub id: String,
    pub name: String,
    pub kind: String,
    pub description: String,
}

#[derive(Clone, Debug)]
pub(super) struct Endpoint {
    pub id: String,
    pub service: String,
    pub interface: String,
    pub region: String,
    /// May hold `%(tenant_id)s`.
    pub url: String,
    pub description: String,
}

/// Everything of every region; the lab's own services are in one of them.
#[derive(Debug, Default)]
pub(super) struct Registry {
    pub services: Vec<Service>,
    pub endpoints: Vec<Endpoint>,
}

impl Registry {
    /// Enters a service with one address for all interfaces.
    pub fn enter(&mut self, name: &str, kind: &str, url: &str) {
        let id = format!("{name}-service");
        for interface in INTERFACES {
            self.endpoints.push(Endpoint {
                id: format!("{name}-{interface}"),
                service: id.clone(),
                interface: interface.to_owned(),
                region: REGION.to_owned(),
                url: url.to_owned(),
                description: String::new(),
            });
        }
        let (name, kind, description) = (name.to_owned(), kind.to_owned(), String::new());
        self.services.push(Service { id, name, kind, description });
    }

    /// Where a service is for the public.
    pub fn url(&self, kind: &str) -> Option<&str> {
        let service = self.services.iter().find(|s| s.kind == kind)?;
        let mut own =
            self.endpoints.iter().filter(|e| e.service == service.id && e.region == REGION);
        own.find(|e| e.interface == "public").map(|e| e.url.as_str())
    }

    /// Moves a service to another address.
    pub fn set_url(&mut self, kind: &str, url: &str) {
        let Some(service) = self.services.iter().find(|s| s.kind == kind) else { return };
        let own = self.endpoints.iter_mut().filter(|e| e.service == service.id);
        for endpoint in own.filter(|e| e.region == REGION) {
            url.clone_into(&mut endpoint.url);
        }
    }

    pub fn forget(&mut self, kind: &str) {
        let gone = self.services.iter().find(|s| s.kind == kind).map(|s| s.id.clone());
        self.services.retain(|s| s.kind != kind);
        self.endpoints.retain(|e| Some(&e.service) != gone.as_ref());
    }

    /// The names of all regions, the lab's own first.
    pub fn regions(&self) -> Vec<&str> {
        let mut all = vec![REGION];
        for endpoint in &self.endpoints {
            if !all.contains(&endpoint.region.as_str()) {
                all.push(&endpoint.region);
            }
        }
        all
    }

    /// Enters every service in another region too: Keystone is the same there, the others are at
    /// addresses where nobody answers.
    pub fn add_region(&mut self, region: &str) {
        let keystone: Vec<&str> =
            self.services.iter().filter(|s| s.kind == "identity").map(|s| s.id.as_str()).collect();
        let there: Vec<Endpoint> = self
            .endpoints
            .iter()
            .map(|e| Endpoint {
                id: format!("{}-{region}", e.id),
                region: region.to_owned(),
                url: match keystone.contains(&e.service.as_str()) {
                    true => e.url.clone(),
                    false => "http://127.0.0.1:1".to_owned(),
                },
                ..e.clone()
            })
            .collect();
        // Before the lab's own, so that whoever takes the first finds nobody.
        self.endpoints.splice(0..0, there);
    }

    /// What a token brings; endpoints that need a project are left out without one.
    pub fn catalog(&self, project: Option<&str>) -> Value {
        let of = |service: &Service| {
            let own = self.endpoints.iter().filter(|e| e.service == service.id);
            let shown = own.filter_map(|e| {
                let url = match (e.url.contains("%(tenant_id)s"), project) {
                    (true, None) => return None,
                    (true, Some(project)) => e.url.replace("%(tenant_id)s", project),
                    (false, _) => e.url.clone(),
                };
                Some(json!({"id": e.id, "interface": e.interface, "region": e.region,
                            "region_id": e.region, "url": url}))
            });
            let shown: Vec<Value> = shown.collect();
            (!shown.is_empty()).then(|| {
                json!({"id": service.id, "type": service.kind, "name": service.name,
                       "endpoints": shown})
            })
        };
        self.services.iter().filter_map(of).collect()
    }

    pub fn service_views(&self) -> Vec<Value> {
        self.services.iter().map(service_view).collect()
    }

    pub fn endpoint_views(&self) -> Vec<Value> {
        self.endpoints.iter().map(endpoint_view).collect()
    }

    /// An administrator's change of `/services` and `/endpoints`.
    pub fn change(
        &mut self,
        entropy: &Entropy,
        ask: &Ask,
        kind: &str,
        id: Option<&str>,
    ) -> Answer<Reply> {
        let singular = kind.trim_end_matches('s');
        let body = ask.body()?;
        let given = &body[singular];
        let text = |key: &str| given[key].as_str().map(str::to_owned);
        let required = |key: &str| {
            text(key).ok_or_else(|| {
                Refused::bad(format!("'{key}' is a required property of '{singular}'."))
            })
        };
        let shown = match (ask.method.as_str(), kind, id) {
            ("POST", "services", None) => {
                let (id, kind) = (entropy.hex_token(), required("type")?);
                let (name, description) = (text("name"), text("description"));
                let (name, description) =
                    (name.unwrap_or_default(), description.unwrap_or_default());
                let service = Service { id, name, kind, description };
                let view = service_view(&service);
                self.services.push(service);
                view
            }
            ("POST", _, None) => {
                let service = required("service_id")?;
                if !self.services.iter().any(|s| s.id == service) {
                    return Err(absent("service", &service));
                }
                let region = text("region_id").unwrap_or_else(|| REGION.to_owned());
                if !self.regions().contains(&region.as_str()) {
                    return Err(absent("region", &region));
                }
                let (interface, url) = (required("interface")?, required("url")?);
                let description = text("description").unwrap_or_default();
                let id = entropy.hex_token();
                let endpoint = Endpoint { id, service, interface, region, url, description };
                let view = endpoint_view(&endpoint);
                self.endpoints.push(endpoint);
                view
            }
            ("PATCH", "endpoints", Some(id)) => {
                let found = self.endpoints.iter_mut().find(|e| e.id == id);
                let endpoint = found.ok_or_else(|| absent("endpoint", id))?;
                endpoint.url = text("url").unwrap_or_else(|| endpoint.url.clone());
                return Ok(Reply::json(200, &json!({"endpoint": endpoint_view(endpoint)})));
            }
            ("DELETE", "services", Some(id)) => {
                let found = self.services.iter().find(|s| s.id == id);
                let kind = found.ok_or_else(|| absent("service", id))?.kind.clone();
                self.forget(&kind);
                return Ok(Reply::empty(204));
            }
            ("DELETE", _, Some(id)) => {
                let found = self.endpoints.iter().position(|e| e.id == id);
                self.endpoints.remove(found.ok_or_else(|| absent("endpoint", id))?);
                return Ok(Reply::empty(204));
            }
            _ => {
                return Err(Refused::new(
                    405,
                    "MethodNotAllowed",
                    "The method is not allowed here.",
                ));
            }
        };
        Ok(Reply::json(201, &json!({ (singular): shown })))
    }
}

fn service_view(s: &Service) -> Value {
    json!({"id": s.id, "name": s.name, "type": s.kind, "enabled": true,
           "description": s.description})
}

fn endpoint_view(e: &Endpoint) -> Value {
    json!({"id": e.id, "service_id": e.service, "interface": e.interface, "region": e.region,
           "region_id": e.region, "url": e.url, "enabled": true, "description": e.description})
}
