//! A cluster gets new authorities: drawn → trusted beside the old ones → every certificate issued
//! anew → the new ones put in the place of the old ones, which are then trusted no more.
//!
//! Between the phases every node has done the one before, so that at no time two nodes meet of
//! which one does not trust the other. What was drawn stays until it is in place: a rotation that
//! failed goes on with it.

use tracing::info;

use super::duties::Ask;
use super::{Next, Run, Workflow};
use crate::conductor::StepError;
use crate::model::certificate::{CertificateKind, NextCertificate};
use crate::model::duty::DutyKind;
use crate::model::node::Node;
use crate::model::operation::{RotateCa, RotateCaStep};
use crate::store::Change;

type Outcome = Result<Next<RotateCa>, StepError>;

impl Workflow for RotateCa {
    async fn step(run: &Run<'_, Self>) -> Outcome {
        match run.work.step {
            RotateCaStep::Draw => run.draw().await,
            RotateCaStep::Trust => match run.ensure_everywhere(DutyKind::TrustAuthorities)? {
                Some(next) => Ok(next),
                None => run.go(Change::new(), RotateCaStep::Issue),
            },
            RotateCaStep::Issue => match run.ensure_everywhere(DutyKind::IssueLeaves)? {
                Some(next) => Ok(next),
                None => run.put_in_place(),
            },
            RotateCaStep::Drop => match run.ensure_everywhere(DutyKind::DropAuthorities)? {
                Some(next) => Ok(next),
                None => run.settle(),
            },
        }
    }

    fn failed(run: &Run<'_, Self>, reason: &str, _nodegroup: Option<&str>) -> Change {
        run.failed_without_group(reason)
    }
}

impl Run<'_, RotateCa> {
    async fn draw(&self) -> Outcome {
        let Self { conductor, snapshot, .. } = self;
        let mut change = Change::new();
        if snapshot.next_certificates.is_empty() {
            let drawn = conductor.draw(&snapshot.cluster, &CertificateKind::ROTATED).await?;
            let Some(drawn) = drawn else { return Ok(Next::drawing()) };
            for drawn in drawn {
                change = change.put(&NextCertificate(drawn));
            }
        }
        self.go(change, RotateCaStep::Trust)
    }

    /// One master after the other, because each takes its member of etcd away for a moment; then
    /// all workers. None when all have done it.
    fn ensure_everywhere(&self, kind: DutyKind) -> Result<Option<Next<RotateCa>>, StepError> {
        let ask = |node: &Node| Ask { node: node.name.clone(), kind, targets: Vec::new() };
        for master in self.snapshot.masters() {
            if let Some(next) = self.ensure_duties(&[ask(master)])? {
                return Ok(Some(next));
            }
        }
        let workers = self.snapshot.nodes.iter().filter(|n| n.role != "master").map(ask);
        self.ensure_duties(&workers.collect::<Vec<_>>())
    }

    /// From this commit on the new authorities are the cluster's.
    fn put_in_place(&self) -> Outcome {
        let mut change = Change::new();
        for next in &self.snapshot.next_certificates {
            change = change.expect(next).put(&next.0).delete(&next.record);
        }
        info!("the new authorities are put in place");
        self.go(change, RotateCaStep::Drop)
    }

    fn settle(&self) -> Outcome {
        let Self { conductor, snapshot, .. } = self;
        let said = Some("The CA was rotated.".to_owned());
        let change = snapshot.without_stale_duties(Change::new());
        Ok(Next::Done(conductor.with_cluster(snapshot, change, &[], None, said)))
    }
}
