//! Which servers a tenant means.

use super::decide::change::members;
use super::snapshot::ClusterSnapshot;
use super::{Conductor, RequestError, StepError};
use crate::model::name;
use crate::model::nodegroup::NodeGroup;
use crate::store::Stored;

impl Conductor {
    /// The servers that a tenant means by ids, names, addresses or indexes.
    pub(super) async fn resolve(
        &self,
        snapshot: &ClusterSnapshot,
        group: &Stored<NodeGroup>,
        wanted: &[String],
    ) -> Result<Vec<String>, RequestError> {
        if wanted.is_empty() {
            return Ok(Vec::new());
        }
        let unavailable = |e: StepError| match e {
            StepError::Cloud(e) => RequestError::from(e),
            e => RequestError::Unavailable(e.to_string()),
        };
        let shown = self.look_at(snapshot, group, true).await.map_err(unavailable)?;
        let known = shown.as_ref().and_then(members).unwrap_or_default();
        let servers = || known.values().flatten();
        let addresses: Vec<(String, String)> = shown
            .iter()
            .flat_map(|stack| ["kube_minions", "kube_minions_private"].map(|o| stack.list(o)))
            // One address for every member, in the order of their indexes.
            .filter(|listed| listed.len() == known.len())
            .flat_map(|listed| listed.into_iter().zip(known.values().cloned()).collect::<Vec<_>>())
            .filter_map(|(address, server)| Some((address, server?)))
            .collect();
        let prefix = name::worker_node_prefix(&group.stack_name(&snapshot.cluster));
        let going: Vec<&String> = snapshot
            .operations()
            .filter_map(|o| o.resize_of(group.id))
            .flat_map(|resize| &resize.remove)
            .collect();
        let one = |text: &String| {
            let index = text.strip_prefix(&prefix).unwrap_or(text).parse::<u32>().ok();
            // Heat takes the index of a member that never got a server.
            let of_index = index.and_then(|i| {
                known.get(&i).map(|server| server.clone().unwrap_or_else(|| i.to_string()))
            });
            of_index
                // A node may tell its machine's id in capitals.
                .or_else(|| servers().find(|id| id.eq_ignore_ascii_case(text)).cloned())
                .or_else(|| addresses.iter().find(|(a, _)| a == text).map(|(_, id)| id.clone()))
                .or_else(|| going.iter().find(|id| id.eq_ignore_ascii_case(text)).copied().cloned())
                .ok_or_else(|| {
                    RequestError::Invalid(format!(
                        "Invalid input for field nodes_to_remove. Value: '{text}'. Node group {} \
                         has no node with this server id, name, address or index.",
                        group.name
                    ))
                })
        };
        wanted.iter().map(one).collect()
    }
}
