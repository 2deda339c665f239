//! What may stand in a node group: labels and taints that Kubernetes takes, counts in order.

use std::collections::BTreeMap;

use serde_json::Value;

use super::super::super::coerce::{Fields, SHORT_TEXT, check_size, mandatory, shown};
use super::super::super::error::{ApiError, Outcome};
use crate::base::clock::Timestamp;
use crate::model::cluster::Cluster;
use crate::model::labels::Labels;
use crate::model::nodegroup::{self, NodeGroup, Taint};
use crate::model::status::Status;
use crate::model::{NodeGroupId, Sequence};

/// Every attribute that may stand in a request.
pub const KNOWN: [&str; 12] = [
    "name",
    "node_count",
    "min_node_count",
    "max_node_count",
    "role",
    "flavor_id",
    "image_id",
    "docker_volume_size",
    "labels",
    "merge_labels",
    "node_labels",
    "node_taints",
];
/// What a group knows better: taken from nobody, for it would come to nothing.
pub const READ_ONLY: [&str; 16] = [
    "uuid",
    "id",
    "is_default",
    "status",
    "status_reason",
    "version",
    "cluster_id",
    "stack_id",
    "project_id",
    "labels_overridden",
    "labels_added",
    "labels_skipped",
    "links",
    "created_at",
    "updated_at",
    "node_addresses",
];

/// More nodes than any cloud gives one cluster.
const MOST_NODES: u32 = 100_000;
/// What a kubelet can be told on its command line without trouble.
const MOST_ENTRIES: usize = 64;

/// What is not in the request.
#[derive(Clone, Debug)]
pub struct Origin {
    pub id: NodeGroupId,
    pub sequence: Sequence,
    /// Of groups that name none.
    pub image_id: Option<String>,
    pub created_at: Timestamp,
}

/// What is asked for, before anything is known of the cluster.
#[derive(Clone, Debug)]
pub struct CreateRequest {
    name: String,
    role: String,
    node_count: Option<u32>,
    min_node_count: Option<u32>,
    max_node_count: Option<u32>,
    flavor_id: Option<String>,
    image_id: Option<String>,
    docker_volume_size: Option<u32>,
    labels: Option<Labels>,
    merge_labels: bool,
    node_labels: BTreeMap<String, String>,
    node_taints: Vec<Taint>,
}

impl CreateRequest {
    pub fn read(mut fields: Fields) -> Outcome<Self> {
        let f = &mut fields;
        let name = f.text("name", SHORT_TEXT)?.ok_or_else(|| mandatory("name"))?;
        let role = f.text("role", SHORT_TEXT)?.unwrap_or_else(|| nodegroup::WORKER.to_owned());
        Ok(Self {
            name: label_of_nodes("name", name)?,
            role: label_of_nodes("role", role)?,
            node_count: f.whole("node_count", 0..=MOST_NODES)?,
            min_node_count: f.whole("min_node_count", 0..=MOST_NODES)?,
            max_node_count: most(f)?,
            flavor_id: f.text("flavor_id", SHORT_TEXT)?,
            image_id: f.text("image_id", SHORT_TEXT)?,
            docker_volume_size: f.whole("docker_volume_size", 1..=i32::MAX as u32)?,
            labels: f.labels("labels")?.filter(|labels| !labels.is_empty()),
            merge_labels: f.flag("merge_labels")?.unwrap_or(false),
            node_labels: node_labels(f)?,
            node_taints: node_taints(f)?,
        })
    }

    /// The group that is asked for, with what it inherits from its cluster.
    pub fn group(self, cluster: &Cluster, origin: Origin) -> Outcome<NodeGroup> {
        let labels = match self.labels {
            None => cluster.labels.clone(),
            Some(own) if self.merge_labels => own.over(&cluster.labels),
            Some(own) => own,
        };
        check_size("labels", &labels)?;
        let group = NodeGroup {
            id: origin.id,
            sequence: origin.sequence,
            cluster_id: cluster.id,
            project_id: cluster.project_id.clone(),
            name: self.name,
            role: self.role,
            node_count: self.node_count.unwrap_or(1),
            min_node_count: self.min_node_count.unwrap_or(0),
            max_node_count: self.max_node_count,
            flavor_id: self.flavor_id.or_else(|| cluster.flavor_id.clone()),
            image_id: self.image_id.or(origin.image_id),
            image: None,
            docker_volume_size: self.docker_volume_size,
            labels,
            is_default: false,
            stack_id: None,
            status: Status::CreateInProgress,
            status_reason: None,
            node_addresses: Vec::new(),
            version: None,
            node_labels: self.node_labels,
            node_taints: self.node_taints,
            created_at: origin.created_at,
            updated_at: None,
        };
        check_counts(&group)?;
        Ok(group)
    }
}

/// A group with the four attributes that may change, as a patch left them.
pub fn changed(mut fields: Fields, before: &NodeGroup) -> Outcome<NodeGroup> {
    let f = &mut fields;
    let group = NodeGroup {
        min_node_count: f.whole("min_node_count", 0..=MOST_NODES)?.unwrap_or(0),
        max_node_count: most(f)?,
        node_labels: node_labels(f)?,
        node_taints: node_taints(f)?,
        ..before.clone()
    };
    check_counts(&group)?;
    if group.is_master() && !(group.node_labels.is_empty() && group.node_taints.is_empty()) {
        return Err(ApiError::conflict(
            "Setting node_labels or node_taints of a master nodegroup is not supported.",
        ));
    }
    Ok(group)
}

/// 0 means unbounded, as nothing does.
fn most(fields: &mut Fields) -> Outcome<Option<u32>> {
    Ok(fields.whole("max_node_count", 0..=MOST_NODES)?.filter(|most| *most > 0))
}

fn check_counts(group: &NodeGroup) -> Outcome<()> {
    let NodeGroup { name, node_count, min_node_count, .. } = group;
    if min_node_count > node_count {
        return Err(ApiError::conflict(format!(
            "min_node_count for {name} is invalid ({min_node_count}). It should be less or equal \
             to node_count ({node_count})."
        )));
    }
    match group.max_node_count {
        Some(most) if most < *node_count => Err(ApiError::conflict(format!(
            "max_node_count for {name} is invalid ({most}). It should be greater or equal to \
             node_count ({node_count})."
        ))),
        _ => Ok(()),
    }
}

/// A field whose value the nodes bear as a label. Heat and Nova take whatever fits there, because
/// names of stacks and servers hold no more than the beginning of it.
fn label_of_nodes(field: &str, value: String) -> Outcome<String> {
    match !value.is_empty() && is_value(&value) {
        true => Ok(value),
        false => {
            let why = format!(
                "The {field} of a node group becomes a label of its nodes: at most 63 letters, \
                 digits, '-', '_' and '.', with a letter or digit at either end."
            );
            Err(ApiError::field(field, value, why))
        }
    }
}

/// Labels of nodes; those that tell Kubernetes what a node is are not the tenant's to set.
fn node_labels(fields: &mut Fields) -> Outcome<BTreeMap<String, String>> {
    let labels = fields.labels("node_labels")?.unwrap_or_default();
    check_amount("node_labels", labels.iter().count())?;
    for (key, value) in labels.iter() {
        if !is_key(key) || !is_value(value) {
            let why = "A label should be what Kubernetes takes: [prefix/]name and a value of at \
                       most 63 letters, digits, '-', '_' and '.'.";
            return Err(ApiError::field("node_labels", format!("{key}={value}"), why));
        }
        if !is_free(key) {
            return Err(ApiError::conflict(format!(
                "node_labels for the nodegroup is invalid ({key}). Labels in the namespaces \
                 kubernetes.io and k8s.io are Kubernetes' own; use one of yours, or \
                 node.kubernetes.io/."
            )));
        }
    }
    Ok(into_map(&labels))
}

fn into_map(labels: &Labels) -> BTreeMap<String, String> {
    labels.iter().map(|(key, value)| (key.clone(), value.clone())).collect()
}

fn node_taints(fields: &mut Fields) -> Outcome<Vec<Taint>> {
    let Some(value) = fields.value("node_taints") else { return Ok(Vec::new()) };
    let Value::Array(items) = &value else {
        let why = "Value should be a list of taints.";
        return Err(ApiError::field("node_taints", shown(&value), why));
    };
    check_amount("node_taints", items.len())?;
    let taints = items.iter().map(taint).collect::<Outcome<Vec<Taint>>>()?;
    // A kubelet that is given one of them twice does not register its node.
    let same = |a: &Taint, b: &Taint| a.key == b.key && a.effect == b.effect;
    let twice = taints.iter().enumerate().find(|(at, t)| taints[..*at].iter().any(|u| same(t, u)));
    match twice {
        None => Ok(taints),
        Some((_, taint)) => {
            let why =
                "Value should have no two taints with the same key and effect; leave one away.";
            Err(ApiError::field("node_taints", format!("{}:{}", taint.key, taint.effect), why))
        }
    }
}

fn taint(item: &Value) -> Outcome<Taint> {
    let Value::Object(map) = item else {
        let why = "A taint should be an object with key, effect and value.";
        return Err(ApiError::field("node_taints", shown(item), why));
    };
    let invalid = |why: &str| {
        let shown: String = shown(item).chars().take(300).collect();
        ApiError::field("node_taints", shown, why)
    };
    if map.keys().any(|key| !matches!(key.as_str(), "key" | "effect" | "value")) {
        return Err(invalid("A taint has key, effect and value, and nothing else."));
    }
    let text = |name: &str| map.get(name).and_then(Value::as_str).unwrap_or_default();
    let (key, effect, value) = (text("key"), text("effect"), text("value"));
    if !is_key(key) {
        return Err(invalid("key should be [prefix/]name, as Kubernetes takes it."));
    }
    if !matches!(effect, "NoSchedule" | "PreferNoSchedule" | "NoExecute") {
        return Err(invalid("effect should be NoSchedule, PreferNoSchedule or NoExecute."));
    }
    let is_text = map.get("value").is_none_or(|v| v.is_string() || v.is_null());
    if !is_text || !is_value(value) {
        return Err(invalid("value should be what Kubernetes takes as one."));
    }
    Ok(Taint { key: key.to_owned(), value: value.to_owned(), effect: effect.to_owned() })
}

fn check_amount(name: &str, amount: usize) -> Outcome<()> {
    match amount <= MOST_ENTRIES {
        true => Ok(()),
        false => {
            let why = format!("At most {MOST_ENTRIES} are taken.");
            Err(ApiError::field(name, format!("{amount} entries"), why))
        }
    }
}

/// `[prefix/]name`, as Kubernetes has it.
fn is_key(text: &str) -> bool {
    let (prefix, name) = match text.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, text),
    };
    let is_prefix = |prefix: &str| {
        (1..=253).contains(&prefix.len())
            && prefix.split('.').all(|part| {
                !part.is_empty()
                    && !part.starts_with('-')
                    && !part.ends_with('-')
                    && part
                        .bytes()
                        .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            })
    };
    !name.is_empty() && is_value(name) && prefix.is_none_or(is_prefix)
}

fn is_value(text: &str) -> bool {
    let ends = |c: Option<char>| c.is_none_or(|c| c.is_ascii_alphanumeric());
    text.len() <= 63
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
        && ends(text.chars().next())
        && ends(text.chars().last())
}

/// Whether a kubelet may set the label on its own node: its admission plugin's list.
fn is_free(key: &str) -> bool {
    const ALLOWED: [&str; 12] = [
        "beta.kubernetes.io/arch",
        "beta.kubernetes.io/instance-type",
        "beta.kubernetes.io/os",
        "failure-domain.beta.kubernetes.io/region",
        "failure-domain.beta.kubernetes.io/zone",
        "kubernetes.io/arch",
        "kubernetes.io/hostname",
        "kubernetes.io/os",
        "node.kubernetes.io/instance-type",
        "node.kubernetes.io/windows-build",
        "topology.kubernetes.io/region",
        "topology.kubernetes.io/zone",
    ];
    let Some((prefix, _)) = key.split_once('/') else { return true };
    let within = |domain: &str| {
        prefix.strip_suffix(domain).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    };
    (!within("kubernetes.io") && !within("k8s.io"))
        || within("kubelet.kubernetes.io")
        || within("node.kubernetes.io")
        || ALLOWED.contains(&key)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn labels(value: Value) -> Outcome<BTreeMap<String, String>> {
        let map = json!({ "node_labels": value }).as_object().unwrap().clone();
        node_labels(&mut Fields::of(map))
    }

    fn taints(value: Value) -> Outcome<Vec<Taint>> {
        let map = json!({ "node_taints": value }).as_object().unwrap().clone();
        node_taints(&mut Fields::of(map))
    }

    #[test]
    fn labels_that_kubernetes_keeps_for_itself_are_refused() {
        for free in [
            "disk",
            "example.com/x",
            "node.kubernetes.io/x",
            "a.node.kubernetes.io/x",
            "kubernetes.io/arch",
            "topology.kubernetes.io/zone",
            "notkubernetes.io/x",
        ] {
            assert!(labels(json!({ free: "1" })).is_ok(), "{free}");
        }
        for kept in ["kubernetes.io/x", "x.k8s.io/y", "node-role.kubernetes.io/master"] {
            let refused = labels(json!({ kept: "" })).unwrap_err();
            assert_eq!(refused.status(), 409, "{kept}");
        }
        for odd in [json!({ "a b": "1" }), json!({ "a": "x y" }), json!({ "a": "$(id)" })] {
            assert_eq!(labels(odd).unwrap_err().status(), 400);
        }
    }

    #[test]
    fn a_name_is_what_nodes_can_bear_as_a_label() {
        let long = "a".repeat(63);
        for good in ["a", "gpu-large", "A_1.b", long.as_str()] {
            assert_eq!(label_of_nodes("name", good.to_owned()).unwrap(), good);
        }
        let longer = "a".repeat(64);
        for bad in ["-lead", "trail-", "a/b", "a b", ".", "", "\u{e4}", longer.as_str()] {
            let refused = label_of_nodes("name", bad.to_owned()).unwrap_err();
            assert_eq!(refused.status(), 400, "{bad}");
            assert!(refused.detail().contains("at most 63 letters"), "{}", refused.detail());
        }
    }

    #[test]
    fn a_taint_is_given_once() {
        let taint = |key: &str, effect: &str| json!({ "key": key, "effect": effect, "value": "x" });
        let refused = taints(json!([
            taint("gpu", "NoSchedule"),
            taint("gpu", "NoExecute"),
            { "key": "gpu", "effect": "NoSchedule" },
        ]));
        let refused = refused.unwrap_err();
        assert_eq!(refused.status(), 400);
        assert!(refused.detail().contains("'gpu:NoSchedule'"), "{}", refused.detail());
        let both = json!([taint("gpu", "NoSchedule"), taint("gpu", "NoExecute")]);
        assert_eq!(taints(both).unwrap().len(), 2);
    }

    #[test]
    fn taints_have_a_key_and_a_known_effect() {
        let good = taints(json!([{ "key": "gpu", "effect": "NoSchedule", "value": "" }])).unwrap();
        assert_eq!(good[0].key, "gpu");
        assert_eq!(taints(json!(["x"])).unwrap_err().status(), 400);
        for odd in [
            json!([{ "key": "", "effect": "NoSchedule" }]),
            json!([{ "key": "a", "effect": "Never" }]),
            json!([{ "key": "a", "effect": "NoSchedule", "colour": "red" }]),
            json!([{ "key": "a", "effect": "NoSchedule", "value": "a;b" }]),
        ] {
            let refused = taints(odd.clone()).unwrap_err();
            assert_eq!(refused.status(), 400, "{odd}");
            assert!(refused.detail().contains("attribute node_taints. Value: '{"), "{odd}");
        }
    }

    proptest! {
        #[test]
        fn what_is_taken_is_plain(key in "[a-z./$ ;_-]{0,20}", value in "[a-z.$ ;'_-]{0,20}") {
            if let Ok(map) = labels(json!({ key: value })) {
                for (key, value) in map {
                    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_./".contains(&b);
                    prop_assert!(key.bytes().chain(value.bytes()).all(plain));
                }
            }
        }
    }
}
