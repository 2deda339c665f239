//! With which key a node speaks, and who else has tried to be it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::ClusterId;
use super::node::Node;
use crate::base::clock::Timestamp;

/// What the first contact of one node has settled. A node that is on record without a holder
/// made its first contact with a magnumd that knew tokens only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeKey {
    pub cluster_id: ClusterId,
    /// The server's name.
    pub node: String,
    pub holder: Option<Holder>,
    pub dispute: Option<Dispute>,
    /// When its server was last handed over to be rebuilt: certificates from before are nobody's.
    pub rebuilt_at: Option<Timestamp>,
}

/// Who has the name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// The Nova server.
    pub instance: String,
    /// SHA-256 of its public key (SubjectPublicKeyInfo, DER), in hex.
    pub key: String,
    /// What it was given: PEM, to be given once more if the answer was lost.
    pub certificate: String,
    /// When it was given, as it says itself.
    pub since: Timestamp,
    /// From where it was asked for: an IP address without a port.
    pub address: String,
}

/// Somebody else has shown the node's token, and could show that he is such a server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dispute {
    /// Where the last one came from.
    pub address: String,
    /// The Nova server that he says he is.
    pub instance: String,
    pub at: Timestamp,
    /// Counted at most once a minute.
    pub times: u32,
}

impl NodeKey {
    pub const fn free(cluster_id: ClusterId, node: String) -> Self {
        Self { cluster_id, node, holder: None, dispute: None, rebuilt_at: None }
    }

    /// For a name whose server loses its disk: whoever runs on the next one may claim it, once.
    pub const fn of_rebuilt(cluster_id: ClusterId, node: String, now: Timestamp) -> Self {
        Self { cluster_id, node, holder: None, dispute: None, rebuilt_at: Some(now) }
    }

    pub fn is_held_by(&self, other: &Holder) -> bool {
        let same = |own: &Holder| (&own.key, &own.instance) == (&other.key, &other.instance);
        self.holder.as_ref().is_some_and(same)
    }

    /// Whether a certificate given at `since` is later than all that is settled here.
    pub fn is_before(&self, since: Timestamp) -> bool {
        self.latest().is_none_or(|latest| latest < since)
    }

    /// When a certificate may be said to be given now so that it is later than all before.
    pub fn earliest(&self, now: Timestamp) -> Timestamp {
        match self.latest() {
            Some(latest) if latest >= now => latest.plus(Duration::from_micros(1)),
            _ => now,
        }
    }

    fn latest(&self) -> Option<Timestamp> {
        self.holder.as_ref().map(|holder| holder.since).max(self.rebuilt_at)
    }

    /// In the place of a node's, to delete it with the node.
    pub fn of(node: &Node) -> Self {
        Self::free(node.cluster_id, node.name.clone())
    }
}

impl Dispute {
    /// What its user and the operator should know and do.
    pub fn sentence(&self, node: &str) -> String {
        format!(
            "Node {node} was claimed twice, last from {} at {}: either another has taken its name \
             before it, or its server lost its disk. Replace it: a worker with openstack coe \
             cluster resize --nodes-to-remove, a master by an upgrade, which rebuilds it; then \
             rotate the cluster's authorities.",
            self.address, self.at
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    #[test]
    fn what_is_given_next_is_later_than_all_before_whatever_the_clock_says() {
        let at = Timestamp::from_micros;
        let mut key = NodeKey::free(ClusterId::new(Uuid::from_u128(7)), "n".to_owned());
        assert!(key.is_before(at(0)), "nothing is settled");
        assert_eq!(key.earliest(at(5)), at(5));
        let holder = |since| Holder {
            instance: String::new(),
            key: String::new(),
            certificate: String::new(),
            since,
            address: String::new(),
        };
        key.holder = Some(holder(at(10)));
        assert!(!key.is_before(at(10)) && key.is_before(at(11)));
        let key = NodeKey::of_rebuilt(key.cluster_id, key.node, at(20));
        assert!(!key.is_before(at(10)) && !key.is_before(at(20)) && key.is_before(at(21)));
        assert_eq!((key.earliest(at(30)), key.earliest(at(3))), (at(30), at(21)));
    }
}
