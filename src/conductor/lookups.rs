//! What requests name, looked up in the cloud, and the refusals where it is not there.

use super::{Conductor, Refusal};
use crate::openstack::{Actor, Flavor, Found, Image, Network, Subnet};

impl Conductor {
    pub(super) async fn image(&self, actor: &Actor, wanted: &str) -> Result<Image, Refusal> {
        match self.inner.cloud.image(actor, wanted).await? {
            Found::One(image) if image.status == "active" => Ok(image),
            Found::One(image) => Err(Refusal::Invalid(format!(
                "Image {wanted} is {}; it must be active.",
                image.status
            ))),
            Found::None => Err(Refusal::Invalid(format!("Image {wanted} could not be found."))),
            Found::Several => Err(Refusal::Conflict(format!(
                "Multiple images exist with same name {wanted}. Please use the image id instead."
            ))),
        }
    }

    pub(super) async fn flavor(
        &self,
        actor: &Actor,
        wanted: Option<&str>,
    ) -> Result<Option<Flavor>, Refusal> {
        let Some(wanted) = wanted else { return Ok(None) };
        match self.inner.cloud.flavor(actor, wanted).await? {
            Found::One(flavor) => Ok(Some(flavor)),
            Found::None => Err(Refusal::Invalid(format!("Unable to find flavor {wanted}."))),
            Found::Several => Err(Refusal::Conflict(format!(
                "Multiple flavors exist with same name {wanted}. Please use the flavor id instead."
            ))),
        }
    }

    pub(super) async fn network(
        &self,
        actor: &Actor,
        wanted: Option<&str>,
        kind: &str,
    ) -> Result<Option<Network>, Refusal> {
        let Some(wanted) = wanted else { return Ok(None) };
        match self.inner.cloud.network(actor, wanted).await? {
            Found::One(network) => Ok(Some(network)),
            Found::None => {
                Err(Refusal::Invalid(format!("Unable to find {kind} network {wanted}.")))
            }
            Found::Several => Err(Refusal::Conflict(format!(
                "Multiple networks exist with same name {wanted}. Please use the network id \
                 instead."
            ))),
        }
    }

    pub(super) async fn subnet(
        &self,
        actor: &Actor,
        wanted: Option<&str>,
    ) -> Result<Option<Subnet>, Refusal> {
        let Some(wanted) = wanted else { return Ok(None) };
        match self.inner.cloud.subnet(actor, wanted).await? {
            Found::One(subnet) => Ok(Some(subnet)),
            Found::None => Err(Refusal::Invalid(format!("Unable to find fixed subnet {wanted}."))),
            Found::Several => Err(Refusal::Conflict(format!(
                "Multiple subnets exist with same name {wanted}. Please use the subnet id instead."
            ))),
        }
    }

    /// A network with one subnet leaves no doubt about which one is meant. Neutron tells a network's
    /// subnets also to those whom it does not show them, and nobody has named this one.
    pub(super) async fn only_subnet(
        &self,
        actor: &Actor,
        network: &Network,
        wanted: Option<&str>,
    ) -> Result<Option<Subnet>, Refusal> {
        let [only] = network.subnets.as_slice() else { return Ok(None) };
        if let Found::One(subnet) = self.inner.cloud.subnet(actor, only).await? {
            return Ok(Some(subnet));
        }
        let wanted = wanted.unwrap_or(&network.id);
        let why = match network.external {
            true => "it is router:external, and its subnet is not for this project's servers",
            false => "its only subnet is not shown to this project",
        };
        Err(Refusal::Invalid(format!(
            "Unable to use fixed network {wanted}: {why}. fixed_network must name a network of the \
             project, or one that is shared with it."
        )))
    }

    pub(super) async fn public_key(
        &self,
        actor: &Actor,
        keypair: Option<&str>,
    ) -> Result<Option<String>, Refusal> {
        let Some(name) = keypair else { return Ok(None) };
        match self.inner.cloud.keypair(actor, name).await? {
            Some(key) => Ok(Some(key)),
            None => Err(Refusal::Missing(format!("Unable to find keypair {name}."))),
        }
    }
}
