//! Domains and projects, made and deleted by administrators.

use serde_json::json;

use crate::base::id::Entropy;

use super::heat::services::Refused;
use super::identity::{Domain, Identity, Project};
use super::keystone::absent;
use super::refusal::Answer;
use super::wire::{Ask, Reply};

impl Identity {
    /// An administrator's change of `/domains` and `/projects`.
    pub fn change_place(
        &mut self,
        entropy: &Entropy,
        ask: &Ask,
        kind: &str,
        id: Option<&str>,
    ) -> Answer<Reply> {
        let singular = kind.trim_end_matches('s');
        let body = ask.body()?;
        let given = &body[singular];
        let text = |key: &str| given[key].as_str().unwrap_or_default().to_owned();
        let (name, description) = (text("name"), text("description"));
        match (ask.method.as_str(), kind, id) {
            ("POST", _, None) if name.is_empty() => {
                Err(Refused::bad(format!("'name' is a required property of '{singular}'.")))
            }
            ("POST", "domains", None) => {
                if self.domains.iter().any(|d| d.name == name) {
                    return Err(Refused::conflict(format!("Duplicate entry: {name}.")));
                }
                let id = entropy.hex_token();
                let shown = json!({"domain": {"id": id, "name": name, "enabled": true,
                                              "description": description}});
                self.domains.push(Domain { id, name, description, enabled: true });
                Ok(Reply::json(201, &shown))
            }
            ("POST", _, None) => {
                let domain_id = match text("domain_id") {
                    none if none.is_empty() => "default".to_owned(),
                    domain => domain,
                };
                self.domain(&domain_id).ok_or_else(|| absent("domain", &domain_id))?;
                let id = entropy.hex_token();
                let shown = json!({"project": {"id": id, "name": name, "enabled": true,
                                               "description": description}});
                self.projects.push(Project { id, name, domain_id, description });
                Ok(Reply::json(201, &shown))
            }
            ("PATCH", "domains", Some(id)) => {
                let found = self.domains.iter_mut().find(|d| d.id == id);
                let domain = found.ok_or_else(|| absent("domain", id))?;
                domain.enabled = given["enabled"].as_bool().unwrap_or(domain.enabled);
                let shown = json!({"id": id, "name": domain.name, "enabled": domain.enabled});
                Ok(Reply::json(200, &json!({ "domain": shown })))
            }
            ("DELETE", "domains", Some(id)) => {
                let domain = self.domain(id).ok_or_else(|| absent("domain", id))?;
                if domain.enabled {
                    return Err(Refused::forbidden(
                        "Cannot delete a domain that is enabled, please disable it first.",
                    ));
                }
                let inside = self.users.iter().filter(|u| u.domain_id == id);
                for user in inside.map(|u| u.id.clone()).collect::<Vec<_>>() {
                    self.delete_user(&user)?;
                }
                self.domains.retain(|d| d.id != id);
                Ok(Reply::empty(204))
            }
            ("DELETE", _, Some(id)) => {
                self.project(id).ok_or_else(|| absent("project", id))?;
                self.projects.retain(|p| p.id != id);
                Ok(Reply::empty(204))
            }
            _ => Err(Refused::new(405, "MethodNotAllowed", "The method is not allowed here.")),
        }
    }
}
