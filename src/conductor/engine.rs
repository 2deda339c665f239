//! Carries operations out, whatever their kind: takes steps, commits, waits, tries again, gives
//! up at the deadline, and goes on with the operation behind.

use std::ops::ControlFlow;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use tracing::{Instrument, debug, error, error_span, info, warn};

use super::snapshot::ClusterSnapshot;
use super::workflow::{Next, Run, Waiting, Workflow, log_failure};
use super::{Conductor, StepError};
use crate::base::backoff::Backoff;
use crate::base::clock::Timestamp;
use crate::model::ClusterId;
use crate::model::operation::{Operation, OperationKind};
use crate::store::{Change, StoreError, Stored};

/// How a step ended, once what it wanted on record is there.
#[derive(Debug)]
pub(super) enum Progress {
    Advanced,
    Paused(Duration),
    Waiting(Waiting),
    Aside(Waiting),
    Finished,
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
const PROMPT: Duration = Duration::from_secs(5);

/// `$body` with `$work` as the data of whichever kind an operation is of.
macro_rules! of_its_kind {
    ($kind:expr, $work:ident => $body:expr) => {
        match $kind {
            OperationKind::Create($work) => $body,
            OperationKind::Delete($work) => $body,
            OperationKind::Resize($work) => $body,
            OperationKind::CreateNodeGroup($work) => $body,
            OperationKind::DeleteNodeGroup($work) => $body,
            OperationKind::RotateCredential($work) => $body,
            OperationKind::Upgrade($work) => $body,
            OperationKind::RotateCa($work) => $body,
        }
    };
}

impl Conductor {
    /// Takes steps until there is nothing to do now.
    pub(super) async fn look_after(&self, id: ClusterId) {
        while !self.inner.stopping.is_cancelled() {
            let snapshot = match ClusterSnapshot::read(&self.inner.store, id) {
                Ok(Some(snapshot)) => snapshot,
                Ok(None) => return self.let_go(id),
                Err(error) => {
                    error!(%error, "the cluster cannot be read");
                    return self.push(id, LOOKS.most);
                }
            };
            if self.has_mended(&snapshot).await {
                return self.push(id, AFTER_NEW_PASSWORD);
            }
            let Some(operation) = snapshot.operation.clone() else {
                self.sync(&snapshot).await;
                return self.inner.attempts.forget(id);
            };
            let span = error_span!(
                "operation",
                operation = operation.kind.name(),
                request_id = operation.request_id,
            );
            if self.step(&snapshot, &operation).instrument(span).await.is_break() {
                return;
            }
        }
    }

    /// Takes one step; goes on if there is another to take now.
    async fn step(
        &self,
        snapshot: &ClusterSnapshot,
        operation: &Stored<Operation>,
    ) -> ControlFlow<()> {
        let (id, began) = (snapshot.id(), Instant::now());
        let outcome = match self.is_its_turn(operation) {
            true => self.begin(snapshot, operation).await,
            false => self.take(snapshot, operation).await,
        };
        self.inner.metrics.taken(operation, &outcome, began.elapsed());
        match outcome {
            Ok(Progress::Advanced) => {
                self.inner.attempts.forget(id);
                return ControlFlow::Continue(());
            }
            Ok(Progress::Waiting(Waiting { why, cure })) if self.is_late(operation) => {
                let error = StepError::failed(format!("Timed out: {why}{cure}"));
                return self.recovered(snapshot, operation, error).await;
            }
            Ok(Progress::Waiting(waiting)) => {
                self.inner.attempts.forget(id);
                let sentence = self.with_refused(id, waiting.why);
                self.note(snapshot, &sentence).await;
                self.push(id, self.inner.settings.look_interval);
            }
            Ok(Progress::Paused(length)) => {
                self.inner.attempts.forget(id);
                self.push(id, length);
            }
            Ok(Progress::Aside(waiting)) => {
                self.inner.attempts.forget(id);
                self.note(snapshot, &waiting.why).await;
            }
            Ok(Progress::Finished) => {
                self.inner.attempts.forget(id);
                info!("operation finished");
                if matches!(operation.kind, OperationKind::Delete(_)) {
                    self.collect_drivers().await;
                    self.let_go(id);
                } else if !snapshot.queued.is_empty() {
                    return ControlFlow::Continue(());
                }
            }
            Err(StepError::Store(StoreError::Conflict)) => {
                debug!("a tenant changed something meanwhile: read again");
                return ControlFlow::Continue(());
            }
            Err(StepError::Stopped(_)) => {}
            Err(error) => return self.recovered(snapshot, operation, error).await,
        }
        ControlFlow::Break(())
    }

    /// Asks the operation's workflow what comes next, and commits it.
    async fn take(
        &self,
        snapshot: &ClusterSnapshot,
        operation: &Stored<Operation>,
    ) -> Result<Progress, StepError> {
        let next = of_its_kind!(&operation.kind, work => {
            Workflow::step(&self.run_of(snapshot, operation, work)).await?.of_any_kind()
        });
        match next {
            Next::Go(change, work) => {
                self.advance(snapshot, operation, change, work).await?;
                Ok(Progress::Advanced)
            }
            Next::GoAfter(pause, change, work) => {
                self.advance(snapshot, operation, change, work).await?;
                Ok(Progress::Paused(pause))
            }
            Next::Again(change) => {
                self.commit(change.expect(operation)).await?;
                Ok(Progress::Advanced)
            }
            Next::Wait(waiting) => Ok(Progress::Waiting(waiting)),
            Next::Aside(waiting) => Ok(Progress::Aside(waiting)),
            Next::Done(change) => {
                self.commit(change.expect(operation).delete(&operation.record)).await?;
                Ok(Progress::Finished)
            }
        }
    }

    fn run_of<'a, W>(
        &'a self,
        snapshot: &'a ClusterSnapshot,
        operation: &'a Stored<Operation>,
        work: &'a W,
    ) -> Run<'a, W> {
        Run { conductor: self, snapshot, operation, work, now: self.time_of(operation) }
    }

    /// The operation stands at its next step, with what that step is known to want.
    async fn advance(
        &self,
        snapshot: &ClusterSnapshot,
        operation: &Stored<Operation>,
        change: Change,
        kind: OperationKind,
    ) -> Result<(), StepError> {
        let traits = kind.traits();
        let mut next = Operation { kind, ..operation.record.clone() };
        if traits.renews_deadline {
            next.deadline = self.another_deadline(snapshot, operation);
        }
        if traits.drops_token {
            next.token = None;
        }
        self.commit(change.expect(operation).put(&next)).await
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
        is_new && operation.kind.is_at_its_beginning() && waited > PROMPT
    }

    /// The operation's time begins now.
    async fn begin(
        &self,
        snapshot: &ClusterSnapshot,
        operation: &Stored<Operation>,
    ) -> Result<Progress, StepError> {
        let deadline = self.another_deadline(snapshot, operation);
        let begun = Operation { deadline, ..operation.record.clone() };
        self.commit(Change::new().expect(operation).put(&begun)).await?;
        Ok(Progress::Advanced)
    }

    /// All of an operation's time from now on; None for one that is never given up.
    fn another_deadline(
        &self,
        snapshot: &ClusterSnapshot,
        operation: &Operation,
    ) -> Option<Timestamp> {
        let time = Duration::from_secs(60 * u64::from(self.minutes(snapshot)));
        operation.deadline.map(|_| self.time_of(operation).plus(time))
    }

    /// The time by which an operation's deadlines are judged. It is counted from when this process
    /// has seen the operation first, so that nobody who sets the clock ends what is being built.
    /// After a restart the wall's time is what there is.
    fn time_of(&self, operation: &Operation) -> Timestamp {
        let current = self.inner.current.lock().unwrap_or_else(PoisonError::into_inner);
        match current.get(&operation.cluster_id) {
            Some((sequence, seen)) if *sequence == operation.sequence => {
                self.inner.clock.now_by(seen)
            }
            _ => self.inner.clock.now(),
        }
    }

    fn is_late(&self, operation: &Operation) -> bool {
        operation.deadline.is_some_and(|at| self.time_of(operation) >= at)
    }

    /// Looks into a trustee that Keystone has refused; whether it has its password again.
    async fn has_mended(&self, snapshot: &ClusterSnapshot) -> bool {
        if !self.inner.sessions.must_mend(snapshot.id()).await {
            return false;
        }
        self.mend_trustee(snapshot).await.unwrap_or_else(|error| {
            debug!(%error, "the trustee cannot be looked into");
            false
        })
    }

    /// Tries again later, or closes the operation and goes on with the one behind it.
    async fn recovered(
        &self,
        snapshot: &ClusterSnapshot,
        operation: &Stored<Operation>,
        error: StepError,
    ) -> ControlFlow<()> {
        let id = snapshot.id();
        if matches!(&error, StepError::Cloud(e) if e.is_unauthorised()) {
            self.inner.sessions.was_refused(id).await;
        }
        if self.has_mended(snapshot).await {
            self.push(id, AFTER_NEW_PASSWORD);
            return ControlFlow::Break(());
        }
        match self.recover(snapshot, operation, error).await {
            Recovery::Retry(wait) => {
                self.push(id, wait);
                ControlFlow::Break(())
            }
            Recovery::Failed => {
                self.inner.attempts.forget(id);
                ControlFlow::Continue(())
            }
            Recovery::Stopped => ControlFlow::Break(()),
        }
    }

    /// Decides about a step that did not end well; records a failure.
    async fn recover(
        &self,
        snapshot: &ClusterSnapshot,
        operation: &Stored<Operation>,
        error: StepError,
    ) -> Recovery {
        let attempt = self.inner.attempts.count(snapshot.id());
        let backoff = if operation.kind.traits().looks { LOOKS } else { ACTS };
        let wait = backoff.delay(attempt, self.inner.entropy.fraction());
        let late = self.is_late(operation);
        let failed = match error {
            StepError::Cloud(e) if e.is_passing() && !late => {
                warn!(step = operation.kind.step_name(), attempt, error = %e, "trying again");
                self.note(snapshot, &format!("{e}; trying again.")).await;
                return Recovery::Retry(wait);
            }
            // The trustee's token was revoked before its time; its next one will do.
            StepError::Cloud(e)
                if e.is_unauthorised()
                    && attempt < 3
                    && self.forget_session(snapshot.id()).await =>
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
        match self.record_failure(snapshot, operation, reason, nodegroup.as_deref()).await {
            Ok(()) => Recovery::Failed,
            Err(StepError::Stopped(_)) => Recovery::Stopped,
            Err(error) => {
                warn!(%error, "the failure could not be recorded yet");
                Recovery::Retry(wait)
            }
        }
    }

    /// Closes the operation with a failure.
    async fn record_failure(
        &self,
        snapshot: &ClusterSnapshot,
        operation: &Stored<Operation>,
        reason: String,
        nodegroup: Option<&str>,
    ) -> Result<(), StepError> {
        let reason = match operation.kind {
            OperationKind::Delete(_) => reason,
            _ => self.with_refused(snapshot.id(), reason),
        };
        log_failure(operation, &reason);
        let change = of_its_kind!(&operation.kind, work => {
            Workflow::failed(&self.run_of(snapshot, operation, work), &reason, nodegroup)
        });
        self.commit(change.expect(operation).delete(&operation.record)).await
    }

    /// The cluster is no more. Its place in the queue is given up when this run has ended.
    fn let_go(&self, id: ClusterId) {
        self.inner.attempts.forget(id);
        self.inner.current.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
        self.inner.drawings.forget(id);
        self.inner.gone.lock().unwrap_or_else(PoisonError::into_inner).insert(id);
    }

    /// Shows a sentence about progress, if it is news.
    async fn note(&self, snapshot: &ClusterSnapshot, sentence: &str) {
        let sentence = &self.with_warnings(snapshot, sentence);
        if snapshot.cluster.status_reason.as_ref() == Some(sentence) {
            return;
        }
        let mut cluster = snapshot.cluster.record.clone();
        cluster.status_reason = Some(sentence.clone());
        let change = Change::new().expect(&snapshot.cluster).put(&cluster);
        if let Err(error) = self.inner.store.commit(change).await {
            debug!(%error, "a progress sentence was not kept");
        }
    }
}
