//! What an upgrade changes: the nodes that are behind, batch by batch, and the labels that follow
//! the new template. Pure.

use std::collections::{BTreeMap, BTreeSet};

use super::requests::UpgradeOrder;
use super::snapshot::ClusterSnapshot;
use crate::model::cluster_template::ClusterTemplate;
use crate::model::labels::Labels;
use crate::model::name;
use crate::model::nodegroup::NodeGroup;
use crate::model::rollout::{Batch, Called, Make, RoleFlavors, Rollout};
use crate::openstack::Image;
use crate::store::Change;

/// A group all of whose nodes have the new image.
pub(super) fn has_followed(group: &NodeGroup, rollout: &Rollout) -> NodeGroup {
    NodeGroup {
        image_id: Some(rollout.image_id.clone()),
        version: rollout.kube_version.clone(),
        ..group.clone()
    }
}

/// Adds the group of the masters once the last of them has followed: workers may take long. No
/// node was `behind` when the upgrade began: none has followed.
pub(super) fn masters_followed(
    snapshot: &ClusterSnapshot,
    behind: u32,
    group: &NodeGroup,
    change: Change,
) -> Change {
    let Some(rollout) = snapshot.rollout(group) else { return change };
    if !group.is_default || !rollout.masters.is_empty() || behind == 0 {
        return change;
    }
    let masters = snapshot.groups.iter().find(|g| g.is_default && g.is_master());
    match masters.map(|g| (g, has_followed(g, rollout))) {
        Some((known, followed)) if known.record != followed => change.expect(known).put(&followed),
        _ => change,
    }
}

/// What the order asks for; nodes that an earlier, failed upgrade left behind are still behind.
pub(super) fn rollout(
    snapshot: &ClusterSnapshot,
    group: &NodeGroup,
    order: &UpgradeOrder,
    image: &Image,
    flavors: &RoleFlavors,
) -> Rollout {
    let earlier = snapshot.rollout(group);
    // One that has failed half-way may have put the new make on record already.
    let former = match earlier {
        Some(earlier) => earlier.former.clone(),
        None => make(snapshot, group),
    };
    // Where the former template is lost, nothing is known to have been its.
    let old = snapshot.template.as_ref().map(|t| t.labels.clone()).unwrap_or_default();
    let labels = match group.is_default {
        true => followed(&snapshot.cluster.labels, &old, &order.template.labels),
        false => versions_followed(&group.labels, &order.template.labels),
    };
    Rollout {
        cluster_id: snapshot.id(),
        nodegroup: group.id,
        template_id: order.template.id,
        image_id: image.id.clone(),
        kube_version: image.kube_version.clone(),
        labels,
        max_batch_size: order.max_batch_size,
        masters: earlier.map(|r| r.masters.clone()).unwrap_or_default(),
        workers: earlier.map(|r| r.workers.clone()).unwrap_or_default(),
        flavors: flavors.clone(),
        master_flavors: earlier.map(|r| r.master_flavors.clone()).unwrap_or_default(),
        worker_flavors: earlier.map(|r| r.worker_flavors.clone()).unwrap_or_default(),
        resizing: earlier.map(|r| r.resizing.clone()).unwrap_or_default(),
        former,
        undone: Vec::new(),
        failure: None,
    }
}

/// What the nodes of a group are made of by the records of this moment; None when those are lost.
pub(super) fn make(snapshot: &ClusterSnapshot, group: &NodeGroup) -> Option<Make> {
    let facts = snapshot.facts.as_ref()?;
    let called = |id: &String, name: &Option<String>| {
        group.is_default.then(|| Called { id: id.clone(), name: name.clone() })
    };
    let cluster = &snapshot.cluster;
    Some(Make {
        image_id: snapshot.image_of(group)?.to_owned(),
        kube_version: match group.is_default {
            true => facts.kube_version.clone(),
            false => group.version.clone().or_else(|| facts.kube_version.clone()),
        },
        master_flavor: called(&facts.master_flavor, &cluster.master_flavor_id),
        worker_flavor: called(&facts.worker_flavor, &cluster.flavor_id),
    })
}

/// Everything in which `to` differs from `from`: "image a to b, version v1.30.4 to v1.31.1"; None
/// when it is the same. Pure.
pub(super) fn differences(from: &Make, to: &Make) -> Option<String> {
    let mut all = Vec::new();
    if from.image_id != to.image_id {
        all.push(format!("image {} to {}", from.image_id, to.image_id));
    }
    if from.kube_version != to.kube_version {
        let known = |version: &Option<String>| version.clone().unwrap_or("unknown".to_owned());
        let (from, to) = (known(&from.kube_version), known(&to.kube_version));
        all.push(format!("version {from} to {to}"));
    }
    for (of, from, to) in [
        ("masters", &from.master_flavor, &to.master_flavor),
        ("workers", &from.worker_flavor, &to.worker_flavor),
    ] {
        if let (Some(from), Some(to)) = (from, to)
            && from.id != to.id
        {
            // A name that means another flavor by now tells nothing.
            let (from, to) = match (&from.name, &to.name) {
                (Some(a), Some(b)) if a != b => (a, b),
                _ => (&from.id, &to.id),
            };
            all.push(format!("flavor of {of} {from} to {to}"));
        }
    }
    (!all.is_empty()).then(|| all.join(", "))
}

/// What is said of an upgrade that has come to every node. `changed` is whether any node had to be
/// rebuilt or resized for it. Pure.
pub(super) fn done(rollout: &Rollout, now: &Make, template: Option<&str>, changed: bool) -> String {
    let image = &rollout.image_id;
    let known = rollout.former.as_ref().map(|former| differences(former, now));
    match (known, changed) {
        (Some(Some(changes)), true) => format!("Upgraded: {changes}."),
        (Some(Some(changes)), false) => {
            format!("Upgraded: {changes}. No node had to be rebuilt or resized for it.")
        }
        // Nodes that an earlier upgrade had left behind, or one of an earlier release.
        (Some(None) | None, true) => format!("Upgraded to image {image}."),
        (Some(None) | None, false) => {
            let followed = template
                .map(|name| format!("; cluster template {name} is followed"))
                .unwrap_or_default();
            format!("Every node had image {image} already, so none was rebuilt{followed}.")
        }
    }
}

/// What is said of an upgrade that has not come to every node. Pure.
pub(super) fn left_behind(rollout: &Rollout, now: Option<&Make>) -> String {
    let changes = rollout.former.as_ref().zip(now).and_then(|(from, to)| differences(from, to));
    let what = changes.unwrap_or_else(|| format!("image {}", rollout.image_id));
    let behind = rollout.behind();
    let nodes = if behind == 1 { "node" } else { "nodes" };
    let why = rollout.failure.as_deref().map(|why| why.trim().trim_end_matches('.'));
    let why = why.map(|why| format!(": {why}")).unwrap_or_default();
    format!("The upgrade ({what}) has not reached {behind} {nodes}{why}. Ask for it again.")
}

/// The label that says which Kubernetes runs. An upgrade is asked for because of it, so it is the
/// new template's whatever the cluster had.
const VERSION: &str = "kube_tag";

/// The new template's labels, but for those that the cluster has for itself: one that was given
/// otherwise than the old template has it, or that the cluster was made without.
fn followed(own: &Labels, old: &Labels, new: &Labels) -> Labels {
    let is_own = |name: &str| name != VERSION && own.get(name) != old.get(name);
    let kept = own.iter().filter(|(name, value)| old.get(name) != Some(value));
    let mut labels: Labels = kept.collect();
    let brought = new.iter().filter(|(name, _)| !is_own(name));
    brought.for_each(|(name, value)| labels.insert(name, value));
    labels
}

/// What of the change from one template's labels to another's does not come to a cluster that has
/// the label for itself, one sentence each. No values: some are secret. Pure.
pub(super) fn kept_labels(
    own: &Labels,
    old: &ClusterTemplate,
    new: &ClusterTemplate,
) -> Vec<String> {
    let after = followed(own, &old.labels, &new.labels);
    let is_told = |name: &str| {
        old.labels.get(name) != new.labels.get(name) && after.get(name) != new.labels.get(name)
    };
    let names: BTreeSet<_> =
        old.labels.iter().chain(new.labels.iter()).map(|(name, _)| name.as_str()).collect();
    let told = names.into_iter().filter(|name| is_told(name));
    told.map(|name| match own.get(name) {
        Some(_) => format!(
            "label {name} of cluster template {}: the cluster has its own value, and keeps it.",
            new.name
        ),
        None => format!(
            "label {name} of cluster template {}: the cluster was made without it, and stays so.",
            new.name
        ),
    })
    .collect()
}

/// A further group's own labels, with those that say which version of a program runs as the
/// template has them; where it has none, the cluster's count.
fn versions_followed(own: &Labels, new: &Labels) -> Labels {
    let is_version = |name: &str| name.ends_with("_tag");
    let mut labels = Labels::default();
    let kept = own.iter().filter(|(name, _)| !is_version(name));
    let followed = new.iter().filter(|(name, _)| is_version(name));
    kept.chain(followed).for_each(|(name, value)| labels.insert(name, value));
    labels
}

/// Who still has another image, or flavor, than `target`, of those that are there.
pub(super) fn behind(
    present: &[u32],
    known: &BTreeMap<u32, String>,
    image: &str,
    target: &str,
) -> BTreeMap<u32, String> {
    let of = |i: &u32| known.get(i).cloned().unwrap_or_else(|| image.to_owned());
    present.iter().map(|i| (*i, of(i))).filter(|(_, image)| image != target).collect()
}

/// Those whose image is another one, and those of `flavors`, who may have the target's already.
pub(super) fn with_images(
    images: BTreeMap<u32, String>,
    flavors: &BTreeMap<u32, String>,
    target: &str,
) -> BTreeMap<u32, String> {
    let mut all: BTreeMap<u32, String> =
        flavors.keys().map(|index| (*index, target.to_owned())).collect();
    all.extend(images);
    all
}

/// Of each node of a batch whether it is resized, and whether it is rebuilt; in the order of its
/// names.
pub(super) fn changes(rollout: &Rollout, batch: &Batch) -> Vec<(bool, bool)> {
    match batch {
        Batch::Master(index) => vec![rollout.changes(true, *index)],
        Batch::Workers(indexes) => indexes.iter().map(|i| rollout.changes(false, *i)).collect(),
    }
}

/// A default group takes the other one along.
pub(super) fn goes_along(other: &NodeGroup, ordered: &NodeGroup) -> bool {
    other.id == ordered.id || (other.is_default && ordered.is_default)
}

pub(super) fn names(snapshot: &ClusterSnapshot, group: &NodeGroup, batch: &Batch) -> Vec<String> {
    let stack = group.stack_name(&snapshot.cluster);
    match batch {
        Batch::Master(index) => vec![name::master_node(&stack, *index)],
        Batch::Workers(indexes) => {
            let prefix = name::worker_node_prefix(&stack);
            indexes.iter().map(|i| format!("{prefix}{i}")).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::TemplateId;
    use crate::model::cluster_template::Coe;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        let mut labels = Labels::default();
        pairs.iter().for_each(|(k, v)| labels.insert(*k, *v));
        labels
    }

    #[test]
    fn labels_follow_the_template_and_keep_what_is_the_clusters_own() {
        let old = labels(&[("kube_tag", "v1.30.1"), ("gone", "x"), ("same", "1")]);
        let own = labels(&[("kube_tag", "v1.30.4"), ("gone", "x"), ("same", "1"), ("mine", "y")]);
        let new = labels(&[("kube_tag", "v1.31.1"), ("same", "1"), ("more", "z")]);
        let after = followed(&own, &old, &new);
        let wanted = [("kube_tag", "v1.31.1"), ("mine", "y"), ("more", "z"), ("same", "1")];
        assert_eq!(after, labels(&wanted));
        // What the cluster has otherwise, or not at all, was its owner's choice.
        let old = labels(&[("cidrs", "10.0.0.0/8"), ("skipped", "x"), ("kube_tag", "v1.30.1")]);
        let own = labels(&[("cidrs", "192.0.2.0/24"), ("open", "false"), ("kube_tag", "v1.30.1")]);
        let new = labels(&[
            ("cidrs", "10.0.0.0/16"),
            ("skipped", "y"),
            ("open", "true"),
            ("more", "z"),
            ("kube_tag", "v1.31.1"),
        ]);
        let after = followed(&own, &old, &new);
        let wanted =
            [("cidrs", "192.0.2.0/24"), ("open", "false"), ("kube_tag", "v1.31.1"), ("more", "z")];
        assert_eq!(after, labels(&wanted));
        let template = |name: &str, labels: &Labels| ClusterTemplate {
            labels: labels.clone(),
            ..ClusterTemplate::plain(TemplateId::new(uuid::Uuid::nil()), name, Coe::Kubernetes, "u")
        };
        let said = kept_labels(&own, &template("old", &old), &template("new", &new));
        assert_eq!(
            said,
            [
                "label cidrs of cluster template new: the cluster has its own value, and keeps it.",
                "label open of cluster template new: the cluster has its own value, and keeps it.",
                "label skipped of cluster template new: the cluster was made without it, and stays \
                 so.",
            ]
        );
        assert!(kept_labels(&own, &template("a", &old), &template("b", &old)).is_empty());
        let (own, old) = (labels(&[("kube_tag", "v1.30.4")]), labels(&[("kube_tag", "v1.30.1")]));
        let new = labels(&[("kube_tag", "v1.31.1")]);
        assert!(kept_labels(&own, &template("a", &old), &template("b", &new)).is_empty());
        let own = labels(&[("kube_tag", "v1.30.4"), ("zone", "a")]);
        assert_eq!(
            followed(&own, &Labels::default(), &new),
            labels(&[("kube_tag", "v1.31.1"), ("zone", "a")])
        );
        let new = labels(&[("kube_tag", "v1.31.1"), ("same", "1"), ("more", "z")]);
        let group = labels(&[("zone", "a"), ("flannel_tag", "v1"), ("kube_tag", "v1.30.1")]);
        let wanted = labels(&[("zone", "a"), ("kube_tag", "v1.31.1")]);
        assert_eq!(versions_followed(&group, &new), wanted);
    }

    fn a_make(image: &str, version: &str, flavors: [(&str, &str); 2]) -> Make {
        let called = |(id, name): (&str, &str)| {
            Some(Called { id: id.to_owned(), name: Some(name.to_owned()) })
        };
        Make {
            image_id: image.to_owned(),
            kube_version: Some(version.to_owned()),
            master_flavor: called(flavors[0]),
            worker_flavor: called(flavors[1]),
        }
    }

    /// Regression: an upgrade that only resized said "Upgraded to image…".
    #[test]
    fn what_is_said_names_what_changed_and_nothing_else() {
        use crate::model::{ClusterId, NodeGroupId, TemplateId};
        let id = uuid::Uuid::from_u128(1);
        let small = [("1", "m1.small"), ("1", "m1.small")];
        let before = a_make("i1", "v1.30.4", small);
        let rollout = |former: Option<&Make>| Rollout {
            cluster_id: ClusterId::new(id),
            nodegroup: NodeGroupId::new(id),
            template_id: TemplateId::new(id),
            image_id: "i2".to_owned(),
            kube_version: None,
            labels: Labels::default(),
            max_batch_size: 1,
            masters: BTreeMap::new(),
            workers: BTreeMap::from([(0, "i1".to_owned())]),
            flavors: RoleFlavors::default(),
            master_flavors: BTreeMap::new(),
            worker_flavors: BTreeMap::new(),
            resizing: BTreeMap::new(),
            former: former.cloned(),
            undone: Vec::new(),
            failure: None,
        };
        let known = rollout(Some(&before));
        let large = a_make("i1", "v1.30.4", [("1", "m1.small"), ("2", "m1.large")]);
        let both = a_make("i2", "v1.31.1", [("2", "m1.large"), ("2", "m1.large")]);
        let renamed = a_make("i1", "v1.30.4", [("1", "m1.small"), ("1", "1")]);
        let meant = a_make("i1", "v1.30.4", [("1", "m1.small"), ("7", "m1.small")]);
        let said = |rollout: &Rollout, now, changed| done(rollout, now, Some("t"), changed);
        assert_eq!(said(&known, &large, true), "Upgraded: flavor of workers m1.small to m1.large.");
        assert_eq!(
            said(&known, &both, true),
            "Upgraded: image i1 to i2, version v1.30.4 to v1.31.1, flavor of masters m1.small to \
             m1.large, flavor of workers m1.small to m1.large."
        );
        let none = "Upgraded: flavor of workers m1.small to m1.large. No node had to be rebuilt or \
                    resized for it.";
        assert_eq!(said(&known, &large, false), none, "a group without nodes");
        assert_eq!(said(&known, &meant, true), "Upgraded: flavor of workers 1 to 7.");
        for same in [&before, &renamed] {
            assert_eq!(
                said(&known, same, false),
                "Every node had image i2 already, so none was rebuilt; cluster template t is \
                 followed."
            );
            assert_eq!(said(&known, same, true), "Upgraded to image i2.");
        }
        assert_eq!(said(&rollout(None), &both, true), "Upgraded to image i2.");
        assert_eq!(
            left_behind(&known, Some(&large)),
            "The upgrade (flavor of workers m1.small to m1.large) has not reached 1 node. Ask for \
             it again."
        );
        let stopped = Rollout {
            failure: Some("Node m-1 failed in duty drain: no room.".to_owned()),
            ..rollout(None)
        };
        assert_eq!(
            left_behind(&stopped, None),
            "The upgrade (image i2) has not reached 1 node: Node m-1 failed in duty drain: no room. \
             Ask for it again."
        );
    }

    #[test]
    fn who_is_behind_is_known_across_a_failure() {
        let known = BTreeMap::from([(1, "first".to_owned()), (9, "first".to_owned())]);
        let after = behind(&[0, 1, 2], &known, "second", "third");
        let named = |pairs: &[(u32, &str)]| -> BTreeMap<u32, String> {
            pairs.iter().map(|(i, image)| (*i, (*image).to_owned())).collect()
        };
        assert_eq!(after, named(&[(0, "second"), (1, "first"), (2, "second")]), "9 is gone");
        assert_eq!(behind(&[0, 1, 2], &known, "second", "second"), named(&[(1, "first")]));
        let resized = named(&[(0, "small"), (1, "small")]);
        let both = with_images(named(&[(1, "first")]), &resized, "second");
        assert_eq!(
            both,
            named(&[(0, "second"), (1, "first")]),
            "who has the image needs the flavor"
        );
    }
}
