//! A stack's environment: values, defaults, and which type name stands for what.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::refusal::Refusal;
use super::schema;
use super::text;

/// Files sent along with a template, by name.
pub type Files = BTreeMap<String, String>;

/// What the caller gave beside the template.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    pub parameters: Map<String, Value>,
    pub defaults: Map<String, Value>,
    pub registry: Map<String, Value>,
}

/// What a type name stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    Builtin(String),
    Template(String),
}

impl Environment {
    /// Reads `environment`: a mapping, or its text.
    pub fn read(given: &Value) -> Result<Self, Refusal> {
        let refuse = |error: String| {
            Err(Refusal::bad_request(format!("Environment not in valid format: {error}")))
        };
        let given = match given {
            Value::String(source) => match text::parse(source) {
                Ok(value) => value,
                Err(error) => return refuse(error),
            },
            other => other.clone(),
        };
        let map = match given {
            Value::Null => Map::new(),
            Value::Object(map) => map,
            _ => {
                return refuse("The environment is not a valid YAML mapping data type.".to_owned());
            }
        };
        let known = [
            "parameters",
            "parameter_defaults",
            "resource_registry",
            "encrypted_param_names",
            "event_sinks",
            "parameter_merge_strategies",
        ];
        if let Some(key) = map.keys().find(|key| !known.contains(&key.as_str())) {
            return refuse(format!("environment has wrong section \"{key}\""));
        }
        let section = |name: &str| map.get(name).and_then(Value::as_object).cloned();
        Ok(Self {
            parameters: section("parameters").unwrap_or_default(),
            defaults: section("parameter_defaults").unwrap_or_default(),
            registry: section("resource_registry").unwrap_or_default(),
        })
    }

    /// What comes later wins.
    pub fn extend(&mut self, later: Self) {
        self.parameters.extend(later.parameters);
        self.defaults.extend(later.defaults);
        self.registry.extend(later.registry);
    }

    /// For a nested stack: the same types and defaults, other values.
    pub fn nested(&self, parameters: Map<String, Value>) -> Self {
        Self { parameters, defaults: self.defaults.clone(), registry: self.registry.clone() }
    }

    /// Follows the registry until a built-in type or a template remains.
    pub fn target(&self, kind: &str, files: &Files) -> Result<Target, Refusal> {
        let mut name = kind.to_owned();
        // A registry may map in circles; nobody needs more than a few steps.
        for _ in 0..8 {
            let mapped = self.mapped(&name).filter(|to| *to != name);
            match mapped {
                Some(to) => name = to,
                None => break,
            }
        }
        if schema::kind(&name).is_some() {
            return Ok(Target::Builtin(name));
        }
        if name.ends_with(".yaml") || name.ends_with(".template") {
            if files.contains_key(&name) {
                return Ok(Target::Template(name));
            }
            let message = format!(
                "Could not fetch remote template \"{name}\": Invalid URL scheme {}",
                name.split_once("://").map_or("", |(scheme, _)| scheme)
            );
            return Err(Refusal::new("StackValidationFailed", message));
        }
        // The sentence is a "not found", the answer a validation failure.
        let message = Refusal::not_found("Resource Type", kind).message;
        Err(Refusal::new("StackValidationFailed", message))
    }

    fn mapped(&self, name: &str) -> Option<String> {
        if let Some(to) = self.registry.get(name).and_then(Value::as_str) {
            return Some(to.to_owned());
        }
        self.registry.iter().find_map(|(pattern, to)| {
            let rest = name.strip_prefix(pattern.strip_suffix('*')?)?;
            let to = to.as_str()?;
            Some(match to.strip_suffix('*') {
                Some(prefix) => format!("{prefix}{rest}"),
                None => to.to_owned(),
            })
        })
    }
}
