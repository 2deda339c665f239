//! A template with its values: what a stack should consist of, and in which order.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::{Map, Value};

use super::constraint::Lookup;
use super::environment::{Environment, Files};
use super::functions::{self, Scope};
use super::graph;
use super::parameters::Parameters;
use super::refusal::{Invalid, Refusal};
use super::template::{Definition, Output, Template, Version};
use super::text::py_repr;

/// Whose plan it is: name, id, project.
#[derive(Clone, Debug)]
pub struct Identity {
    pub name: String,
    pub id: String,
    pub project: String,
}

/// What a stack should be.
#[derive(Clone, Debug)]
pub struct Plan {
    pub template: Arc<Template>,
    pub files: Arc<Files>,
    pub environment: Arc<Environment>,
    pub parameters: Parameters,
    conditions: BTreeMap<String, bool>,
    /// Enabled resources, every `if` already decided.
    pub definitions: BTreeMap<String, Definition>,
    pub outputs: Vec<Output>,
    pub requires: BTreeMap<String, BTreeSet<String>>,
}

impl Plan {
    /// Everything but the properties' values; `strict` insists on parameters being there.
    pub fn new(
        template: Arc<Template>,
        files: Arc<Files>,
        environment: Arc<Environment>,
        identity: &Identity,
        strict: bool,
        lookup: Lookup<'_>,
    ) -> Result<Self, Refusal> {
        let parameters = Parameters::new(
            &template.parameters,
            &environment.parameters,
            &environment.defaults,
            (&identity.name, &identity.id, &identity.project),
        )?;
        parameters.validate(strict, lookup)?;
        groups(&template)?;
        let conditions = conditions(&template, &parameters)?;
        let mut plan = Self {
            definitions: BTreeMap::new(),
            outputs: Vec::new(),
            requires: BTreeMap::new(),
            template,
            files,
            environment,
            parameters,
            conditions,
        };
        plan.choose()?;
        for definition in plan.definitions.values() {
            plan.environment.target(&definition.kind, &plan.files)?;
        }
        let doubles: Vec<&str> =
            plan.parameters.names().filter(|name| plan.definitions.contains_key(*name)).collect();
        if !doubles.is_empty() {
            let names: Vec<String> = doubles.iter().map(|n| format!("'{n}'")).collect();
            return Err(Invalid::new(format!("Duplicate names {{{}}}", names.join(", "))).into());
        }
        plan.requires = graph::requirements(&plan)?;
        Ok(plan)
    }

    /// The same without any resource, for a stack that goes away. Parameters can still be read.
    pub fn empty(&self) -> Self {
        Self { definitions: BTreeMap::new(), requires: BTreeMap::new(), ..self.clone() }
    }

    fn choose(&mut self) -> Result<(), Refusal> {
        let version = self.template.version;
        let mut definitions = BTreeMap::new();
        for raw in &self.template.resources {
            let at = |section: &'static str| {
                let name = raw.name.clone();
                move |invalid: Invalid| invalid.within(&["resources", &name, section])
            };
            for (section, value) in [("properties", &raw.properties), ("metadata", &raw.metadata)] {
                functions::check(version, value).map_err(at(section))?;
            }
            if let Some(condition) = &raw.condition
                && !functions::condition(&Values(self), condition)
                    .map_err(Invalid::new)
                    .map_err(at("condition"))?
            {
                continue;
            }
            let chosen = |section: &'static str, value: &Value| {
                functions::choose(&Values(self), value)
                    .map(|v| v.unwrap_or(Value::Null))
                    .map_err(at(section))
            };
            let definition = Definition {
                properties: chosen("properties", &raw.properties)?,
                metadata: chosen("metadata", &raw.metadata)?,
                ..raw.clone()
            };
            definitions.insert(raw.name.clone(), definition);
        }
        let mut outputs = Vec::new();
        for raw in &self.template.outputs {
            let at = |invalid: Invalid, last| invalid.within(&["outputs", &raw.name, last]);
            functions::check(version, &raw.value).map_err(|e| at(e, "value"))?;
            let enabled = match &raw.condition {
                None => true,
                Some(condition) => functions::condition(&Values(self), condition)
                    .map_err(|m| at(Invalid::new(m), "condition"))?,
            };
            let value = match enabled {
                true => functions::choose(&Values(self), &raw.value).map_err(|e| at(e, "value"))?,
                false => None,
            };
            outputs.push(Output { value: value.unwrap_or(Value::Null), ..raw.clone() });
        }
        self.definitions = definitions;
        self.outputs = outputs;
        Ok(())
    }

    pub fn condition(&self, name: &str) -> Result<bool, String> {
        self.conditions.get(name).copied().ok_or_else(|| format!("Invalid condition \"{name}\""))
    }
}

fn groups(template: &Template) -> Result<(), Refusal> {
    let refuse = |at: &str, message: String| {
        let path = Invalid::new(message).within(&["parameter_groups", at]);
        Err(Refusal::from(path.titled("Parameter Groups error")))
    };
    let groups = match &template.groups {
        Value::Null => return Ok(()),
        Value::Array(groups) => groups,
        other => {
            let found = super::text::py_type(other);
            let message = format!("The parameter_groups should be a list, found a {found}.");
            return Err(Invalid::new(message).within(&["parameter_groups"]).into());
        }
    };
    let mut seen: Vec<&str> = Vec::new();
    for group in groups {
        let label = group.get("label").and_then(Value::as_str).unwrap_or_default();
        let Some(Value::Array(names)) = group.get("parameters") else {
            return refuse(
                label,
                "The parameters must be provided for each parameter group.".into(),
            );
        };
        for name in names {
            let Some(name) = name.as_str() else {
                return refuse(label, "The parameters of parameter group should be a list.".into());
            };
            if seen.contains(&name) {
                return refuse(
                    label,
                    format!("The {name} parameter must be assigned to one parameter group only."),
                );
            }
            if !template.parameters.iter().any(|(known, _)| known == name) {
                return refuse(
                    label,
                    format!("The grouped parameter {name} does not reference a valid parameter."),
                );
            }
            seen.push(name);
        }
    }
    Ok(())
}

/// Evaluates every condition definition once; they may use one another, not themselves.
fn conditions(
    template: &Template,
    parameters: &Parameters,
) -> Result<BTreeMap<String, bool>, Refusal> {
    let scope = Definitions {
        version: template.version,
        parameters,
        all: &template.conditions,
        open: RefCell::new(Vec::new()),
    };
    let mut out = BTreeMap::new();
    for name in template.conditions.keys() {
        let verdict = scope
            .condition(name)
            .map_err(|message| Invalid::new(message).titled("Condition validation error"))?;
        out.insert(name.clone(), verdict);
    }
    Ok(out)
}

struct Definitions<'d> {
    version: Version,
    parameters: &'d Parameters,
    all: &'d Map<String, Value>,
    open: RefCell<Vec<String>>,
}

impl Scope for Definitions<'_> {
    fn version(&self) -> Version {
        self.version
    }

    fn parameter(&self, name: &str) -> Result<Value, String> {
        self.parameters.get(name)
    }

    fn reference(&self, name: &str) -> Result<Value, String> {
        Err(Refusal::reference(name, "conditions").message)
    }

    fn attribute(&self, name: &str, _: Option<&str>) -> Result<Value, String> {
        Err(Refusal::reference(name, "conditions").message)
    }

    fn file(&self, _: &str) -> Option<String> {
        None
    }

    fn condition(&self, name: &str) -> Result<bool, String> {
        let Some(definition) = self.all.get(name) else {
            return Err(format!("Invalid condition \"{name}\""));
        };
        if self.open.borrow().iter().any(|open| open == name) {
            return Err(format!("Circular definition for condition \"{name}\""));
        }
        let known = match definition {
            Value::Bool(_) | Value::String(_) => true,
            Value::Object(map) => {
                map.len() == 1
                    && map.keys().all(|f| {
                        functions::CONDITIONAL.contains(&f.as_str())
                            || f == "get_param"
                            || f == "yaql"
                    })
            }
            _ => false,
        };
        if !known {
            let shown = py_repr(definition);
            return Err(format!("The definition of condition \"{name}\" is invalid: {shown}"));
        }
        self.open.borrow_mut().push(name.to_owned());
        let verdict = functions::condition(self, definition);
        self.open.borrow_mut().pop();
        verdict
    }
}

/// A plan's values before anything exists: resources stand for themselves by name, and have no
/// attributes yet.
pub struct Values<'p>(pub &'p Plan);

impl Scope for Values<'_> {
    fn version(&self) -> Version {
        self.0.template.version
    }

    fn parameter(&self, name: &str) -> Result<Value, String> {
        self.0.parameters.get(name)
    }

    fn reference(&self, name: &str) -> Result<Value, String> {
        Ok(Value::String(name.to_owned()))
    }

    fn attribute(&self, _: &str, _: Option<&str>) -> Result<Value, String> {
        Ok(Value::Null)
    }

    fn file(&self, name: &str) -> Option<String> {
        self.0.files.get(name).cloned()
    }

    fn condition(&self, name: &str) -> Result<bool, String> {
        self.0.condition(name)
    }
}
