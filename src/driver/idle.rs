//! What is given to a cluster and has no effect as things are: labels of a load balancer without
//! one, the range of a network that is not made. What a tenant asks for is applied, refused or, here,
//! told of.
//!
//! The manifest says when (`idle:`), and not a comparison of what is drawn: a label that only checks
//! something, or that says what is so anyway, changes nothing there and is honoured all the same.

use super::compile;
use super::craft::Driver;
use super::manifest::Idle;
use super::template::is_given;
use super::undeclared::is_in_use;
use super::upgrade::is_field_given;
use super::{ClusterPlan, DriverError};

/// The labels and the fields that a plan gives of an entry, with the entry and its place.
type Given<'i> = (usize, &'i Idle, (Vec<&'i str>, Vec<&'i str>));

impl Driver {
    /// One sentence for each reason. A label that is false, 0 or empty asks for nothing. Nothing is
    /// said of a plan that cannot be read: it was refused when its cluster was asked for.
    pub fn idle(&self, plan: &ClusterPlan) -> Vec<String> {
        let rules = self.manifest.idle.iter().enumerate();
        let given = rules.map(|(i, idle)| (i, idle, self.named(idle, plan)));
        let given: Vec<Given> = given.filter(|(_, _, (a, b))| a.len() + b.len() > 0).collect();
        if given.is_empty() {
            return Vec::new();
        }
        self.told(plan, given).unwrap_or_default()
    }

    /// The labels and the fields of an entry that the plan gives.
    fn named<'i>(&self, idle: &'i Idle, plan: &ClusterPlan) -> (Vec<&'i str>, Vec<&'i str>) {
        let given = &plan.cluster.labels;
        let (mut labels, mut fields) = (Vec::new(), Vec::new());
        for name in idle.of.iter().map(|name| name.value.as_str()) {
            match self.labels().iter().find(|label| label.name == name) {
                Some(label) if is_given(self, given, name) && is_in_use(label, given) => {
                    labels.push(name);
                }
                None if is_field_given(name, &plan.template) => fields.push(name),
                _ => {}
            }
        }
        (labels, fields)
    }

    fn told(&self, plan: &ClusterPlan, given: Vec<Given>) -> Result<Vec<String>, DriverError> {
        let context = self.known(plan)?.context;
        let templates = self.templates()?;
        let mut said = Vec::new();
        for (i, idle, (labels, fields)) in given {
            if !templates.holds(&compile::rule(compile::IDLE, i), &idle.when, &context)? {
                continue;
            }
            let why = idle.why.trim();
            match labels.as_slice() {
                [] => {}
                [one] => said.push(format!("The label {one} has no effect {why}.")),
                all => said.push(format!("The labels {} have no effect {why}.", all.join(", "))),
            }
            said.extend(fields.iter().map(|field| format!("{field} has no effect {why}.")));
        }
        Ok(said)
    }
}
