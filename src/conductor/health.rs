//! The periodic look inside clusters, beside all operations and in nobody's way.
//!
//! Clusters are gone through in order of making, spread over the interval. A look reads, asks
//! the cluster's API, and writes only what is news. Clusters that were not well when last seen
//! have places of their own, because most of those answer late or never: a thousand dead ones
//! make each other wait, and no living one.

use std::collections::{BTreeMap, HashMap};
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;
use tokio::task::{AbortHandle, JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, debug, error, info, info_span, warn};

use super::{Conductor, RequestError};
use crate::driver::label;
use crate::kube::{self, Access, KubeError, Node};
use crate::model::ClusterId;
use crate::model::certificate::{Certificate, CertificateKind, NextCertificate};
use crate::model::cluster::Cluster;
use crate::model::status::{HealthStatus, Status};
use crate::store::{Page, Scope, StoreError, Stored};

/// Looks at the same time at clusters that were well, or were never seen.
const PLACES: usize = 32;
/// After this time such a look goes on without a place: when many clusters die at once, the
/// living wait seconds. So there are never more of them than places × deadline in seconds.
const MOST_IN_PLACE: Duration = Duration::from_secs(1);
/// Looks at the same time at clusters that were not well, each in its place to the end.
const DOUBTFUL_PLACES: usize = 128;
/// Clusters read at once while going through all of them.
const READ: usize = 64;
/// Nodes named in a reason, and the bytes of their names; those that are not ready come first.
const NAMED: usize = 1000;
const NAMED_BYTES: usize = 48 << 10;
/// What tenants are told of every failure; the log has more.
const NO_ANSWER: &str = "The API does not answer at its address as a healthy one does.";
/// How often a finding is written against others who write the same record.
const TRIES: usize = 4;

/// Who may look at the same time.
#[derive(Clone)]
struct Places {
    well: Arc<Semaphore>,
    doubtful: Arc<Semaphore>,
}

/// What shall be done about one cluster's health.
#[derive(Debug, PartialEq, Eq)]
enum NextCheck<'c> {
    Nothing,
    /// It is known without asking.
    Say(Finding),
    Ask {
        url: &'c str,
    },
}

/// What a look has found.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Finding {
    status: HealthStatus,
    reason: BTreeMap<String, String>,
}

/// What a look starts from; if any of it is no longer so at the end, nothing was found.
#[derive(Debug)]
struct Subject {
    cluster: Stored<Cluster>,
    authority: Option<Stored<Certificate>>,
    next: Option<Stored<NextCertificate>>,
    client: Option<Stored<Certificate>>,
}

impl Conductor {
    /// Looks into every cluster once in each interval, until `stop`.
    pub async fn watch_health(&self, stop: CancellationToken) {
        let Some(interval) = self.inner.settings.health_interval else { return };
        let places = Places::new();
        let mut looks = JoinSet::new();
        let rounds = async {
            let mut in_hand = HashMap::new();
            loop {
                self.go_round(interval, &places, &mut looks, &mut in_hand).await;
            }
        };
        // A look that is cut off has changed nothing.
        stop.run_until_cancelled(rounds).await;
    }

    /// Begins a look at every cluster that is not being looked at already.
    async fn go_round(
        &self,
        interval: Duration,
        places: &Places,
        looks: &mut JoinSet<()>,
        in_hand: &mut HashMap<ClusterId, AbortHandle>,
    ) {
        // Never idle without a pause, whatever the clock's factor.
        let interval = self.inner.clock.real_length(interval).max(Duration::from_millis(10));
        let began = Instant::now();
        let count = self.inner.store.read(|view| view.count_clusters(Scope::Everyone));
        let count = count.unwrap_or_else(unreadable).max(1);
        let at = |place: u64| began + interval.mul_f64(place as f64 / count as f64);
        let (mut place, mut after) = (0, None);
        loop {
            let page = Page { after, limit: READ, ..Page::ALL };
            let read = self.inner.store.read(|view| view.clusters(Scope::Everyone, page));
            let clusters = read.unwrap_or_else(unreadable);
            let Some(last) = clusters.last() else { break };
            after = Some(last.sequence);
            for cluster in clusters {
                tokio::time::sleep_until(at(place).into()).await;
                place += 1;
                while let Some(ended) = looks.try_join_next() {
                    if let Err(panicked) = ended {
                        error!(error = %panicked, "a look at a cluster's health fell");
                    }
                }
                let id = cluster.id;
                if in_hand.get(&id).is_some_and(|look| !look.is_finished()) {
                    debug!(cluster = %id, "the look before has not ended");
                    continue;
                }
                let driver = self.drivers().by_name(&cluster.driver);
                let is_blind = driver.is_some_and(|driver| !driver.has_health());
                if is_blind || next_check(&cluster) == NextCheck::Nothing {
                    continue;
                }
                let is_doubtful = cluster.health_status == Some(HealthStatus::Unhealthy);
                let (conductor, places) = (self.clone(), places.clone());
                let look = async move { places.hold(is_doubtful, conductor.look_into(id)).await };
                let span = info_span!("health", cluster = %id);
                in_hand.insert(id, looks.spawn(look.instrument(span)));
            }
        }
        tokio::time::sleep_until((began + interval).into()).await;
        in_hand.retain(|_, look| !look.is_finished());
    }

    /// Reads, asks, writes.
    async fn look_into(&self, id: ClusterId) {
        let subject = match self.subject(id) {
            Ok(Some(subject)) => subject,
            Ok(None) => return,
            Err(error) => return warn!(%error, "the cluster cannot be read"),
        };
        let finding = match next_check(&subject.cluster) {
            NextCheck::Nothing => return,
            NextCheck::Say(finding) => finding,
            NextCheck::Ask { url } => {
                match self.reachable(&subject.cluster, url).await {
                    Ok(Ok(())) => {}
                    Ok(Err(forbidden)) => {
                        unwell(&subject.cluster, &format!("{url} is not called: {forbidden}"));
                        return self.say(subject, Finding::no_answer()).await;
                    }
                    // Nothing is known, so nothing is said.
                    Err(error) => {
                        return warn!(%error, "whether the API may be called is not known");
                    }
                }
                let seen = match self.access(&subject, url) {
                    Ok(access) => kube::look(&access, self.inner.settings.health_timeout).await,
                    Err(reason) => Err(reason),
                };
                if let Err(error) = &seen {
                    unwell(&subject.cluster, &error.to_string());
                }
                judge(seen)
            }
        };
        self.say(subject, finding).await;
    }

    async fn say(&self, subject: Subject, finding: Finding) {
        if let Err(error) = self.tell(subject, finding).await {
            warn!(%error, "the cluster's health cannot be written");
        }
    }

    fn subject(&self, id: ClusterId) -> Result<Option<Subject>, StoreError> {
        self.inner.store.read(|view| {
            let Some(cluster) = view.cluster(id)? else { return Ok(None) };
            Ok(Some(Subject {
                cluster,
                authority: view.certificate(id, CertificateKind::Kubernetes)?,
                next: view.next_certificate(id, CertificateKind::Kubernetes)?,
                client: view.certificate(id, CertificateKind::Client)?,
            }))
        })
    }

    fn access(&self, subject: &Subject, url: &str) -> Result<Access, KubeError> {
        let lost = || KubeError::Unusable("its certificates were lost".to_owned());
        let authority = subject.authority.as_ref().ok_or_else(lost)?;
        let client = subject.client.as_ref().ok_or_else(lost)?;
        let owner = Certificate::owner(subject.cluster.id, CertificateKind::Client);
        let key = self.inner.store.sealer().open_text(&owner, &client.key);
        Ok(Access {
            url: url.to_owned(),
            // While new authorities are on their way, masters have certificates of either.
            authorities: match &subject.next {
                Some(next) => format!("{}\n{}", authority.pem, next.0.pem),
                None => authority.pem.clone(),
            },
            certificate: client.pem.clone(),
            key: key.map_err(|e| KubeError::Unusable(e.to_string()))?,
        })
    }

    /// Writes what is news, over what is there now. Whoever reported on the cluster while we
    /// were looking, or changed what the look depended on, is not contradicted.
    async fn tell(&self, mut before: Subject, finding: Finding) -> Result<(), RequestError> {
        for _ in 0..TRIES {
            if finding.is_shown_by(&before.cluster) {
                return Ok(());
            }
            let Some(now) = self.subject(before.cluster.id)? else { return Ok(()) };
            if !before.still_holds(&now) {
                debug!("what was looked at has changed meanwhile");
                return Ok(());
            }
            let Finding { status, reason } = finding.clone();
            match self.set_health(&now.cluster, Some(status), reason).await {
                Ok(()) => {
                    let api = finding.reason.get("api").map(String::as_str);
                    info!(%status, api, "the cluster's health has changed");
                    return Ok(());
                }
                // An operation was faster.
                Err(RequestError::Conflict(_)) => before = now,
                Err(e) => return Err(e),
            }
        }
        debug!("the record is being changed by others; the next look will tell");
        Ok(())
    }
}

impl Places {
    fn new() -> Self {
        Self {
            well: Arc::new(Semaphore::new(PLACES)),
            doubtful: Arc::new(Semaphore::new(DOUBTFUL_PLACES)),
        }
    }

    /// Waits for a place and looks from there.
    async fn hold(&self, is_doubtful: bool, look: impl Future<Output = ()>) {
        if is_doubtful {
            let _place = self.doubtful.acquire().await.expect("never closed");
            return look.await;
        }
        let place = self.well.acquire().await.expect("never closed");
        let mut look = pin!(look);
        if tokio::time::timeout(MOST_IN_PLACE, &mut look).await.is_err() {
            drop(place);
            look.await;
        }
    }
}

impl Subject {
    /// Whether what was found of `self` may be said of `now`.
    fn still_holds(&self, now: &Self) -> bool {
        let shown = |c: &Cluster| (c.health_status, c.health_status_reason.clone());
        let keys = |s: &Self| [&s.authority, &s.client].map(|c| c.as_ref().map(|c| c.revision));
        next_check(&self.cluster) == next_check(&now.cluster)
            && shown(&self.cluster) == shown(&now.cluster)
            && keys(self) == keys(now)
            && self.next.as_ref().map(|c| c.revision) == now.next.as_ref().map(|c| c.revision)
    }
}

impl Finding {
    fn of(status: HealthStatus, api: impl Into<String>) -> Self {
        Self { status, reason: BTreeMap::from([("api".to_owned(), api.into())]) }
    }

    /// One sentence for whatever went wrong on the way: what differs would tell tenants who listens
    /// where, and how.
    fn no_answer() -> Self {
        Self::of(HealthStatus::Unhealthy, NO_ANSWER)
    }

    fn is_shown_by(&self, cluster: &Cluster) -> bool {
        cluster.health_status == Some(self.status) && cluster.health_status_reason == self.reason
    }
}

fn unreadable<T: Default>(error: StoreError) -> T {
    warn!(%error, "clusters cannot be read");
    T::default()
}

/// Whether and how a cluster's health shall be found out.
fn next_check(cluster: &Cluster) -> NextCheck<'_> {
    if !is_watched(cluster.status) || reports_itself(cluster) {
        return NextCheck::Nothing;
    }
    if !is_reachable_by_design(cluster) {
        let sentence = format!("The cluster {} is not accessible.", cluster.name);
        return NextCheck::Say(Finding::of(HealthStatus::Unknown, sentence));
    }
    match cluster.api_address.as_deref() {
        Some(url) => NextCheck::Ask { url },
        // There is nothing yet, or soon, that could be well or not.
        None if cluster.status.is_in_progress() => NextCheck::Nothing,
        None => {
            let sentence = format!("The cluster {} has no API address.", cluster.name);
            NextCheck::Say(Finding::of(HealthStatus::Unhealthy, sentence))
        }
    }
}

/// Those of upstream, and ROLLBACK_COMPLETE: such a cluster works on.
fn is_watched(status: Status) -> bool {
    let complete = [Status::CreateComplete, Status::UpdateComplete, Status::RollbackComplete];
    status.is_in_progress() || status.is_failed() || complete.contains(&status)
}

/// Whether a controller inside the cluster reports on it, with the trustee's credential.
fn reports_itself(cluster: &Cluster) -> bool {
    is_set(cluster, "auto_healing_enabled").unwrap_or(false)
        && cluster.labels.get("auto_healing_controller") == Some("magnum-auto-healer")
}

/// Whether the API has an address outside the cluster's network.
fn is_reachable_by_design(cluster: &Cluster) -> bool {
    let floating = cluster.floating_ip_enabled;
    match cluster.master_lb_enabled {
        true => is_set(cluster, "master_lb_floating_ip_enabled").unwrap_or(floating),
        false => floating,
    }
}

/// A label that says yes or no; a driver has refused, or ignores, what says neither.
fn is_set(cluster: &Cluster, name: &str) -> Option<bool> {
    label::flag(cluster.labels.get(name)?)
}

/// The reason is for the operator, once for each time that the cluster falls ill.
fn unwell(cluster: &Cluster, reason: &str) {
    match cluster.health_status == Some(HealthStatus::Unhealthy) {
        true => debug!(reason, "the cluster is still not well"),
        false => warn!(reason, "the cluster is not well"),
    }
}

/// What a look says of the cluster.
fn judge(seen: Result<Vec<Node>, KubeError>) -> Finding {
    let mut nodes = match seen {
        Ok(nodes) => nodes,
        Err(_) => return Finding::no_answer(),
    };
    let status = match nodes.iter().all(|node| node.is_ready) {
        true => HealthStatus::Healthy,
        false => HealthStatus::Unhealthy,
    };
    let mut finding = Finding::of(status, "ok");
    nodes.sort_by(|a, b| (a.is_ready, &a.name).cmp(&(b.is_ready, &b.name)));
    let mut bytes = 0;
    for node in nodes.into_iter().take(NAMED) {
        bytes += node.name.len();
        if bytes > NAMED_BYTES {
            break;
        }
        let said = if node.is_ready { "True" } else { "False" };
        finding.reason.insert(format!("{}.Ready", node.name), said.to_owned());
    }
    finding
}

#[cfg(test)]
mod tests;
