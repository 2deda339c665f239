//! Images, flavors, key pairs, networks: looked up by what a tenant wrote, and remembered
//! for a while, because a cached fact needs no call.

use std::pin::Pin;
use std::sync::Arc;

use hyper::header::HeaderName;
use serde_json::Value;

use super::call::{Call, encode, field, list};
use super::error::{CloudError, Service};
use super::{Actor, Cloud};

/// What Glance says of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    pub id: String,
    pub name: String,
    pub status: String,
    pub os_distro: Option<String>,
    pub kube_version: Option<String>,
    /// A driver asked for by the image, as upstream's out-of-tree drivers do.
    pub magnum_driver: Option<String>,
    /// GiB of disk and MiB of memory below which Nova does not boot it.
    pub min_disk: u64,
    pub min_ram: u64,
}

/// What Nova says of a flavor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flavor {
    pub id: String,
    pub name: String,
    /// GiB of root disk; 0 means the root must be a volume.
    pub disk: u64,
    pub ram: u64,
    pub vcpus: u64,
}

/// What Neutron says of a network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Network {
    pub id: String,
    pub name: String,
    pub external: bool,
    pub subnets: Vec<String>,
}

/// What Neutron says of a subnet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subnet {
    pub id: String,
    pub network_id: String,
    pub cidr: String,
}

/// What came of looking for a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found<T> {
    One(T),
    None,
    Several,
}

/// The key of a remembered answer: whose view it is, and what was asked.
pub(super) type LookupKey = (String, &'static str, String);

const NOVA_VERSION: HeaderName = HeaderName::from_static("openstack-api-version");

impl Cloud {
    pub async fn image(&self, actor: &Actor, wanted: &str) -> Result<Found<Image>, CloudError> {
        let body = self
            .remembered(actor, "image", wanted, async {
                let base = self.url(Service::Glance, &actor.project_id).await?;
                // An id is asked for first: the name filter would not find it.
                let by_id = uuid::Uuid::parse_str(wanted).is_ok();
                if by_id {
                    let url = format!("{base}/v2/images/{}", encode(wanted));
                    match self.get(Service::Glance, url, actor, "the image").await {
                        Ok(image) => return Ok(Value::Array(vec![image])),
                        Err(e) if e.is_missing() => {}
                        Err(e) => return Err(e),
                    }
                }
                let url = format!("{base}/v2/images?name={}&limit=2", encode(wanted));
                let answer = self.get(Service::Glance, url, actor, "the images").await?;
                list(Service::Glance, answer, "images")
            })
            .await?;
        Ok(one(&body, Image::read))
    }

    /// A flavor by id or name.
    pub async fn flavor(&self, actor: &Actor, wanted: &str) -> Result<Found<Flavor>, CloudError> {
        // One list answers for every flavor of the project.
        let body = self
            .remembered(actor, "flavors", "", async {
                let base = self.url(Service::Nova, &actor.project_id).await?;
                let url = format!("{base}/flavors/detail?is_public=None");
                let public = format!("{base}/flavors/detail");
                // Only administrators may ask for all; others are refused or shown their own.
                let answer = match self.get(Service::Nova, url, actor, "the flavors").await {
                    Err(CloudError::Refused { status: 400 | 403, .. }) => {
                        self.get(Service::Nova, public, actor, "the flavors").await
                    }
                    other => other,
                };
                list(Service::Nova, answer?, "flavors")
            })
            .await?;
        let all = body.as_array().map(Vec::as_slice).unwrap_or_default();
        let fits: Vec<Value> = ["id", "name"]
            .iter()
            .map(|key| all.iter().filter(|f| f[*key] == wanted).cloned().collect::<Vec<_>>())
            .find(|fits| !fits.is_empty())
            .unwrap_or_default();
        Ok(one(&Value::Array(fits), Flavor::read))
    }

    /// The public half of the actor's own key pair; None when there is no such pair.
    pub async fn keypair(&self, actor: &Actor, name: &str) -> Result<Option<String>, CloudError> {
        let body = self
            .remembered(actor, "keypair", &format!("{}/{name}", actor.user_id), async {
                let base = self.url(Service::Nova, &actor.project_id).await?;
                let url = format!("{base}/os-keypairs/{}", encode(name));
                match self.get(Service::Nova, url, actor, "the key pair").await {
                    Ok(body) => field(Service::Nova, body, "keypair"),
                    Err(e) if e.is_missing() => Ok(Value::Null),
                    Err(e) => Err(e),
                }
            })
            .await?;
        Ok(body["public_key"].as_str().map(str::to_owned))
    }

    /// A network by id or name.
    pub async fn network(&self, actor: &Actor, wanted: &str) -> Result<Found<Network>, CloudError> {
        let body = self.neutron(actor, "networks", wanted).await?;
        Ok(one(&body, Network::read))
    }

    /// A subnet by id or name.
    pub async fn subnet(&self, actor: &Actor, wanted: &str) -> Result<Found<Subnet>, CloudError> {
        let body = self.neutron(actor, "subnets", wanted).await?;
        Ok(one(&body, Subnet::read))
    }

    /// Whether the actor's project has a server of this id and name. A list without details,
    /// because for the details of one server Nova asks Neutron twice.
    pub async fn has_server(
        &self,
        actor: &Actor,
        name: &str,
        id: &str,
    ) -> Result<bool, CloudError> {
        let base = self.url(Service::Nova, &actor.project_id).await?;
        let url = format!("{base}/servers?name={}", encode(name));
        let body = self.get(Service::Nova, url, actor, "the server").await?;
        let mut servers = body["servers"].as_array().into_iter().flatten();
        Ok(servers.any(|server| server["id"] == id && server["name"] == name))
    }

    /// The image that a server has been built from, or is being rebuilt from; None where it boots
    /// from a volume.
    pub async fn image_of_server(
        &self,
        actor: &Actor,
        id: &str,
    ) -> Result<Option<String>, CloudError> {
        let base = self.url(Service::Nova, &actor.project_id).await?;
        let url = format!("{base}/servers/{}", encode(id));
        let body = self.get(Service::Nova, url, actor, "the server").await?;
        Ok(body["server"]["image"]["id"].as_str().map(str::to_owned))
    }

    async fn neutron(
        &self,
        actor: &Actor,
        kind: &'static str,
        wanted: &str,
    ) -> Result<Arc<Value>, CloudError> {
        self.remembered(actor, kind, wanted, async {
            let base = self.url(Service::Neutron, &actor.project_id).await?;
            let base = base.trim_end_matches("/v2.0");
            for key in ["id", "name"] {
                let url = format!("{base}/v2.0/{kind}?{key}={}", encode(wanted));
                let answer = self.get(Service::Neutron, url, actor, kind).await?;
                let found = list(Service::Neutron, answer, kind)?;
                if found.as_array().is_some_and(|list| !list.is_empty()) {
                    return Ok(found);
                }
            }
            Ok(Value::Array(Vec::new()))
        })
        .await
    }

    /// One document of a service, as the actor is shown it.
    pub(super) async fn get(
        &self,
        service: Service,
        url: String,
        actor: &Actor,
        what: &str,
    ) -> Result<Value, CloudError> {
        let call = Call::get(service, url, &actor.token, what);
        let call = match service {
            Service::Nova => call.header(NOVA_VERSION, "compute 2.1"),
            _ => call,
        };
        self.inner.caller.json(call).await
    }

    /// An answer from memory, or one call for all who ask the same at once. What does not
    /// exist is not remembered: the tenant is about to make it.
    pub(super) async fn remembered(
        &self,
        actor: &Actor,
        kind: &'static str,
        wanted: &str,
        ask: impl Future<Output = Result<Value, CloudError>> + Send,
    ) -> Result<Arc<Value>, CloudError> {
        let key: LookupKey = (actor.project_id.clone(), kind, wanted.to_owned());
        // Boxed inside and out: the cache's future holds several copies of ours, six lookups
        // run side by side, and all of it would lie on one thread's stack.
        let ask: Pin<Box<dyn Future<Output = _> + Send>> =
            Box::pin(async { ask.await.map(Arc::new) });
        let answer = Box::pin(self.inner.lookups.try_get_with(key.clone(), ask))
            .await
            .map_err(|e: Arc<CloudError>| (*e).clone())?;
        if answer.is_null() || answer.as_array().is_some_and(Vec::is_empty) {
            self.inner.lookups.invalidate(&key).await;
        }
        Ok(answer)
    }
}

impl Image {
    fn read(image: &Value) -> Option<Self> {
        let text = |key: &str| image[key].as_str().map(str::to_owned);
        Some(Self {
            id: text("id")?,
            name: text("name").unwrap_or_default(),
            status: text("status").unwrap_or_default(),
            os_distro: text("os_distro").filter(|v| !v.is_empty()),
            kube_version: text("kube_version").filter(|v| !v.is_empty()),
            magnum_driver: text("magnum_driver").filter(|v| !v.is_empty()),
            min_disk: image["min_disk"].as_u64().unwrap_or(0),
            min_ram: image["min_ram"].as_u64().unwrap_or(0),
        })
    }
}

impl Flavor {
    fn read(flavor: &Value) -> Option<Self> {
        Some(Self {
            id: flavor["id"].as_str()?.to_owned(),
            name: flavor["name"].as_str()?.to_owned(),
            disk: flavor["disk"].as_u64().unwrap_or(0),
            ram: flavor["ram"].as_u64().unwrap_or(0),
            vcpus: flavor["vcpus"].as_u64().unwrap_or(0),
        })
    }
}

impl Network {
    fn read(network: &Value) -> Option<Self> {
        let subnets = network["subnets"].as_array().into_iter().flatten();
        Some(Self {
            id: network["id"].as_str()?.to_owned(),
            name: network["name"].as_str().unwrap_or_default().to_owned(),
            external: network["router:external"].as_bool().unwrap_or(false),
            subnets: subnets.filter_map(Value::as_str).map(str::to_owned).collect(),
        })
    }
}

impl Subnet {
    fn read(subnet: &Value) -> Option<Self> {
        let text = |key: &str| subnet[key].as_str().map(str::to_owned);
        Some(Self { id: text("id")?, network_id: text("network_id")?, cidr: text("cidr")? })
    }
}

/// A list as every kind of lookup reads it.
#[cfg(fuzzing)]
pub(super) fn read(list: &Value) {
    let _found = (one(list, Image::read), one(list, Flavor::read));
    let _found = (one(list, Network::read), one(list, Subnet::read));
}

/// The only one of a list.
fn one<T>(list: &Value, read: impl Fn(&Value) -> Option<T>) -> Found<T> {
    match list.as_array().map(Vec::as_slice) {
        Some([only]) => read(only).map_or(Found::None, Found::One),
        Some([_, _, ..]) => Found::Several,
        _ => Found::None,
    }
}
