//! Labels of a further node group: those that say something of its nodes are taken, those that only
//! say something of the cluster are refused, for nobody would ever act on them.
//!
//! No list says which is which. A label is the cluster's alone if another value changes what is
//! drawn for the cluster and nothing of what is drawn for the group.

use super::bundle::Bundle;
use super::checks::unsuitable;
use super::craft::{Deadlines, Driver, Waits};
use super::label::{Label, invalid};
use super::upgrade::NodeFiles;
use super::{ClusterPlan, DriverError};
use crate::model::labels::Labels;

/// Read by magnumd for the default group of workers, with the fields that say the same of a group.
const LIMITS: [&str; 2] = ["min_node_count", "max_node_count"];

/// All that a plan comes to.
#[derive(PartialEq)]
struct Drawn {
    bundle: Bundle,
    nodes: NodeFiles,
    waits: Waits,
    ready: Option<u32>,
    minutes: u32,
}

impl Driver {
    /// Refuses the first of the labels that `group` has for itself, and `cluster` not so, which
    /// would come to nothing. Answers with the names of those that change nothing as things are.
    pub fn check_group_labels(
        &self,
        cluster: &ClusterPlan,
        group: &ClusterPlan,
        own: &Labels,
    ) -> Result<Vec<String>, DriverError> {
        let mut idle = Vec::new();
        for name in LIMITS {
            if own.get(name).is_some_and(|text| !text.trim().is_empty()) {
                return unsuitable(format!(
                    "The label {name} is about the cluster's default group of workers and comes to \
                     nothing in another node group. Leave it away there, and give the group's own \
                     field {name} instead."
                ));
            }
        }
        let given = |label: &&Label| label.names().any(|name| own.get(name).is_some());
        let mut labels = self.labels().iter().filter(given).peekable();
        if labels.peek().is_none() {
            return Ok(idle);
        }
        let drawn = self.drawn(group)?;
        let (of_cluster, of_group) = (self.known(cluster)?.labels, self.known(group)?.labels);
        for label in labels {
            if of_cluster.get(&label.name) == of_group.get(&label.name) {
                continue;
            }
            let without = with_label_of(group, label, &cluster.cluster.labels);
            // What cannot be drawn differs from what can.
            if self.drawn(&without).ok().as_ref() != Some(&drawn) {
                continue;
            }
            let with = with_label_of(cluster, label, &group.cluster.labels);
            if self.drawn(&with).ok() == self.drawn(cluster).ok() {
                idle.push(label.name.clone());
                continue;
            }
            let name = label.names().find(|name| own.get(name).is_some()).unwrap_or(&label.name);
            let text = if label.spec.secret { "(secret)" } else { own.get(name).unwrap_or("") };
            let cure = "left away: it is about the cluster and changes nothing of the nodes of \
                        another node group";
            return Err(invalid(name, text, cure));
        }
        Ok(idle)
    }

    fn drawn(&self, plan: &ClusterPlan) -> Result<Drawn, DriverError> {
        let mut waits = self.waits(plan)?;
        if plan.foundation.is_some() {
            // A further group is waited for until its operation is over.
            waits.limits = Deadlines::default();
        }
        Ok(Drawn {
            bundle: self.bundle(plan)?,
            nodes: self.files_of_nodes(plan)?,
            waits,
            ready: self.ready_threshold(plan),
            minutes: self.create_timeout(plan),
        })
    }
}

/// The same plan with one label as `labels` have it.
fn with_label_of(plan: &ClusterPlan, label: &Label, labels: &Labels) -> ClusterPlan {
    let mut plan = plan.clone();
    for name in label.names() {
        plan.cluster.labels.remove(name);
        if let Some(value) = labels.get(name) {
            plan.cluster.labels.insert(name, value);
        }
    }
    plan
}
