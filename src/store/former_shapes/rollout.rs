//! Versions 1 to 3 of a rollout.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::model::labels::Labels;
use crate::model::rollout::{Disk, Make, RoleFlavors, Rollout};
use crate::model::{ClusterId, NodeGroupId, TemplateId};
use crate::store::record::decode_body;

/// Reads the body of a rollout of version 1, 2 or 3.
pub fn rollout(version: u8, body: &[u8]) -> Result<Rollout, String> {
    match version {
        1 => decode_body::<FirstRollout>(body).map(Rollout::from),
        2 => decode_body::<SecondRollout>(body).map(Rollout::from),
        _ => decode_body::<ThirdRollout>(body).map(Rollout::from),
    }
}

/// Version 1, in which only images changed.
#[derive(Serialize, Deserialize)]
struct FirstRollout {
    cluster_id: ClusterId,
    nodegroup: NodeGroupId,
    template_id: TemplateId,
    image_id: String,
    kube_version: Option<String>,
    labels: Labels,
    max_batch_size: u32,
    masters: BTreeMap<u32, String>,
    workers: BTreeMap<u32, String>,
}

/// Version 2, which did not tell what was before.
#[derive(Serialize, Deserialize)]
struct SecondRollout {
    first: FirstRollout,
    flavors: RoleFlavors,
    master_flavors: BTreeMap<u32, String>,
    worker_flavors: BTreeMap<u32, String>,
    resizing: BTreeMap<String, Disk>,
}

/// Version 3, which did not tell why it had stopped.
#[derive(Serialize, Deserialize)]
struct ThirdRollout {
    second: SecondRollout,
    former: Option<Make>,
    undone: Vec<String>,
}

impl From<ThirdRollout> for Rollout {
    fn from(third: ThirdRollout) -> Self {
        let ThirdRollout { second, former, undone } = third;
        Self { former, undone, ..second.into() }
    }
}

impl From<FirstRollout> for Rollout {
    fn from(first: FirstRollout) -> Self {
        SecondRollout {
            first,
            flavors: RoleFlavors::default(),
            master_flavors: BTreeMap::new(),
            worker_flavors: BTreeMap::new(),
            resizing: BTreeMap::new(),
        }
        .into()
    }
}

impl From<SecondRollout> for Rollout {
    fn from(second: SecondRollout) -> Self {
        let SecondRollout { first, flavors, master_flavors, worker_flavors, resizing } = second;
        Self {
            cluster_id: first.cluster_id,
            nodegroup: first.nodegroup,
            template_id: first.template_id,
            image_id: first.image_id,
            kube_version: first.kube_version,
            labels: first.labels,
            max_batch_size: first.max_batch_size,
            masters: first.masters,
            workers: first.workers,
            flavors,
            master_flavors,
            worker_flavors,
            resizing,
            former: None,
            undone: Vec::new(),
            failure: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rollouts as earlier releases wrote them: fields of bincode stand in a row, so that each is the
    /// present one without its last ones.
    #[test]
    fn rollouts_of_versions_two_and_three_are_read() {
        let mut rollout = Rollout {
            former: None,
            undone: Vec::new(),
            flavors: RoleFlavors { master: None, worker: Some("large".to_owned()) },
            worker_flavors: [(2, "small".to_owned())].into(),
            resizing: [("n".to_owned(), Disk::Kept)].into(),
            ..FirstRollout {
                cluster_id: ClusterId::new(uuid::Uuid::from_u128(7)),
                nodegroup: NodeGroupId::new(uuid::Uuid::from_u128(8)),
                template_id: TemplateId::new(uuid::Uuid::from_u128(16)),
                image_id: "i2".to_owned(),
                kube_version: Some("v1.31.1".to_owned()),
                labels: Labels::from_iter([("a", "b")]),
                max_batch_size: 3,
                masters: BTreeMap::new(),
                workers: [(1, "i".to_owned())].into(),
            }
            .into()
        };
        let config = bincode::config::standard();
        let encoded = |rollout: &Rollout| bincode::serde::encode_to_vec(rollout, config).unwrap();
        let present = encoded(&rollout);
        let (earlier, gone) = present.split_at(present.len() - 3);
        assert_eq!(gone, [0, 0, 0], "no former make, nothing undone, no failure");
        assert_eq!(super::rollout(2, earlier).unwrap(), rollout);
        rollout.undone = vec!["a sentence".to_owned()];
        let present = encoded(&rollout);
        let (earlier, gone) = present.split_at(present.len() - 1);
        assert_eq!(gone, [0], "no failure");
        assert_eq!(super::rollout(3, earlier).unwrap(), rollout);
    }
}
