//! The will: brings the cloud into line with what tenants were promised.
//!
//! A wish becomes a durable [`Operation`]; a run reads
//! one moment, decides, acts, commits, and may be killed anywhere in between. Before an
//! outside act its intention is on disk; after it, its result; in between, the name
//! suffices to find it. Nothing is undone on failure: `delete` is the only collector.

mod admit;
mod authorities;
mod balancers;
mod create;
pub mod custodian;
mod decide;
mod delete;
mod drivers;
mod duties;
mod figures;
mod groups;
mod health;
mod identity;
#[cfg(test)]
pub(crate) mod idle;
mod label_checks;
mod meant;
mod moment;
mod nodes;
mod orders;
mod outlook;
mod queue;
mod refusal;
mod rotate;
mod sync;
mod template_change;
#[cfg(test)]
mod tests;
mod update;
mod upgrade;

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use moka::future::Cache;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, debug, error, error_span, info, warn};

use crate::base::backoff::Backoff;
use crate::base::clock::Clock;
use crate::base::id::Entropy;
use crate::base::points::{Points, Stopped};
use crate::base::pulse::Pulse;
use crate::base::secret::{CannotOpen, Secret};
use crate::driver::{Driver, Drivers, plan};
use crate::model::labels::UnknownLabels;
use crate::model::operation::{Operation, OperationKind, Step};
use crate::model::requester::Requester;
use crate::model::service::Service as ServiceRecord;
use crate::model::stack::Stack;
use crate::model::{ClusterId, Sequence};
use crate::openstack::{Cloud, CloudError};
use crate::pki::enrolment::EnrolmentKey;
use crate::pki::mill::Mill;
use crate::store::{Change, Store, StoreError, Stored};

pub use admit::{
    ClusterOrder, TemplateIngredients, can_make_trusts, check_network_driver, check_root_volume,
    os_distro, with_boot_volume,
};
pub use figures::StepFigures;
use identity::Sessions;
pub use label_checks::check_unknown;
use moment::Moment;
pub use orders::{ResizeOrder, UpgradeOrder};
use queue::{Queue, Turn};
pub use refusal::Refusal;

/// A tenant on whose behalf we ask OpenStack: their token, and who they are.
#[derive(Clone, Debug)]
pub struct Tenant<'r> {
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
    points: Points,
    enrolment: EnrolmentKey,
    mill: Mill,
    queue: Mutex<Queue>,
    wake: Notify,
    /// Cancelled when nothing new shall begin.
    stopping: CancellationToken,
    attempts: Mutex<HashMap<ClusterId, u32>>,
    /// The operation that each cluster was looked at for last.
    current: Mutex<HashMap<ClusterId, Sequence>>,
    sessions: Sessions,
    /// Stacks that a look has just seen in progress, by id.
    in_progress: Cache<String, Stack>,
    figures: StepFigures,
    pulse: Pulse,
}

/// How far a cluster's running operation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    pub step: Step,
    pub nodes_ready: usize,
}

/// How a step ended.
#[derive(Debug, PartialEq, Eq)]
enum Progress {
    /// Something was committed: read again and go on.
    Again,
    /// What the operation waits for, in a sentence for the tenant. Looked at again after the
    /// interval; the operation's deadline ends it.
    Wait(String),
    /// Nothing to do before this time has passed.
    Pause(Duration),
    /// The operation is finished.
    Done,
}

/// What became of an operation whose step did not end well.
#[derive(Debug)]
enum Recovery {
    Retry(Duration),
    /// The failure is on record.
    Failed,
    /// The process is about to end.
    Stopped,
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

/// Acts are tried again slowly, looks quickly: a look costs Heat little, and a tenant waits.
const ACTS: Backoff = Backoff { first: Duration::from_secs(1), most: Duration::from_secs(30) };
const LOOKS: Backoff = Backoff { first: Duration::from_secs(1), most: Duration::from_secs(4) };
const HEARTBEAT: Duration = Duration::from_secs(60);
/// How often the loop shows that it turns, and after which silence it does not.
const BEAT: Duration = Duration::from_secs(5);
const STUCK: Duration = Duration::from_secs(40);
/// An operation that is begun sooner than this after it was asked for has not waited.
const PROMPT: Duration = Duration::from_secs(5);
/// How long running steps may finish when we stop.
const DRAIN: Duration = Duration::from_secs(60);

/// What a conductor is made of.
pub struct Parts {
    pub store: Store,
    pub cloud: Cloud,
    pub drivers: Drivers,
    pub settings: Settings,
    pub clock: Clock,
    pub entropy: Entropy,
    pub enrolment: EnrolmentKey,
    pub mill: Mill,
    pub points: Points,
}

impl Conductor {
    pub fn new(parts: Parts) -> Self {
        let Parts { store, cloud, drivers, settings, clock, entropy, enrolment, mill, points } =
            parts;
        // Shorter than the interval, so that the look at its end sees for itself.
        let moment = clock.real_length(settings.look_interval) * 3 / 4;
        let in_progress = Cache::builder().max_capacity(10_000).time_to_live(moment).build();
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
                enrolment,
                mill,
                queue: Mutex::default(),
                wake: Notify::new(),
                stopping: CancellationToken::new(),
                attempts: Mutex::default(),
                current: Mutex::default(),
                sessions: Sessions::default(),
                in_progress,
                figures: StepFigures::default(),
                pulse: Pulse::default(),
            }),
        }
    }

    /// Look at this cluster soon. Carries no news, so a lost or doubled call is harmless.
    pub fn poke(&self, id: ClusterId) {
        self.push(id, Duration::ZERO);
    }

    /// None when nothing is being done about the cluster.
    pub fn standing(&self, id: ClusterId) -> Option<Standing> {
        let read = self.inner.store.read(|view| {
            let Some(operation) = view.operation_of(id)? else { return Ok(None) };
            let nodes_ready = view.nodes(id)?.iter().filter(|n| n.is_ready()).count();
            Ok(Some(Standing { step: operation.step, nodes_ready }))
        });
        read.ok().flatten()
    }

    fn push(&self, id: ClusterId, wait: Duration) {
        let at = Instant::now() + self.inner.clock.real_length(wait);
        self.queue().push(id, at);
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

    pub fn figures(&self) -> &StepFigures {
        &self.inner.figures
    }

    /// Whether the loop still turns; true before it begins and after it has ended.
    pub fn is_alive(&self) -> bool {
        self.inner.pulse.is_alive(STUCK)
    }

    /// Resumes every unfinished operation, then works until `stop`.
    pub async fn run(&self, stop: CancellationToken) {
        match self.inner.store.read(|view| view.operations()) {
            Ok(operations) => {
                if !operations.is_empty() {
                    info!(operations = operations.len(), "resuming unfinished operations");
                }
                operations.iter().for_each(|o| self.poke(o.cluster_id));
            }
            Err(error) => error!(%error, "unfinished operations cannot be read"),
        }
        let mut lanes = JoinSet::new();
        let mut names = HashMap::new();
        let mut heartbeat = tokio::time::interval(HEARTBEAT);
        let between = self.inner.clock.real_length(self.inner.settings.sync_interval);
        let mut sync = tokio::time::interval(between.max(Duration::from_millis(10)));
        let mut turns = tokio::time::interval(BEAT);
        loop {
            self.inner.pulse.beat();
            let turn = match lanes.len() < self.inner.settings.lanes {
                true => self.queue().take(Instant::now()),
                false => Turn::Idle,
            };
            let until = match turn {
                Turn::Run(id) => {
                    let conductor = self.clone();
                    // Of the highest level, so that no filter takes the names from the lines.
                    let span = error_span!("run", cluster = %id);
                    let lane = async move { conductor.look_after(id).await }.instrument(span);
                    names.insert(lanes.spawn(lane).id(), id);
                    continue;
                }
                Turn::WaitUntil(at) => at,
                Turn::Idle => Instant::now() + Duration::from_secs(3600),
            };
            tokio::select! {
                () = stop.cancelled() => break,
                () = self.inner.wake.notified() => {}
                () = tokio::time::sleep_until(until.into()) => {}
                _ = heartbeat.tick() => self.beat().await,
                _ = sync.tick() => self.sync_soon(),
                _ = turns.tick() => {}
                Some(ended) = lanes.join_next_with_id() => {
                    let task = match &ended {
                        Ok((task, ())) => *task,
                        Err(panicked) => panicked.id(),
                    };
                    if let Some(id) = names.remove(&task) {
                        self.queue().finished(id);
                        if ended.is_err() {
                            error!(cluster = %id, "a run panicked; it is tried again");
                            self.push(id, LOOKS.most);
                        }
                    }
                }
            }
        }
        // From here on time is limited anyway.
        self.inner.pulse.rest();
        self.inner.stopping.cancel();
        let drained = async { while lanes.join_next().await.is_some() {} };
        if tokio::time::timeout(DRAIN, drained).await.is_err() {
            warn!("running steps were cut off; they resume at the next start");
        }
    }

    /// Takes steps until there is nothing to do now.
    async fn look_after(&self, id: ClusterId) {
        while !self.inner.stopping.is_cancelled() {
            let moment = match Moment::read(&self.inner.store, id) {
                Ok(Some(moment)) => moment,
                Ok(None) => {
                    self.inner.current.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
                    return self.settled(id);
                }
                Err(error) => {
                    error!(%error, "the cluster cannot be read");
                    return self.push(id, LOOKS.most);
                }
            };
            let Some(operation) = moment.operation.clone() else {
                self.sync(&moment).await;
                return self.settled(id);
            };
            let span = error_span!(
                "operation",
                operation = operation.kind.as_str(),
                request_id = operation.request_id,
            );
            if self.step(id, &moment, &operation).instrument(span).await.is_break() {
                return;
            }
        }
    }

    /// Takes one step; goes on if there is another to take now.
    async fn step(
        &self,
        id: ClusterId,
        moment: &Moment,
        operation: &Stored<Operation>,
    ) -> ControlFlow<()> {
        let began = Instant::now();
        let outcome = match operation.kind {
            _ if self.is_its_turn(operation) => self.begin(operation).await,
            OperationKind::Create => self.create_step(moment, operation).await,
            OperationKind::Delete => self.delete_step(moment, operation).await,
            OperationKind::Resize => self.update_step(moment, operation).await,
            OperationKind::CreateGroup | OperationKind::DeleteGroup => {
                self.group_step(moment, operation).await
            }
            OperationKind::RotateCredential => self.rotate_step(moment, operation).await,
            OperationKind::Upgrade => self.upgrade_step(moment, operation).await,
            OperationKind::RotateAuthorities => self.authorities_step(moment, operation).await,
        };
        self.inner.figures.taken(operation, &outcome, began.elapsed());
        match outcome {
            Ok(Progress::Again) => {
                self.settled(id);
                return ControlFlow::Continue(());
            }
            Ok(Progress::Wait(sentence)) if self.is_late(operation) => {
                let error = StepError::failed(format!("Timed out: {sentence}"));
                return self.recovered(id, moment, operation, error).await;
            }
            Ok(Progress::Wait(sentence)) => {
                self.settled(id);
                self.note(moment, &sentence).await;
                self.push(id, self.inner.settings.look_interval);
            }
            Ok(Progress::Pause(length)) => {
                self.settled(id);
                self.push(id, length);
            }
            Ok(Progress::Done) => self.settled(id),
            Err(StepError::Store(StoreError::Stale)) => {
                debug!("a tenant changed something meanwhile: read again");
                return ControlFlow::Continue(());
            }
            Err(StepError::Stopped(_)) => {}
            Err(error) => return self.recovered(id, moment, operation, error).await,
        }
        ControlFlow::Break(())
    }

    /// Whether the operation is looked at for the first time, and has waited before: for others
    /// of its cluster, or for a place among those that are worked on.
    fn is_its_turn(&self, operation: &Operation) -> bool {
        let mut current = self.inner.current.lock().unwrap_or_else(PoisonError::into_inner);
        let is_new =
            current.insert(operation.cluster_id, operation.sequence) != Some(operation.sequence);
        let waited = self.inner.clock.now().since(operation.began);
        is_new && operation.step == operation.kind.first_step() && waited > PROMPT
    }

    /// The operation's time begins now.
    async fn begin(&self, operation: &Stored<Operation>) -> Result<Progress, StepError> {
        let begun = operation.begun(self.inner.clock.now());
        self.commit(Change::new().expect(operation).put(&begun)).await?;
        Ok(Progress::Again)
    }

    fn is_late(&self, operation: &Operation) -> bool {
        operation.deadline.is_some_and(|at| self.inner.clock.now() >= at)
    }

    /// Tries again later, or closes the operation and goes on with the one behind it.
    async fn recovered(
        &self,
        id: ClusterId,
        moment: &Moment,
        operation: &Stored<Operation>,
        error: StepError,
    ) -> ControlFlow<()> {
        match self.recover(moment, operation, error).await {
            Recovery::Retry(wait) => {
                self.push(id, wait);
                ControlFlow::Break(())
            }
            Recovery::Failed => {
                self.settled(id);
                ControlFlow::Continue(())
            }
            Recovery::Stopped => ControlFlow::Break(()),
        }
    }

    /// Decides about a step that did not end well; records a failure.
    async fn recover(
        &self,
        moment: &Moment,
        operation: &Stored<Operation>,
        error: StepError,
    ) -> Recovery {
        let attempt = self.attempt(moment.id());
        let looking = !operation.step.is_act();
        let backoff = if looking { LOOKS } else { ACTS };
        let wait = backoff.delay(attempt, self.inner.entropy.fraction());
        let late = self.is_late(operation);
        let failed = match error {
            StepError::Cloud(e) if e.is_passing() && !late => {
                warn!(step = operation.step.as_str(), attempt, error = %e, "trying again");
                self.note(moment, &format!("{e}; trying again.")).await;
                return Recovery::Retry(wait);
            }
            // The trustee's token was revoked before its time; its next one will do.
            StepError::Cloud(e)
                if e.is_unauthorised() && attempt < 3 && self.forget_session(moment.id()).await =>
            {
                debug!(error = %e, "the trustee logs in again");
                return Recovery::Retry(wait);
            }
            StepError::Cloud(e) if late => StepError::failed(format!("Timed out: {e}")),
            StepError::Cloud(e) => StepError::failed(e.to_string()),
            StepError::Store(StoreError::Unfit(e)) => StepError::failed(e.to_string()),
            StepError::Store(e) => {
                error!(error = %e, "the state cannot be read or written");
                return Recovery::Retry(wait);
            }
            StepError::Sealed(e) => StepError::failed(e.to_string()),
            failed => failed,
        };
        let StepError::Failed { reason, nodegroup } = failed else { return Recovery::Stopped };
        let outcome = self.fail(moment, operation, &reason, nodegroup.as_deref()).await;
        match outcome {
            Ok(()) => Recovery::Failed,
            Err(StepError::Stopped(_)) => Recovery::Stopped,
            Err(error) => {
                warn!(%error, "the failure could not be recorded yet");
                Recovery::Retry(wait)
            }
        }
    }

    /// Failed tries of the step that is being taken.
    fn attempts(&self, id: ClusterId) -> u32 {
        let attempts = self.inner.attempts.lock().unwrap_or_else(PoisonError::into_inner);
        attempts.get(&id).copied().unwrap_or_default()
    }

    /// Counts one more failed try; returns how many there were before.
    fn attempt(&self, id: ClusterId) -> u32 {
        let mut attempts = self.inner.attempts.lock().unwrap_or_else(PoisonError::into_inner);
        let count = attempts.entry(id).or_default();
        *count = count.saturating_add(1);
        *count - 1
    }

    fn settled(&self, id: ClusterId) {
        let mut attempts = self.inner.attempts.lock().unwrap_or_else(PoisonError::into_inner);
        attempts.remove(&id);
    }

    /// Shows a sentence about progress, if it is news.
    async fn note(&self, moment: &Moment, sentence: &str) {
        let sentence = &self.with_warnings(moment, sentence);
        if moment.cluster.status_reason.as_ref() == Some(sentence) {
            return;
        }
        let mut cluster = moment.cluster.record.clone();
        cluster.status_reason = Some(sentence.clone());
        let change = Change::new().expect(&moment.cluster).put(&cluster);
        if let Err(error) = self.inner.store.commit(change).await {
            debug!(%error, "a progress sentence was not kept");
        }
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

    /// One more sign of life for `mservices`.
    async fn beat(&self) {
        let host = &self.inner.settings.host;
        let now = self.inner.clock.now();
        let known = self.inner.store.read(|view| view.services());
        let known = known.unwrap_or_default().into_iter().find(|s| s.host == *host);
        let service = match known.map(|s| s.record) {
            Some(mut service) => {
                service.report_count += 1;
                service.last_seen_up = now;
                service
            }
            None => ServiceRecord {
                id: 1,
                host: host.clone(),
                report_count: 1,
                last_seen_up: now,
                created_at: now,
            },
        };
        if let Err(error) = self.inner.store.commit(Change::new().put(&service)).await {
            warn!(%error, "the heartbeat could not be written");
        }
    }
}
