//! What nodes that are ready are asked to do, and whether they have done it.

use std::collections::BTreeSet;

use super::moment::Moment;
use super::outlook::few;
use super::{Conductor, Progress, Refusal, StepError};
use crate::base::secret::Secret;
use crate::driver::BundleFile;
use crate::driver::plan::{DutyPlan, NodeCertificates};
use crate::model::certificate::{Certificate, CertificateKind};
use crate::model::duty::{Duty, DutyKind, DutyState};
use crate::model::operation::Operation;
use crate::model::{ClusterId, Sequence};
use crate::store::{Change, Stored};

/// One node's part of an operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ask {
    pub node: String,
    pub kind: DutyKind,
    /// Names of the nodes concerned, where it is about others.
    pub targets: Vec<String>,
}

/// What to do about duties that an operation needs.
#[derive(Debug, PartialEq, Eq)]
enum DutyNext {
    /// These have not been given yet.
    Give(Vec<Ask>),
    /// These nodes have not answered yet.
    Wait(Vec<String>),
    Fail(String),
    Done,
}

/// `duties` are what is on record, of this operation and of earlier ones. Pure.
fn next(operation: Sequence, asked: &[Ask], duties: &[&Duty]) -> DutyNext {
    let of = |ask: &Ask| {
        duties.iter().find(|d| {
            d.operation == operation
                && (&d.node, d.kind, &d.targets) == (&ask.node, ask.kind, &ask.targets)
        })
    };
    let new: Vec<Ask> = asked.iter().filter(|ask| of(ask).is_none()).cloned().collect();
    if !new.is_empty() {
        return DutyNext::Give(new);
    }
    let given: Vec<&Duty> = asked.iter().filter_map(|ask| of(ask).copied()).collect();
    if let Some(failed) = given.iter().find(|d| d.state == DutyState::Failed) {
        return DutyNext::Fail(format!(
            "Node {} failed in duty {}: {}",
            failed.node, failed.kind, failed.message
        ));
    }
    let waiting: Vec<String> =
        given.iter().filter(|d| d.is_open()).map(|d| d.node.clone()).collect();
    match waiting.is_empty() {
        true => DutyNext::Done,
        false => DutyNext::Wait(waiting),
    }
}

/// "Duty drain: waiting for k1-master-0 to drain k1-node-1." Pure.
fn waiting(asked: &[Ask], nodes: &[String]) -> String {
    let (kind, targets) = match asked.first() {
        Some(ask) => (ask.kind.as_str(), few(&ask.targets)),
        None => ("", None),
    };
    let nodes = few(nodes).unwrap_or_default();
    match targets {
        Some(targets) => format!("Duty {kind}: waiting for {nodes} to {kind} {targets}."),
        None => format!("Duty {kind}: waiting for {nodes}."),
    }
}

impl Conductor {
    /// Gives the duties that have not been given; None when all are done.
    pub(super) async fn ensure_duties(
        &self,
        moment: &Moment,
        operation: &Stored<Operation>,
        asked: &[Ask],
    ) -> Result<Option<Progress>, StepError> {
        let duties: Vec<&Duty> = moment.duties.iter().map(|d| &d.record).collect();
        match next(operation.sequence, asked, &duties) {
            DutyNext::Done => Ok(None),
            DutyNext::Fail(reason) => Err(StepError::failed(reason)),
            DutyNext::Give(new) => {
                let given_at = self.inner.clock.now();
                let give = |change: Change, ask: Ask| {
                    change.put(&Duty {
                        cluster_id: moment.id(),
                        node: ask.node,
                        number: self.inner.store.next_sequence(),
                        operation: operation.sequence,
                        kind: ask.kind,
                        targets: ask.targets,
                        state: DutyState::Given,
                        message: String::new(),
                        given_at,
                    })
                };
                self.commit(new.into_iter().fold(Change::new().expect(operation), give)).await?;
                Ok(Some(Progress::Again))
            }
            DutyNext::Wait(nodes) => {
                let sentence = waiting(asked, &nodes);
                if self.is_late(operation) {
                    return Err(StepError::failed(format!(
                        "Timed out: {sentence} A worker that is gone for good must be removed \
                         (resize with nodes_to_remove) before this can be tried again."
                    )));
                }
                // A node asks twice a minute; its answer pokes us.
                Ok(Some(Progress::Wait(sentence)))
            }
        }
    }

    /// What a node fetches for its duty.
    pub async fn duty_files(
        &self,
        cluster: ClusterId,
        node: &str,
        duty: &Duty,
    ) -> Result<Vec<BundleFile>, Refusal> {
        let moment = self.moment(cluster)?;
        let (plan, mut place) = self.node_plan(&moment, node).await?;
        let keys = place.master_index.is_some();
        let present = place.certificates.clone();
        place.certificates = match duty.kind {
            DutyKind::Drain
            | DutyKind::DropAuthorities
            | DutyKind::RenewCredentials
            | DutyKind::Rejoin => without_keys(present),
            DutyKind::TrustAuthorities => {
                let next = self.next_authorities(&moment, false)?;
                without_keys(both(&present, &next))
            }
            DutyKind::IssueLeaves => {
                let next = self.next_authorities(&moment, keys)?;
                // The first certificate of a file is the one that signs.
                NodeCertificates {
                    service_account_key: present.service_account_key.clone(),
                    ..both(&next, &present)
                }
            }
        };
        let duty =
            DutyPlan { number: duty.number.0, kind: duty.kind, targets: duty.targets.clone() };
        let driver = self.driver(&moment)?;
        Ok(driver.duty_files(&plan, &place, &duty)?)
    }

    /// The authorities that a rotation has drawn, for masters with their keys.
    fn next_authorities(&self, moment: &Moment, keys: bool) -> Result<NodeCertificates, Refusal> {
        let load = |kind: CertificateKind| -> Result<(String, Option<Secret<String>>), Refusal> {
            let found = moment.next_certificates.iter().find(|c| c.0.kind == kind);
            let found = found.ok_or_else(|| {
                Refusal::Unavailable("The next authorities are not there any more.".to_owned())
            })?;
            let owner = Certificate::owner(moment.id(), kind);
            let key = keys
                .then(|| self.inner.store.sealer().open_text(&owner, &found.0.key))
                .transpose()
                .map_err(|e| Refusal::Internal(e.to_string()))?;
            Ok((found.0.pem.clone(), key))
        };
        let (ca, ca_key) = load(CertificateKind::Kubernetes)?;
        let (etcd_ca, etcd_ca_key) = load(CertificateKind::Etcd)?;
        let (front_proxy_ca, front_proxy_ca_key) = load(CertificateKind::FrontProxy)?;
        Ok(NodeCertificates {
            ca,
            etcd_ca,
            front_proxy_ca,
            ca_key,
            etcd_ca_key,
            front_proxy_ca_key,
            ..NodeCertificates::default()
        })
    }
}

/// Files that trust both; names that only the first has are its own.
fn both(first: &NodeCertificates, second: &NodeCertificates) -> NodeCertificates {
    let joined = |a: &str, b: &str| format!("{}\n{}", a.trim_end(), b.trim_end());
    let public = [&first.service_account_public, &second.service_account_public];
    NodeCertificates {
        ca: joined(&first.ca, &second.ca),
        etcd_ca: joined(&first.etcd_ca, &second.etcd_ca),
        front_proxy_ca: joined(&first.front_proxy_ca, &second.front_proxy_ca),
        service_account_public: public
            .into_iter()
            .find(|p| !p.is_empty())
            .cloned()
            .unwrap_or_default(),
        ..first.clone()
    }
}

fn without_keys(certificates: NodeCertificates) -> NodeCertificates {
    NodeCertificates {
        ca_key: None,
        etcd_ca_key: None,
        front_proxy_ca_key: None,
        service_account_key: None,
        ..certificates
    }
}

/// Duties of nodes that are no more, or whose operation is over.
pub(super) fn forgotten(moment: &Moment, change: Change) -> Change {
    let open: BTreeSet<Sequence> = moment.queued.iter().map(|o| o.sequence).collect();
    let stale = moment.duties.iter().filter(|d| !open.contains(&d.operation));
    stale.fold(change, |change, duty| change.delete(&duty.record))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::Timestamp;
    use uuid::Uuid;

    #[test]
    fn a_duty_is_given_once_and_awaited() {
        let ask = |node: &str, targets: &[&str]| Ask {
            node: node.to_owned(),
            kind: DutyKind::Drain,
            targets: targets.iter().map(|t| (*t).to_owned()).collect(),
        };
        let duty = |operation: u64, node: &str, targets: &[&str], state: DutyState| Duty {
            cluster_id: ClusterId::new(Uuid::from_u128(1)),
            node: node.to_owned(),
            number: Sequence(9),
            operation: Sequence(operation),
            kind: DutyKind::Drain,
            targets: ask(node, targets).targets,
            state,
            message: "no room".to_owned(),
            given_at: Timestamp::EPOCH,
        };
        let asked = [ask("m-0", &["n-0"]), ask("m-1", &[])];
        let look = |duties: &[Duty]| next(Sequence(5), &asked, &duties.iter().collect::<Vec<_>>());
        let (given, done, failed) = (DutyState::Given, DutyState::Done, DutyState::Failed);
        assert_eq!(look(&[]), DutyNext::Give(asked.to_vec()));
        let earlier = [duty(4, "m-0", &["n-0"], done), duty(5, "m-0", &["n-1"], done)];
        assert_eq!(look(&earlier), DutyNext::Give(asked.to_vec()), "other operation, other nodes");
        let one = [duty(5, "m-0", &["n-0"], done)];
        assert_eq!(look(&one), DutyNext::Give(vec![asked[1].clone()]));
        let both = |state| [duty(5, "m-0", &["n-0"], done), duty(5, "m-1", &[], state)];
        assert_eq!(look(&both(given)), DutyNext::Wait(vec!["m-1".to_owned()]));
        assert_eq!(look(&both(done)), DutyNext::Done);
        let said = "Node m-1 failed in duty drain: no room".to_owned();
        assert_eq!(look(&both(failed)), DutyNext::Fail(said));
        assert_eq!(next(Sequence(5), &[], &[]), DutyNext::Done);
        // Regression: who drains was named, and not what is drained.
        let drains = [ask("m-0", &["n-1", "n-2", "n-3", "n-4"])];
        assert_eq!(
            waiting(&drains, &["m-0".to_owned()]),
            "Duty drain: waiting for m-0 to drain n-1, n-2, n-3 and 1 more."
        );
        let renews = Ask { kind: DutyKind::RenewCredentials, ..ask("m-0", &[]) };
        let said = waiting(&[renews], &["m-0".to_owned()]);
        assert!(said.ends_with(": waiting for m-0."), "{said}");
    }
}
