//! A stack that is being changed, and one at rest → what to do or show. Pure.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use uuid::Uuid;

use crate::base::clock::Timestamp;
use crate::model::node::Node;
use crate::model::stack::{Stack, StackAction, StackState};
use crate::model::status::Status;

/// What to do about a stack that shall be changed.
#[derive(Debug, PartialEq, Eq)]
pub enum UpdateNext {
    /// Heat already has our update.
    Adopt,
    Send,
    /// Heat is busy with something else on it.
    Wait,
    Fail(String),
}

/// `revision` marks our update.
pub fn update(stack: Option<&Stack>, revision: &str) -> UpdateNext {
    let Some(stack) = stack.filter(|s| !s.is_gone()) else {
        return UpdateNext::Fail("The stack is not there any more.".to_owned());
    };
    if stack.is_deleting() {
        return UpdateNext::Fail("The stack is being deleted by somebody else.".to_owned());
    }
    match (stack.is_revision(revision), stack.is_in_progress()) {
        (true, _) => UpdateNext::Adopt,
        (false, true) => UpdateNext::Wait,
        (false, false) => UpdateNext::Send,
    }
}

/// What is known while waiting for a group's stack to change.
#[derive(Debug)]
pub struct Changing<'a> {
    pub stack: Option<&'a Stack>,
    /// The group's nodes that have a server.
    pub nodes: &'a [&'a Node],
    /// How many of them must be ready; 0 where the change brings no new ones.
    pub wanted: u32,
    /// How many nodes the change takes away.
    pub going: u32,
    pub began: Timestamp,
    pub deadline: Option<Timestamp>,
    pub now: Timestamp,
}

#[derive(Debug, PartialEq, Eq)]
pub enum ChangeNext {
    /// With a sentence about what is still missing.
    LookAgain(String),
    Settle,
    /// Heat has restored the stack.
    RolledBack,
    StackFailed,
    Fail(String),
}

pub fn change(seen: &Changing<'_>) -> ChangeNext {
    let Some(stack) = seen.stack.filter(|s| !s.is_gone()) else {
        return ChangeNext::Fail("The stack was deleted while it was being changed.".to_owned());
    };
    match (stack.status.action, stack.status.state) {
        (StackAction::Rollback, StackState::Complete) => return ChangeNext::RolledBack,
        (StackAction::Delete, _) => {
            return ChangeNext::Fail("The stack is being deleted by somebody else.".to_owned());
        }
        (_, StackState::Failed) => return ChangeNext::StackFailed,
        _ => {}
    }
    let late = seen.deadline.is_some_and(|at| seen.now >= at);
    let ready = seen.nodes.iter().filter(|n| n.is_ready()).count();
    let ready = u32::try_from(ready).unwrap_or(u32::MAX);
    let progress = progress(seen, stack, ready);
    if stack.is_in_progress() || ready < seen.wanted {
        // A node that had failed before is not what this change is about.
        let broken = |n: &&&Node| n.has_failed() && n.last_seen >= seen.began;
        return match seen.nodes.iter().find(broken) {
            Some(node) if !stack.is_in_progress() => ChangeNext::Fail(format!(
                "Node {} failed in phase {}: {}",
                node.name, node.phase, node.message
            )),
            _ if late => ChangeNext::Fail(format!("Timed out: {progress}")),
            _ => ChangeNext::LookAgain(progress),
        };
    }
    ChangeNext::Settle
}

/// "Stack UPDATE_COMPLETE; 1 of 3 nodes ready; k1-node-2: certs, 1 not heard from."
fn progress(seen: &Changing<'_>, stack: &Stack, ready: u32) -> String {
    let mut parts = vec![format!("Stack {}", stack.status)];
    if seen.going > 0 {
        let (nodes, are) = if seen.going == 1 { ("node", "is") } else { ("nodes", "are") };
        parts.push(format!("{} {nodes} {are} being removed", seen.going));
    }
    if seen.wanted > 0 {
        parts.push(format!("{ready} of {} nodes ready", seen.wanted));
        let waiting = seen.nodes.iter().filter(|n| !n.is_ready());
        let mut waiting: Vec<String> =
            few(&waiting.map(|n| format!("{}: {}", n.name, n.phase)).collect::<Vec<_>>())
                .into_iter()
                .collect();
        let heard = u32::try_from(seen.nodes.len()).unwrap_or(u32::MAX);
        let silent = seen.wanted.saturating_sub(heard);
        // While Heat is at work there need not be servers yet.
        if silent > 0 && !stack.is_in_progress() {
            waiting.push(format!("{silent} not heard from"));
        }
        if !waiting.is_empty() {
            parts.push(waiting.join(", "));
        }
    }
    format!("{}.", parts.join("; "))
}

/// The first of some names, and how many more there are; None of none.
pub fn few(names: &[String]) -> Option<String> {
    const MOST: usize = 3;
    let shown = names.iter().take(MOST).cloned().collect::<Vec<_>>().join(", ");
    match names.len() {
        0 => None,
        all if all > MOST => Some(format!("{shown} and {} more", all - MOST)),
        _ => Some(shown),
    }
}

/// One group among all of its cluster.
#[derive(Clone, Copy, Debug)]
pub struct Part<'g> {
    pub name: &'g str,
    pub status: Status,
    pub reason: Option<&'g str>,
}

/// The cluster's status that its groups' statuses amount to, and a sentence where some failed, with
/// the cause that the first of them tells.
pub fn aggregate<'g>(
    before: Status,
    groups: impl IntoIterator<Item = Part<'g>>,
) -> (Status, Option<String>) {
    /// Characters of a cause: the whole of it is among the faults.
    const LONGEST: usize = 500;
    let groups: Vec<Part<'_>> = groups.into_iter().collect();
    let failed: Vec<&Part<'_>> = groups.iter().filter(|g| g.status.is_failed()).collect();
    let created = |status: Status| status == Status::CreateComplete;
    if groups.iter().any(|g| g.status.is_in_progress()) {
        (Status::UpdateInProgress, None)
    } else if !failed.is_empty() {
        let names: Vec<String> = failed.iter().map(|g| format!("{} failed", g.name)).collect();
        let told = failed.iter().find_map(|g| {
            // Warnings stand below.
            let reason = g.reason?.lines().next()?.trim();
            (!reason.is_empty()).then_some((g.name, reason))
        });
        let mut said = names.join(", ");
        if let Some((name, reason)) = told {
            let of = if failed.len() > 1 { format!("{name}: ") } else { String::new() };
            let cause: String = reason.chars().take(LONGEST).collect();
            let end = if cause.len() < reason.len() { "…" } else { "" };
            let cause = cause.trim_end_matches('.');
            said = format!("{said}: {of}{cause}{end}");
        }
        (Status::UpdateFailed, Some(format!("{said}.")))
    } else if created(before) && groups.iter().all(|g| created(g.status)) {
        (Status::CreateComplete, None)
    } else {
        (Status::UpdateComplete, None)
    }
}

/// The members of a group by index, as its stack's outputs tell; None while they do not. One
/// that never got a server has none: Heat shows nothing, its index or its resource's name then.
pub fn members(stack: &Stack) -> Option<BTreeMap<u32, Option<String>>> {
    let shown = stack.outputs.get("server_ids")?.get("workers")?.as_object()?;
    let server = |id: &Value| id.as_str().filter(|id| Uuid::parse_str(id).is_ok()).map(Into::into);
    shown.iter().map(|(index, id)| Some((index.parse().ok()?, server(id)))).collect()
}

/// The servers of a group by index, as its stack's outputs tell; None while they do not.
pub fn servers(stack: &Stack) -> Option<BTreeMap<u32, String>> {
    Some(members(stack)?.into_iter().filter_map(|(index, id)| Some((index, id?))).collect())
}

/// The indexes that a group of `count` workers will have once `removals` (server ids) are gone:
/// the lowest that were never removed, as Heat counts.
pub fn upcoming(stack: &Stack, count: u32, removals: &[String]) -> Vec<u32> {
    let gone = stack.outputs.get("server_ids").and_then(|ids| ids.get("removed"));
    let gone = gone.and_then(Value::as_array).into_iter().flatten();
    let mut skipped: BTreeSet<u32> = gone.filter_map(|i| i.as_str()?.parse().ok()).collect();
    let members = servers(stack).unwrap_or_default();
    skipped.extend(members.iter().filter(|(_, id)| removals.contains(id)).map(|(i, _)| *i));
    (0u32..).filter(|i| !skipped.contains(i)).take(count as usize).collect()
}

/// Names of nodes whose servers are no more, so that their names are free again.
pub fn departed<'n>(
    nodes: &'n [&'n Node],
    prefix: &str,
    servers: &BTreeMap<u32, String>,
) -> Vec<&'n Node> {
    let ids: BTreeSet<&str> = servers.values().map(String::as_str).collect();
    let there = |node: &Node| match &node.instance {
        Some(id) => ids.contains(id.as_str()),
        None => servers.keys().any(|i| node.name == format!("{prefix}{i}")),
    };
    nodes.iter().copied().filter(|n| !there(n)).collect()
}

/// What a group at rest shows once its stack has been looked at; None when nothing is new.
pub fn at_rest(shown: Status, stack_id: &str, stack: Option<&Stack>) -> Option<(Status, String)> {
    let new = match stack.filter(|s| !s.is_gone()) {
        None => (Status::UpdateFailed, format!("Stack with id {stack_id} not found in Heat.")),
        Some(s) if s.is_deleting() => (
            Status::UpdateFailed,
            format!("The stack is being deleted by somebody else: {}.", s.status),
        ),
        // Heat may go on with what an order has given up.
        Some(s) if s.is_in_progress() && shown.is_failed() => return None,
        Some(s) if s.is_in_progress() => (Status::UpdateInProgress, format!("Stack {}.", s.status)),
        Some(s) if s.has_failed() => (Status::UpdateFailed, s.status_reason.clone()),
        // A failure stays until the next order: its node may still be broken. Creation is never
        // shown again after a change of ours that Heat took no part in.
        Some(s) if shown.is_failed() || (shown.is_complete() && !s.status.is_updated()) => {
            return None;
        }
        Some(s) => (Status::UpdateComplete, s.status_reason.clone()),
    };
    (new.0 != shown && !(shown.is_failed() && new.0.is_failed())).then_some(new)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ClusterId;
    use crate::model::node::{Phase, PhaseState};
    use crate::model::stack::StackStatus;
    use serde_json::json;
    use std::time::Duration;

    const FIRST: &str = "4c30961a-6e2f-42be-be01-5270e1546a89";
    const THIRD: &str = "0f8f9c3d-3b0e-4d7e-9a51-2f7f4d3c9a10";

    fn stack(status: &str, revision: &str) -> Stack {
        Stack {
            id: "s".to_owned(),
            name: "k1".to_owned(),
            status: StackStatus::parse(status).unwrap(),
            status_reason: "why".to_owned(),
            parameters: [("revision".to_owned(), revision.into())].into(),
            outputs: [("server_ids".to_owned(), json!({"workers": {"0": FIRST, "2": THIRD}}))]
                .into(),
            tags: Vec::new(),
        }
    }

    fn node(name: &str, instance: &str, state: PhaseState) -> Node {
        Node {
            cluster_id: ClusterId::new(Uuid::from_u128(7)),
            name: name.to_owned(),
            nodegroup: "w".to_owned(),
            role: "worker".to_owned(),
            instance: Some(instance.to_owned()),
            phase: Phase::Ready,
            state,
            message: "no disk".to_owned(),
            log_tail: String::new(),
            first_seen: Timestamp::EPOCH,
            last_seen: Timestamp::EPOCH.plus(Duration::from_secs(5)),
        }
    }

    #[test]
    fn an_update_is_sent_once_and_only_to_a_stack_at_rest() {
        let cases = [
            ("CREATE_COMPLETE", "", UpdateNext::Send),
            ("UPDATE_FAILED", "8", UpdateNext::Send),
            ("ROLLBACK_COMPLETE", "8", UpdateNext::Send),
            ("UPDATE_IN_PROGRESS", "8", UpdateNext::Wait),
            ("UPDATE_IN_PROGRESS", "9", UpdateNext::Adopt),
            ("UPDATE_COMPLETE", "9", UpdateNext::Adopt),
            ("UPDATE_FAILED", "9", UpdateNext::Adopt),
        ];
        for (status, revision, next) in cases {
            assert_eq!(update(Some(&stack(status, revision)), "9"), next, "{status} {revision}");
        }
        assert!(matches!(update(None, "9"), UpdateNext::Fail(_)));
        let going = stack("DELETE_IN_PROGRESS", "9");
        assert!(matches!(update(Some(&going), "9"), UpdateNext::Fail(_)));
    }

    #[test]
    fn a_change_ends_when_stack_and_new_nodes_say_so() {
        let (good, bad) = (node("n0", "a", PhaseState::Done), node("n2", "c", PhaseState::Failed));
        let look = |status: &str, nodes: &[&Node], wanted: u32, began: u64, now: u64| {
            let at = |seconds| Timestamp::EPOCH.plus(Duration::from_secs(seconds));
            change(&Changing {
                stack: Some(&stack(status, "9")),
                nodes,
                wanted,
                going: 0,
                began: at(began),
                deadline: Some(at(100)),
                now: at(now),
            })
        };
        assert_eq!(look("UPDATE_COMPLETE", &[&good], 1, 0, 1), ChangeNext::Settle);
        let missing = "Stack UPDATE_COMPLETE; 1 of 2 nodes ready; 1 not heard from.".to_owned();
        assert_eq!(look("UPDATE_COMPLETE", &[&good], 2, 0, 1), ChangeNext::LookAgain(missing));
        assert!(matches!(look("UPDATE_COMPLETE", &[&good], 2, 0, 100), ChangeNext::Fail(_)));
        assert!(matches!(look("UPDATE_IN_PROGRESS", &[&good], 1, 0, 1), ChangeNext::LookAgain(_)));
        assert_eq!(look("UPDATE_FAILED", &[&good], 1, 0, 1), ChangeNext::StackFailed);
        assert_eq!(look("ROLLBACK_COMPLETE", &[&good], 1, 0, 1), ChangeNext::RolledBack);
        let failed = "Node n2 failed in phase ready: no disk".to_owned();
        assert_eq!(look("UPDATE_COMPLETE", &[&good, &bad], 2, 0, 1), ChangeNext::Fail(failed));
        let old = look("UPDATE_COMPLETE", &[&good, &bad], 2, 6, 7);
        assert!(matches!(old, ChangeNext::LookAgain(_)), "it had failed before: {old:?}");
        assert_eq!(look("UPDATE_COMPLETE", &[&good, &bad], 1, 0, 1), ChangeNext::Settle);
    }

    #[test]
    fn one_status_for_all_groups() {
        use Status::{CreateComplete as Made, UpdateComplete as Done, UpdateFailed as Failed};
        let of = |before, statuses: &[Status]| {
            let names = ["a", "b", "c"].into_iter().zip(statuses.iter().copied());
            aggregate(before, names.map(|(name, status)| Part { name, status, reason: None }))
        };
        assert_eq!(of(Made, &[Made, Made]), (Made, None));
        assert_eq!(of(Status::UpdateInProgress, &[Made, Made]), (Done, None));
        assert_eq!(of(Made, &[Made, Done]), (Done, None));
        let some = Some("b failed.".to_owned());
        assert_eq!(of(Made, &[Made, Status::CreateFailed]), (Failed, some));
        let going = of(Made, &[Failed, Status::DeleteInProgress]);
        assert_eq!(going, (Status::UpdateInProgress, None));
    }

    /// Regression: "1 of 0 nodes ready" while a group shrank, and no node by its name.
    #[test]
    fn a_wait_says_what_it_waits_for() {
        let mut slow: Vec<Node> = (1..=5)
            .map(|i| node(&format!("n{i}"), "x", PhaseState::Started))
            .map(|n| Node { phase: Phase::Certs, ..n })
            .collect();
        slow.push(node("n0", "a", PhaseState::Done));
        let said = |status: &str, nodes: usize, wanted: u32, going: u32| {
            let nodes: Vec<&Node> = slow.iter().rev().take(nodes).collect();
            let seen = Changing {
                stack: Some(&stack(status, "9")),
                nodes: &nodes,
                wanted,
                going,
                began: Timestamp::EPOCH,
                deadline: None,
                now: Timestamp::EPOCH,
            };
            match change(&seen) {
                ChangeNext::LookAgain(said) => said,
                other => panic!("{other:?}"),
            }
        };
        let shrinking = said("UPDATE_IN_PROGRESS", 1, 0, 2);
        assert_eq!(shrinking, "Stack UPDATE_IN_PROGRESS; 2 nodes are being removed.");
        let one = said("UPDATE_IN_PROGRESS", 1, 2, 1);
        assert_eq!(one, "Stack UPDATE_IN_PROGRESS; 1 node is being removed; 1 of 2 nodes ready.");
        assert_eq!(said("UPDATE_IN_PROGRESS", 1, 0, 0), "Stack UPDATE_IN_PROGRESS.");
        let slow = said("UPDATE_COMPLETE", 2, 3, 0);
        assert_eq!(slow, "Stack UPDATE_COMPLETE; 1 of 3 nodes ready; n5: certs, 1 not heard from.");
        let many = said("UPDATE_COMPLETE", 6, 6, 0);
        assert_eq!(
            many,
            "Stack UPDATE_COMPLETE; 1 of 6 nodes ready; n5: certs, n4: certs, n3: certs and 2 more."
        );
    }

    /// Regression: a cluster said only which group had failed, and the cause stood elsewhere.
    #[test]
    fn a_failure_is_told_with_its_cause() {
        let part = |name, status, reason| Part { name, status, reason };
        let of = |parts: &[Part<'static>]| {
            aggregate(Status::UpdateInProgress, parts.iter().copied()).1.unwrap()
        };
        let (good, bad) = (Status::UpdateComplete, Status::UpdateFailed);
        let quota = "Quota exceeded for cores.\nwarnings: a label";
        let one = [part("a", good, Some("fine")), part("b", bad, Some(quota))];
        assert_eq!(of(&one), "b failed: Quota exceeded for cores.");
        let two = [part("a", bad, None), part("b", bad, Some(quota))];
        assert_eq!(of(&two), "a failed, b failed: b: Quota exceeded for cores.");
        let long: &'static str = Box::leak("ä".repeat(9000).into_boxed_str());
        let said = of(&[part("a", bad, Some(long))]);
        assert!(said.chars().count() < 600 && said.ends_with("ä…."), "{said}");
    }

    #[test]
    fn a_name_is_free_when_its_server_is_no_more() {
        let servers = servers(&stack("UPDATE_COMPLETE", "9")).unwrap();
        let (stays, replaced) =
            (node("n-0", FIRST, PhaseState::Done), node("n-2", "b", PhaseState::Done));
        let nodes = [&stays, &replaced];
        assert_eq!(departed(&nodes, "n-", &servers), [&replaced]);
    }

    /// Regression: past the quota a member has no server, Heat shows null, the index or the
    /// resource's name for it, and cluster-autoscaler takes it back by its index. One such value
    /// made all members unknown, or passed for the id of a server.
    #[test]
    fn a_member_that_never_got_a_server_has_none() {
        let mut shown = stack("UPDATE_FAILED", "9");
        let workers = json!({"0": FIRST, "1": null, "2": "2", "3": "kube-minion"});
        shown.outputs.insert("server_ids".to_owned(), json!({ "workers": workers }));
        let found = members(&shown).unwrap();
        assert_eq!(found.values().flatten().collect::<Vec<_>>(), [FIRST]);
        assert_eq!(found.keys().copied().collect::<Vec<_>>(), [0, 1, 2, 3]);
        assert_eq!(servers(&shown).unwrap().into_keys().collect::<Vec<_>>(), [0]);
    }

    #[test]
    fn what_happens_behind_our_back_shows() {
        let look = |shown, status: &str| {
            at_rest(shown, "s", Some(&stack(status, "9"))).map(|(status, _)| status)
        };
        use Status::{CreateComplete, UpdateComplete, UpdateFailed, UpdateInProgress};
        assert_eq!(look(CreateComplete, "CREATE_COMPLETE"), None);
        assert_eq!(look(CreateComplete, "UPDATE_COMPLETE"), Some(UpdateComplete));
        assert_eq!(look(UpdateComplete, "CREATE_COMPLETE"), None);
        assert_eq!(look(CreateComplete, "UPDATE_IN_PROGRESS"), Some(UpdateInProgress));
        assert_eq!(look(UpdateInProgress, "UPDATE_COMPLETE"), Some(UpdateComplete));
        assert_eq!(look(CreateComplete, "UPDATE_FAILED"), Some(UpdateFailed));
        assert_eq!(look(UpdateFailed, "UPDATE_COMPLETE"), None);
        assert_eq!(look(UpdateFailed, "UPDATE_IN_PROGRESS"), None, "what an order has given up");
        assert_eq!(look(CreateComplete, "DELETE_IN_PROGRESS"), Some(UpdateFailed));
        let (status, reason) = at_rest(CreateComplete, "s", None).unwrap();
        assert_eq!((status, reason.as_str()), (UpdateFailed, "Stack with id s not found in Heat."));
        assert_eq!(at_rest(UpdateFailed, "s", None), None);
    }
}
