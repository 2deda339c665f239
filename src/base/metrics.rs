//! Metrics for whoever watches the daemon from outside: typed, and owned by the room that counts.
//!
//! A room keeps its own metrics and counts whether or not anybody asks. Whoever shows them
//! registers each room's once; there is nothing global.

pub use prometheus_client::encoding::EncodeLabelSet;
pub use prometheus_client::encoding::text::encode;
pub use prometheus_client::metrics::counter::Counter;
pub use prometheus_client::metrics::family::Family;
pub use prometheus_client::metrics::gauge::Gauge;
pub use prometheus_client::metrics::histogram::Histogram;
pub use prometheus_client::registry::{Registry, Unit};

/// What a room counts.
pub trait MetricSet {
    /// Makes the metrics known under their names; later counting shows through `registry`.
    fn register(&self, registry: &mut Registry);
}

/// One histogram of durations for each set of labels.
pub type Durations<L> = Family<L, Histogram, fn() -> Histogram>;

/// Durations from a cached read to a long poll.
pub fn durations<L: Clone + Eq + std::hash::Hash>() -> Durations<L> {
    Family::new_with_constructor(duration)
}

/// From a fifth of a millisecond to a minute.
pub fn duration() -> Histogram {
    const SECONDS: [f64; 14] =
        [0.0002, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.25, 1.0, 2.5, 10.0, 30.0, 60.0];
    Histogram::new(SECONDS)
}

/// How many things were done together.
pub fn batch() -> Histogram {
    Histogram::new([1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0])
}
