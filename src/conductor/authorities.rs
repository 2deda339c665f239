//! New authorities: drawn → trusted beside the old ones → every certificate issued anew → the
//! new ones put in the place of the old ones, which are then trusted no more.
//!
//! Between the phases every node has done the one before, so that at no time two nodes meet of
//! which one does not trust the other. What was drawn stays until it is in place: a rotation that
//! failed goes on with it.

use tracing::info;

use super::duties::{Ask, forgotten};
use super::moment::Moment;
use super::orders::{busy, in_status};
use super::{Conductor, Progress, Refusal, StepError, Tenant};
use crate::model::certificate::{CertificateKind, NextCertificate};
use crate::model::cluster::Cluster;
use crate::model::duty::DutyKind;
use crate::model::name;
use crate::model::node::Node;
use crate::model::operation::{Detail, Operation, OperationKind, Step};
use crate::store::{Change, Stored};

impl Conductor {
    /// The main, etcd and front-proxy authorities and everything they have signed.
    pub async fn rotate_ca(
        &self,
        tenant: &Tenant<'_>,
        cluster: &Stored<Cluster>,
    ) -> Result<(), Refusal> {
        let id = cluster.id;
        self.order(id, |moment| {
            in_status(moment, "Rotating the CA of a cluster")?;
            let driver = self.driver(moment)?;
            driver.check_rotation()?;
            let (masters, workers) = moment.counts();
            let ready = moment.nodes.iter().filter(|n| n.is_ready()).count();
            if ready < (masters + workers) as usize {
                return Err(busy(
                    moment,
                    &format!(
                        "{ready} of its {} nodes are ready, and a node that takes no part would \
                         be locked out",
                        masters + workers
                    ),
                ));
            }
            let (kind, step) = (OperationKind::RotateAuthorities, Step::DrawAuthorities);
            let operation = self.new_order(tenant, moment, kind, step, Detail::default());
            info!(cluster = %id, "rotation of the authorities accepted");
            Ok(self.in_progress(moment, Change::new().put(&operation)))
        })
        .await
    }

    pub(super) async fn authorities_step(
        &self,
        moment: &Moment,
        operation: &Stored<Operation>,
    ) -> Result<Progress, StepError> {
        let everywhere = |kind| self.ensure_everywhere(moment, operation, kind);
        match operation.step {
            Step::DrawAuthorities => self.ensure_drawn(moment, operation).await,
            Step::TrustAuthorities => match everywhere(DutyKind::TrustAuthorities).await? {
                Some(progress) => Ok(progress),
                None => self.at(operation, Step::IssueLeaves).await,
            },
            Step::IssueLeaves => match everywhere(DutyKind::IssueLeaves).await? {
                Some(progress) => Ok(progress),
                None => self.put_in_place(moment, operation).await,
            },
            Step::DropAuthorities => match everywhere(DutyKind::DropAuthorities).await? {
                Some(progress) => Ok(progress),
                None => self.settle_rotation(moment, operation).await,
            },
            other => Err(StepError::failed(format!(
                "The operation stands at {}, which no rotation of authorities has.",
                other.as_str()
            ))),
        }
    }

    async fn at(&self, operation: &Stored<Operation>, step: Step) -> Result<Progress, StepError> {
        self.commit(Change::new().expect(operation).put(&operation.at(step))).await?;
        Ok(Progress::Again)
    }

    async fn ensure_drawn(
        &self,
        moment: &Moment,
        operation: &Stored<Operation>,
    ) -> Result<Progress, StepError> {
        let mut change = Change::new().expect(operation);
        if moment.next_certificates.is_empty() {
            let drawn = self.draw(&moment.cluster, &CertificateKind::ROTATED).await?;
            let Some(drawn) = drawn else { return Ok(Progress::Aside) };
            for drawn in drawn {
                change = change.put(&NextCertificate(drawn));
            }
        }
        self.commit(change.put(&operation.at(Step::TrustAuthorities))).await?;
        Ok(Progress::Again)
    }

    /// One master after the other, because each takes its member of etcd away for a moment; then
    /// all workers.
    async fn ensure_everywhere(
        &self,
        moment: &Moment,
        operation: &Stored<Operation>,
        kind: DutyKind,
    ) -> Result<Option<Progress>, StepError> {
        let ask = |node: &Node| Ask { node: node.name.clone(), kind, targets: Vec::new() };
        for master in masters(moment) {
            if let Some(progress) = self.ensure_duties(moment, operation, &[ask(master)]).await? {
                return Ok(Some(progress));
            }
        }
        let workers = moment.nodes.iter().filter(|n| n.role != "master").map(ask);
        self.ensure_duties(moment, operation, &workers.collect::<Vec<_>>()).await
    }

    /// From this commit on the new authorities are the cluster's.
    async fn put_in_place(
        &self,
        moment: &Moment,
        operation: &Stored<Operation>,
    ) -> Result<Progress, StepError> {
        let mut change = Change::new().expect(operation);
        for next in &moment.next_certificates {
            change = change.expect(next).put(&next.0).delete(&next.record);
        }
        self.commit(change.put(&operation.at(Step::DropAuthorities))).await?;
        info!("the new authorities are in place");
        Ok(Progress::Again)
    }

    async fn settle_rotation(
        &self,
        moment: &Moment,
        operation: &Stored<Operation>,
    ) -> Result<Progress, StepError> {
        let change = Change::new().expect(operation).delete(&operation.record);
        let said = Some("The CA was rotated.".to_owned());
        let change = self.with_cluster(moment, forgotten(moment, change), &[], None, said);
        self.commit(change).await?;
        info!("authorities rotated");
        Ok(Progress::Again)
    }
}

/// In the order of their index.
pub(super) fn masters(moment: &Moment) -> Vec<&Node> {
    let stack = moment.cluster.stack_name();
    let (count, _) = moment.counts();
    (0..count)
        .filter_map(|i| {
            let own = name::master_node(&stack, i);
            moment.nodes.iter().find(|n| n.name == own)
        })
        .collect()
}
