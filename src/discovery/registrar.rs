//! Takes registrations in either protocol: counts them, and says what was wrong with them.

use std::time::Duration;

use tracing::{Instrument, error, warn};

use super::metrics::DiscoveryMetrics;
use super::registry::{Registry, RegistryError, Token, first};
use crate::base::http::server::Origin;
use crate::store::StoreError;

/// Members give up after 5 s; a registration that takes longer than this is worth a warning.
const SLOW: Duration = Duration::from_secs(4);

/// Clones share everything.
#[derive(Clone)]
pub struct Registrar {
    registry: Registry,
    metrics: DiscoveryMetrics,
}

/// Whoever wants to register.
pub struct Registration {
    pub id: String,
    pub value: String,
    pub origin: Origin,
    pub protocol: &'static str,
}

impl Registrar {
    pub const fn new(registry: Registry, metrics: DiscoveryMetrics) -> Self {
        Self { registry, metrics }
    }

    pub const fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Registers a member under a token that is known; answers the token as it then stands.
    pub async fn register(
        &self,
        token: &Token,
        registration: Registration,
    ) -> Result<Token, RegistryError> {
        let Registration { id, value, origin, protocol } = registration;
        let (registry, name, member) = (self.registry.clone(), token.text.clone(), id.clone());
        let source = origin.peer.ip();
        // A task of its own: a member that hangs up meanwhile must not keep the others from
        // hearing of a registration that is already on disk.
        let task = tokio::spawn(
            async move { registry.register(&name, &member, &value, source).await }
                .in_current_span(),
        );
        let outcome = task.await.unwrap_or(Err(RegistryError::Store(StoreError::Closed)));
        self.metrics.ended(protocol, &outcome);
        let (cluster, token) = (token.cluster_id, first(&token.name));
        let took = origin.since.elapsed();
        if took > SLOW {
            warn!(
                %cluster, token, member = id, %source, protocol, ?took,
                "registering an etcd member took so long that it may have given up"
            );
        }
        match &outcome {
            Ok(_) | Err(RegistryError::Unknown) => {}
            Err(RegistryError::Store(error)) => {
                error!(%cluster, token, %error, "discovery cannot read or write the state");
            }
            Err(RegistryError::Refused(reason)) => {
                warn!(%cluster, token, %source, protocol, member = id, %reason,
                    "an etcd member was refused");
            }
        }
        outcome
    }
}
