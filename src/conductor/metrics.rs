//! What the conductor counts.

use std::time::Duration;

use super::StepError;
use super::engine::Progress;
use crate::base::metrics::{
    Counter, Durations, EncodeLabelSet, Family, MetricSet, Registry, Unit, durations,
};
use crate::model::operation::Operation;
use crate::store::StoreError;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Taken {
    operation: &'static str,
    step: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Of {
    operation: &'static str,
    step: &'static str,
}

/// Steps of operations, by how they ended. Clones count together.
#[derive(Clone, Debug)]
pub struct StepMetrics {
    steps: Family<Taken, Counter>,
    seconds: Durations<Of>,
}

impl Default for StepMetrics {
    fn default() -> Self {
        Self { steps: Family::default(), seconds: durations() }
    }
}

impl MetricSet for StepMetrics {
    fn register(&self, registry: &mut Registry) {
        registry.register(
            "operation_steps",
            "Steps taken, by operation, step and outcome: advanced, waiting, finished, stale, \
             cloud, disk, failed, stopped",
            self.steps.clone(),
        );
        registry.register_with_unit(
            "operation_step_duration",
            "How long steps took",
            Unit::Seconds,
            self.seconds.clone(),
        );
    }
}

impl StepMetrics {
    pub(super) fn taken(
        &self,
        operation: &Operation,
        outcome: &Result<Progress, StepError>,
        took: Duration,
    ) {
        let (operation, step) = (operation.kind.name(), operation.kind.step_name());
        let outcome = match outcome {
            Ok(Progress::Advanced) => "advanced",
            Ok(Progress::Waiting(_) | Progress::Paused(_) | Progress::Aside(_)) => "waiting",
            Ok(Progress::Finished) => "finished",
            Err(StepError::Store(StoreError::Conflict)) => "stale",
            Err(StepError::Store(_)) => "disk",
            Err(StepError::Cloud(_)) => "cloud",
            Err(StepError::Failed { .. } | StepError::Sealed(_)) => "failed",
            Err(StepError::Stopped(_)) => "stopped",
        };
        self.steps.get_or_create(&Taken { operation, step, outcome }).inc();
        self.seconds.get_or_create(&Of { operation, step }).observe(took.as_secs_f64());
    }
}
