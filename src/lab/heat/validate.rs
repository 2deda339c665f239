//! What Heat checks before it makes anything: types, properties, attributes, nested templates.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::constraint::Lookup;
use super::environment::Target;
use super::functions;
use super::graph;
use super::group;
use super::plan::{Identity, Plan, Values};
use super::refusal::{Invalid, Refusal};
use super::schema::{self, Depth, Property};
use super::services::Services;
use super::template::{Definition, Template};
use super::text;

/// Heat's `max_nested_stack_depth`.
pub const NESTING: usize = 5;

/// Types that live in Heat itself, behind which there is no service.
pub fn is_own(kind: &str) -> bool {
    kind.starts_with("OS::Heat::")
}

/// Everything checkable about a plan. `strict` looks at values as well, as creation does;
/// `POST validate` and nested stacks look at names only.
pub struct Check<'c> {
    pub services: &'c dyn Services,
    pub lookup: Lookup<'c>,
    pub strict: bool,
    pub depth: usize,
}

impl Check<'_> {
    pub fn plan(&self, plan: &Plan) -> Result<(), Refusal> {
        for definition in plan.definitions.values() {
            let name = definition.name.as_str();
            let within = |e: Invalid| e.within(&["resources", name, "properties"]);
            self.attributes(plan, &definition.properties).map_err(within)?;
            match plan.environment.target(&definition.kind, &plan.files)? {
                Target::Builtin(kind) => self.builtin(plan, definition, &kind)?,
                Target::Template(file) => self.template(plan, definition, &file)?,
            }
        }
        for output in &plan.outputs {
            let within = |e: Invalid| e.within(&["outputs", &output.name, "value"]);
            for reference in graph::references(plan.template.version, &output.value) {
                if reference.is_attribute && !plan.definitions.contains_key(&reference.name) {
                    let sentence = Refusal::reference(&reference.name, "unknown").message;
                    let path: Vec<&str> = reference.path.iter().map(String::as_str).collect();
                    let invalid = Invalid::new(sentence).within(&["get_attr"]).within(&path);
                    return Err(within(invalid).into());
                }
            }
            self.attributes(plan, &output.value).map_err(within)?;
        }
        Ok(())
    }

    /// Attributes that a type does not have. Groups and templates decide that for themselves.
    fn attributes(&self, plan: &Plan, value: &Value) -> Result<(), Invalid> {
        for reference in graph::references(plan.template.version, value) {
            let (Some(attribute), Some(of)) =
                (&reference.attribute, plan.definitions.get(&reference.name))
            else {
                continue;
            };
            let Ok(Target::Builtin(kind)) = plan.environment.target(&of.kind, &plan.files) else {
                continue;
            };
            let open = ["OS::Heat::ResourceGroup", "OS::Heat::None", "OS::Heat::Stack"];
            if open.contains(&kind.as_str()) || kind.contains("SoftwareDeployment") {
                continue;
            }
            let schema = schema::kind(&kind).expect("a built-in type has a schema");
            if !schema.attributes.contains(attribute) {
                let path: Vec<&str> = reference.path.iter().map(String::as_str).collect();
                let name = &reference.name;
                let sentence =
                    format!("The Referenced Attribute ({name} {attribute}) is incorrect.");
                return Err(Invalid::new(sentence).within(&["get_attr"]).within(&path));
            }
        }
        Ok(())
    }

    fn builtin(&self, plan: &Plan, definition: &Definition, kind: &str) -> Result<(), Refusal> {
        if !is_own(kind) && !self.services.has_kind(kind) {
            let service = match kind.split("::").nth(1).unwrap_or_default() {
                "Octavia" => "octavia load-balancer",
                "Cinder" => "cinder volumev3",
                "Barbican" => "barbican key-manager",
                "Nova" => "nova compute",
                _ => "neutron network",
            };
            let client = service.split(' ').next().unwrap_or_default();
            return Err(Refusal::new(
                "ResourceTypeUnavailable",
                format!(
                    "HEAT-E99001 Service {client} is not available for resource type {kind}, \
                     reason: {service} endpoint is not in service catalog."
                ),
            ));
        }
        let name = definition.name.as_str();
        let schema = schema::kind(kind).expect("a built-in type has a schema");
        let values = self.properties(plan, definition, &schema.properties)?;
        let Some(values) = values else { return Ok(()) };
        if kind == "OS::Nova::Server" {
            schema::server(name, &values).map_err(|e| e.within(&[]))?;
        }
        if kind == "OS::Heat::ResourceGroup" && values["count"].as_i64() != Some(0) {
            let group = group::Group::of(&values);
            let template =
                group.template(&group.names(&[]).into_iter().take(1).collect::<Vec<_>>());
            return template
                .and_then(|t| self.nested(plan, t, Map::new()))
                .map_err(|e| e.within(&["resources", &format!("{name}<nested_stack>")]));
        }
        Ok(())
    }

    fn template(&self, plan: &Plan, definition: &Definition, file: &str) -> Result<(), Refusal> {
        let name = format!("{}<{file}>", definition.name);
        let around = |e: Refusal| e.within(&["resources", &name]);
        let inner = nested_template(plan, file).map_err(around)?;
        let properties = schema::of_parameters(&inner.parameters, &plan.environment.defaults);
        let values = self.properties(plan, definition, &properties)?;
        match values {
            Some(values) => self.nested(plan, inner, values).map_err(around),
            None => Ok(()),
        }
    }

    fn nested(
        &self,
        plan: &Plan,
        template: Template,
        values: Map<String, Value>,
    ) -> Result<(), Refusal> {
        if self.depth >= NESTING {
            return Err(Refusal::limit(format!("Recursion depth exceeds {NESTING}.")));
        }
        let identity =
            Identity { name: "nested".into(), id: String::new(), project: String::new() };
        let inner = Plan::new(
            Arc::new(template),
            Arc::clone(&plan.files),
            Arc::new(plan.environment.nested(values)),
            &identity,
            false,
            self.lookup,
        )?;
        let check = Check { strict: false, depth: self.depth + 1, ..*self };
        check.plan(&inner)
    }

    /// The properties' values when this check looks at values.
    fn properties(
        &self,
        plan: &Plan,
        definition: &Definition,
        schema: &std::collections::BTreeMap<String, Property>,
    ) -> Result<Option<Map<String, Value>>, Refusal> {
        let empty = Map::new();
        let given = definition.properties.as_object().unwrap_or(&empty);
        let within = |e: Invalid| {
            let titled = if e.error.is_none() { e.titled("Property error") } else { e };
            Refusal::from(titled.within(&["resources", &definition.name, "properties"]))
        };
        // A mapping that a function makes is known only when it is made.
        if functions::call(plan.template.version, &definition.properties).is_some() {
            return Ok(None);
        }
        schema::unknown(schema, given).map_err(within)?;
        if !self.strict {
            return Ok(None);
        }
        let mut values = Map::new();
        for (name, property) in schema {
            let raw = given.get(name);
            let open = raw.is_some_and(|v| !graph::references(plan.template.version, v).is_empty());
            let depth = Depth { constraints: !open, lookup: self.lookup };
            let value = match raw.map(|v| functions::resolve(&Values(plan), v)).transpose() {
                Ok(value) => {
                    schema::property(name, property, value.as_ref(), depth).map_err(within)?
                }
                Err(message) => return Err(within(Invalid::new(message).within(&[name]))),
            };
            values.extend(value.map(|value| (name.clone(), value)));
        }
        Ok(Some(values))
    }
}

/// The template a resource's type names.
pub fn nested_template(plan: &Plan, file: &str) -> Result<Template, Refusal> {
    let Some(source) = plan.files.get(file) else {
        return Err(Refusal::new(
            "NotFound",
            format!("Could not fetch remote template \"{file}\""),
        ));
    };
    let raw = text::parse_template(source).map_err(|e| Refusal::new("ValueError", e.message))?;
    Template::read(raw)
}
