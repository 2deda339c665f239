//! What Heat asks of the rest of the cloud: the seam between the engine and the services.
//!
//! Heat's plugins call Nova, Neutron and Cinder over HTTP with the tenant's token. Here the
//! engine calls one trait in the same process; whoever implements it owns servers, ports and
//! networks, their quotas and the order in which they may go away.

use serde_json::Value;

/// On whose behalf something is made.
#[derive(Clone, Debug)]
pub struct Owner {
    pub project_id: String,
    pub user_id: String,
    pub roles: Vec<String>,
}

/// How a physical resource fares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    Building,
    Active,
    /// With the service's own sentence, such as a server's fault message.
    Error(String),
    Gone,
}

/// A service's "no".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    pub status: u16,
    /// The client's exception, such as `Conflict`, `NotFound`, `Forbidden`.
    pub kind: &'static str,
    pub message: String,
}

/// The services behind Heat. Every call returns at once.
pub trait Services: Send + Sync + 'static {
    /// Makes a physical resource from resolved properties and returns its id at once; it may
    /// still be building. `name` is what Heat would call it where no `name` property is given.
    fn create(
        &self,
        owner: &Owner,
        kind: &str,
        name: &str,
        properties: &Value,
    ) -> Result<String, Refused>;

    fn state(&self, kind: &str, id: &str) -> State;

    /// Resolves `get_attr` on a physical resource (`fixed_ips`, `first_address`, `addresses`,
    /// `networks`, `floating_ip_address`, `show`, `name`, …). `None`: no such attribute.
    fn attribute(&self, kind: &str, id: &str, name: &str) -> Option<Value>;

    /// Begins deletion; `state` says when it is gone. A 404 counts as success, a 409 means the
    /// resource is in use.
    fn delete(&self, kind: &str, id: &str) -> Result<(), Refused>;

    /// What Heat does with a resource before it makes another in its place: a server's ports are
    /// detached (`prepare_ports_for_replace`), for the next one gets them.
    fn prepare_for_replace(&self, kind: &str, id: &str) {
        let _ = (kind, id);
    }

    /// Changes a physical resource in place; `properties` are all of the new ones, `changed` the
    /// names that differ. Only properties that Heat may update ever arrive here.
    fn update(
        &self,
        owner: &Owner,
        kind: &str,
        id: &str,
        properties: &Value,
        changed: &[String],
    ) -> Result<(), Refused> {
        let _ = (owner, kind, id, properties, changed);
        Ok(())
    }

    /// Whether a name or id that a property gives exists, asked by Heat's constraint name
    /// (`neutron.network`, `neutron.subnet`, `nova.flavor`, `glance.image`, `nova.keypair`, …)
    /// before anything is made. The error follows "Error validating value 'x': ".
    fn exists(&self, owner: &Owner, constraint: &str, value: &str) -> Result<(), String> {
        let _ = (owner, constraint, value);
        Ok(())
    }

    /// Whether this cloud has the plugin's service: no `OS::Octavia::*` without Octavia.
    fn has_kind(&self, kind: &str) -> bool;

    /// Makes the trust that Heat keeps for deferred work. Keystone refuses it for a token that
    /// is itself trust-scoped or comes from a restricted application credential.
    fn stack_trust(&self, token: &str) -> Result<String, Refused>;

    /// Whether Keystone still has that trust: it goes with its trustor.
    fn has_stack_trust(&self, id: &str) -> bool;

    fn drop_stack_trust(&self, id: &str);
}
