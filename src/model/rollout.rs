//! Rollout: nodes on their way from one image to another, a few at a time.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::labels::Labels;
use super::{ClusterId, NodeGroupId, TemplateId};

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
    /// Workers rebuilt at the same time; masters go one by one.
    pub max_batch_size: u32,
    /// Masters by index that still have another image, and which.
    pub masters: BTreeMap<u32, String>,
    /// Workers by their index in the group, likewise.
    pub workers: BTreeMap<u32, String>,
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
        let workers: Vec<u32> = self.workers.keys().take(most).copied().collect();
        (!workers.is_empty()).then_some(Batch::Workers(workers))
    }

    /// The same once `batch` has been handed to Heat.
    pub fn without(&self, batch: &Batch) -> Self {
        let mut rest = self.clone();
        match batch {
            Batch::Master(index) => _ = rest.masters.remove(index),
            Batch::Workers(indexes) => rest.workers.retain(|i, _| !indexes.contains(i)),
        }
        rest
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
        };
        let mut batches = Vec::new();
        while let Some(batch) = rollout.next() {
            rollout = rollout.without(&batch);
            batches.push(batch);
        }
        let (master, workers) = (Batch::Master, Batch::Workers);
        assert_eq!(batches, [master(0), master(2), workers(vec![1, 4]), workers(vec![7])]);
        assert_eq!(rollout.behind(), 0);
    }
}
