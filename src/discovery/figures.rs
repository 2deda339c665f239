//! What discovery counts.

use super::RegistryError;
use crate::base::metrics::{Counter, EncodeLabelSet, Family, Figures, Registry};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Ended {
    outcome: &'static str,
}

/// Registrations, by how they ended. Clones count together.
#[derive(Clone, Debug, Default)]
pub struct DiscoveryFigures {
    registrations: Family<Ended, Counter>,
}

impl Figures for DiscoveryFigures {
    fn register(&self, registry: &mut Registry) {
        registry.register(
            "discovery_registrations",
            "Registrations of etcd members by outcome: registered, refused, unknown, disk",
            self.registrations.clone(),
        );
    }
}

impl DiscoveryFigures {
    pub(super) fn ended<T>(&self, outcome: &Result<T, RegistryError>) {
        let outcome = match outcome {
            Ok(_) => "registered",
            Err(RegistryError::Refused(_)) => "refused",
            Err(RegistryError::Unknown) => "unknown",
            Err(RegistryError::Store(_)) => "disk",
        };
        self.registrations.get_or_create(&Ended { outcome }).inc();
    }
}
