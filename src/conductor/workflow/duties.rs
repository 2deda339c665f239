//! What nodes that are ready are asked to do, and whether they have done it.

use super::{Next, Run, Waiting};
use crate::conductor::StepError;
use crate::conductor::decide::change::few;
use crate::model::Sequence;
use crate::model::duty::{Duty, DutyKind, DutyState};
use crate::model::operation::Work;
use crate::store::{Change, MOST_WRITES};

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

/// What helps when a node does not do its duty in time.
const CURE: &str = " A worker that is gone for good must be removed (resize with nodes_to_remove) \
                    before this can be tried again.";

impl<W: Work> Run<'_, W> {
    /// Gives the duties that have not been given; None when all are done.
    pub(super) fn ensure_duties(&self, asked: &[Ask]) -> Result<Option<Next<W>>, StepError> {
        let Self { conductor, snapshot, operation, .. } = self;
        // No node could fetch what it takes.
        if !snapshot.can_plan() {
            return Err(StepError::failed(snapshot.cannot_plan()));
        }
        conductor.driver(snapshot)?;
        let duties: Vec<&Duty> = snapshot.duties.iter().map(|d| &d.record).collect();
        match next(operation.sequence, asked, &duties) {
            DutyNext::Done => Ok(None),
            DutyNext::Fail(reason) => Err(StepError::failed(reason)),
            DutyNext::Give(new) => {
                let given_at = conductor.inner.clock.now();
                let give = |change: Change, ask: Ask| {
                    change.put(&Duty {
                        cluster_id: snapshot.id(),
                        node: ask.node,
                        number: conductor.inner.store.next_sequence(),
                        operation: operation.sequence,
                        kind: ask.kind,
                        targets: ask.targets,
                        state: DutyState::Given,
                        message: String::new(),
                        given_at,
                    })
                };
                // The next look gives those that do not go into one change.
                let these = new.into_iter().take(MOST_WRITES / 2);
                Ok(Some(Next::Again(these.fold(Change::new(), give))))
            }
            // A node asks twice a minute; its answer pokes us.
            DutyNext::Wait(nodes) => {
                let why = waiting(asked, &nodes);
                Ok(Some(Next::Wait(Waiting { why, cure: CURE })))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::Timestamp;
    use crate::model::ClusterId;
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
