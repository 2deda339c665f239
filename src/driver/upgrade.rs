//! What rebuilding servers with another image can change, and what it cannot.

use std::collections::BTreeMap;

use serde_json::Value;

use super::bundle::Bundle;
use super::checks::unsuitable;
use super::craft::{Driver, Known};
use super::label::Label;
use super::manifest::UpgradeStrategy;
use super::plan::NodePlan;
use super::{ClusterPlan, DriverError, context};
use crate::model::cluster_template::ClusterTemplate;
use crate::model::labels::Labels;
use crate::model::{name, nodegroup};

/// Files by the master's index, or None for a worker, and by their path.
pub(super) type NodeFiles = BTreeMap<(Option<u32>, String), Vec<u8>>;

/// Fields of a template that are what drivers make of them: the name, the value as a tenant wrote
/// it, and how one template takes it over from another.
type Field =
    (&'static str, fn(&ClusterTemplate) -> String, fn(&mut ClusterTemplate, &ClusterTemplate));

macro_rules! fields {
    ($($name:ident),*) => {
        [$((
            stringify!($name),
            |t: &ClusterTemplate| worded(serde_json::to_value(&t.$name).ok()),
            |t: &mut ClusterTemplate, from: &ClusterTemplate| t.$name.clone_from(&from.$name),
        )),*]
    };
}

const FIELDS: [Field; 11] = fields![
    http_proxy,
    https_proxy,
    no_proxy,
    insecure_registry,
    volume_driver,
    docker_storage_driver,
    dns_nameserver,
    network_driver,
    registry_enabled,
    tls_disabled,
    apiserver_port
];

/// Their names.
pub fn fields_of_drivers() -> impl Iterator<Item = &'static str> {
    FIELDS.iter().map(|(name, ..)| *name)
}

/// Whether a template says something in one of those fields.
pub(super) fn is_field_given(name: &str, template: &ClusterTemplate) -> bool {
    let field = FIELDS.iter().find(|(known, ..)| *known == name);
    field.is_some_and(|(_, value, _)| !matches!(value(template).as_str(), "none" | "false" | ""))
}

/// What an upgrade brings to a cluster that is there: its stack, and the files of its nodes. User
/// data are not among it, because no server reads them again.
#[derive(PartialEq)]
struct Brought {
    template: String,
    parameters: BTreeMap<String, Value>,
    files: BTreeMap<String, String>,
    nodes: NodeFiles,
}

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
        self.keeps((from, &old), (to, &new))?;
        let before: tera::Map = context::SHAPES
            .iter()
            .filter_map(|(name, _)| Some(((*name).into(), old.context.get(name)?.clone())))
            .collect();
        new.context.insert_value("from", tera::Value::from(before));
        self.refuse("upgrade.refuse", &self.manifest.upgrade.refuse, &new.context)?;
        if from.facts.worker_flavor != to.facts.worker_flavor {
            // While it is on its way workers differ.
            let mut between = to.clone();
            between.flavors.workers.insert(0, from.facts.worker_flavor.clone());
            self.check(&between)?;
        }
        match from.facts.image_id == to.facts.image_id {
            true => self.reaches_nodes(from, to),
            false => Ok(()),
        }
    }

    /// Fields in which the template differs and which would change nothing of the cluster that is
    /// there, one sentence each. Whether the rest can be changed says [`Self::check_upgrade`].
    pub fn undone(&self, from: &ClusterPlan, to: &ClusterPlan) -> Vec<String> {
        let mut from = from.clone();
        to.revision.clone_into(&mut from.revision);
        let mut before = None;
        let mut said = Vec::new();
        for (field, value, take) in FIELDS {
            let (old, new) = (value(&from.template), value(&to.template));
            if old == new {
                continue;
            }
            let mut one = from.clone();
            take(&mut one.template, &to.template);
            // A part of a change need not be possible without the rest.
            let Ok(after) = self.brought(&one) else { continue };
            // Nor need these files of the driver be able to draw what others have drawn.
            let Ok(before) = before.get_or_insert_with(|| self.brought(&from)) else { break };
            if *before != after {
                continue;
            }
            let reaches = match self.bundle(&one) == self.bundle(&from) {
                true => "it changes nothing of this cluster",
                false => "it reaches only nodes that are made from now on",
            };
            said.push(format!(
                "{field} {new} of cluster template {}, before {old}: {reaches}.",
                to.template.name
            ));
        }
        said
    }

    fn brought(&self, plan: &ClusterPlan) -> Result<Brought, DriverError> {
        let Bundle { template, parameters, mut files } = self.bundle(plan)?;
        let (masters, _) = nodegroup::counts(&plan.groups);
        (0..masters).for_each(|index| _ = files.remove(&context::master_user_data(index)));
        files.remove(context::WORKER_USER_DATA);
        Ok(Brought { template, parameters, files, nodes: self.files_of_nodes(plan)? })
    }

    /// What the manifest says must stay.
    fn keeps(
        &self,
        (from, old): (&ClusterPlan, &Known),
        (to, new): (&ClusterPlan, &Known),
    ) -> Result<(), DriverError> {
        let network = |plan| Some(Value::from(context::network_driver(plan, &self.manifest)));
        for kept in &self.manifest.upgrade.keep {
            let (before, after, what) = match kept.value.as_str() {
                name @ "network_driver" => (network(from), network(to), name.to_owned()),
                label => {
                    let value = |known: &Known| known.labels.get(label).cloned();
                    (value(old), value(new), format!("the label {label}"))
                }
            };
            if before != after {
                let is_secret = |l: &&Label| l.name == kept.value && l.spec.secret;
                let values = match self.labels().iter().find(is_secret) {
                    Some(_) => String::new(),
                    None => format!(" from {} to {}", worded(before), worded(after)),
                };
                return unsuitable(format!(
                    "An upgrade rebuilds servers and cannot change {what}{values}. Choose a \
                     template that has it as the cluster does, or create a new cluster."
                ));
            }
        }
        Ok(())
    }

    /// Servers that have the image already are not rebuilt, and get no files anew: what would be in
    /// them alone would come to new nodes only.
    fn reaches_nodes(&self, from: &ClusterPlan, to: &ClusterPlan) -> Result<(), DriverError> {
        // What the template and its image are called is no change to anybody.
        let mut from = from.clone();
        from.template.name.clone_from(&to.template.name);
        from.template.image_id.clone_from(&to.template.image_id);
        from.facts.kube_version.clone_from(&to.facts.kube_version);
        from.revision.clone_from(&to.revision);
        let before = self.files_of_nodes(&from)?;
        let differs = |plan: &ClusterPlan| match self.files_of_nodes(plan) {
            Ok(after) => after != before,
            // A part of a change need not be possible without the rest.
            Err(_) => true,
        };
        if !differs(to) {
            return Ok(());
        }
        let refused = |what: String| {
            unsuitable(format!(
                "The nodes have the image of cluster template {} already, so none would be rebuilt, \
                 and {what} would reach new nodes only. Choose a template with another image, or \
                 one that says this as the cluster does.",
                to.template.name
            ))
        };
        for (field, value, take) in FIELDS {
            let mut one = from.clone();
            take(&mut one.template, &to.template);
            let (old, new) = (value(&from.template), value(&to.template));
            if old != new && differs(&one) {
                return refused(format!("{field} {new} instead of {old}"));
            }
        }
        let (old, new) = (&from.cluster.labels, &to.cluster.labels);
        for label in self.labels() {
            let mut one = from.clone();
            let mut is_other = false;
            for name in label.names() {
                is_other |= old.get(name) != new.get(name);
                one.cluster.labels.remove(name);
                if let Some(value) = new.get(name) {
                    one.cluster.labels.insert(name, value);
                }
            }
            if is_other && differs(&one) {
                let value = |given: Option<&str>| match label.spec.secret {
                    true => "(secret)".to_owned(),
                    false => given.unwrap_or("none").to_owned(),
                };
                let of = |labels: &Labels| value(label.names().find_map(|name| labels.get(name)));
                return refused(format!(
                    "the label {} {} instead of {}",
                    label.name,
                    of(new),
                    of(old)
                ));
            }
        }
        refused("what it says otherwise".to_owned())
    }

    /// The files of the first master, another one and a worker.
    pub(super) fn files_of_nodes(&self, plan: &ClusterPlan) -> Result<NodeFiles, DriverError> {
        let (masters, _) = nodegroup::counts(&plan.groups);
        let mut all = BTreeMap::new();
        for index in (0..masters.min(2)).map(Some).chain([None]) {
            let files = self.node_files(plan, &somebody(plan, masters, index))?;
            all.extend(files.into_iter().map(|file| ((index, file.path), file.content)));
        }
        Ok(all)
    }
}

/// A node whose addresses and keys stand for any.
fn somebody(plan: &ClusterPlan, masters: u32, index: Option<u32>) -> NodePlan {
    NodePlan {
        name: match index {
            Some(index) => name::master_node(&plan.stack_name(), index),
            None => name::worker_node_prefix(&plan.stack_name()),
        },
        master_index: index,
        // A further group's nodes know the cluster's masters too.
        master_addresses: (0..masters.max(1)).map(|i| format!("192.0.2.{}", i + 1)).collect(),
        api_public: Vec::new(),
        api_endpoint: "https://192.0.2.1:6443".to_owned(),
        rejoins: true,
        certificates: context::stand_ins(),
    }
}

fn worded(value: Option<Value>) -> String {
    match value {
        None | Some(Value::Null) => "none".to_owned(),
        Some(Value::String(text)) => text,
        Some(Value::Array(items)) if items.is_empty() => "none".to_owned(),
        Some(Value::Array(items)) => {
            items.into_iter().map(|item| worded(Some(item))).collect::<Vec<_>>().join(",")
        }
        Some(other) => other.to_string(),
    }
}
