//! What the bootstrap interface counts.

use crate::base::metrics::{Counter, EncodeLabelSet, Family, MetricSet, Registry};

const OUTCOMES: [&str; 5] = ["first", "again", "disputed", "refused", "restored"];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Ended {
    outcome: &'static str,
}

/// Claims of nodes' names by how they ended. Clones count together.
#[derive(Clone, Debug, Default)]
pub struct BootstrapMetrics {
    claims: Family<Ended, Counter>,
}

impl MetricSet for BootstrapMetrics {
    fn register(&self, registry: &mut Registry) {
        for outcome in OUTCOMES {
            // Shown before the first one comes: a dispute is an alarm.
            drop(self.claims.get_or_create(&Ended { outcome }));
        }
        registry.register(
            "bootstrap_claims",
            "Claims of nodes' names by outcome: first, again, disputed (by another server or key \
             than has it), refused, restored (bound again by a later certificate)",
            self.claims.clone(),
        );
    }
}

impl BootstrapMetrics {
    pub(super) fn claimed(&self, outcome: &'static str) {
        self.claims.get_or_create(&Ended { outcome }).inc();
    }
}
