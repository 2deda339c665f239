//! What a cluster template can be known to be wrong about before any cluster is made from it.
//!
//! A cluster may decide much for itself: counts, networks, flavors, switches, and labels that its
//! template does not give. So only what the template gives is looked at: the types of its labels,
//! its drivers, and those refusals of the manifest that are about a label, a driver, a volume or a
//! load balancer given here and hang on nothing that is known only with a cluster.
//!
//! A cluster may do without the load balancer that its template gives. It is refused all the same
//! where the cloud has none: whoever makes a cluster and says nothing of it would be refused, and
//! that is often somebody else, who cannot change the template.

use std::collections::{BTreeMap, BTreeSet};

use super::checks;
use super::craft::Driver;
use super::expression::{Expression, Form};
use super::label::Default as LabelDefault;
use super::names::Names;
use super::upgrade::is_field_given;
use super::{ClusterPlan, DriverError};
use crate::model::cluster_template::ClusterTemplate;
use crate::model::labels::Labels;

/// Fields of the facts that are the cloud's, and no cluster's or image's: what an image's name means
/// may change under a template.
const OF_THE_CLOUD: &[&str] = &["has_cinder", "has_octavia", "region"];

/// What an expression hangs on.
#[derive(Clone, Debug, Default)]
struct Grounds {
    labels: BTreeSet<String>,
    /// A field that the template gives.
    field: bool,
    /// A field that the template gives and no cluster has for itself.
    fixed: bool,
    /// Anything that a cluster, or its image, decides.
    open: bool,
}

/// What a template gives.
struct Given<'t> {
    labels: &'t Labels,
    volume_driver: bool,
    docker_volume_size: bool,
    master_lb_enabled: bool,
    template: &'t ClusterTemplate,
}

impl<'t> Given<'t> {
    fn by(template: &'t ClusterTemplate) -> Self {
        Self {
            labels: &template.labels,
            volume_driver: template.volume_driver.is_some(),
            docker_volume_size: template.docker_volume_size.is_some(),
            master_lb_enabled: template.master_lb_enabled,
            template,
        }
    }
}

impl Grounds {
    fn add(&mut self, other: &Self) {
        self.labels.extend(other.labels.iter().cloned());
        self.field |= other.field;
        self.fixed |= other.fixed;
        self.open |= other.open;
    }
}

impl Driver {
    /// Whether a cluster can be made from the template of this plan, as far as the template alone
    /// decides that; its cluster has nothing of its own, but what it takes over.
    pub fn check_template(&self, plan: &ClusterPlan) -> Result<(), DriverError> {
        checks::distro(plan, &self.manifest)?;
        checks::drivers(plan, &self.manifest)?;
        checks::plain_text(&plan.template)?;
        checks::proxies(&plan.template)?;
        let given = &plan.template.labels;
        for label in self.labels() {
            label.given(given)?;
        }
        let grounds = Hanging::of(self, Given::by(&plan.template));
        let rules = self.manifest.refuse.iter().enumerate();
        let decided = rules.filter(|(_, rule)| {
            let on = grounds.of_expression(&rule.when);
            // A label that such a rule hangs on as well may be the cluster's.
            let is_fixed = on.fixed && on.labels.is_empty();
            let is_label = || on.labels.iter().any(|label| is_given(self, given, label));
            let concerned = on.field || is_fixed || is_label();
            concerned && !on.open
        });
        let decided: Vec<usize> = decided.map(|(i, _)| i).collect();
        if decided.is_empty() {
            return Ok(());
        }
        let known = self.known(plan)?;
        self.refuse_by("refuse", &self.manifest.refuse, &known.context, |i| decided.contains(&i))
    }

    /// Whether a new cluster can be made: [`Self::check`], and what clusters that are there live with.
    pub fn check_new(&self, plan: &ClusterPlan) -> Result<(), DriverError> {
        checks::proxies(&plan.template)?;
        self.check(plan)
    }
}

pub(super) fn is_given(driver: &Driver, given: &Labels, name: &str) -> bool {
    let label = driver.labels().iter().find(|l| l.name == name);
    label.is_some_and(|l| {
        l.names().any(|n| given.get(n).is_some_and(|text| !text.trim().is_empty()))
    })
}

/// What every label and value of a driver hangs on, where a template gives these labels.
struct Hanging<'t> {
    given: Given<'t>,
    labels: BTreeMap<String, Grounds>,
    values: BTreeMap<String, Grounds>,
}

impl<'t> Hanging<'t> {
    fn of(driver: &Driver, given: Given<'t>) -> Self {
        let mut known = Self { given, labels: BTreeMap::new(), values: BTreeMap::new() };
        for label in driver.labels() {
            let mut grounds = Grounds::default();
            if !is_given(driver, known.given.labels, &label.name) {
                let defaults = [Some(&label.default), label.nested.as_ref()];
                for default in defaults.into_iter().flatten() {
                    if let LabelDefault::Computed(expression) = default {
                        grounds.add(&known.of_expression(expression));
                    }
                }
            }
            grounds.labels.insert(label.name.clone());
            known.labels.insert(label.name.clone(), grounds);
        }
        for named in &driver.manifest.values {
            let grounds = known.of_expression(&named.is);
            known.values.insert(named.name.clone(), grounds);
        }
        known
    }

    fn of_expression(&self, expression: &Expression) -> Grounds {
        let names = match expression.form {
            Form::Bare => Names::of_expression(&expression.text, 1),
            Form::Template => Names::of_template(&expression.text),
        };
        let mut grounds = Grounds::default();
        for (root, field) in names.asked() {
            match (root, field) {
                ("driver" | "config", _) => {}
                ("template", Some("volume_driver")) => grounds.field |= self.given.volume_driver,
                ("cluster", Some("docker_volume_size")) if self.given.docker_volume_size => {
                    grounds.field = true;
                }
                ("cluster", Some("master_lb_enabled")) if self.given.master_lb_enabled => {
                    grounds.field = true;
                }
                ("template", Some("image_id" | "os_distro")) => grounds.open = true,
                ("template", Some(field)) => {
                    let is_network = field == "network_driver";
                    grounds.fixed |= !is_network && is_field_given(field, self.given.template);
                }
                ("facts", Some(field)) => grounds.open |= !OF_THE_CLOUD.contains(&field),
                ("labels", Some(name)) => match self.labels.get(name) {
                    Some(of_label) => grounds.add(of_label),
                    None => grounds.open = true,
                },
                ("values", Some(name)) => match self.values.get(name) {
                    Some(of_value) => grounds.add(of_value),
                    None => grounds.open = true,
                },
                _ => grounds.open = true,
            }
        }
        grounds
    }
}
