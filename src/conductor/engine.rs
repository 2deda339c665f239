//! One operation after the other: takes steps, waits, tries again, gives up at the deadline, and
//! goes on with the operation behind.

use std::ops::ControlFlow;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use tracing::{Instrument, debug, error, error_span, warn};

use super::moment::Moment;
use super::{Conductor, StepError};
use crate::base::backoff::Backoff;
use crate::base::clock::Timestamp;
use crate::model::ClusterId;
use crate::model::operation::{Operation, OperationKind};
use crate::store::{Change, StoreError, Stored};

/// How a step ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// Something was committed: read again and go on.
    Again,
    /// What the operation waits for, in a sentence for the tenant. Looked at again after the
    /// interval; the operation's deadline ends it.
    Wait(String),
    /// Nothing to do before this time has passed.
    Pause(Duration),
    /// Somebody works on it who has the cluster looked at again when that is done. Should they
    /// be lost, the next round through all operations does.
    Aside,
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

/// Acts are tried again slowly, looks quickly: a look costs Heat little, and a tenant waits.
const ACTS: Backoff = Backoff { first: Duration::from_secs(1), most: Duration::from_secs(30) };
pub(super) const LOOKS: Backoff =
    Backoff { first: Duration::from_secs(1), most: Duration::from_secs(4) };
/// Keystone takes a token for revoked that it gives in the second of a new password.
pub(super) const AFTER_NEW_PASSWORD: Duration = Duration::from_millis(1100);
/// An operation that is begun sooner than this after it was asked for has not waited.
pub(super) const PROMPT: Duration = Duration::from_secs(5);

impl Conductor {
    /// Takes steps until there is nothing to do now.
    pub(super) async fn look_after(&self, id: ClusterId) {
        while !self.inner.stopping.is_cancelled() {
            let moment = match Moment::read(&self.inner.store, id) {
                Ok(Some(moment)) => moment,
                Ok(None) => return self.let_go(id),
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
            _ if self.is_its_turn(operation) => self.begin(moment, operation).await,
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
                let sentence = self.with_refused(id, sentence);
                self.note(moment, &sentence).await;
                self.push(id, self.inner.settings.look_interval);
            }
            Ok(Progress::Pause(length)) => {
                self.settled(id);
                self.push(id, length);
            }
            Ok(Progress::Aside) => self.settled(id),
            Ok(Progress::Done) => {
                self.settled(id);
                if operation.kind == OperationKind::Delete {
                    // Read again: nothing is kept of a cluster that is no more.
                    return ControlFlow::Continue(());
                }
            }
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
        let known = current.get(&operation.cluster_id).is_some_and(|c| c.0 == operation.sequence);
        if !known {
            let seen = (operation.sequence, self.inner.clock.anchor());
            current.insert(operation.cluster_id, seen);
        }
        let is_new = !known;
        let waited = self.inner.clock.now().since(operation.began);
        is_new && operation.step == operation.kind.first_step() && waited > PROMPT
    }

    /// The operation's time begins now.
    async fn begin(
        &self,
        moment: &Moment,
        operation: &Stored<Operation>,
    ) -> Result<Progress, StepError> {
        let deadline = self.another_deadline(moment, operation);
        let begun = Operation { deadline, ..operation.record.clone() };
        self.commit(Change::new().expect(operation).put(&begun)).await?;
        Ok(Progress::Again)
    }

    /// All of an operation's time from now on.
    pub(super) fn another_deadline(
        &self,
        moment: &Moment,
        operation: &Operation,
    ) -> Option<Timestamp> {
        let time = Duration::from_secs(60 * u64::from(self.minutes(moment)));
        operation.deadline.map(|_| self.time_of(operation).plus(time))
    }

    /// The time by which an operation's deadlines are judged. It is counted from when this process
    /// has seen the operation first, so that nobody who sets the clock ends what is being built.
    /// After a restart the wall's time is what there is.
    pub(super) fn time_of(&self, operation: &Operation) -> Timestamp {
        let current = self.inner.current.lock().unwrap_or_else(PoisonError::into_inner);
        match current.get(&operation.cluster_id) {
            Some((sequence, seen)) if *sequence == operation.sequence => {
                self.inner.clock.now_by(seen)
            }
            _ => self.inner.clock.now(),
        }
    }

    pub(super) fn is_late(&self, operation: &Operation) -> bool {
        operation.deadline.is_some_and(|at| self.time_of(operation) >= at)
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
        let reason = match operation.kind {
            OperationKind::Delete => reason,
            _ => self.with_refused(moment.id(), reason),
        };
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
    pub(super) fn attempts(&self, id: ClusterId) -> u32 {
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

    /// The cluster is no more. Its place in the queue is given up when this run has ended.
    fn let_go(&self, id: ClusterId) {
        self.settled(id);
        self.inner.current.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
        self.inner.drawings.forget(id);
        self.inner.gone.lock().unwrap_or_else(PoisonError::into_inner).insert(id);
    }

    fn settled(&self, id: ClusterId) {
        let mut attempts = self.inner.attempts.lock().unwrap_or_else(PoisonError::into_inner);
        attempts.remove(&id);
    }

    /// Shows a sentence about progress, if it is news.
    pub(super) async fn note(&self, moment: &Moment, sentence: &str) {
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
}
