//! What rebuilding servers with another image can change, and what it cannot.

use super::checks::unsuitable;
use super::craft::Driver;
use super::manifest::UpgradeStrategy;
use super::{ClusterPlan, DriverError, context};

impl Driver {
    /// Whether a cluster, or a further group, that is `from` can be made `to` by rebuilding its
    /// servers one after the other.
    pub fn check_upgrade(&self, from: &ClusterPlan, to: &ClusterPlan) -> Result<(), DriverError> {
        if self.manifest.upgrade.strategy == UpgradeStrategy::None {
            return unsuitable(format!(
                "Driver {} cannot upgrade its clusters. Create a new cluster from the template.",
                self.name()
            ));
        }
        let old = self.known(from)?;
        self.check(to)?;
        let mut new = self.known(to)?;
        if from.facts.os_distro != to.facts.os_distro {
            return unsuitable(format!(
                "The template's image is {}, and the nodes are {}. Choose a template with an \
                 image of the same os_distro.",
                to.facts.os_distro, from.facts.os_distro
            ));
        }
        let network = |plan| context::network_driver(plan, &self.manifest);
        for kept in &self.manifest.upgrade.keep {
            let (is_same, what) = match kept.value.as_str() {
                name @ "network_driver" => (network(from) == network(to), name.to_owned()),
                label => {
                    (old.labels.get(label) == new.labels.get(label), format!("the label {label}"))
                }
            };
            if !is_same {
                return unsuitable(format!(
                    "An upgrade rebuilds servers and cannot change {what}. Choose a template that \
                     has it as the cluster does, or create a new cluster."
                ));
            }
        }
        let before: tera::Map = context::SHAPES
            .iter()
            .filter_map(|(name, _)| Some(((*name).into(), old.context.get(name)?.clone())))
            .collect();
        new.context.insert_value("from", tera::Value::from(before));
        self.refuse("upgrade.refuse", &self.manifest.upgrade.refuse, &new.context)
    }
}
