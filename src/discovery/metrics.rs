//! What discovery counts.

use super::RegistryError;
use crate::base::metrics::{Counter, EncodeLabelSet, Family, MetricSet, Registry};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Ended {
    protocol: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Called {
    call: &'static str,
    code: u32,
}

/// Registrations by how they ended, and calls over gRPC, whose outcome HTTP does not show.
/// Clones count together.
#[derive(Clone, Debug, Default)]
pub struct DiscoveryMetrics {
    registrations: Family<Ended, Counter>,
    calls: Family<Called, Counter>,
}

impl MetricSet for DiscoveryMetrics {
    fn register(&self, registry: &mut Registry) {
        registry.register(
            "discovery_registrations",
            "Registrations of etcd members by protocol, v2 or v3, and by outcome: registered, \
             refused, unknown, disk",
            self.registrations.clone(),
        );
        for call in ["range", "put", "watch"] {
            // Shown before the first one comes.
            self.calls.get_or_create_owned(&Called { call, code: 0 });
        }
        registry.register(
            "discovery_grpc_calls",
            "Calls of etcd 3.6 and later by name and by gRPC's status code",
            self.calls.clone(),
        );
    }
}

impl DiscoveryMetrics {
    pub(super) fn ended<T>(&self, protocol: &'static str, outcome: &Result<T, RegistryError>) {
        let outcome = match outcome {
            Ok(_) => "registered",
            Err(RegistryError::Refused(_)) => "refused",
            Err(RegistryError::Unknown) => "unknown",
            Err(RegistryError::Store(_)) => "disk",
        };
        self.registrations.get_or_create(&Ended { protocol, outcome }).inc();
    }

    #[cfg(feature = "etcd-v3")]
    pub(super) fn called(&self, call: &'static str, code: u32) {
        self.calls.get_or_create(&Called { call, code }).inc();
    }
}
