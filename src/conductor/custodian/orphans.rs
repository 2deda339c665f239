//! What was seen in the cloud and what is on record → what belongs to nobody. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::super::balancers::{BALANCER, made_for};
use super::Known;
use crate::base::clock::Timestamp;
use crate::model::ClusterId;
use crate::model::name::{tagged_cluster, tagged_group, trustee_of};
use crate::model::stack::StackStatus;
use crate::model::status::Status;
use crate::openstack::{Balancer, ListedStack, Maker, Trustee};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OrphanKind {
    LoadBalancer,
    Stack,
    /// With its trusts, which end with it.
    Trustee,
    /// A cluster on record whose stack is not there.
    Record,
}

/// Something that nobody looks after.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Orphan {
    pub kind: OrphanKind,
    pub id: String,
    pub name: String,
    pub project_id: String,
    /// The cluster whose it was or is.
    pub cluster: String,
    /// Why `clean` leaves it alone, and what to do instead; None for what it deletes.
    pub kept: Option<String>,
}

/// What a look has found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Orphans {
    pub found: Vec<Orphan>,
    /// What could not be seen, a sentence each.
    pub unseen: Vec<String>,
}

/// Which orphans.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrphanWish {
    /// What is younger is left alone.
    pub grace_seconds: u64,
    /// Only these clusters', even where another magnumd made their trustee; empty means all.
    pub clusters: BTreeSet<Uuid>,
}

impl OrphanWish {
    pub const fn grace(&self) -> Duration {
        Duration::from_secs(self.grace_seconds)
    }
}

/// The cloud as it was seen.
#[derive(Debug, Default)]
pub struct Scene {
    pub trustees: Vec<Trustee>,
    pub stacks: Vec<SeenStack>,
    /// The projects whose stacks were seen; None when all were.
    pub projects: Option<BTreeSet<String>>,
    pub balancers: Vec<SeenBalancer>,
    pub unseen: Vec<String>,
}

#[derive(Clone, Debug)]
pub struct SeenStack {
    pub listed: ListedStack,
    /// The cluster by whose trust it was seen; None for the service account.
    pub through: Option<ClusterId>,
}

/// A load balancer that Kubernetes' cloud provider made for a cluster.
#[derive(Clone, Debug)]
pub struct SeenBalancer {
    pub balancer: Balancer,
    pub cluster: ClusterId,
}

impl SeenBalancer {
    /// By its description: `Kubernetes external service NAMESPACE/NAME from cluster UUID`.
    pub fn of(balancer: Balancer) -> Option<Self> {
        let cluster = made_for(&balancer.description, BALANCER)?;
        Some(Self { balancer, cluster })
    }
}

pub fn decide(
    scene: &Scene,
    known: &BTreeMap<ClusterId, Known>,
    wish: &OrphanWish,
    now: Timestamp,
) -> Vec<Orphan> {
    let grace = wish.grace();
    let is_named = |cluster: ClusterId| wish.clusters.contains(&cluster.uuid());
    let is_ours = |trustee: &Trustee| match (trustee.maker, trustee_of(&trustee.name)) {
        (Maker::Us, _) => true,
        (Maker::AnotherMagnumd, Some((cluster, _))) => is_named(cluster),
        _ => false,
    };
    // A stack or balancer is ours where its trustee is: other magnumds of the same cloud have
    // stacks that look alike.
    let anchors: BTreeSet<ClusterId> = scene
        .trustees
        .iter()
        .filter(|t| is_ours(t))
        .filter_map(|t| Some(trustee_of(&t.name)?.0))
        .collect();
    let is_young = |s: &ListedStack| s.created_at.is_some_and(|at| now.since(at) < grace);
    let young: BTreeSet<ClusterId> = scene
        .stacks
        .iter()
        .filter(|s| is_young(&s.listed))
        .filter_map(|s| tagged_cluster(&s.listed.tags))
        .collect();
    let too_young = || format!("its stack is younger than {} s", grace.as_secs());
    let foreign = || {
        "its trustee was not made by this magnumd, or is gone: it may be another magnumd's"
            .to_owned()
    };
    let kept = |cluster: &ClusterId| match (anchors.contains(cluster), young.contains(cluster)) {
        (false, _) => Some(foreign()),
        (true, true) => Some(too_young()),
        (true, false) => None,
    };

    let mut found = Vec::new();
    for SeenBalancer { balancer, cluster } in &scene.balancers {
        if !known.contains_key(cluster) {
            found.push(Orphan {
                kind: OrphanKind::LoadBalancer,
                id: balancer.id.clone(),
                name: balancer.name.clone(),
                project_id: balancer.project_id.clone(),
                cluster: cluster.to_string(),
                kept: kept(cluster),
            });
        }
    }
    for SeenStack { listed, .. } in &scene.stacks {
        let Some(cluster) = tagged_cluster(&listed.tags) else { continue };
        let group = tagged_group(&listed.tags);
        let kept = match (known.get(&cluster), group) {
            (None, _) if listed.status.is_some_and(StackStatus::is_going) => {
                Some("Heat is deleting it already".to_owned())
            }
            (None, _) => kept(&cluster),
            (Some(known), Some(group)) if !known.groups.contains_key(&group) => Some(format!(
                "cluster {} has no such node group, but has a record: its deletion takes this \
                 along",
                known.name
            )),
            (Some(_), _) => continue,
        };
        found.push(Orphan {
            kind: OrphanKind::Stack,
            id: listed.id.clone(),
            name: listed.name.clone(),
            project_id: listed.project_id.clone(),
            cluster: cluster.to_string(),
            kept,
        });
    }
    for trustee in &scene.trustees {
        let Some((cluster, project)) = trustee_of(&trustee.name) else { continue };
        if known.contains_key(&cluster) {
            continue;
        }
        found.push(Orphan {
            kind: OrphanKind::Trustee,
            id: trustee.id.clone(),
            name: trustee.name.clone(),
            project_id: project.to_owned(),
            cluster: cluster.to_string(),
            kept: match (is_ours(trustee), trustee.maker) {
                (true, _) => kept(&cluster),
                (false, Maker::Somebody) => {
                    Some("it was not made by magnumd, by its description".to_owned())
                }
                (false, _) => Some(format!(
                    "it was made by another magnumd, or by this one before its state was lost; \
                     if so: --cluster {cluster}"
                )),
            },
        });
    }
    let seen: BTreeSet<&str> = scene.stacks.iter().map(|s| s.listed.id.as_str()).collect();
    for (id, cluster) in known {
        let visible = scene.projects.as_ref().is_none_or(|p| p.contains(&cluster.project_id));
        let settled = !cluster.status.is_in_progress() && cluster.status != Status::DeleteComplete;
        if !visible || !settled {
            continue;
        }
        let own = cluster.stack_id.iter().map(|stack| (stack, "its stack"));
        let groups = cluster.groups.values().flatten().map(|stack| (stack, "a node group's stack"));
        for (stack, what) in own.chain(groups).filter(|(stack, _)| !seen.contains(stack.as_str())) {
            let other = scene.stacks.iter().find(|s| tagged_cluster(&s.listed.tags) == Some(*id));
            let cure = match other {
                Some(other) => {
                    format!("stack {} carries its tag: magnumd cluster adopt {id}", other.listed.id)
                }
                None => "its owner must delete the cluster".to_owned(),
            };
            found.push(Orphan {
                kind: OrphanKind::Record,
                id: id.to_string(),
                name: cluster.name.clone(),
                project_id: cluster.project_id.clone(),
                cluster: id.to_string(),
                kept: Some(format!("{what} {stack} is not there; {cure}")),
            });
        }
    }
    if !wish.clusters.is_empty() {
        found.retain(|o| Uuid::parse_str(&o.cluster).is_ok_and(|id| wish.clusters.contains(&id)));
    }
    found.sort_by(|a, b| (&a.cluster, a.kind, &a.id).cmp(&(&b.cluster, b.kind, &b.id)));
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_micros(1_800_000_000_000_000);

    fn id(n: u128) -> ClusterId {
        ClusterId::new(Uuid::from_u128(n))
    }

    fn stack(n: u128, minutes: i64) -> SeenStack {
        SeenStack {
            listed: ListedStack {
                id: format!("s{n}"),
                name: format!("k{n}"),
                project_id: "p".to_owned(),
                status: StackStatus::parse("CREATE_COMPLETE"),
                created_at: Some(Timestamp::from_micros(NOW.micros() - minutes * 60_000_000)),
                tags: vec![format!("magnum-cluster-{}", id(n))],
            },
            through: None,
        }
    }

    fn trustee(n: u128, maker: Maker) -> Trustee {
        Trustee { id: format!("u{n}"), name: format!("{}_p", id(n)), maker }
    }

    fn record(stack: Option<&str>) -> Known {
        Known {
            name: "k".to_owned(),
            project_id: "p".to_owned(),
            status: Status::CreateComplete,
            stack_id: stack.map(str::to_owned),
            groups: BTreeMap::new(),
        }
    }

    fn said(scene: &Scene, known: &[(u128, Known)]) -> Vec<String> {
        said_of(scene, known, &[])
    }

    fn said_of(scene: &Scene, known: &[(u128, Known)], named: &[u128]) -> Vec<String> {
        let clusters = named.iter().map(|n| id(*n).uuid()).collect();
        let wish = OrphanWish { grace_seconds: 3600, clusters };
        let known = known.iter().map(|(n, k)| (id(*n), k.clone())).collect();
        let shown = |o: Orphan| {
            let kept = o.kept.unwrap_or_else(|| "clean".to_owned());
            format!("{:?} {}: {kept}", o.kind, o.id)
        };
        decide(scene, &known, &wish, NOW).into_iter().map(shown).collect()
    }

    #[test]
    fn what_has_a_record_is_nobodys_orphan() {
        let scene = Scene {
            trustees: vec![trustee(1, Maker::Us)],
            stacks: vec![stack(1, 90)],
            ..Scene::default()
        };
        assert_eq!(said(&scene, &[(1, record(Some("s1")))]), [""; 0]);
        assert_eq!(said(&scene, &[]), ["Stack s1: clean", "Trustee u1: clean"]);
    }

    #[test]
    fn what_is_young_foreign_or_going_is_left_alone() {
        let mut going = stack(4, 90);
        going.listed.status = StackStatus::parse("DELETE_IN_PROGRESS");
        let mut untagged = stack(5, 90);
        untagged.listed.tags = vec!["magnum-cluster-nonsense".to_owned(), "x".to_owned()];
        let scene = Scene {
            trustees: vec![
                trustee(1, Maker::Us),
                trustee(2, Maker::Somebody),
                trustee(4, Maker::Us),
            ],
            stacks: vec![stack(1, 30), stack(2, 90), stack(3, 90), going, untagged],
            ..Scene::default()
        };
        let said = said(&scene, &[]);
        let wanted = [
            ("Stack s1", "younger than 3600 s"),
            ("Trustee u1", "younger than 3600 s"),
            ("Stack s2", "another magnumd's"),
            ("Trustee u2", "not made by magnumd"),
            ("Stack s3", "another magnumd's"),
            ("Stack s4", "Heat is deleting it already"),
            ("Trustee u4", "clean"),
        ];
        assert_eq!(said.len(), wanted.len(), "{said:#?}");
        for (line, (what, why)) in said.iter().zip(wanted) {
            assert!(line.starts_with(what) && line.contains(why), "{line} / {what} {why}");
        }
    }

    #[test]
    fn another_magnumds_are_left_alone_unless_they_are_named() {
        let scene = Scene {
            trustees: vec![trustee(1, Maker::AnotherMagnumd), trustee(2, Maker::Somebody)],
            stacks: vec![stack(1, 90), stack(2, 90)],
            ..Scene::default()
        };
        let lines = said(&scene, &[]);
        assert!(lines.len() == 4 && lines.iter().all(|l| !l.ends_with("clean")), "{lines:#?}");
        assert!(lines[1].ends_with(&format!("--cluster {}", id(1))), "{lines:#?}");
        assert_eq!(said_of(&scene, &[], &[1]), ["Stack s1: clean", "Trustee u1: clean"]);
        // A name makes nothing ours that no magnumd made, and no orphan of what has a record.
        let named = said_of(&scene, &[], &[2]);
        assert!(named.len() == 2 && named.iter().all(|l| !l.ends_with("clean")), "{named:#?}");
        assert_eq!(said_of(&scene, &[(1, record(Some("s1")))], &[1]), [""; 0]);
    }

    #[test]
    fn a_record_without_its_stack_is_shown_where_we_could_have_seen_it() {
        let scene = Scene { stacks: vec![stack(1, 90)], ..Scene::default() };
        let lost = [(1, record(Some("other"))), (2, record(Some("gone"))), (3, record(None))];
        let lines = said(&scene, &lost);
        assert_eq!(lines.len(), 2, "{lines:#?}");
        assert!(lines[0].contains("stack s1 carries its tag: magnumd cluster adopt"), "{lines:#?}");
        assert!(lines[1].contains("its owner must delete"), "{lines:#?}");
        let closed = Scene { projects: Some(BTreeSet::new()), ..scene };
        assert_eq!(said(&closed, &lost), [""; 0]);
    }

    #[test]
    fn a_group_that_a_recorded_cluster_does_not_have_is_never_touched() {
        let mut group = stack(1, 90);
        group.listed.tags.push(format!("magnum-nodegroup-{}", Uuid::from_u128(9)));
        let scene = Scene {
            stacks: vec![group],
            trustees: vec![trustee(1, Maker::Us)],
            ..Scene::default()
        };
        let lines = said(&scene, &[(1, record(None))]);
        assert!(lines.len() == 1 && lines[0].contains("has a record"), "{lines:#?}");
    }

    #[test]
    fn load_balancers_are_known_by_their_description() {
        let balancer = |description: &str| Balancer {
            id: "b".to_owned(),
            name: "kube_service_x".to_owned(),
            project_id: "p".to_owned(),
            description: description.to_owned(),
            status: "ACTIVE".to_owned(),
        };
        let ours = format!("Kubernetes external service default/web from cluster {}", id(1));
        let seen = SeenBalancer::of(balancer(&ours)).unwrap();
        for foreign in ["", "from cluster x", "Kubernetes external service a/b from cluster k1"] {
            assert!(SeenBalancer::of(balancer(foreign)).is_none(), "{foreign}");
        }
        let scene = Scene { balancers: vec![seen.clone()], ..Scene::default() };
        assert!(said(&scene, &[])[0].contains("another magnumd's"));
        assert_eq!(said(&scene, &[(1, record(None))]), [""; 0]);
        let anchored = Scene {
            balancers: vec![seen],
            trustees: vec![trustee(1, Maker::Us)],
            ..Scene::default()
        };
        assert_eq!(said(&anchored, &[]), ["LoadBalancer b: clean", "Trustee u1: clean"]);
    }
}
