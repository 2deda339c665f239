//! What of it is there already.

use serde_json::Value;

use super::file::File;
use super::{Names, SetupError, is_ours};
use crate::base::secret::Secret;
use crate::openstack::{CloudError, Credentials, KeystoneAdmin, Place, Register};

/// An entry by its id, and whether setup has made it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub id: String,
    pub is_ours: bool,
}

/// What making needs to know.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    pub regions: Vec<String>,
    pub project: Option<Entry>,
    pub user: Option<Entry>,
    pub user_is_admin: bool,
    pub user_logs_in: bool,
    pub domain: Option<Entry>,
    pub keeper: Option<Entry>,
    pub keeper_is_admin: bool,
    pub keeper_logs_in: bool,
    pub service: Option<Entry>,
    /// Interface, URL and entry of those in our region.
    pub endpoints: Vec<(String, String, Entry)>,
}

/// What removing needs to know: only what setup has made.
#[derive(Clone, Debug, Default)]
pub struct Ours {
    pub endpoints: Vec<(String, String)>,
    pub service: Option<String>,
    /// Endpoints of it that others have made.
    pub service_is_used: bool,
    pub user: Option<(String, String)>,
    pub domain: Option<(String, String)>,
    /// Users in it beside its administrator: those of clusters.
    pub trustees: usize,
    pub project: Option<(String, String)>,
    pub project_is_used: bool,
}

const DEFAULT_DOMAIN: &str = "default";
pub const CATALOGUE_TYPE: &str = "container-infra";

pub(super) fn cloud(what: &str) -> impl FnOnce(CloudError) -> SetupError {
    move |source| SetupError::Cloud { what: what.to_owned(), source }
}

/// The region of a cloud that has no other.
pub async fn only_region(keystone_admin: &KeystoneAdmin) -> Result<String, SetupError> {
    match regions(keystone_admin).await?.as_slice() {
        [only] => Ok(only.clone()),
        [] => Err(SetupError::Refused("this Keystone has no region; make one first".to_owned())),
        several => Err(SetupError::Refused(format!(
            "there are several regions, and none was chosen; give --region, or set OS_REGION_NAME: \
             {}",
            several.join(", ")
        ))),
    }
}

async fn regions(keystone_admin: &KeystoneAdmin) -> Result<Vec<String>, SetupError> {
    let regions =
        keystone_admin.list(Register::Regions, &[]).await.map_err(cloud("the regions"))?;
    Ok(regions.iter().filter_map(|r| r["id"].as_str()).map(str::to_owned).collect())
}

pub async fn look(
    keystone_admin: &KeystoneAdmin,
    names: &Names,
    credentials: &Credentials,
    file: &File,
) -> Result<Facts, SetupError> {
    let mut facts = Facts { regions: regions(keystone_admin).await?, ..Facts::default() };
    let in_default = |name| named(name, Some(DEFAULT_DOMAIN));
    facts.project = one(keystone_admin, Register::Projects, &in_default(&names.project)).await?;
    facts.user = one(keystone_admin, Register::Users, &in_default(&names.user)).await?;
    facts.domain = one(keystone_admin, Register::Domains, &named(&names.domain, None)).await?;
    if let (Some(user), Some(project)) = (&facts.user, &facts.project) {
        let place = Place::Project(project.id.clone());
        facts.user_is_admin = is_admin(keystone_admin, &user.id, &place).await?;
        facts.user_logs_in = logs_in(credentials, &user.id, &file.password, &place).await?;
    }
    if let Some(domain) = &facts.domain {
        let (keeper, place) = (names.keeper(), Place::Domain(domain.id.clone()));
        let query = named(&keeper, Some(&domain.id));
        facts.keeper = one(keystone_admin, Register::Users, &query).await?;
        if let Some(keeper) = &facts.keeper {
            facts.keeper_is_admin = is_admin(keystone_admin, &keeper.id, &place).await?;
            facts.keeper_logs_in =
                logs_in(credentials, &keeper.id, &file.keeper_password, &place).await?;
        }
    }
    facts.service = one(keystone_admin, Register::Services, &[("type", CATALOGUE_TYPE)]).await?;
    if let Some(service) = &facts.service {
        for endpoint in endpoints(keystone_admin, &service.id, &names.region).await? {
            let text = |key: &str| endpoint[key].as_str().unwrap_or_default().to_owned();
            facts.endpoints.push((text("interface"), text("url"), entry(&endpoint)));
        }
    }
    Ok(facts)
}

pub async fn ours(keystone_admin: &KeystoneAdmin, names: &Names) -> Result<Ours, SetupError> {
    let mut ours = Ours::default();
    let service = one(keystone_admin, Register::Services, &[("type", CATALOGUE_TYPE)]).await?;
    if let Some(service) = service {
        let all = keystone_admin.list(Register::Endpoints, &[("service_id", &service.id)]).await;
        let all = all.map_err(cloud("the endpoints"))?;
        let here = |e: &&Value| e["region_id"] == names.region && is_ours(e);
        for endpoint in all.iter().filter(here) {
            let text = |key: &str| endpoint[key].as_str().unwrap_or_default().to_owned();
            ours.endpoints.push((text("id"), text("interface")));
        }
        ours.service_is_used = all.len() > ours.endpoints.len();
        ours.service = Some(service.id).filter(|_| service.is_ours);
    }
    let in_default = |name| named(name, Some(DEFAULT_DOMAIN));
    let made = |found: Option<Entry>, name: &str| {
        found.filter(|entry| entry.is_ours).map(|entry| (entry.id, name.to_owned()))
    };
    let user = one(keystone_admin, Register::Users, &in_default(&names.user)).await?;
    ours.user = made(user, &names.user);
    let domain = one(keystone_admin, Register::Domains, &named(&names.domain, None)).await?;
    ours.domain = made(domain, &names.domain);
    if let Some((id, _)) = &ours.domain {
        let users = keystone_admin.list(Register::Users, &[("domain_id", id)]).await;
        let users = users.map_err(cloud("the users of the domain"))?;
        ours.trustees = users.iter().filter(|u| u["name"] != *names.keeper()).count();
    }
    let project = one(keystone_admin, Register::Projects, &in_default(&names.project)).await?;
    ours.project = made(project, &names.project);
    if let Some((id, _)) = &ours.project {
        let query = [("scope.project.id", id.as_str())];
        let all = keystone_admin.list(Register::Assignments, &query).await;
        let all = all.map_err(cloud("the project's users"))?;
        let own = ours.user.as_ref().map(|(id, _)| id.as_str());
        ours.project_is_used = all
            .iter()
            .filter(|a| a["scope"]["project"]["id"] == **id)
            .any(|a| a["user"]["id"].as_str() != own);
    }
    Ok(ours)
}

fn named<'n>(name: &'n str, domain: Option<&'n str>) -> Vec<(&'static str, &'n str)> {
    let domain = domain.map(|id| ("domain_id", id));
    std::iter::once(("name", name)).chain(domain).collect()
}

async fn one(
    keystone_admin: &KeystoneAdmin,
    register: Register,
    query: &[(&str, &str)],
) -> Result<Option<Entry>, SetupError> {
    let list = keystone_admin.list(register, query).await;
    let list = list.map_err(cloud(&format!("looking for a {}", register.singular())))?;
    // Filters that a Keystone does not know it ignores.
    let fits = |entry: &&Value| query.iter().all(|(key, value)| entry[*key] == *value);
    Ok(list.iter().find(fits).map(entry))
}

fn entry(value: &Value) -> Entry {
    let id = value["id"].as_str().unwrap_or_default().to_owned();
    Entry { id, is_ours: is_ours(value) }
}

async fn endpoints(
    keystone_admin: &KeystoneAdmin,
    service: &str,
    region: &str,
) -> Result<Vec<Value>, SetupError> {
    let query = [("service_id", service), ("region_id", region)];
    let all =
        keystone_admin.list(Register::Endpoints, &query).await.map_err(cloud("the endpoints"))?;
    let here = |e: &Value| e["service_id"] == service && e["region_id"] == region;
    Ok(all.into_iter().filter(here).collect())
}

/// The id of the role admin.
pub async fn admin_role(keystone_admin: &KeystoneAdmin) -> Result<String, SetupError> {
    let role = one(keystone_admin, Register::Roles, &[("name", "admin")]).await?;
    role.map(|role| role.id).ok_or_else(|| {
        SetupError::Refused("this Keystone has no role admin; run keystone-manage bootstrap".into())
    })
}

async fn is_admin(
    keystone_admin: &KeystoneAdmin,
    user: &str,
    place: &Place,
) -> Result<bool, SetupError> {
    let role = admin_role(keystone_admin).await?;
    keystone_admin.has_role(user, place, &role).await.map_err(cloud("the role admin"))
}

/// Whether the password of the configuration is the account's.
async fn logs_in(
    credentials: &Credentials,
    user: &str,
    password: &Secret<String>,
    place: &Place,
) -> Result<bool, SetupError> {
    match KeystoneAdmin::log_in(&credentials.of_another(user, password, place)).await {
        Ok(_) => Ok(true),
        Err(crate::openstack::RegistrarError::Cloud(e)) if e.is_unauthorised() => Ok(false),
        Err(e) => Err(e.into()),
    }
}
