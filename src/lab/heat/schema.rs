//! What each resource type's properties may be, and Heat's sentences when they are not.
//!
//! `schemas.json` holds names, types, defaults and constraints of the types a container cluster
//! is made of, as the Heat template guide documents them.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::constraint::{Lookup, Rule};
use super::parameters::{self, number};
use super::refusal::Invalid;
use super::text::{py_repr, py_str};

/// A resource type.
#[derive(Debug, Deserialize)]
pub struct Kind {
    #[serde(rename = "p")]
    pub properties: BTreeMap<String, Property>,
    #[serde(rename = "a")]
    pub attributes: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Type {
    String,
    Integer,
    Number,
    Boolean,
    Map,
    List,
    Any,
}

/// A property, or an item of one.
#[derive(Clone, Debug, Deserialize)]
pub struct Property {
    #[serde(rename = "t")]
    pub kind: Type,
    #[serde(rename = "req", default)]
    pub required: bool,
    #[serde(rename = "def", default)]
    pub default: Option<Value>,
    #[serde(rename = "upd", default)]
    pub update_allowed: bool,
    #[serde(rename = "imm", default)]
    pub immutable: bool,
    #[serde(default)]
    range: Option<[Option<f64>; 2]>,
    #[serde(default)]
    length: Option<[Option<f64>; 2]>,
    #[serde(default)]
    allowed: Option<Vec<Value>>,
    #[serde(default)]
    custom: Option<String>,
    #[serde(default)]
    item: Option<Box<Property>>,
    #[serde(default)]
    map: Option<BTreeMap<String, Property>>,
    /// A template's own parameters take lists and maps as texts too.
    #[serde(skip)]
    pub converts: bool,
}

static KINDS: LazyLock<BTreeMap<String, Kind>> = LazyLock::new(|| {
    serde_json::from_str(include_str!("schemas.json")).expect("the schemas are well-formed")
});

/// The schema of a built-in type, if there is such a type.
pub fn kind(name: &str) -> Option<&'static Kind> {
    KINDS.get(name)
}

pub fn kinds() -> impl Iterator<Item = &'static str> {
    KINDS.keys().map(String::as_str)
}

/// The properties of a resource whose type is a template: its parameters. Those with a default,
/// of their own or in the environment, need not be given.
pub fn of_parameters(
    schemas: &[(String, parameters::Schema)],
    defaults: &Map<String, Value>,
) -> BTreeMap<String, Property> {
    let property = |(name, schema): &(String, parameters::Schema)| {
        let property = Property {
            kind: match schema.kind {
                parameters::Type::String => Type::String,
                parameters::Type::Number => Type::Number,
                parameters::Type::List => Type::List,
                parameters::Type::Json => Type::Map,
                parameters::Type::Boolean => Type::Boolean,
            },
            required: schema.default.is_none() && !defaults.contains_key(name),
            default: None,
            update_allowed: true,
            immutable: schema.immutable,
            range: None,
            length: None,
            allowed: None,
            custom: None,
            item: None,
            map: None,
            converts: true,
        };
        (name.clone(), property)
    };
    schemas.iter().map(property).collect()
}

/// How far to look at values.
#[derive(Clone, Copy)]
pub struct Depth<'l> {
    /// Constraints count, not only types: whatever depends on a resource that does not exist
    /// yet is not held against them.
    pub constraints: bool,
    pub lookup: Lookup<'l>,
}

/// Names a property that nobody knows.
pub fn unknown(
    schema: &BTreeMap<String, Property>,
    given: &Map<String, Value>,
) -> Result<(), Invalid> {
    match given.keys().find(|key| !schema.contains_key(*key)) {
        Some(key) => Err(Invalid::new(format!("Unknown Property {key}"))),
        None => Ok(()),
    }
}

/// One property's value, converted; `None` when it is neither given nor defaulted.
pub fn property(
    name: &str,
    property: &Property,
    given: Option<&Value>,
    depth: Depth<'_>,
) -> Result<Option<Value>, Invalid> {
    let value = match given {
        Some(value) => value,
        None if property.default.is_some() => &Value::Null,
        None if property.required => {
            return Err(Invalid::new(format!("Property {name} not assigned")));
        }
        None => return Ok(None),
    };
    convert(property, value, depth).map(Some).map_err(|e| e.within(&[name]))
}

fn members(
    schema: &BTreeMap<String, Property>,
    given: &Map<String, Value>,
    depth: Depth<'_>,
) -> Result<Map<String, Value>, Invalid> {
    if depth.constraints {
        unknown(schema, given)?;
    }
    let mut out = Map::new();
    for (name, one) in schema {
        if let Some(value) = property(name, one, given.get(name), depth)? {
            out.insert(name.clone(), value);
        }
    }
    Ok(out)
}

fn convert(property: &Property, value: &Value, depth: Depth<'_>) -> Result<Value, Invalid> {
    let fail = |message: String| Err(Invalid::new(message));
    let null = value.is_null();
    let or = |other: Value| property.default.clone().unwrap_or(other);
    let value = match property.kind {
        Type::Any => value.clone(),
        Type::String => match value {
            Value::Null => or(json!("")),
            Value::String(_) => value.clone(),
            Value::Bool(_) => json!(py_str(value)),
            Value::Number(n) if !n.is_f64() => json!(py_str(value)),
            Value::Array(_) | Value::Object(_) if property.converts => json!(value.to_string()),
            Value::Number(_) if property.converts => json!(py_str(value)),
            other => return fail(format!("Value must be a string; got {}", py_repr(other))),
        },
        Type::Integer => match number(if null { &Value::Bool(false) } else { value }) {
            _ if null => or(json!(0)),
            Ok(n) if n.is_i64() || n.is_u64() => n,
            Ok(n) if !value.is_string() => json!(n.as_f64().unwrap_or(0.0) as i64),
            _ => return fail(format!("Value '{}' is not an integer", py_str(value))),
        },
        Type::Number if null => or(json!(0)),
        Type::Number => match number(value) {
            Ok(n) => n,
            Err(error) => return fail(error),
        },
        Type::Boolean => match value {
            Value::Null => or(json!(false)),
            Value::Bool(_) => value.clone(),
            Value::String(text) => match text.to_lowercase().as_str() {
                "true" | "yes" | "on" => json!(true),
                "false" | "no" | "off" => json!(false),
                other => return fail(format!("\"{other}\" is not a valid boolean")),
            },
            other => return fail(format!("\"{}\" is not a valid boolean", py_str(other))),
        },
        Type::Map => match if null { or(json!({})) } else { value.clone() } {
            Value::Object(map) => match &property.map {
                Some(schema) => Value::Object(members(schema, &map, depth)?),
                None => Value::Object(map),
            },
            other if property.converts => other,
            other => return fail(format!("\"{}\" is not a map", py_str(&other))),
        },
        Type::List => match if null { or(json!([])) } else { value.clone() } {
            Value::Array(items) => match &property.item {
                Some(schema) => {
                    let one = |(index, item): (usize, &Value)| {
                        convert(schema, item, depth).map_err(|e| e.within(&[&index.to_string()]))
                    };
                    Value::Array(items.iter().enumerate().map(one).collect::<Result<_, _>>()?)
                }
                None => Value::Array(items),
            },
            Value::String(text) if property.converts => {
                if text.is_empty() {
                    json!([])
                } else {
                    text.split(',').collect::<Vec<_>>().into()
                }
            }
            other => return fail(format!("\"{}\" is not a list", py_repr(&other))),
        },
    };
    if depth.constraints {
        for rule in property.rules() {
            rule.check(&value, depth.lookup).map_err(Invalid::new)?;
        }
    }
    Ok(value)
}

impl Property {
    fn rules(&self) -> impl Iterator<Item = Rule> {
        let range = self.range.map(|[min, max]| Rule::Range(min, max));
        let length = self.length.map(|[min, max]| Rule::Length(min, max));
        let allowed = self.allowed.clone().map(Rule::Allowed);
        let custom = self.custom.clone().map(Rule::Custom);
        [range, length, allowed, custom].into_iter().flatten()
    }

    /// As `GET /resource_types/{type}` shows it.
    pub fn described(&self) -> Value {
        let kind = match self.kind {
            Type::String => "string",
            Type::Integer => "integer",
            Type::Number => "number",
            Type::Boolean => "boolean",
            Type::Map => "map",
            Type::List => "list",
            Type::Any => "any",
        };
        let mut out = json!({
            "type": kind,
            "required": self.required,
            "update_allowed": self.update_allowed,
            "immutable": self.immutable,
        });
        if let Some(default) = &self.default {
            out["default"] = default.clone();
        }
        if let Some(map) = &self.map {
            let nested: Map<String, Value> =
                map.iter().map(|(name, p)| (name.clone(), p.described())).collect();
            out["schema"] = Value::Object(nested);
        } else if let Some(item) = &self.item {
            out["schema"] = json!({"*": item.described()});
        }
        out
    }
}

/// A constraint a whole server must meet, beyond its single properties.
pub fn server(name: &str, properties: &Map<String, Value>) -> Result<(), Invalid> {
    let list = |key: &str| properties.get(key).and_then(Value::as_array).map_or(&[][..], |v| v);
    let set = |value: Option<&Value>| value.is_some_and(|v| !v.is_null() && v != &json!(""));
    let devices = [list("block_device_mapping"), list("block_device_mapping_v2")].concat();
    let bootable = devices.iter().any(|d| {
        let boot = d.get("boot_index").is_some_and(|b| b == &json!(0) || b == &json!("0"));
        boot || d.get("device_name") == Some(&json!("vda"))
    });
    if !set(properties.get("image")) && !bootable {
        return Err(Invalid::new(format!(
            "Neither image nor bootable volume is specified for instance {name}"
        )));
    }
    for (index, device) in list("block_device_mapping_v2").iter().enumerate() {
        let sources = ["volume_id", "snapshot_id", "image", "image_id", "swap_size"];
        let given: Vec<_> = sources.iter().filter(|key| set(device.get(**key))).collect();
        let ephemeral = set(device.get("ephemeral_size")) || set(device.get("ephemeral_format"));
        if given.is_empty() && !ephemeral {
            return Err(Invalid::new(format!(
                "Either volume_id, snapshot_id, image_id, swap_size, ephemeral_size, \
                 ephemeral_format or image_id must be specified for device {index} of {name}"
            )));
        }
    }
    for network in list("networks") {
        let keys = ["network", "uuid", "port", "subnet", "allocate_network", "fixed_ip"];
        if !keys.iter().any(|key| set(network.get(*key))) {
            return Err(Invalid::new(format!(
                "One of the properties \"id\", \"port\", \"network\" or \"subnet\" should be set \
                 for the specified network of server \"{name}\"."
            )));
        }
    }
    let groups = !list("security_groups").is_empty();
    if groups && list("networks").iter().any(|network| set(network.get("port"))) {
        return Err(Invalid::new(
            "Cannot define the following properties at the same time: security_groups, \
             networks/port.",
        ));
    }
    if properties.get("metadata").and_then(Value::as_object).is_some_and(|m| m.len() > 128) {
        return Err(Invalid::new(
            "Instance metadata must not contain greater than 128 entries.  This is the maximum \
             number allowed by your service provider",
        ));
    }
    Ok(())
}
