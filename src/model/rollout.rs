//! Rollout: nodes on their way from one image or flavor to another, a few at a time.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::labels::Labels;
use super::{ClusterId, NodeGroupId, TemplateId};

/// However large a batch is asked for: what is forgotten of its nodes goes into one change of the
/// state.
const LARGEST_BATCH: usize = 40;

/// What an upgrade asks for, and which nodes have not got it yet.
///
/// Written when the upgrade is accepted, kept when it fails, deleted when the last node has
/// followed: until then whoever renders the stack must know who is still behind.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rollout {
    pub cluster_id: ClusterId,
    /// The group that was ordered; a default one stands for both of them.
    pub nodegroup: NodeGroupId,
    /// What the cluster, and with it the group, shall follow.
    pub template_id: TemplateId,
    pub image_id: String,
    pub kube_version: Option<String>,
    pub labels: Labels,
    /// Workers rebuilt at the same time, 40 at the most; masters go one by one.
    pub max_batch_size: u32,
    /// Masters by index that are still as they were, and which image they have.
    pub masters: BTreeMap<u32, String>,
    /// Workers by their index in the group, likewise.
    pub workers: BTreeMap<u32, String>,
    /// The flavors, by id, that the nodes shall have; None: the one they have.
    #[serde(default)]
    pub flavors: RoleFlavors,
    /// Of those in `masters` the flavor that they have, by id, where it is another one.
    #[serde(default)]
    pub master_flavors: BTreeMap<u32, String>,
    /// Of those in `workers`, likewise.
    #[serde(default)]
    pub worker_flavors: BTreeMap<u32, String>,
    /// Names of nodes that Heat was asked to give another flavor, and what becomes of their disks.
    /// They stay here until they have been heard of again.
    #[serde(default)]
    pub resizing: BTreeMap<String, Disk>,
    /// What the nodes were before the upgrade; None where an earlier release has begun it.
    #[serde(default)]
    pub former: Option<Make>,
    /// What of the template does not come to the cluster, one sentence each.
    #[serde(default)]
    pub undone: Vec<String>,
    /// Why it has stopped before the last node; None while it goes on.
    #[serde(default)]
    pub failure: Option<String>,
}

/// What nodes are made of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Make {
    pub image_id: String,
    pub kube_version: Option<String>,
    /// None where the group has only workers of its own.
    pub master_flavor: Option<Called>,
    pub worker_flavor: Option<Called>,
}

/// Something of the cloud, and how its tenant spells it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Called {
    pub id: String,
    pub name: Option<String>,
}

/// A flavor for each role, by id.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoleFlavors {
    pub master: Option<String>,
    pub worker: Option<String>,
}

/// What becomes of a server's disk in a rollout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Disk {
    /// Nova resizes the server: the node starts again and is who it was.
    Kept,
    /// It gets another image too: the node boots anew.
    New,
}

/// Who is rebuilt next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Batch {
    Master(u32),
    /// By index, at least one.
    Workers(Vec<u32>),
}

impl Rollout {
    /// Masters first, because no kubelet may be newer than its API server; None when all have
    /// followed.
    pub fn next(&self) -> Option<Batch> {
        if let Some(index) = self.masters.keys().next() {
            return Some(Batch::Master(*index));
        }
        let most = usize::try_from(self.max_batch_size.max(1)).unwrap_or(usize::MAX);
        let most = most.min(LARGEST_BATCH);
        let workers: Vec<u32> = self.workers.keys().take(most).copied().collect();
        (!workers.is_empty()).then_some(Batch::Workers(workers))
    }

    /// The same once `batch` has been handed to Heat.
    pub fn without(&self, batch: &Batch) -> Self {
        let mut rest = self.clone();
        match batch {
            Batch::Master(index) => {
                rest.masters.remove(index);
                rest.master_flavors.remove(index);
            }
            Batch::Workers(indexes) => {
                rest.workers.retain(|i, _| !indexes.contains(i));
                rest.worker_flavors.retain(|i, _| !indexes.contains(i));
            }
        }
        rest
    }

    /// Whether a node, by its index, gets another flavor, and another image.
    pub fn changes(&self, is_master: bool, index: u32) -> (bool, bool) {
        let (images, flavors) = match is_master {
            true => (&self.masters, &self.master_flavors),
            false => (&self.workers, &self.worker_flavors),
        };
        let image = images.get(&index).is_some_and(|image| *image != self.image_id);
        (flavors.contains_key(&index), image)
    }

    /// Nodes that have not followed yet.
    pub fn behind(&self) -> usize {
        self.masters.len() + self.workers.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    #[test]
    fn masters_go_first_and_alone_workers_in_batches() {
        let images = |indexes: &[u32]| indexes.iter().map(|i| (*i, "old".to_owned())).collect();
        let mut rollout = Rollout {
            cluster_id: ClusterId::new(Uuid::from_u128(1)),
            nodegroup: NodeGroupId::new(Uuid::from_u128(2)),
            template_id: TemplateId::new(Uuid::from_u128(3)),
            image_id: "new".to_owned(),
            kube_version: None,
            labels: Labels::default(),
            max_batch_size: 2,
            masters: images(&[0, 2]),
            workers: images(&[1, 4, 7]),
            flavors: RoleFlavors { master: None, worker: Some("large".to_owned()) },
            master_flavors: BTreeMap::new(),
            worker_flavors: [(4, "small".to_owned())].into(),
            resizing: BTreeMap::new(),
            former: None,
            undone: Vec::new(),
            failure: None,
        };
        assert_eq!(
            (rollout.changes(true, 0), rollout.changes(false, 4)),
            ((false, true), (true, true))
        );
        rollout.workers.insert(4, "new".to_owned());
        assert_eq!(
            (rollout.changes(false, 4), rollout.changes(false, 3)),
            ((true, false), (false, false))
        );
        let mut batches = Vec::new();
        while let Some(batch) = rollout.next() {
            rollout = rollout.without(&batch);
            batches.push(batch);
        }
        let (master, workers) = (Batch::Master, Batch::Workers);
        assert_eq!(batches, [master(0), master(2), workers(vec![1, 4]), workers(vec![7])]);
        assert_eq!((rollout.behind(), rollout.worker_flavors.len()), (0, 0));
    }
}
