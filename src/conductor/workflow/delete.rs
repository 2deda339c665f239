//! A cluster goes: stacks → gone → trusts → trustee → forget. Missing is success everywhere.

use tracing::info;

use super::{Next, Run, Workflow};
use crate::conductor::StepError;
use crate::conductor::decide::creation::{GoneNext, gone};
use crate::conductor::snapshot::ClusterSnapshot;
use crate::model::operation::{Delete, DeleteStep};
use crate::model::stack::Stack;
use crate::model::status::Status;
use crate::store::Change;

type Outcome = Result<Next<Delete>, StepError>;

impl Workflow for Delete {
    async fn step(run: &Run<'_, Self>) -> Outcome {
        match run.work.step {
            DeleteStep::Stacks => run.delete_stacks().await,
            DeleteStep::Gone => run.await_gone().await,
            DeleteStep::Trusts => run.delete_trusts().await,
            DeleteStep::Trustee => run.delete_trustee().await,
            DeleteStep::Forget => run.forget().await,
        }
    }

    fn failed(run: &Run<'_, Self>, reason: &str, nodegroup: Option<&str>) -> Change {
        run.cluster_failed(Status::DeleteFailed, reason, nodegroup)
    }
}

impl Run<'_, Delete> {
    /// Asks Heat to delete every stack that carries our tag.
    async fn delete_stacks(&self) -> Outcome {
        let Self { conductor, snapshot, operation, .. } = self;
        if let Some(viewer) = conductor.deletion_viewer(snapshot).await? {
            let actor = viewer.actor();
            if let Some(left) = conductor.ensure_no_balancers(snapshot, operation, actor).await? {
                return Ok(Next::wait(format!(
                    "{left} load balancers of its services are leaving."
                )));
            }
            for stack in first_to_go(snapshot, conductor.stacks_of(snapshot, &viewer).await?) {
                if gone(Some(&stack), false) == GoneNext::Delete
                    && let Some(why) = conductor.delete_stack(snapshot, &stack).await?
                {
                    return Ok(Next::wait(why));
                }
            }
        }
        self.go(Change::new(), DeleteStep::Gone)
    }

    async fn await_gone(&self) -> Outcome {
        let Self { conductor, snapshot, .. } = self;
        if let Some(viewer) = conductor.deletion_viewer(snapshot).await? {
            for stack in first_to_go(snapshot, conductor.stacks_of(snapshot, &viewer).await?) {
                match gone(Some(&stack), true) {
                    GoneNext::Gone => {}
                    GoneNext::Wait => return Ok(Next::wait(format!("Stack {}.", stack.status))),
                    // It came to be after we had asked: a late answer to our own request.
                    GoneNext::Delete => return self.go(Change::new(), DeleteStep::Stacks),
                    GoneNext::Fail => {
                        return Err(conductor.deletion_failure(snapshot, &stack).await);
                    }
                }
            }
        }
        self.go(Change::new(), DeleteStep::Trusts)
    }

    async fn delete_trusts(&self) -> Outcome {
        let Self { conductor, snapshot, .. } = self;
        // Whatever Keystone does not accept any more, deleting its trustee ends.
        for trust in conductor.known_trusts(snapshot).await? {
            conductor.delete_trust(snapshot, &trust).await?;
        }
        conductor.forget_session(snapshot.id()).await;
        self.go(Change::new(), DeleteStep::Trustee)
    }

    async fn delete_trustee(&self) -> Outcome {
        let Self { conductor, snapshot, .. } = self;
        if let Some(user) = conductor.known_trustee(snapshot).await? {
            let keystone = conductor.inner.cloud.keystone();
            match conductor.as_domain_admin(keystone.delete_trustee(&user)).await {
                Ok(()) => info!(trustee = %user, "trustee deleted"),
                Err(StepError::Cloud(e)) if e.is_missing() => {}
                Err(e) => return Err(e),
            }
        }
        self.go(Change::new(), DeleteStep::Forget)
    }

    /// One last commit removes every record.
    async fn forget(&self) -> Outcome {
        let Self { conductor, snapshot, .. } = self;
        let tokens = conductor.inner.store.read(|view| view.discovery_of(snapshot.id()))?;
        let change =
            tokens.iter().fold(Change::new(), |change, token| change.delete(&token.record));
        Ok(Next::Done(change.delete_cluster(snapshot.id())))
    }
}

/// Stacks of further groups use the cluster's network: while there are any, only they.
fn first_to_go(snapshot: &ClusterSnapshot, stacks: Vec<Stack>) -> Vec<Stack> {
    let own = snapshot.cluster.stack_name();
    let (main, groups): (Vec<_>, Vec<_>) =
        stacks.into_iter().filter(|s| !s.is_gone()).partition(|s| s.name == own);
    if groups.is_empty() { main } else { groups }
}
