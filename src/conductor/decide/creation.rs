//! (operation, what is seen) → what to do next. Pure: tested as tables, in microseconds.

use std::time::Duration;

use crate::base::clock::Timestamp;
use crate::driver::Deadlines;
use crate::model::ClusterId;
use crate::model::discovery::{DiscoveryToken, TokenState};
use crate::model::name;
use crate::model::node::{Node, Phase};
use crate::model::nodegroup::{DEFAULT_MASTER, DEFAULT_WORKER};
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
    /// What the names of the cluster's nodes begin with.
    pub stack_name: &'a str,
    /// When the stack was first seen complete; None while it is not.
    pub since: Option<Timestamp>,
    pub limits: Deadlines,
    /// Where the masters register to find each other, if they do.
    pub discovery: Option<&'a DiscoveryToken>,
    pub deadline: Option<Timestamp>,
    /// By the operation's own count, whatever the wall's clock was set to meanwhile.
    pub now: Timestamp,
    /// By the wall's clock, as reports of nodes are dated.
    pub wall: Timestamp,
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
    if stack.is_deleting() {
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
    let (masters, workers) = ready(seen.nodes);
    if !stack.is_in_progress() && masters >= seen.masters && workers >= seen.threshold {
        return AwaitNext::Settle;
    }
    if let Some(late) = overdue(seen) {
        return late;
    }
    let progress = progress(seen, stack, masters + workers);
    match seen.deadline {
        Some(deadline) if seen.now >= deadline => {
            let nodegroup = (!stack.is_in_progress()).then(|| match masters < seen.masters {
                true => DEFAULT_MASTER.to_owned(),
                false => DEFAULT_WORKER.to_owned(),
            });
            AwaitNext::Fail { reason: format!("Timed out: {progress}"), nodegroup }
        }
        _ => AwaitNext::LookAgain(progress),
    }
}

/// Masters and workers that are ready.
pub fn ready(nodes: &[Node]) -> (u32, u32) {
    let of = |role: &str| {
        let ready = nodes.iter().filter(|n| n.role == role && n.is_ready());
        u32::try_from(ready.count()).unwrap_or(u32::MAX)
    };
    (of("master"), of("worker"))
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
    if let Some(token) = seen.discovery.filter(|t| t.state == TokenState::Open) {
        sentence.push_str("; ");
        sentence.push_str(&registered(token));
    }
    sentence.push('.');
    sentence
}

/// "2 of 3 etcd members registered after 3m12s, k1-master-1 missing".
fn registered(token: &DiscoveryToken) -> String {
    let mut sentence = format!("{} of {} etcd members registered", token.members.len(), token.size);
    if let Some(last) = token.members.iter().map(|m| m.first_seen).max() {
        sentence.push_str(" after ");
        sentence.push_str(&length(last.since(token.created_at)));
        let missing = token.missing();
        if !missing.is_empty() {
            sentence.push_str(&format!(", {} missing", missing.join(" and ")));
        }
    }
    sentence
}

/// The first node that has taken too long, once too many have for the cluster to be complete.
fn overdue(seen: &Awaited<'_>) -> Option<AwaitNext> {
    // Of a moment before the clock was set the one difference is true, of one after it the other;
    // the wrong one is never the smaller.
    let passed = |since: Timestamp| seen.now.since(since).min(seen.wall.since(since));
    let is_over = |since: Timestamp, limit: Option<Duration>| limit.filter(|l| passed(since) >= *l);
    let mut late: Vec<(&str, String)> = Vec::new();
    for node in seen.nodes.iter().filter(|n| !n.is_ready()) {
        let group = node.nodegroup.as_str();
        let said = last_lines(&node.log_tail);
        let stuck = is_over(node.last_seen, seen.limits.etcd.filter(|_| node.phase == Phase::Etcd));
        let slow = is_over(node.first_seen, seen.limits.ready);
        let (name, phase) = (&node.name, node.phase);
        match (stuck, slow) {
            (Some(limit), _) => late.push((
                group,
                format!(
                    "Node {name} has been in phase {phase} without a word for {}, which is \
                     etcd_timeout{said}",
                    length(limit)
                ),
            )),
            (None, Some(limit)) => late.push((
                group,
                format!(
                    "Node {name} is not ready {} after its first report, which is \
                     ready_timeout: it stands at phase {phase}{said}",
                    length(limit)
                ),
            )),
            (None, None) => {}
        }
    }
    if let Some(limit) = seen.since.and_then(|since| is_over(since, seen.limits.boot)) {
        let masters =
            (0..seen.masters).map(|i| (name::master_node(seen.stack_name, i), DEFAULT_MASTER));
        let prefix = name::worker_node_prefix(seen.stack_name);
        let workers = (0..seen.workers).map(|i| (format!("{prefix}{i}"), DEFAULT_WORKER));
        let is_silent = |name: &str| !seen.nodes.iter().any(|n| n.name == name);
        late.extend(masters.chain(workers).filter(|(name, _)| is_silent(name)).map(
            |(name, group)| {
                let sentence = format!(
                    "Node {name} has not reported within {} of its server's creation, which is \
                 node_boot_timeout: look at its console and whether it reaches magnumd",
                    length(limit)
                );
                (group, sentence)
            },
        ));
    }
    let spare = (seen.workers - seen.threshold.min(seen.workers)) as usize;
    let is_master = |group: &str| group == DEFAULT_MASTER;
    let too_many = late.iter().filter(|(group, _)| !is_master(group)).count() > spare;
    let first = late.into_iter().find(|(group, _)| is_master(group) || too_many);
    first.map(|(group, sentence)| AwaitNext::Fail {
        reason: format!("{sentence}."),
        nodegroup: Some(group.to_owned()),
    })
}

/// "1h5m", "3m12s", "7s".
pub fn length(length: Duration) -> String {
    let seconds = length.as_secs();
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, s) => format!("{s}s"),
        (0, m, 0) => format!("{m}m"),
        (0, m, s) => format!("{m}m{s}s"),
        (h, 0, _) => format!("{h}h"),
        (h, m, _) => format!("{h}h{m}m"),
    }
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
        Some(s) if s.status.is_going() => GoneNext::Wait,
        Some(s) if s.status.cannot_go() && asked => GoneNext::Fail,
        Some(_) => GoneNext::Delete,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::etcd_member::MemberValue;
    use crate::model::node::PhaseState;
    use crate::model::stack::StackStatus;
    use uuid::Uuid;

    const CLUSTER: ClusterId = ClusterId::new(Uuid::from_u128(7));

    fn heat(status: &str, uuid: &str) -> Stack {
        Stack {
            id: "stack-1".to_owned(),
            name: "k1-x".to_owned(),
            status: StackStatus::parse(status).unwrap(),
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
                stack_name: "k1",
                since: None,
                limits: Deadlines::default(),
                discovery: None,
                deadline: Some(Timestamp::EPOCH.plus(Duration::from_secs(deadline))),
                now,
                wall: now,
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
    fn nodes_that_take_too_long_are_named() {
        const MINUTE: Duration = Duration::from_secs(60);
        let at = |minutes: u32| Timestamp::EPOCH.plus(MINUTE * minutes);
        let seen = |name: &str, role, phase, first: u32, last: u32| {
            let state = if phase == Phase::Ready { PhaseState::Done } else { PhaseState::Started };
            Node { first_seen: at(first), last_seen: at(last), ..node(name, role, phase, state) }
        };
        let stack = heat("CREATE_COMPLETE", "");
        let look = |nodes: &[Node], threshold: u32, now: u32| {
            let next = await_created(&Awaited {
                stack: Some(&stack),
                nodes,
                masters: 1,
                workers: 2,
                threshold,
                stack_name: "k1",
                since: Some(at(10)),
                limits: Deadlines {
                    boot: Some(20 * MINUTE),
                    etcd: Some(10 * MINUTE),
                    ready: Some(30 * MINUTE),
                },
                discovery: None,
                deadline: None,
                now: at(now),
                wall: at(now),
            });
            match next {
                AwaitNext::Fail { reason, nodegroup } => Some((reason, nodegroup.unwrap())),
                AwaitNext::LookAgain(_) => None,
                other => panic!("{other:?}"),
            }
        };
        let master = seen("k1-master-0", "master", Phase::Ready, 11, 12);
        let worker = |index: u32, phase| seen(&format!("k1-node-{index}"), "worker", phase, 11, 12);
        let failed = |reason: &str, group: &str| Some((reason.to_owned(), group.to_owned()));
        let silent = "has not reported within 20m of its server's creation, which is \
                      node_boot_timeout: look at its console and whether it reaches magnumd.";
        assert_eq!(look(&[], 2, 29), None);
        assert_eq!(look(&[], 2, 30), failed(&format!("Node k1-master-0 {silent}"), DEFAULT_MASTER));
        let one = [master.clone(), worker(0, Phase::Certs)];
        assert_eq!(look(&one, 1, 30), None, "one worker is enough, and may still come");
        assert_eq!(look(&one, 2, 30), failed(&format!("Node k1-node-1 {silent}"), DEFAULT_WORKER));
        let slow = "Node k1-node-0 is not ready 30m after its first report, which is \
                    ready_timeout: it stands at phase certs (one | two).";
        assert_eq!(look(&one, 1, 41), failed(slow, DEFAULT_WORKER));
        let both = [master, worker(0, Phase::Certs), worker(1, Phase::Runtime)];
        assert_eq!(look(&both, 2, 40), None);
        assert_eq!(look(&both, 2, 41), failed(slow, DEFAULT_WORKER));
        let stuck = [seen("k1-master-0", "master", Phase::Etcd, 11, 15)];
        assert_eq!(look(&stuck, 2, 24), None);
        let sentence = "Node k1-master-0 has been in phase etcd without a word for 10m, which is \
                        etcd_timeout (one | two).";
        assert_eq!(look(&stuck, 2, 25), failed(sentence, DEFAULT_MASTER));
    }

    #[test]
    fn progress_tells_who_has_registered() {
        let at = |seconds| Timestamp::EPOCH.plus(Duration::from_secs(seconds));
        let names = ["k1-master-0", "k1-master-1", "k1-master-2"].map(str::to_owned).to_vec();
        let token = "0123456789abcdef0123456789abcdef";
        let mut token = DiscoveryToken::issue(token, CLUSTER, 3, names, None, at(100), at(9999));
        let stack = heat("CREATE_IN_PROGRESS", "");
        let look = |token: &DiscoveryToken| {
            let next = await_created(&Awaited {
                stack: Some(&stack),
                nodes: &[],
                masters: 3,
                workers: 1,
                threshold: 1,
                stack_name: "k1",
                since: None,
                limits: Deadlines::default(),
                discovery: Some(token),
                deadline: None,
                now: at(5000),
                wall: at(5000),
            });
            let AwaitNext::LookAgain(sentence) = next else { panic!("{next:?}") };
            sentence.trim_start_matches("Stack CREATE_IN_PROGRESS; 0 of 4 nodes ready").to_owned()
        };
        assert_eq!(look(&token), "; 0 of 3 etcd members registered.");
        for (index, seconds, said) in [
            (
                0,
                107,
                "; 1 of 3 etcd members registered after 7s, k1-master-1 and k1-master-2 missing.",
            ),
            (2, 292, "; 2 of 3 etcd members registered after 3m12s, k1-master-1 missing."),
            (1, 4060, "."),
        ] {
            let value = format!("k1-master-{index}=https://10.0.0.1{index}:2380");
            let value = MemberValue::parse(&value, false).unwrap();
            token.register(&index.to_string(), &value, "", at(seconds)).unwrap();
            assert_eq!(look(&token), said);
        }
        assert_eq!(
            [0, 59, 60, 3599, 3600, 3661, 7260].map(|s| length(Duration::from_secs(s))),
            ["0s", "59s", "1m", "59m59s", "1h", "1h1m", "2h1m"]
        );
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
