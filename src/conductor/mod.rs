//! The conductor: brings the cloud into line with what tenants asked for.
//!
//! A request becomes a durable [`crate::model::operation::Operation`]; the engine reads one
//! snapshot, has the operation's workflow decide and act, commits, and may be killed anywhere in
//! between. Before an outside act its intention is on disk; after it, its result; in between, the
//! name suffices to find it. Nothing is undone on failure: `delete` is the only collector.

mod addresses;
mod attempts;
mod balancers;
pub mod custodian;
mod decide;
mod drivers;
mod duties;
mod engine;
mod first_contact;
mod health;
mod identity;
mod keys;
mod label_checks;
mod lookups;
mod metrics;
mod node_selector;
mod nodes;
mod plans;
mod queue;
mod reachable;
mod request_error;
mod requests;
mod resizing;
mod rollout;
mod run_loop;
mod snapshot;
mod stacks;
mod statuses;
mod sync;
mod template_change;
mod template_fields;
#[cfg(test)]
pub(crate) mod test_support;
#[cfg(test)]
mod tests;
mod trustee;
mod workflow;

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use moka::future::Cache;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::base::clock::{Anchor, Clock};
use crate::base::fail_points::{FailPoints, Stopped};
use crate::base::heartbeat::Heartbeat;
use crate::base::id::Entropy;
use crate::base::secret::{CannotOpen, Secret};
use crate::driver::{Driver, Drivers, plan};
use crate::model::first_contact::Rules;
use crate::model::labels::UnknownLabels;
use crate::model::operation::OperationKind;
use crate::model::requester::Requester;
use crate::model::stack::Stack;
use crate::model::{ClusterId, Sequence};
use crate::openstack::{Cloud, CloudError};
use crate::pki::enrolment::EnrolmentKey;
use crate::pki::key_generator::KeyGenerator;
use crate::pki::vendor_data::VendorKey;
use crate::store::{Change, Store, StoreError};

use attempts::Attempts;
use first_contact::Doorstep;
pub use first_contact::{NotLetIn, Visitor};
use identity::Sessions;
use keys::Drawings;
pub use label_checks::{Limits, check_root_volume, check_unknown, with_boot_volume};
pub use metrics::StepMetrics;
use queue::Queue;
pub use request_error::RequestError;
pub use requests::{
    ClusterOrder, ResizeOrder, TemplateIngredients, UpgradeOrder, can_make_trusts,
    check_network_driver, os_distro,
};
use snapshot::ClusterSnapshot;

/// A tenant on whose behalf we ask OpenStack: their token, and who they are.
#[derive(Clone, Debug)]
pub struct RequestContext<'r> {
    pub requester: &'r Requester,
    pub token: &'r Secret<String>,
    pub request_id: &'r str,
}

/// What the operator decided about clusters.
#[derive(Clone, Debug)]
pub struct Settings {
    pub driver: plan::Settings,
    /// The name under which `mservices` shows us.
    pub host: String,
    /// Clusters worked on at the same time.
    pub lanes: usize,
    /// How often a cluster in progress is looked at.
    pub look_interval: Duration,
    /// How often a cluster that nothing is being done about is looked at.
    pub sync_interval: Duration,
    /// How often the conductor looks into every cluster; None is never.
    pub health_interval: Option<Duration>,
    /// How long one such look may take, on the wall's clock as every deadline of a call.
    pub health_timeout: Duration,
    pub max_clusters_per_project: u32,
    /// Roles delegated to trustees; empty means all of the tenant's.
    pub trust_roles: Vec<String>,
    pub certificate_validity: Duration,
    /// GiB for new clusters whose labels name none; 0 boots from the image.
    pub boot_volume_size: u32,
    /// Allowed network drivers for Kubernetes; empty means all that the driver knows.
    pub allowed_network_drivers: Vec<String>,
    pub default_driver: Option<String>,
    /// What members of etcd discovery are told, such as `http://203.0.113.2:9512`.
    pub discovery_url: String,
    /// Whether Heat goes on when the token of a request has expired.
    pub heat_reauthenticates: bool,
    /// How long a deletion waits for load balancers of the cluster's services.
    pub lb_delete_timeout: Duration,
    pub unknown_labels: UnknownLabels,
    /// Whether clusters' APIs on loopback addresses are called: for labs on one machine.
    pub health_allow_loopback: bool,
    /// Addresses of magnumd's own listeners, as far as they are known by number.
    pub own_addresses: Vec<IpAddr>,
    /// What a server has to prove before it is believed to be a node.
    pub first_contact: Rules,
}

/// Clones share one conductor.
#[derive(Clone)]
pub struct Conductor {
    inner: Arc<Inner>,
}

struct Inner {
    store: Store,
    cloud: Cloud,
    drivers: RwLock<Drivers>,
    /// Drivers whose files are in the store alone, by digest.
    compiled: Mutex<HashMap<String, Arc<Driver>>>,
    settings: Settings,
    clock: Clock,
    entropy: Entropy,
    points: FailPoints,
    enrolment: EnrolmentKey,
    /// Makes the secrets that Nova gives servers.
    vendor: VendorKey,
    doorstep: Doorstep,
    key_generator: KeyGenerator,
    drawings: Drawings,
    queue: Mutex<Queue>,
    wake: Notify,
    /// Cancelled when nothing new shall begin.
    stopping: CancellationToken,
    attempts: Attempts,
    /// The operation that each cluster was looked at for last.
    current: Mutex<HashMap<ClusterId, (Sequence, Anchor)>>,
    /// Clusters that a run has found to be no more.
    gone: Mutex<HashSet<ClusterId>>,
    sessions: Sessions,
    /// Where Neutron has said that a cluster's API may be called: cluster and URL.
    vouched: Cache<(ClusterId, String), ()>,
    /// Stacks that a look has just seen in progress, by id.
    in_progress: Cache<String, Stack>,
    metrics: StepMetrics,
    pulse: Heartbeat,
}

/// How far a cluster's running operation is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OperationProgress {
    pub kind: OperationKind,
    pub nodes_ready: usize,
}

/// Why a step did not end well.
#[derive(Debug, thiserror::Error)]
enum StepError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Cloud(#[from] CloudError),
    /// The operation cannot succeed; the sentence is for the tenant.
    #[error("{reason}")]
    Failed { reason: String, nodegroup: Option<String> },
    #[error(transparent)]
    Sealed(#[from] CannotOpen),
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

impl StepError {
    fn failed(reason: impl Into<String>) -> Self {
        Self::Failed { reason: reason.into(), nodegroup: None }
    }
}

/// After which silence of its loop the conductor counts as dead.
const STUCK: Duration = Duration::from_secs(40);

/// What a conductor is made of.
pub struct Parts {
    pub store: Store,
    pub cloud: Cloud,
    pub drivers: Drivers,
    pub settings: Settings,
    pub clock: Clock,
    pub entropy: Entropy,
    pub enrolment: EnrolmentKey,
    pub key_generator: KeyGenerator,
    pub points: FailPoints,
}

impl Conductor {
    pub fn new(parts: Parts) -> Self {
        let Parts {
            store,
            cloud,
            drivers,
            settings,
            clock,
            entropy,
            enrolment,
            key_generator,
            points,
        } = parts;
        // Shorter than the interval, so that the look at its end sees for itself.
        let snapshot = clock.real_length(settings.look_interval) * 3 / 4;
        let in_progress = Cache::builder().max_capacity(10_000).time_to_live(snapshot).build();
        let queue = Mutex::new(Queue::of_lanes(settings.lanes));
        Self {
            inner: Arc::new(Inner {
                store,
                cloud,
                drivers: RwLock::new(drivers),
                compiled: Mutex::default(),
                settings,
                clock,
                entropy,
                points,
                vendor: VendorKey::of(&enrolment),
                doorstep: Doorstep::default(),
                enrolment,
                key_generator,
                drawings: Drawings::default(),
                queue,
                wake: Notify::new(),
                stopping: CancellationToken::new(),
                attempts: Attempts::default(),
                current: Mutex::default(),
                gone: Mutex::default(),
                sessions: Sessions::default(),
                vouched: Cache::builder()
                    .max_capacity(10_000)
                    .time_to_live(Duration::from_secs(300))
                    .build(),
                in_progress,
                metrics: StepMetrics::default(),
                pulse: Heartbeat::default(),
            }),
        }
    }

    /// Look at this cluster soon. Carries no news, so a lost or doubled call is harmless.
    pub fn poke(&self, id: ClusterId) {
        self.push(id, Duration::ZERO);
    }

    /// None when nothing is being done about the cluster.
    pub fn progress_of(&self, id: ClusterId) -> Option<OperationProgress> {
        let read = self.inner.store.read(|view| {
            let Some(operation) = view.operation_of(id)? else { return Ok(None) };
            let nodes_ready = view.nodes(id)?.iter().filter(|n| n.is_ready()).count();
            Ok(Some(OperationProgress { kind: operation.record.kind, nodes_ready }))
        });
        read.ok().flatten()
    }

    fn push(&self, id: ClusterId, wait: Duration) {
        let at = Instant::now() + self.inner.clock.real_length(wait);
        if !self.queue().push(id, at) {
            let cluster = self.inner.store.read(|view| view.cluster(id));
            // One that cannot be read belongs to nobody here; its run says why.
            let project = cluster.ok().flatten().map(|c| c.record.project_id).unwrap_or_default();
            let mut queue = self.queue();
            queue.introduce(id, &project);
            queue.push(id, at);
        }
        self.inner.wake.notify_one();
    }

    fn queue(&self) -> std::sync::MutexGuard<'_, Queue> {
        // Nothing panics while holding it; if something did, the queue is still whole.
        self.inner.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Clusters waiting for a look and clusters being looked at.
    pub fn load(&self) -> (usize, usize) {
        self.queue().lengths()
    }

    /// How many clusters may be looked at together.
    pub fn lanes(&self) -> usize {
        self.inner.settings.lanes
    }

    pub fn metrics(&self) -> &StepMetrics {
        &self.inner.metrics
    }

    /// Whether the loop still turns; true before it begins and after it has ended.
    pub fn is_alive(&self) -> bool {
        self.inner.pulse.is_alive(STUCK)
    }

    fn snapshot(&self, cluster: ClusterId) -> Result<ClusterSnapshot, RequestError> {
        ClusterSnapshot::read(&self.inner.store, cluster)?
            .ok_or_else(|| RequestError::Missing(format!("Cluster {cluster} could not be found.")))
    }

    /// Commits with a point on either side, where the crash test may stop us.
    async fn commit(&self, change: Change) -> Result<(), StepError> {
        self.inner.points.pass()?;
        self.inner.store.commit(change).await?;
        self.inner.points.pass()?;
        Ok(())
    }

    /// Acts on the outside with a point on either side.
    async fn act<T>(
        &self,
        act: impl Future<Output = Result<T, CloudError>>,
    ) -> Result<T, StepError> {
        self.inner.points.pass()?;
        let done = act.await;
        self.inner.points.pass()?;
        Ok(done?)
    }
}
