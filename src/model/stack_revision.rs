//! Which of our updates a stack has got last.

use std::cmp::Reverse;

use serde::{Deserialize, Serialize};

use super::ClusterId;

/// The `revision` parameter of the last update of a stack that was sent: the number of its
/// operation, or `NUMBER-BEHIND` for a batch of an upgrade after which so many nodes are still
/// behind.
///
/// Heat has no conditional update. One that it carries out after we have given it up, and after
/// a later one, takes the stack back; by this it is seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StackRevision {
    pub cluster_id: ClusterId,
    pub stack_id: String,
    pub revision: String,
}

impl StackRevision {
    /// Whether what the stack shows is of an earlier update than the one on record. A stack that
    /// shows none is as it was made; what no update of ours has is nobody's business here.
    pub fn is_behind(&self, shown: &str) -> bool {
        match (order(shown), order(&self.revision)) {
            (Some(shown), Some(own)) => shown < own,
            _ => false,
        }
    }
}

/// In the order in which they are sent.
fn order(revision: &str) -> Option<(u64, Reverse<u64>)> {
    match revision.split_once('-') {
        None if revision.is_empty() => Some((0, Reverse(u64::MAX))),
        None => Some((revision.parse().ok()?, Reverse(0))),
        Some((operation, behind)) => Some((operation.parse().ok()?, Reverse(behind.parse().ok()?))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    #[test]
    fn an_earlier_update_is_behind() {
        let own = |revision: &str| StackRevision {
            cluster_id: ClusterId::new(Uuid::from_u128(1)),
            stack_id: "s".to_owned(),
            revision: revision.to_owned(),
        };
        for (shown, recorded, behind) in [
            ("", "7", true),
            ("6", "7", true),
            ("6-0", "7-3", true),
            ("7-3", "7-2", true),
            ("7-2", "7-2", false),
            ("7-1", "7-2", false),
            ("7", "7", false),
            ("10", "9", false),
            ("a tenant's", "7", false),
            ("7", "", false),
        ] {
            assert_eq!(own(recorded).is_behind(shown), behind, "{shown} {recorded}");
        }
    }
}
