//! The plan carried out: every step looks before it acts, so that a run may end anywhere and
//! the next one finishes it.

use serde_json::json;

use super::file::File;
use super::plan::{INTERFACES, url};
use super::survey::{self, CATALOGUE_TYPE, Facts, Ours, admin_role, cloud};
use super::{MARK, Names, SetupError};
use crate::base::secret::Secret;
use crate::openstack::{Credentials, KeystoneAdmin, Place, Register};

pub async fn make(
    keystone_admin: &KeystoneAdmin,
    names: &Names,
    file: &File,
    credentials: &Credentials,
) -> Result<(), SetupError> {
    let facts = survey::look(keystone_admin, names, credentials, file).await?;
    let maker = Maker { keystone_admin, role: admin_role(keystone_admin).await? };
    let project = match &facts.project {
        Some(project) => project.id.clone(),
        None => {
            let entry = json!({ "name": names.project, "domain_id": "default" });
            maker.create(Register::Projects, entry, &names.project).await?
        }
    };
    let user = facts.user.as_ref().map(|entry| entry.id.as_str());
    let place = Place::Project(project);
    let fits = facts.user_is_admin && facts.user_logs_in;
    maker.account(user, fits, &names.user, "default", &file.password, &place).await?;
    let domain = match &facts.domain {
        Some(domain) => domain.id.clone(),
        None => {
            maker.create(Register::Domains, json!({ "name": names.domain }), &names.domain).await?
        }
    };
    let keeper = facts.keeper.as_ref().map(|entry| entry.id.as_str());
    let place = Place::Domain(domain.clone());
    let fits = facts.keeper_is_admin && facts.keeper_logs_in;
    maker.account(keeper, fits, &names.keeper(), &domain, &file.keeper_password, &place).await?;
    maker.catalogue(names, &facts, &url(names, file)).await
}

struct Maker<'r> {
    keystone_admin: &'r KeystoneAdmin,
    /// The id of the role admin.
    role: String,
}

impl Maker<'_> {
    async fn create(
        &self,
        register: Register,
        mut entry: serde_json::Value,
        name: &str,
    ) -> Result<String, SetupError> {
        entry["description"] = json!(MARK);
        let what = format!("{} {name}", register.singular());
        self.keystone_admin.create(register, entry).await.map_err(cloud(&what))
    }

    async fn account(
        &self,
        known: Option<&str>,
        fits: bool,
        name: &str,
        domain: &str,
        password: &Secret<String>,
        place: &Place,
    ) -> Result<(), SetupError> {
        if fits {
            return Ok(());
        }
        let what = format!("user {name}");
        let id = match known {
            Some(id) => {
                let change = json!({ "password": password.expose() });
                let changed = self.keystone_admin.change(Register::Users, id, change).await;
                changed.map_err(cloud(&what))?;
                id.to_owned()
            }
            None => {
                let entry = json!({
                    "name": name, "domain_id": domain, "password": password.expose(),
                });
                self.create(Register::Users, entry, name).await?
            }
        };
        self.keystone_admin.give_role(&id, place, &self.role).await.map_err(cloud(&what))
    }

    async fn catalogue(&self, names: &Names, facts: &Facts, url: &str) -> Result<(), SetupError> {
        let service = match &facts.service {
            Some(service) => service.id.clone(),
            None => {
                let entry = json!({ "name": "magnum", "type": CATALOGUE_TYPE });
                self.create(Register::Services, entry, "magnum").await?
            }
        };
        for interface in INTERFACES {
            match facts.endpoints.iter().find(|(own, _, _)| own == interface) {
                Some((_, own, _)) if own == url => {}
                Some((_, _, entry)) => {
                    let change = json!({ "url": url });
                    let changed =
                        self.keystone_admin.change(Register::Endpoints, &entry.id, change);
                    changed.await.map_err(cloud(&format!("endpoint {interface}")))?;
                }
                None => {
                    let entry = json!({
                        "service_id": service, "interface": interface, "url": url,
                        "region_id": names.region,
                    });
                    self.create(Register::Endpoints, entry, interface).await?;
                }
            }
        }
        Ok(())
    }
}

pub async fn remove(keystone_admin: &KeystoneAdmin, ours: &Ours) -> Result<(), SetupError> {
    let drop = async |register: Register, id: &str| {
        let what = format!("{} {id}", register.singular());
        keystone_admin.remove(register, id).await.map_err(cloud(&what))
    };
    for (id, _) in &ours.endpoints {
        drop(Register::Endpoints, id).await?;
    }
    if let Some(id) = ours.service.as_ref().filter(|_| !ours.service_is_used) {
        drop(Register::Services, id).await?;
    }
    if let Some((id, _)) = &ours.user {
        drop(Register::Users, id).await?;
    }
    if let Some((id, name)) = &ours.domain {
        // Keystone deletes no domain that is enabled.
        let change = json!({ "enabled": false });
        let changed = keystone_admin.change(Register::Domains, id, change).await;
        changed.map_err(cloud(&format!("domain {name}")))?;
        drop(Register::Domains, id).await?;
    }
    if let Some((id, _)) = ours.project.as_ref().filter(|_| !ours.project_is_used) {
        drop(Register::Projects, id).await?;
    }
    Ok(())
}
