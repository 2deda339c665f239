//! Labels without an effect: those that a driver does not declare, and those that need another one.
//! Whoever gives one should hear of it.

use serde_json::Value;

use super::DriverError;
use super::checks::unsuitable;
use super::craft::Driver;
use super::label::{Default, Label};
use super::manifest::LabelsPolicy;
use crate::model::labels::Labels;

/// Labels that magnumd itself reads, whatever driver builds the cluster.
const READ_BY_MAGNUMD: &[&str] = &["max_node_count", "min_node_count"];
/// How many labels one warning names.
const NAMED: usize = 10;
/// No label that is declared is longer. Comparing takes the square of it, for each of hundreds of
/// names that a request may bring.
const COMPARED: usize = 64;

/// A label that has no effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Undeclared {
    pub name: String,
    /// The declared label that it resembles most, if it resembles one.
    pub near: Option<String>,
}

impl Driver {
    /// The labels that have no effect, sorted by name; none where the manifest's `labels_policy` is
    /// `ignore`.
    pub fn undeclared(&self, labels: &Labels) -> Vec<Undeclared> {
        if self.manifest.labels_policy == LabelsPolicy::Ignore {
            return Vec::new();
        }
        let is_known = |name: &str| {
            READ_BY_MAGNUMD.contains(&name)
                || self.labels().iter().any(|l| l.names().any(|known| known == name))
        };
        let unknown = labels.iter().filter(|(name, _)| !is_known(name));
        // Only those that are named need a neighbour.
        let near = |at: usize, name: &str| (at < NAMED).then(|| self.near(name)).flatten();
        unknown
            .enumerate()
            .map(|(at, (name, _))| Undeclared { name: name.clone(), near: near(at, name) })
            .collect()
    }

    fn near(&self, unknown: &str) -> Option<String> {
        if unknown.len() > COMPARED {
            return None;
        }
        // Names differ in capitals; who types them may not know.
        let unknown = unknown.to_ascii_lowercase();
        let declared = self.labels().iter().flat_map(|l| l.names());
        declared
            .map(|known| (strsim::jaro_winkler(&unknown, &known.to_ascii_lowercase()), known))
            .max_by(|(a, _), (b, _)| a.total_cmp(b))
            // Long names with a common beginning are alike without being meant.
            .filter(|(likeness, _)| *likeness > 0.9)
            .map(|(_, near)| near.to_owned())
    }

    /// What whoever gave these of all `labels` should know: which have no effect, which are
    /// deprecated. None where there is nothing to say.
    pub fn warnings(&self, given: &Labels, labels: &Labels) -> Option<String> {
        let mut said = Vec::new();
        let unknown = self.undeclared(given);
        if !unknown.is_empty() {
            let mut names: Vec<String> = unknown.iter().take(NAMED).map(named).collect();
            if unknown.len() > NAMED {
                names.push(format!("{} more", unknown.len() - NAMED));
            }
            let (word, have) = match unknown.len() {
                1 => ("label", "it has"),
                _ => ("labels", "they have"),
            };
            said.push(format!(
                "Driver {} does not know the {word} {}: {have} no effect.",
                self.name(),
                names.join(", ")
            ));
        }
        for label in self.labels().iter().filter(|l| l.names().any(|n| given.get(n).is_some())) {
            if let Some(instead) = &label.spec.deprecated {
                said.push(format!("The label {} is deprecated: {instead}", label.name));
            }
            let of = |name: &str| labels.get(name).map(str::trim).filter(|text| !text.is_empty());
            let mut names = label.names().filter_map(|name| Some((name, of(name)?)));
            if let Some((name, text)) = names.next() {
                for (older, _) in names.filter(|(_, other)| *other != text) {
                    said.push(format!(
                        "The label {older} has no effect beside {name}, of which it is an older \
                         name."
                    ));
                }
            }
            let needed = self.labels().iter().find(|l| label.spec.needs.as_ref() == Some(&l.name));
            if let Some(needed) =
                needed.filter(|l| is_in_use(label, given) && !is_in_use(l, labels))
            {
                said.push(format!(
                    "The label {} has no effect without {}.",
                    label.name, needed.name
                ));
            }
        }
        (!said.is_empty()).then(|| said.join(" "))
    }

    /// Refuses the first label that has no effect.
    pub fn refuse_undeclared(&self, labels: &Labels) -> Result<(), DriverError> {
        let Some(Undeclared { name, near }) = self.undeclared(labels).into_iter().next() else {
            return Ok(());
        };
        let cure = match near {
            Some(near) => format!("Did you mean {near}? Otherwise leave it away."),
            None => "Leave it away.".to_owned(),
        };
        unsuitable(format!("Driver {} knows no label {name}. {cure}", self.name()))
    }
}

/// Whether a label stands for something that is to be: it is true, no 0 and not empty. What is computed
/// may be.
pub(super) fn is_in_use(label: &Label, labels: &Labels) -> bool {
    let given = match (label.given(labels), &label.default) {
        (Ok(Some(given)), _) => given,
        (_, Default::Value(value)) => value.clone(),
        (_, Default::Computed(_)) => return true,
    };
    match given {
        Value::Bool(is_on) => is_on,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(list) => !list.is_empty(),
        Value::Null => false,
        Value::Object(_) => true,
    }
}

fn named(label: &Undeclared) -> String {
    match &label.near {
        Some(near) => format!("{} (did you mean {near}?)", label.name),
        None => label.name.clone(),
    }
}
