//! What requests name, looked up in the cloud, and the refusals where it is not there.

use super::{Conductor, RequestError};
use crate::openstack::{Actor, Flavor, Found, Image, Network, Subnet};

impl Conductor {
    pub(super) async fn image(&self, actor: &Actor, wanted: &str) -> Result<Image, RequestError> {
        let found = self.inner.cloud.image(actor, wanted).await?;
        let missing = || format!("Image {wanted} could not be found.");
        let image = the_one(found, "image", wanted, missing)?;
        match image.status.as_str() {
            "active" => Ok(image),
            status => Err(RequestError::Invalid(format!(
                "Image {wanted} is {status}; it must be active."
            ))),
        }
    }

    pub(super) async fn flavor(
        &self,
        actor: &Actor,
        wanted: Option<&str>,
    ) -> Result<Option<Flavor>, RequestError> {
        let Some(wanted) = wanted else { return Ok(None) };
        let found = self.inner.cloud.flavor(actor, wanted).await?;
        let missing = || format!("Unable to find flavor {wanted}.");
        the_one(found, "flavor", wanted, missing).map(Some)
    }

    pub(super) async fn network(
        &self,
        actor: &Actor,
        wanted: Option<&str>,
        kind: &str,
    ) -> Result<Option<Network>, RequestError> {
        let Some(wanted) = wanted else { return Ok(None) };
        let found = self.inner.cloud.network(actor, wanted).await?;
        let missing = || format!("Unable to find {kind} network {wanted}.");
        the_one(found, "network", wanted, missing).map(Some)
    }

    pub(super) async fn subnet(
        &self,
        actor: &Actor,
        wanted: Option<&str>,
    ) -> Result<Option<Subnet>, RequestError> {
        let Some(wanted) = wanted else { return Ok(None) };
        let found = self.inner.cloud.subnet(actor, wanted).await?;
        let missing = || format!("Unable to find fixed subnet {wanted}.");
        the_one(found, "subnet", wanted, missing).map(Some)
    }

    /// A network with one subnet leaves no doubt about which one is meant. Neutron tells a network's
    /// subnets also to those whom it does not show them, and nobody has named this one.
    pub(super) async fn only_subnet(
        &self,
        actor: &Actor,
        network: &Network,
        wanted: Option<&str>,
    ) -> Result<Option<Subnet>, RequestError> {
        let [only] = network.subnets.as_slice() else { return Ok(None) };
        if let Found::One(subnet) = self.inner.cloud.subnet(actor, only).await? {
            return Ok(Some(subnet));
        }
        let wanted = wanted.unwrap_or(&network.id);
        let why = match network.external {
            true => "it is router:external, and its subnet is not for this project's servers",
            false => "its only subnet is not shown to this project",
        };
        Err(RequestError::Invalid(format!(
            "Unable to use fixed network {wanted}: {why}. fixed_network must name a network of the \
             project, or one that is shared with it."
        )))
    }

    pub(super) async fn public_key(
        &self,
        actor: &Actor,
        keypair: Option<&str>,
    ) -> Result<Option<String>, RequestError> {
        let Some(name) = keypair else { return Ok(None) };
        match self.inner.cloud.keypair(actor, name).await? {
            Some(key) => Ok(Some(key)),
            None => Err(RequestError::Missing(format!("Unable to find keypair {name}."))),
        }
    }
}

/// What a name means where it means one thing; `missing` is what is said where it means nothing.
fn the_one<T>(
    found: Found<T>,
    kind: &str,
    wanted: &str,
    missing: impl FnOnce() -> String,
) -> Result<T, RequestError> {
    match found {
        Found::One(one) => Ok(one),
        Found::None => Err(RequestError::Invalid(missing())),
        Found::Several => Err(RequestError::Conflict(format!(
            "Multiple {kind}s exist with same name {wanted}. Please use the {kind} id instead."
        ))),
    }
}
