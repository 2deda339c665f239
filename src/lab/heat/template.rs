//! A HOT template as Heat reads it: sections, versions, definitions. No values yet.

use serde_json::{Map, Value};

use super::parameters::Schema;
use super::refusal::{Invalid, Refusal};
use super::text::{py_repr, py_type, truthy};

/// Heat's `max_resources_per_stack`.
pub const RESOURCE_LIMIT: usize = 1000;

const VERSIONS: [(&str, &str); 11] = [
    ("2013-05-23", ""),
    ("2014-10-16", ""),
    ("2015-04-30", ""),
    ("2015-10-15", ""),
    ("2016-04-08", ""),
    ("2016-10-14", "newton"),
    ("2017-02-24", "ocata"),
    ("2017-09-01", "pike"),
    ("2018-03-02", "queens"),
    ("2018-08-31", "rocky"),
    ("2021-04-16", "wallaby"),
];

/// A template version; later ones know more functions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(usize);

impl Version {
    pub const KILO: Self = Self(2);
    pub const LIBERTY: Self = Self(3);
    pub const MITAKA: Self = Self(4);
    pub const NEWTON: Self = Self(5);
    pub const OCATA: Self = Self(6);
    pub const PIKE: Self = Self(7);
    pub const QUEENS: Self = Self(8);
    pub const WALLABY: Self = Self(10);

    fn of(template: &Map<String, Value>) -> Result<Self, Refusal> {
        let refuse = |explanation: String| {
            let message = format!("The template version is invalid: {explanation}");
            Err(Refusal::new("InvalidTemplateVersion", message))
        };
        let Some(given) = template.get("heat_template_version") else {
            return refuse("Template version was not provided".to_owned());
        };
        let Value::String(text) = given else {
            return refuse(format!("Template version should be a string, not {}", py_type(given)));
        };
        let known =
            |(date, code): &(&str, &str)| *date == text || (*code == text && !text.is_empty());
        match VERSIONS.iter().position(known) {
            Some(index) => Ok(Self(index)),
            None => {
                let mut all: Vec<&str> =
                    VERSIONS.iter().flat_map(|(d, c)| [*d, *c]).filter(|v| !v.is_empty()).collect();
                all.sort_unstable();
                refuse(format!(
                    "\"heat_template_version: {text}\". \"heat_template_version\" should be one \
                     of: {}",
                    all.join(", ")
                ))
            }
        }
    }
}

/// Every version with its other name.
pub fn versions() -> impl Iterator<Item = (&'static str, Vec<&'static str>)> {
    VERSIONS.iter().map(|(date, code)| (*date, if code.is_empty() { vec![] } else { vec![*code] }))
}

/// What is kept of a resource when its stack no longer wants it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeletionPolicy {
    Delete,
    Retain,
}

/// One resource as written; functions are still functions.
#[derive(Clone, Debug)]
pub struct Definition {
    pub name: String,
    pub kind: String,
    pub properties: Value,
    pub metadata: Value,
    pub depends_on: Vec<String>,
    pub deletion_policy: DeletionPolicy,
    pub description: String,
    pub condition: Option<Value>,
    pub external_id: Option<String>,
}

/// One output as written.
#[derive(Clone, Debug)]
pub struct Output {
    pub name: String,
    pub description: Option<String>,
    pub value: Value,
    pub condition: Option<Value>,
}

/// A template whose sections and keywords are in order.
#[derive(Clone, Debug)]
pub struct Template {
    /// As given, for `GET …/template`.
    pub raw: Value,
    pub version: Version,
    pub description: String,
    pub parameters: Vec<(String, Schema)>,
    pub groups: Value,
    pub conditions: Map<String, Value>,
    pub resources: Vec<Definition>,
    pub outputs: Vec<Output>,
}

impl Template {
    /// Checks everything that needs no values.
    pub fn read(raw: Value) -> Result<Self, Refusal> {
        let Value::Object(map) = &raw else {
            return Err(Refusal::bad_request("The template is not a JSON object or YAML mapping."));
        };
        let version = Version::of(map)?;
        let mut known = vec![
            "heat_template_version",
            "description",
            "parameter_groups",
            "parameters",
            "resources",
            "outputs",
        ];
        if version >= Version::NEWTON {
            known.push("conditions");
        }
        if let Some(section) = map.keys().find(|key| !known.contains(&key.as_str())) {
            // At the API this surfaces as a validation failure with the same sentence.
            let message = format!("The template section is invalid: {section}");
            return Err(Refusal::new("StackValidationFailed", message));
        }
        let section = |name: &str| -> Result<Map<String, Value>, Refusal> {
            match map.get(name) {
                None => Ok(Map::new()),
                Some(Value::Object(section)) => Ok(section.clone()),
                Some(empty) if !truthy(empty) => Ok(Map::new()),
                Some(other) => Err(Invalid::new(format!(
                    "\"{name}\" must contain a map of {} maps. Found a [<class '{}'>] instead",
                    name.strip_suffix('s').unwrap_or(name),
                    py_type(other)
                ))
                .into()),
            }
        };
        let resources = section("resources")?;
        if resources.len() > RESOURCE_LIMIT {
            return Err(Refusal::limit("Maximum resources per stack exceeded."));
        }
        let mut definitions = Vec::with_capacity(resources.len());
        for (name, body) in &resources {
            definitions.push(definition(name, body, version)?);
        }
        let mut outputs = Vec::new();
        for (name, body) in section("outputs")? {
            outputs.push(output(&name, &body)?);
        }
        let mut parameters = Vec::new();
        for (name, body) in section("parameters")? {
            let schema = Schema::read(&name, &body, version)?;
            parameters.push((name, schema));
        }
        let conditions = section("conditions")?;
        let description = match map.get("description") {
            Some(Value::String(text)) if !text.is_empty() => text.clone(),
            _ => "No description".to_owned(),
        };
        let groups = map.get("parameter_groups").cloned().unwrap_or(Value::Null);
        Ok(Self {
            version,
            description,
            parameters,
            groups,
            conditions,
            resources: definitions,
            outputs,
            raw,
        })
    }
}

fn definition(name: &str, body: &Value, version: Version) -> Result<Definition, Refusal> {
    let refuse = |message: String| Err(Refusal::from(Invalid::new(message)));
    if name.contains('/') {
        return refuse(format!("Resource name may not contain \"/\": {name}"));
    }
    let body = match body {
        empty if !truthy(empty) => {
            return refuse("Each resource must contain a type key.".to_owned());
        }
        Value::Object(body) => body,
        other => {
            return refuse(format!(
                "\"resources\" must contain a map of resource maps. Found a [<class '{}'>] instead",
                py_type(other)
            ));
        }
    };
    let mut keys = vec![
        "type",
        "properties",
        "metadata",
        "depends_on",
        "deletion_policy",
        "update_policy",
        "description",
    ];
    if version >= Version::NEWTON {
        keys.extend(["external_id", "condition"]);
    }
    if let Some(key) = body.keys().find(|key| !keys.contains(&key.as_str())) {
        return refuse(format!("\"{key}\" is not a valid keyword inside a resource definition"));
    }
    let kind = match body.get("type") {
        None => return refuse("Each resource must contain a type key.".to_owned()),
        Some(Value::String(kind)) if !kind.is_empty() => kind.clone(),
        Some(_) => return refuse(format!("Resource {name} type type must be string")),
    };
    let object = |key: &str| match body.get(key) {
        None => Ok(Value::Null),
        Some(value @ Value::Object(_)) => Ok(value.clone()),
        Some(_) => {
            Err(Refusal::from(Invalid::new(format!("Resource {name} {key} type must be object"))))
        }
    };
    let depends_on = match body.get("depends_on") {
        None => Vec::new(),
        Some(Value::String(one)) => vec![one.clone()],
        Some(Value::Array(many)) => {
            match many.iter().map(|v| v.as_str().map(str::to_owned)).collect() {
                Some(names) => names,
                None => {
                    return refuse(format!("Resource {name} depends_on must be a list of strings"));
                }
            }
        }
        Some(_) => {
            return refuse(format!("Resource {name} depends_on type must be list or string"));
        }
    };
    let deletion_policy = match body.get("deletion_policy") {
        None | Some(Value::Null) => DeletionPolicy::Delete,
        Some(Value::String(policy)) => match policy.as_str() {
            "Delete" | "delete" | "Snapshot" | "snapshot" => DeletionPolicy::Delete,
            "Retain" | "retain" => DeletionPolicy::Retain,
            other => return refuse(format!("Invalid deletion policy \"{other}\"")),
        },
        Some(_) => return refuse(format!("Resource {name} deletion_policy type must be string")),
    };
    let update_policy = object("update_policy")?;
    drop(update_policy); // Rolling updates are not simulated; the keyword is.
    let description = match body.get("description") {
        None => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(_) => return refuse(format!("Resource {name} description type must be string")),
    };
    let external_id = match body.get("external_id") {
        None | Some(Value::Null) => None,
        Some(Value::String(id)) => Some(id.clone()),
        Some(_) => return refuse(format!("Resource {name} external_id type must be string")),
    };
    Ok(Definition {
        name: name.to_owned(),
        kind,
        properties: object("properties")?,
        metadata: object("metadata")?,
        depends_on,
        deletion_policy,
        description,
        condition: body.get("condition").filter(|c| !c.is_null()).cloned(),
        external_id,
    })
}

fn output(name: &str, body: &Value) -> Result<Output, Refusal> {
    let refuse = |message: String| {
        let invalid = Invalid::new(message).within(&["outputs", name]);
        Err(Refusal::from(invalid.titled("Output validation error")))
    };
    let Value::Object(body) = body else {
        let found = py_type(body);
        return refuse(format!("Output definitions must be a map. Found a {found} instead"));
    };
    let Some(value) = body.get("value") else {
        return refuse("Each output definition must contain a value key.".to_owned());
    };
    let description = body.get("description").filter(|d| !d.is_null()).map(|d| match d {
        Value::String(text) => text.clone(),
        other => py_repr(other),
    });
    Ok(Output {
        name: name.to_owned(),
        description,
        value: value.clone(),
        condition: body.get("condition").filter(|c| !c.is_null()).cloned(),
    })
}
