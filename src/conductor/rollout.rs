//! What an upgrade changes: the nodes that are behind, batch by batch, and the labels that follow
//! the new template. Pure.

use std::collections::BTreeMap;

use super::moment::Moment;
use super::orders::UpgradeOrder;
use crate::model::labels::Labels;
use crate::model::name;
use crate::model::nodegroup::NodeGroup;
use crate::model::operation::Operation;
use crate::model::rollout::{Batch, RoleFlavors, Rollout};
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

/// Adds the group of the masters once the last of them has followed: workers may take long.
pub(super) fn masters_followed(
    moment: &Moment,
    operation: &Operation,
    group: &NodeGroup,
    change: Change,
) -> Change {
    let Some(rollout) = moment.rollout(group) else { return change };
    if !group.is_default || !rollout.masters.is_empty() || operation.detail.before == 0 {
        return change;
    }
    let masters = moment.groups.iter().find(|g| g.is_default && g.is_master());
    match masters.map(|g| (g, has_followed(g, rollout))) {
        Some((known, followed)) if known.record != followed => change.expect(known).put(&followed),
        _ => change,
    }
}

/// What the order asks for; nodes that an earlier, failed upgrade left behind are still behind.
pub(super) fn rollout(
    moment: &Moment,
    group: &NodeGroup,
    order: &UpgradeOrder,
    image: &Image,
    flavors: &RoleFlavors,
) -> Rollout {
    let earlier = moment.rollout(group);
    let labels = match (group.is_default, &moment.template) {
        (true, Some(template)) => {
            followed(&moment.cluster.labels, &template.labels, &order.template.labels)
        }
        (true, None) => order.template.labels.clone(),
        (false, _) => versions_followed(&group.labels, &order.template.labels),
    };
    Rollout {
        cluster_id: moment.id(),
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
    }
}

/// The new template's labels, and those of the cluster's that were never the old template's.
fn followed(own: &Labels, old: &Labels, new: &Labels) -> Labels {
    let mut kept = own.clone();
    for (name, value) in old.iter() {
        if own.get(name) == Some(value) {
            kept.remove(name);
        }
    }
    new.over(&kept)
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

pub(super) fn names(moment: &Moment, group: &NodeGroup, batch: &Batch) -> Vec<String> {
    let stack = group.stack_name(&moment.cluster);
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
        let group = labels(&[("zone", "a"), ("flannel_tag", "v1"), ("kube_tag", "v1.30.1")]);
        let wanted = labels(&[("zone", "a"), ("kube_tag", "v1.31.1")]);
        assert_eq!(versions_followed(&group, &new), wanted);
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
