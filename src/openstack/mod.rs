//! The hands that reach into OpenStack: own clients over shared connection pools.
//!
//! No call is repeated in secret except a read whose connection broke; every call has a
//! deadline; every failure says what can be done about it ([`CloudError`]).

mod call;
mod catalog;
mod credentials;
mod error;
#[cfg(fuzzing)]
pub mod fuzzing;
mod heat;
mod keystone;
mod keystone_admin;
mod lookup;
mod octavia;
#[cfg(test)]
mod oddities;
mod reach;
mod resize;
mod survey;
pub mod token;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use moka::future::Cache;
use serde_json::Value;

use crate::base::clock::Clock;
use crate::base::http::tls::TlsError;
use crate::base::secret::Secret;
use call::{Caller, SharedCaller};
use catalog::{NoEndpoint, Selection};
use lookup::LookupKey;

pub use call::{CallMetrics, ServiceSettings};
pub use credentials::{Credentials, CredentialsError};
pub use error::{CloudError, Service};
pub use heat::{FailedResource, Heat, ListedStack, NewStack, Projects, StackUpdate};
pub use keystone::{Accounts, Identity, Keystone, Maker, Session, Trust, Trustee};
pub use keystone_admin::{KeystoneAdmin, Place, Register, RegistrarError};
pub use lookup::{Flavor, Found, Image, Network, Subnet};
pub use octavia::{Balancer, FloatingIp};
pub use reach::{Exit, Seen};
pub use resize::FailedResize;
pub use survey::{Addresses, Allowance, Allowances};
pub use token::Tokens;

/// How to reach a cloud.
#[derive(Clone, Debug)]
pub struct CloudSettings {
    pub accounts: Accounts,
    pub services: HashMap<Service, ServiceSettings>,
    /// Simultaneous calls per service.
    pub concurrency: usize,
    pub connect_timeout: Duration,
    pub deadline: Duration,
    /// How long a validated token is believed.
    pub remember_tokens: Duration,
    /// How long images, flavors and networks are remembered.
    pub remember_lookups: Duration,
}

/// Whoever's credentials a call carries.
#[derive(Clone, Debug)]
pub struct Actor {
    pub token: Secret<String>,
    pub project_id: String,
    pub user_id: String,
}

impl From<&Session> for Actor {
    fn from(session: &Session) -> Self {
        Self {
            token: session.token.clone(),
            project_id: session.project_id.clone(),
            user_id: session.user_id.clone(),
        }
    }
}

/// One OpenStack; clones share its pools and caches.
#[derive(Clone)]
pub struct Cloud {
    inner: Arc<Inner>,
}

struct Inner {
    caller: SharedCaller,
    keystone: Arc<Keystone>,
    tokens: Tokens,
    services: HashMap<Service, ServiceSettings>,
    lookups: Cache<LookupKey, Arc<Value>>,
}

impl Cloud {
    /// Prepares the clients; opens no connection.
    pub fn new(settings: CloudSettings, clock: Clock) -> Result<Self, TlsError> {
        let CloudSettings { accounts, services, .. } = settings;
        let caller = Arc::new(Caller::new(
            &services,
            settings.concurrency,
            settings.connect_timeout,
            settings.deadline,
        )?);
        let keystone = Arc::new(Keystone::new(Arc::clone(&caller), clock.clone(), accounts));
        let tokens = Tokens::new(Arc::clone(&keystone), clock, settings.remember_tokens);
        let lookups =
            Cache::builder().max_capacity(10_000).time_to_live(settings.remember_lookups).build();
        Ok(Self { inner: Arc::new(Inner { caller, keystone, tokens, services, lookups }) })
    }

    pub fn keystone(&self) -> &Keystone {
        &self.inner.keystone
    }

    pub fn tokens(&self) -> Tokens {
        self.inner.tokens.clone()
    }

    pub fn metrics(&self) -> &CallMetrics {
        self.inner.caller.metrics()
    }

    /// How long a service has not answered, and what was heard of it last; none while it answers.
    pub fn silence(&self, service: Service) -> Option<(Duration, String)> {
        self.inner.caller.silence(service)
    }

    /// Whether the catalogue has a service, in the region that is configured for it, as our own
    /// session sees it.
    pub async fn has(&self, service: Service) -> Result<bool, CloudError> {
        let session = self.keystone().service().await?;
        Ok(session.catalog.has(service, self.selection(service).region.as_deref()))
    }

    /// The endpoint of a service for a project.
    pub async fn url(&self, service: Service, project: &str) -> Result<String, CloudError> {
        self.endpoint(service, &self.selection(service), project).await
    }

    /// The endpoint of a service for those who are outside, as nodes are.
    pub async fn public_url(&self, service: Service, project: &str) -> Result<String, CloudError> {
        let public = Selection { interface: "public".to_owned(), ..self.selection(service) };
        self.endpoint(service, &public, project).await
    }

    /// Services that are in several regions of which none is configured, with a sentence for each.
    pub async fn unclear(&self) -> Result<Vec<CloudError>, CloudError> {
        let session = self.keystone().service().await?;
        let look = |service: Service| {
            let selection = self.selection(service);
            match session.catalog.url(service, &selection, &session.project_id) {
                Err(none @ NoEndpoint::Several(_)) => Some(no_endpoint(service, &selection, &none)),
                _ => None,
            }
        };
        Ok(Service::ALL.into_iter().filter_map(look).collect())
    }

    /// The regions between which controllers on nodes would have to guess when they are told none;
    /// empty where there is nothing to guess.
    pub async fn regions_for_nodes(&self) -> Result<Vec<String>, CloudError> {
        let session = self.keystone().service().await?;
        let any = Selection { interface: "public".to_owned(), region: None };
        let called = [Service::Nova, Service::Neutron, Service::Octavia, Service::Cinder];
        let several = called.into_iter().find_map(|service| {
            match session.catalog.url(service, &any, &session.project_id) {
                Err(NoEndpoint::Several(regions)) => Some(regions),
                _ => None,
            }
        });
        Ok(several.unwrap_or_default())
    }

    fn selection(&self, service: Service) -> Selection {
        let settings = &self.inner.services[&service];
        Selection { interface: settings.interface.clone(), region: settings.region.clone() }
    }

    async fn endpoint(
        &self,
        service: Service,
        selection: &Selection,
        project: &str,
    ) -> Result<String, CloudError> {
        let session = self.keystone().service().await?;
        let found = session.catalog.url(service, selection, project);
        found.map_err(|none| no_endpoint(service, selection, &none))
    }
}

fn no_endpoint(service: Service, selection: &Selection, none: &NoEndpoint) -> CloudError {
    let Selection { interface, region } = selection;
    match none {
        NoEndpoint::Missing => CloudError::Refused {
            service,
            status: 0,
            reason: format!(
                "the catalogue has no {interface} endpoint of {service} in region {}",
                region.as_deref().unwrap_or("(any)")
            ),
        },
        NoEndpoint::Several(regions) => {
            CloudError::Unclear { service, regions: regions.join(" and ") }
        }
    }
}
