//! Whose token a call to OpenStack carries, for a cluster that several members of its project use.
//!
//! Heat keeps a trust of its own with every stack, made from the token of the user who created the
//! stack. When the token of another user changes or deletes the stack, Heat makes a new trust from
//! that token, and the stack is that user's from then on. Keystone refuses this to a token that
//! comes from a trust itself, and Heat's engine fails (500, `RemoteError`): the cluster's trust can
//! act only on stacks of its own trustor.
//!
//! Therefore a stack is changed with the first of these that Heat accepts for it:
//!
//! 1. the trust on record, which is the only one as long as one user does everything;
//! 2. another trust of the cluster's trustee. Whoever comes to own a stack (by a node group, say)
//!    gives the trustee a trust first; Keystone's list of them is the record;
//! 3. the token of the request, kept sealed with the operation;
//! 4. for a deletion magnumd's own account, an administrator to whom Heat shows every stack. It
//!    never changes a stack: Heat would build what is new in the service's project.
//!
//! Which one a stack needs is found by trying: Heat does not show whose it is, a call that it
//! refuses changes nothing, and what was accepted once is tried first the next time.

use std::sync::Arc;
use std::time::Duration;

use moka::future::Cache;
use tracing::{debug, info};

use super::snapshot::ClusterSnapshot;
use super::stacks::lapsed;
use super::trustee::is_over;
use super::{Conductor, RequestContext, StepError};
use crate::base::secret::{Sealed, Secret};
use crate::model::ClusterId;
use crate::model::cluster::Cluster;
use crate::model::operation::Operation;
use crate::openstack::{Actor, CloudError, Session, StackUpdate, Trust};

/// What is done to a stack: it decides who may lend a token for it.
#[derive(Clone, Copy, Debug)]
pub(super) enum StackAct<'a> {
    Change(&'a StackUpdate<'a>),
    Delete,
}

/// Who looks at a cluster's stacks while it is deleted.
#[derive(Debug)]
pub(super) enum Viewer {
    /// Somebody of its project, who can list what is there.
    Member(Actor),
    /// magnumd's own account, which sees every stack but lists only those of its own project.
    Service(Actor),
}

impl Viewer {
    pub(super) const fn actor(&self) -> &Actor {
        match self {
            Self::Member(actor) | Self::Service(actor) => actor,
        }
    }
}

/// How the failure of an operation begins that found no living trust.
pub(super) const DEAD_TRUST: &str = "The cluster's trust is dead";

/// Attempts after which an engine's failure is taken for a refusal of the identity, where no
/// other identity is left to try.
const ENGINE_FAILURES: u32 = 5;

/// A trustee's password is looked into once in this time.
const BETWEEN_MENDS: Duration = Duration::from_secs(300);

/// Sessions of trustees, and which trust was accepted for what.
#[derive(Debug)]
pub(super) struct Sessions {
    /// By trust.
    open: Cache<String, (ClusterId, Arc<Session>)>,
    /// Trusts by the id of the stack or cluster for which they were accepted last.
    accepted: Cache<String, String>,
    /// Clusters whose trustee was refused, and whether the password has been looked into since.
    refused: Cache<ClusterId, bool>,
}

impl Default for Sessions {
    fn default() -> Self {
        Self {
            // Half of Keystone's shortest sensible token life.
            open: Cache::builder()
                .max_capacity(10_000)
                .time_to_live(Duration::from_secs(300))
                .build(),
            accepted: Cache::builder().max_capacity(10_000).build(),
            refused: Cache::builder().max_capacity(10_000).time_to_live(BETWEEN_MENDS).build(),
        }
    }
}

impl Sessions {
    /// The stack belongs to the user of this trust from now on.
    pub(super) async fn own(&self, stack: &str, trust: Option<&str>) {
        match trust {
            Some(trust) => self.accepted.insert(stack.to_owned(), trust.to_owned()).await,
            None => self.accepted.invalidate(stack).await,
        }
    }

    /// Whether the trustee of a cluster was refused, and nobody has looked why: whoever asks does.
    pub(super) async fn must_mend(&self, cluster: ClusterId) -> bool {
        let refused = self.refused.get(&cluster).await == Some(false);
        if refused {
            self.refused.insert(cluster, true).await;
        }
        refused
    }

    pub(super) async fn was_refused(&self, cluster: ClusterId) {
        if self.refused.get(&cluster).await.is_none() {
            self.refused.insert(cluster, false).await;
        }
    }

    /// Forgets every session of a cluster's trustee; whether there was one.
    async fn forget(&self, cluster: ClusterId) -> bool {
        let of_cluster = self.open.iter().filter(|(_, (owner, _))| *owner == cluster);
        let trusts: Vec<Arc<String>> = of_cluster.map(|(trust, _)| trust).collect();
        for trust in &trusts {
            self.open.invalidate(trust.as_str()).await;
        }
        !trusts.is_empty()
    }
}

impl Conductor {
    /// The token of a request as far as it can be lent to an operation: it must be of the
    /// cluster's project, and Keystone must let it make the trust that Heat then wants.
    pub(super) fn lent_token(
        &self,
        tenant: &RequestContext<'_>,
        cluster: &Cluster,
    ) -> Option<Sealed> {
        let own = tenant.requester.project_id.as_deref() == Some(&cluster.project_id);
        let may = super::can_make_trusts(tenant.requester).is_ok();
        (own && may).then(|| {
            let plain = tenant.token.expose().as_bytes();
            self.inner.store.sealer().seal(&Operation::token_owner(cluster.id), plain)
        })
    }

    /// Somebody who sees the cluster's project: the trustee with the trust on record, else with
    /// another one, else whoever asked for the operation.
    pub(super) async fn reader(&self, snapshot: &ClusterSnapshot) -> Result<Actor, StepError> {
        let place = snapshot.id().to_string();
        let dead = match self.first_session(snapshot, &place).await? {
            Ok(actor) => return Ok(actor),
            Err(dead) => dead,
        };
        for trust in self.other_trusts(snapshot).await? {
            if let Ok(actor) = self.live_session(snapshot, &trust.id).await? {
                self.inner.sessions.accepted.insert(place, trust.id).await;
                return Ok(actor);
            }
        }
        self.caller(snapshot).ok_or(dead)
    }

    /// Changes or deletes one of the cluster's stacks with the first identity that Heat accepts.
    pub(super) async fn on_stack(
        &self,
        snapshot: &ClusterSnapshot,
        name: &str,
        stack: &str,
        act: StackAct<'_>,
    ) -> Result<(), StepError> {
        let mut refusal = match self.first_session(snapshot, stack).await? {
            Ok(actor) => match self.act_as(&actor, name, stack, act).await? {
                Ok(()) => return Ok(()),
                Err(refused) => refused,
            },
            Err(dead) => dead,
        };
        debug!(stack, error = %refusal, "the trust cannot act on this stack; others are tried");
        for trust in self.other_trusts(snapshot).await? {
            let Ok(actor) = self.live_session(snapshot, &trust.id).await? else { continue };
            match self.act_as(&actor, name, stack, act).await? {
                Ok(()) => {
                    self.inner.sessions.accepted.insert(stack.to_owned(), trust.id).await;
                    return Ok(());
                }
                Err(refused) => refusal = refused,
            }
        }
        if let Some(caller) = self.caller(snapshot) {
            let lent = match act {
                StackAct::Change(_) => self.ensure_lent(snapshot, &caller.token).await.map(drop),
                StackAct::Delete => Ok(()),
            };
            let tried = match lent {
                Ok(()) => self.act_as(&caller, name, stack, act).await,
                Err(error) => Err(error),
            };
            match tried {
                Ok(Ok(())) => {
                    info!(stack, "done with the token of the request");
                    self.inner.sessions.accepted.invalidate(stack).await;
                    return Ok(());
                }
                // What the token could not do says less than why it was needed.
                Ok(Err(StepError::Cloud(e))) | Err(StepError::Cloud(e)) if !is_refused(&e) => {
                    return Err(e.into());
                }
                Ok(Err(_)) | Err(StepError::Cloud(_) | StepError::Failed { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        if matches!(act, StackAct::Delete) {
            let own = Actor::from(&*self.inner.cloud.keystone().service().await?);
            match self.act_as(&own, name, stack, act).await {
                Ok(Ok(())) => {
                    info!(stack, "deleted with the service's own account");
                    return Ok(());
                }
                Ok(Err(error)) => refusal = error,
                Err(StepError::Cloud(e)) if is_refused(&e) || e.is_missing() => {}
                Err(error) => return Err(error),
            }
        }
        Err(self.unaccepted(snapshot, refusal))
    }

    /// One try; the inner error says that the identity may be at fault.
    async fn act_as(
        &self,
        actor: &Actor,
        name: &str,
        stack: &str,
        act: StackAct<'_>,
    ) -> Result<Result<(), StepError>, StepError> {
        let heat = self.inner.cloud.heat(actor).await?;
        let done = match act {
            StackAct::Change(update) => self.act(heat.update(name, stack, update)).await,
            StackAct::Delete => self.act(heat.delete(name, stack)).await,
        };
        match done {
            Err(StepError::Cloud(e)) if e.is_remote_error() || e.is_missing_credential() => {
                Ok(Err(e.into()))
            }
            done => done.map(Ok),
        }
    }

    /// Nobody is left to try. An engine that failed may only be unwell, so that is tried again.
    fn unaccepted(&self, snapshot: &ClusterSnapshot, refusal: StepError) -> StepError {
        match refusal {
            StepError::Cloud(e) if self.inner.attempts.of(snapshot.id()) < ENGINE_FAILURES => {
                e.into()
            }
            StepError::Cloud(e) => StepError::failed(format!(
                "Heat keeps a stack of this cluster for another user than the one whose trust \
                 magnumd has ({e}). Ask again as a member of the project with a password or an \
                 unrestricted application credential, or give all of it to one of them: openstack \
                 coe credential rotate {}",
                snapshot.cluster.name
            )),
            other => other,
        }
    }

    /// Makes sure that the trustee has a trust of whoever asked for the operation. Returns its id.
    pub(super) async fn ensure_lent(
        &self,
        snapshot: &ClusterSnapshot,
        token: &Secret<String>,
    ) -> Result<String, StepError> {
        let lost = || StepError::failed("The trustee's id was lost.");
        let operation = snapshot.operation.as_ref().ok_or_else(lost)?;
        let keystone = self.inner.cloud.keystone();
        let (user, password) = snapshot.trustee(&self.inner.store)?;
        let user = user.ok_or_else(lost)?;
        let project = &snapshot.cluster.project_id;
        let fits = |t: &&Trust| t.trustor_user_id == operation.user_id && t.project_id == *project;
        let known = self.act(keystone.trusts_of(user, &password)).await?;
        if let Some(trust) = known.iter().find(fits) {
            return Ok(trust.id.clone());
        }
        let trust = self.make_trust(snapshot, operation, user, token).await?;
        info!(%trust, trustor = operation.user_id, "trust ready");
        Ok(trust)
    }

    /// A trust for the trustee from whoever asked for the operation.
    pub(super) async fn make_trust(
        &self,
        snapshot: &ClusterSnapshot,
        operation: &Operation,
        trustee: &str,
        token: &Secret<String>,
    ) -> Result<String, StepError> {
        let roles = match self.inner.settings.trust_roles.is_empty() {
            true => &operation.roles,
            false => &self.inner.settings.trust_roles,
        };
        let (trustor, project) = (&operation.user_id, &snapshot.cluster.project_id);
        let keystone = self.inner.cloud.keystone();
        let made = keystone.create_trust(token, trustor, trustee, project, roles);
        self.act(made).await.map_err(lapsed("the trust was created"))
    }

    /// Who may look at stacks that shall go. None when no stack can exist, because none is made
    /// before its trust.
    pub(super) async fn deletion_viewer(
        &self,
        snapshot: &ClusterSnapshot,
    ) -> Result<Option<Viewer>, StepError> {
        if snapshot.trust().is_none() {
            return Ok(None);
        }
        match self.reader(snapshot).await {
            Ok(actor) => Ok(Some(Viewer::Member(actor))),
            Err(StepError::Failed { reason, .. }) => {
                debug!(reason, "looking with the service's own account");
                let own = Actor::from(&*self.inner.cloud.keystone().service().await?);
                Ok(Some(Viewer::Service(own)))
            }
            Err(error) => Err(error),
        }
    }

    /// Whoever asked for the operation, while the token is kept.
    pub(super) fn caller(&self, snapshot: &ClusterSnapshot) -> Option<Actor> {
        let operation = snapshot.operation.as_ref()?;
        Some(Actor {
            token: snapshot.tenant_token(&self.inner.store)?,
            project_id: snapshot.cluster.project_id.clone(),
            user_id: operation.user_id.clone(),
        })
    }

    /// A session with the trust that was accepted for `place` last, else with the one on record.
    async fn first_session(
        &self,
        snapshot: &ClusterSnapshot,
        place: &str,
    ) -> Result<Result<Actor, StepError>, StepError> {
        if let Some(trust) = self.inner.sessions.accepted.get(place).await {
            match self.live_session(snapshot, &trust).await? {
                Ok(actor) => return Ok(Ok(actor)),
                Err(_) => self.inner.sessions.accepted.invalidate(place).await,
            }
        }
        match snapshot.trust() {
            Some(trust) => self.live_session(snapshot, trust).await,
            None => Ok(Err(StepError::failed("The cluster has no trust to act with."))),
        }
    }

    /// The trustee's session with a trust; the inner error says that the trust is dead.
    async fn live_session(
        &self,
        snapshot: &ClusterSnapshot,
        trust: &str,
    ) -> Result<Result<Actor, StepError>, StepError> {
        let now = self.inner.clock.now();
        if let Some((_, known)) = self.inner.sessions.open.get(trust).await
            && known.expires_at > now.plus(Duration::from_secs(60))
        {
            return Ok(Ok(Actor::from(&*known)));
        }
        let (user, password) = snapshot.trustee(&self.inner.store)?;
        let Some(user) = user else {
            return Ok(Err(StepError::failed("The cluster has no trustee to act with.")));
        };
        match self.inner.cloud.keystone().trustee(user, &password, Some(trust)).await {
            Ok(session) => {
                let session = Arc::new(session);
                let entry = (snapshot.id(), Arc::clone(&session));
                self.inner.sessions.open.insert(trust.to_owned(), entry).await;
                Ok(Ok(Actor::from(&*session)))
            }
            Err(e) if is_over(&e) => {
                if e.is_unauthorised() {
                    self.inner.sessions.was_refused(snapshot.id()).await;
                }
                Ok(Err(StepError::failed(format!(
                    "{DEAD_TRUST}: the user who gave it was deleted, disabled or has \
                 lost the roles in the project ({e}). Any member of the project makes a new one \
                 with: openstack coe credential rotate {}",
                    snapshot.cluster.name
                ))))
            }
            Err(e) => Err(e.into()),
        }
    }

    /// The trustee's trusts beside the one on record, asked of Keystone.
    pub(super) async fn other_trusts(
        &self,
        snapshot: &ClusterSnapshot,
    ) -> Result<Vec<Trust>, StepError> {
        let (user, password) = snapshot.trustee(&self.inner.store)?;
        let Some(user) = user else { return Ok(Vec::new()) };
        let trusts = match self.inner.cloud.keystone().trusts_of(user, &password).await {
            Ok(trusts) => trusts,
            Err(e) if is_over(&e) => return Ok(Vec::new()),
            Err(e) => return Err(e.into()),
        };
        let project = &snapshot.cluster.project_id;
        let further =
            |t: &Trust| Some(t.id.as_str()) != snapshot.trust() && t.project_id == *project;
        Ok(trusts.into_iter().filter(further).collect())
    }

    /// Forgets the sessions of a cluster's trustee; whether there was one.
    pub(super) async fn forget_session(&self, id: ClusterId) -> bool {
        self.inner.sessions.forget(id).await
    }
}

/// Whether the credential, not the request, was at fault.
fn is_refused(error: &CloudError) -> bool {
    error.is_remote_error()
        || error.is_missing_credential()
        || matches!(error, CloudError::Refused { status: 401 | 403, .. })
}
