//! The craft: a cluster goes in, what Heat shall build comes out. Pure.
//!
//! A driver is a directory of templates with a manifest; this is the one engine for all of them,
//! and it knows none by name. No client, no clock, no randomness: the same plan renders the same
//! bytes, so a golden file is the test.

pub mod bundle;
mod checks;
mod compile;
mod context;
pub mod count;
mod craft;
pub mod directory;
mod draw;
mod expression;
mod filters;
mod group_labels;
mod idle;
pub mod include;
pub mod label;
pub mod lint;
pub mod manifest;
mod names;
mod network;
mod nodes;
mod outcome;
mod parts;
pub mod plan;
mod reading;
mod registry;
pub mod sample;
mod spelling;
mod template;
mod templates;
mod undeclared;
mod upgrade;
mod version;
mod written;

use std::fmt;

pub use bundle::{Bundle, BundleFile};
pub use craft::{Deadlines, Driver, Waits};
pub use directory::Directory;
pub use plan::{ClusterPlan, DutyPlan, NodePlan};
pub use registry::{Drivers, Wishes};
pub use undeclared::Undeclared;
pub use upgrade::fields_of_drivers;
pub use version::KubeVersion;

/// Why a driver does not render.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DriverError {
    /// What the tenant asked for cannot be built; the sentence names field, value and cure.
    #[error("{0}")]
    Unsuitable(String),
    /// The driver's directory is at fault, not the tenant.
    #[error("driver {driver}: {file}{}: {reason}", Line(*line))]
    Template { driver: String, file: String, line: Option<u32>, reason: String },
}

/// Shows itself as editors and compilers write it after a file's name.
struct Line(Option<u32>);

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |line| write!(f, ":{line}"))
    }
}

/// What Heat built, read from a stack's outputs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// A URL such as `https://203.0.113.7:6443`.
    pub api_address: Option<String>,
    /// What `node_addresses` of the default groups show.
    pub master_addresses: Vec<String>,
    pub worker_addresses: Vec<String>,
    /// The masters' addresses inside the cluster's network, in order of their index;
    /// None until all of them are known.
    pub master_private: Option<Vec<String>>,
    /// Where nodes reach the API, without scheme or port; with a load balancer its address.
    pub api_internal: Option<String>,
    /// Every address by which somebody outside may call the API, so that its certificate
    /// can name them; None until all are known, empty when there are none.
    pub api_public: Option<Vec<String>>,
    /// What the tenant is told where outputs are no addresses.
    pub remark: Option<String>,
}
