//! (operation, what is seen) → what to do next. Pure: tested as tables, in microseconds.

use std::time::Duration;

use crate::base::clock::Timestamp;
use crate::driver::Deadlines;
use crate::model::ClusterId;
use crate::model::node::Node;
use crate::model::stack::Stack;

/// What to do about a cluster's stack before one is known.
#[derive(Debug, PartialEq, Eq)]
pub enum StackNext {
    Create,
    Adopt(String),
    Fail(String),
}

/// `found` are the stacks that carry the cluster's tag.
pub fn stack(cluster: ClusterId, found: &[Stack]) -> StackNext {
    let ours = |s: &&Stack| {
        s.parameters.get("cluster_uuid").and_then(|v| v.as_str()) == Some(&cluster.to_string())
    };
    match (found.iter().find(ours), found.first()) {
        (Some(stack), _) => StackNext::Adopt(stack.id.clone()),
        (None, Some(foreign)) => StackNext::Fail(format!(
            "Stack {} carries this cluster's tag but was not made for it.",
            foreign.name
        )),
        (None, None) => StackNext::Create,
    }
}

/// What is known while waiting for a creation to finish.
#[derive(Debug)]
pub struct Awaited<'a> {
    /// None when Heat no longer has it.
    pub stack: Option<&'a Stack>,
    pub nodes: &'a [Node],
    pub masters: u32,
    pub workers: u32,
    /// How many workers must be ready.
    pub threshold: u32,
    pub limits: Deadlines,
    pub deadline: Option<Timestamp>,
    pub now: Timestamp,
}

#[derive(Debug, PartialEq, Eq)]
pub enum AwaitNext {
    /// With a sentence about what is still missing.
    LookAgain(String),
    Settle,
    /// The stack failed: its resources will say why.
    StackFailed,
    /// A node gave up, or time ran out.
    Fail {
        reason: String,
        nodegroup: Option<String>,
    },
}

pub fn await_created(seen: &Awaited<'_>) -> AwaitNext {
    let Some(stack) = seen.stack else {
        let reason = "The stack was deleted while the cluster was being created.".to_owned();
        return AwaitNext::Fail { reason, nodegroup: None };
    };
    if stack.has_failed() {
        return AwaitNext::StackFailed;
    }
    if stack.status.starts_with("DELETE") {
        let reason = "The stack is being deleted by somebody else.".to_owned();
        return AwaitNext::Fail { reason, nodegroup: None };
    }
    if let Some(node) = seen.nodes.iter().find(|n| n.has_failed()) {
        let reason = format!(
            "Node {} failed in phase {}: {}{}",
            node.name,
            node.phase,
            node.message,
            last_lines(&node.log_tail)
        );
        return AwaitNext::Fail { reason, nodegroup: Some(node.nodegroup.clone()) };
    }
    let ready = |role: &str| {
        let nodes = seen.nodes.iter().filter(|n| n.role == role && n.is_ready());
        u32::try_from(nodes.count()).unwrap_or(u32::MAX)
    };
    let (masters, workers) = (ready("master"), ready("worker"));
    if !stack.is_in_progress() && masters >= seen.masters && workers >= seen.threshold {
        return AwaitNext::Settle;
    }
    if let Some(late) = late(seen) {
        return late;
    }
    let progress = progress(seen, stack, masters + workers);
    match seen.deadline {
        Some(deadline) if seen.now >= deadline => {
            let nodegroup = (!stack.is_in_progress()).then(|| match masters < seen.masters {
                true => crate::model::nodegroup::DEFAULT_MASTER.to_owned(),
                false => crate::model::nodegroup::DEFAULT_WORKER.to_owned(),
            });
            AwaitNext::Fail { reason: format!("Timed out: {progress}"), nodegroup }
        }
        _ => AwaitNext::LookAgain(progress),
    }
}

/// A node that takes longer than the driver's own limits allow.
fn late(seen: &Awaited<'_>) -> Option<AwaitNext> {
    let over = |since: Timestamp, limit: Option<Duration>| {
        limit.filter(|limit| seen.now >= since.plus(*limit)).map(|limit| limit.as_secs())
    };
    let slow = seen.nodes.iter().filter(|n| !n.is_ready()).find_map(|node| {
        let seconds = over(node.first_seen, seen.limits.ready)?;
        Some(AwaitNext::Fail {
            reason: format!(
                "Node {} is not ready {seconds} s after its first report; it stands in phase {}: \
                 {}{}",
                node.name,
                node.phase,
                node.message,
                last_lines(&node.log_tail)
            ),
            nodegroup: Some(node.nodegroup.clone()),
        })
    });
    if slow.is_some() {
        return slow;
    }
    let silent = (seen.masters + seen.workers) as usize;
    let silent = silent.saturating_sub(seen.nodes.len());
    let first = seen.nodes.iter().map(|n| n.first_seen).min()?;
    let seconds = over(first, seen.limits.boot).filter(|_| silent > 0)?;
    let reports =
        u32::try_from(seen.nodes.iter().filter(|n| n.role == "master").count()).unwrap_or(u32::MAX);
    Some(AwaitNext::Fail {
        reason: format!(
            "{silent} of {} nodes have not reported {seconds} s after the first one did. See \
             their consoles (openstack console log show).",
            seen.masters + seen.workers
        ),
        nodegroup: Some(
            match reports < seen.masters {
                true => crate::model::nodegroup::DEFAULT_MASTER,
                false => crate::model::nodegroup::DEFAULT_WORKER,
            }
            .to_owned(),
        ),
    })
}

/// "Stack CREATE_IN_PROGRESS; 1 of 3 nodes ready; k1-node-0: certs".
fn progress(seen: &Awaited<'_>, stack: &Stack, ready: u32) -> String {
    let mut sentence = match seen.masters + seen.workers {
        0 => format!("Stack {}", stack.status),
        nodes => format!("Stack {}; {ready} of {nodes} nodes ready", stack.status),
    };
    let mut waiting: Vec<String> = seen
        .nodes
        .iter()
        .filter(|n| !n.is_ready())
        .map(|n| format!("{}: {}", n.name, n.phase))
        .collect();
    let silent = (seen.masters + seen.workers) as usize
        - seen.nodes.len().min((seen.masters + seen.workers) as usize);
    if silent > 0 && !stack.is_in_progress() {
        waiting.push(format!("{silent} not heard from"));
    }
    if !waiting.is_empty() {
        sentence.push_str("; ");
        sentence.push_str(&waiting.join(", "));
    }
    sentence.push('.');
    sentence
}

/// The end of a node's log, fit for a sentence.
fn last_lines(log: &str) -> String {
    let lines: Vec<&str> = log.lines().rev().filter(|l| !l.trim().is_empty()).take(3).collect();
    match lines.is_empty() {
        true => String::new(),
        false => {
            let joined = lines.into_iter().rev().collect::<Vec<_>>().join(" | ");
            format!(" ({})", joined.chars().take(400).collect::<String>())
        }
    }
}

/// What to do about a stack that shall go.
#[derive(Debug, PartialEq, Eq)]
pub enum GoneNext {
    Gone,
    Wait,
    Delete,
    Fail,
}

/// `asked` says whether Heat has accepted our deletion.
pub fn gone(stack: Option<&Stack>, asked: bool) -> GoneNext {
    match stack {
        None => GoneNext::Gone,
        Some(s) if s.is_gone() => GoneNext::Gone,
        Some(s) if s.status == "DELETE_IN_PROGRESS" => GoneNext::Wait,
        Some(s) if s.status == "DELETE_FAILED" && asked => GoneNext::Fail,
        Some(_) => GoneNext::Delete,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::node::{Phase, PhaseState};
    use uuid::Uuid;

    const CLUSTER: ClusterId = ClusterId::new(Uuid::from_u128(7));

    fn heat(status: &str, uuid: &str) -> Stack {
        Stack {
            id: "stack-1".to_owned(),
            name: "k1-x".to_owned(),
            status: status.to_owned(),
            status_reason: String::new(),
            parameters: [("cluster_uuid".to_owned(), uuid.into())].into(),
            outputs: Default::default(),
            tags: Vec::new(),
        }
    }

    fn node(name: &str, role: &str, phase: Phase, state: PhaseState) -> Node {
        Node {
            cluster_id: CLUSTER,
            name: name.to_owned(),
            nodegroup: format!("default-{role}"),
            role: role.to_owned(),
            instance: None,
            phase,
            state,
            message: "etcd did not start".to_owned(),
            log_tail: "one\ntwo\n".to_owned(),
            first_seen: Timestamp::EPOCH,
            last_seen: Timestamp::EPOCH,
        }
    }

    #[test]
    fn a_stack_is_adopted_only_if_it_was_made_for_this_cluster() {
        let ours = heat("CREATE_IN_PROGRESS", &CLUSTER.to_string());
        let foreign = heat("CREATE_COMPLETE", "somebody else");
        assert_eq!(stack(CLUSTER, &[]), StackNext::Create);
        let adopted = StackNext::Adopt("stack-1".to_owned());
        assert_eq!(stack(CLUSTER, &[foreign.clone(), ours]), adopted);
        assert!(matches!(stack(CLUSTER, &[foreign]), StackNext::Fail(_)));
    }

    #[test]
    fn a_creation_ends_when_stack_and_nodes_say_so() {
        let ready = |name, role| node(name, role, Phase::Ready, PhaseState::Done);
        let done = [ready("m0", "master"), ready("n0", "worker"), ready("n1", "worker")];
        let slow = [ready("m0", "master"), node("n0", "worker", Phase::Certs, PhaseState::Started)];
        let broken = [node("m0", "master", Phase::Etcd, PhaseState::Failed)];
        let now = Timestamp::EPOCH.plus(Duration::from_secs(100));
        let look = |stack: Option<&Stack>, nodes: &[Node], deadline: u64| {
            await_created(&Awaited {
                stack,
                nodes,
                masters: 1,
                workers: 2,
                threshold: 2,
                limits: Deadlines::default(),
                deadline: Some(Timestamp::EPOCH.plus(Duration::from_secs(deadline))),
                now,
            })
        };
        let complete = heat("CREATE_COMPLETE", "");
        let going = heat("CREATE_IN_PROGRESS", "");
        assert_eq!(look(Some(&complete), &done, 200), AwaitNext::Settle);
        assert!(matches!(look(Some(&going), &done, 200), AwaitNext::LookAgain(_)));
        let AwaitNext::LookAgain(missing) = look(Some(&complete), &slow, 200) else { panic!() };
        assert_eq!(
            missing,
            "Stack CREATE_COMPLETE; 1 of 3 nodes ready; n0: certs, 1 not heard from."
        );
        assert_eq!(look(Some(&heat("CREATE_FAILED", "")), &done, 200), AwaitNext::StackFailed);
        assert!(matches!(
            look(Some(&complete), &slow, 100),
            AwaitNext::Fail { nodegroup: Some(g), .. } if g == "default-worker"
        ));
        let AwaitNext::Fail { reason, nodegroup } = look(Some(&going), &broken, 200) else {
            panic!()
        };
        assert_eq!(reason, "Node m0 failed in phase etcd: etcd did not start (one | two)");
        assert_eq!(nodegroup.as_deref(), Some("default-master"));
        assert!(matches!(look(None, &done, 200), AwaitNext::Fail { .. }));
    }

    #[test]
    fn nodes_that_are_late_end_the_creation_before_its_own_deadline() {
        let ready = |name, role| node(name, role, Phase::Ready, PhaseState::Done);
        let complete = heat("CREATE_COMPLETE", "");
        let look = |nodes: &[Node], seconds: u64| {
            let limit = Some(Duration::from_secs(50));
            await_created(&Awaited {
                stack: Some(&complete),
                nodes,
                masters: 1,
                workers: 1,
                threshold: 1,
                limits: Deadlines { boot: limit, ready: limit },
                deadline: None,
                now: Timestamp::EPOCH.plus(Duration::from_secs(seconds)),
            })
        };
        let why = |next: AwaitNext| match next {
            AwaitNext::Fail { reason, nodegroup } => (reason, nodegroup.unwrap_or_default()),
            other => panic!("{other:?}"),
        };
        let silent = [ready("m0", "master")];
        assert!(matches!(look(&silent, 49), AwaitNext::LookAgain(_)));
        let (reason, group) = why(look(&silent, 50));
        assert!(reason.starts_with("1 of 2 nodes have not reported 50 s after"), "{reason}");
        assert_eq!(group, "default-worker");
        let slow = [node("m0", "master", Phase::Etcd, PhaseState::Started), ready("n0", "worker")];
        assert!(matches!(look(&slow, 49), AwaitNext::LookAgain(_)));
        let (reason, group) = why(look(&slow, 50));
        assert!(reason.starts_with("Node m0 is not ready 50 s after"), "{reason}");
        assert!(reason.contains("phase etcd") && group == "default-master", "{reason}");
        let done = [ready("m0", "master"), ready("n0", "worker")];
        assert_eq!(look(&done, 50), AwaitNext::Settle);
        assert!(matches!(look(&[], 9000), AwaitNext::LookAgain(_)), "nobody has said anything");
    }

    #[test]
    fn a_deletion_is_asked_for_until_heat_has_taken_it() {
        let s = |status| heat(status, "");
        assert_eq!(gone(None, false), GoneNext::Gone);
        assert_eq!(gone(Some(&s("DELETE_COMPLETE")), true), GoneNext::Gone);
        assert_eq!(gone(Some(&s("DELETE_IN_PROGRESS")), true), GoneNext::Wait);
        assert_eq!(gone(Some(&s("CREATE_COMPLETE")), false), GoneNext::Delete);
        assert_eq!(gone(Some(&s("DELETE_FAILED")), false), GoneNext::Delete);
        assert_eq!(gone(Some(&s("DELETE_FAILED")), true), GoneNext::Fail);
    }
}
