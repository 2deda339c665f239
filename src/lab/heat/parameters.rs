//! Template parameters: what may be given, what was given, what it means.

use serde_json::{Map, Value, json};

use super::constraint::{Constraint, Lookup};
use super::refusal::{Invalid, Refusal};
use super::template::Version;
use super::text::{py_json, py_str};

/// The five types of HOT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    String,
    Number,
    List,
    Json,
    Boolean,
}

/// A parameter's definition.
#[derive(Clone, Debug)]
pub struct Schema {
    pub kind: Type,
    pub description: String,
    pub label: Option<String>,
    pub default: Option<Value>,
    pub hidden: bool,
    pub immutable: bool,
    pub constraints: Vec<Constraint>,
    pub tags: Vec<Value>,
}

fn refuse<T>(message: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal::new("InvalidSchemaError", message))
}

impl Schema {
    pub fn read(name: &str, body: &Value, version: Version) -> Result<Self, Refusal> {
        let Value::Object(body) = body else {
            return refuse(format!("Invalid parameter ({name}), expected a mapping"));
        };
        let mut keys = vec![
            "type",
            "description",
            "default",
            "schema",
            "constraints",
            "hidden",
            "label",
            "immutable",
        ];
        if version >= Version::QUEENS {
            keys.push("tags");
        }
        if let Some(key) = body.keys().find(|key| !keys.contains(&key.as_str())) {
            return refuse(format!("Invalid key '{key}' for parameter ({name})"));
        }
        let kind = match body.get("type") {
            None => return refuse(format!("Missing parameter type for parameter: {name}")),
            Some(Value::String(kind)) => match kind.as_str() {
                "string" => Type::String,
                "number" => Type::Number,
                "comma_delimited_list" => Type::List,
                "json" => Type::Json,
                "boolean" => Type::Boolean,
                other => return refuse(format!("Invalid type ({other})")),
            },
            Some(other) => return refuse(format!("Invalid type ({})", py_str(other))),
        };
        let constraints = match body.get("constraints") {
            None | Some(Value::Null) => Vec::new(),
            Some(Value::Array(list)) => list
                .iter()
                .map(|c| Constraint::read(c, version).or_else(refuse))
                .collect::<Result<Vec<_>, _>>()?,
            Some(_) => {
                return refuse(format!(
                    "Invalid parameter constraints for parameter {name}, expected a list"
                ));
            }
        };
        let tags = match body.get("tags") {
            None => Vec::new(),
            Some(Value::Array(tags)) => tags.clone(),
            Some(_) => {
                return refuse(format!("Tags property should be a list for parameter: {name}"));
            }
        };
        let text = |key: &str| body.get(key).and_then(Value::as_str).map(str::to_owned);
        let flag = |key: &str| body.get(key).is_some_and(|v| v == &json!(true));
        Ok(Self {
            kind,
            description: text("description").unwrap_or_default(),
            label: text("label"),
            default: body.get("default").filter(|d| !d.is_null()).cloned(),
            hidden: flag("hidden"),
            immutable: flag("immutable"),
            constraints,
            tags,
        })
    }

    /// A value in the parameter's own type.
    pub fn value(&self, given: &Value) -> Result<Value, String> {
        match self.kind {
            Type::String => Ok(Value::String(py_str(given))),
            Type::Number => number(given),
            Type::List => match given {
                Value::Array(items) => {
                    Ok(items.iter().map(|v| Value::String(py_str(v))).collect::<Vec<_>>().into())
                }
                Value::String(text) if text.is_empty() => Ok(json!([])),
                Value::String(text) => Ok(text.split(',').collect::<Vec<_>>().into()),
                other => Err(format!(
                    "Value must be a comma-delimited list string: '{}' object has no attribute \
                     'split'",
                    super::text::py_type(other)
                )),
            },
            Type::Json => match given {
                Value::String(text) if text.is_empty() => Ok(json!({})),
                Value::String(text) => match serde_json::from_str(text) {
                    Ok(value) => Ok(value),
                    Err(error) => Err(format!("Value must be valid JSON: {error}")),
                },
                other => Ok(other.clone()),
            },
            Type::Boolean => boolean(given).map(Value::Bool),
        }
    }

    fn check(&self, given: &Value, lookup: Lookup<'_>) -> Result<(), String> {
        let value = self.value(given)?;
        self.constraints.iter().try_for_each(|c| c.check(&value, lookup))
    }
}

/// The parameters of one stack: what was given over what the template defaults to.
#[derive(Clone, Debug)]
pub struct Parameters {
    entries: Vec<Entry>,
    pseudo: [(&'static str, String); 3],
}

#[derive(Clone, Debug)]
struct Entry {
    name: String,
    schema: Schema,
    given: Option<Value>,
    default: Option<Value>,
}

impl Parameters {
    pub fn new(
        schemas: &[(String, Schema)],
        given: &Map<String, Value>,
        defaults: &Map<String, Value>,
        stack: (&str, &str, &str),
    ) -> Result<Self, Refusal> {
        if let Some(unknown) =
            given.keys().find(|key| !schemas.iter().any(|(name, _)| name == *key))
        {
            let message = format!("The Parameter ({unknown}) was not defined in template.");
            return Err(Refusal::new("UnknownUserParameter", message));
        }
        let entries = schemas
            .iter()
            .map(|(name, schema)| Entry {
                name: name.clone(),
                schema: schema.clone(),
                given: given.get(name).filter(|v| !v.is_null()).cloned(),
                default: defaults
                    .get(name)
                    .filter(|v| !v.is_null())
                    .cloned()
                    .or_else(|| schema.default.clone()),
            })
            .collect();
        let (name, id, project) = stack;
        let pseudo = [
            ("OS::stack_id", id.to_owned()),
            ("OS::project_id", project.to_owned()),
            ("OS::stack_name", name.to_owned()),
        ];
        Ok(Self { entries, pseudo })
    }

    /// Constraints, types, and (when `strict`) that everything needed is there.
    pub fn validate(&self, strict: bool, lookup: Lookup<'_>) -> Result<(), Refusal> {
        for Entry { name, schema, given, default } in &self.entries {
            let prefix = format!("Parameter '{name}' is invalid: ");
            if let Some(default) = &schema.default
                && schema.value(default).is_ok()
                && let Err(error) = schema.check(default, &|_, _| Ok(()))
            {
                let shown = py_str(default);
                return refuse(format!("{prefix}Invalid default {shown} ({error})"));
            }
            if !strict {
                continue;
            }
            match given.as_ref().or(default.as_ref()) {
                Some(value) => schema
                    .check(value, lookup)
                    .map_err(|error| Invalid::new(format!("{prefix}{error}")))?,
                None => return Err(missing(name)),
            }
        }
        Ok(())
    }

    /// What `get_param` finds.
    pub fn get(&self, name: &str) -> Result<Value, String> {
        if let Some((_, value)) = self.pseudo.iter().find(|(pseudo, _)| *pseudo == name) {
            return Ok(Value::String(value.clone()));
        }
        let entry = self.entries.iter().find(|e| e.name == name);
        let value = entry.and_then(|e| e.given.as_ref().or(e.default.as_ref()));
        match (entry, value) {
            (Some(entry), Some(value)) => entry.schema.value(value),
            _ => Err(missing(name).message),
        }
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.iter().map(|e| e.name.as_str())
    }

    /// As `GET stack` shows them: every value as text, hidden ones masked.
    pub fn shown(&self) -> Map<String, Value> {
        let mut out = Map::new();
        for (name, value) in &self.pseudo {
            out.insert((*name).to_owned(), Value::String(value.clone()));
        }
        for entry in &self.entries {
            let Ok(value) = self.get(&entry.name) else { continue };
            let text = match (&value, entry.schema.kind) {
                _ if entry.schema.hidden => "******".to_owned(),
                (Value::Array(items), Type::List) => {
                    items.iter().map(py_str).collect::<Vec<_>>().join(",")
                }
                (value, Type::Json) => py_json(value),
                (value, _) => py_str(value),
            };
            out.insert(entry.name.clone(), Value::String(text));
        }
        out
    }

    /// As `POST validate` describes them.
    pub fn described(&self) -> Map<String, Value> {
        let mut out = Map::new();
        for Entry { name, schema, given, default } in &self.entries {
            let kind = match schema.kind {
                Type::String => "String",
                Type::Number => "Number",
                Type::List => "CommaDelimitedList",
                Type::Json => "Json",
                Type::Boolean => "Boolean",
            };
            let mut one = json!({
                "Type": kind,
                "Description": schema.description,
                "NoEcho": if schema.hidden { "true" } else { "false" },
                "Label": schema.label.as_deref().unwrap_or(name),
            });
            if let Some(default) = default {
                one["Default"] = default.clone();
            }
            if let Some(given) = given {
                one["Value"] = given.clone();
            }
            if !schema.tags.is_empty() {
                one["Tags"] = Value::Array(schema.tags.clone());
            }
            for constraint in &schema.constraints {
                constraint.describe(&mut one);
            }
            out.insert(name.clone(), one);
        }
        out
    }

    /// Immutable parameters that an update would change.
    pub fn frozen_changes(&self, newer: &Self) -> Vec<String> {
        let changed = |e: &&Entry| {
            e.schema.immutable
                && newer.get(&e.name).ok().is_some_and(|new| self.get(&e.name) != Ok(new))
        };
        self.entries.iter().filter(changed).map(|e| e.name.clone()).collect()
    }
}

fn missing(name: &str) -> Refusal {
    Refusal::new("UserParameterMissing", format!("The Parameter ({name}) was not provided."))
}

/// Python's `int(x)`, else `float(x)`.
pub fn number(given: &Value) -> Result<Value, String> {
    match given {
        Value::Number(_) => Ok(given.clone()),
        Value::Bool(flag) => Ok(json!(i64::from(*flag))),
        Value::String(text) => {
            let text = text.trim();
            if let Ok(whole) = text.parse::<i64>() {
                return Ok(json!(whole));
            }
            match text.parse::<f64>() {
                Ok(real) if real.is_finite() => Ok(json!(real)),
                _ => Err(format!("could not convert string to float: '{text}'")),
            }
        }
        other => Err(format!(
            "int() argument must be a string, a bytes-like object or a real number, not '{}'",
            super::text::py_type(other)
        )),
    }
}

fn boolean(given: &Value) -> Result<bool, String> {
    match py_str(given).trim().to_lowercase().as_str() {
        "1" | "t" | "true" | "on" | "y" | "yes" => Ok(true),
        "0" | "f" | "false" | "off" | "n" | "no" => Ok(false),
        _ => Err(format!(
            "Unrecognized value '{}', acceptable values are: '0', '1', 'f', 'false', 'n', 'no', \
             'off', 'on', 't', 'true', 'y', 'yes'",
            py_str(given)
        )),
    }
}
