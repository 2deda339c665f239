//! With which key a node speaks, and who else has tried to be it.

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
    pub since: Timestamp,
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
        Self { cluster_id, node, holder: None, dispute: None }
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
