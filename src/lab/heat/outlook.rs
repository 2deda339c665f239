//! What functions see while a stack is alive: ids of real things, and their attributes.

use serde_json::{Map, Value, json};

use super::environment::Target;
use super::functions::{Scope, select};
use super::refusal::Refusal;
use super::services::Services;
use super::stack::{Action, Resource, Stack, World};
use super::template::Version;
use super::text::py_json;

/// One stack's view of itself.
pub struct Outlook<'o> {
    pub services: &'o dyn Services,
    pub world: &'o World,
    pub stack: &'o Stack,
}

impl Outlook<'_> {
    fn resource(&self, name: &str) -> Result<&Resource, String> {
        let found = self.stack.resources.get(name);
        found.ok_or_else(|| Refusal::reference(name, "unknown").message)
    }

    fn inner<'s>(&'s self, stack: &'s Stack) -> Outlook<'s> {
        Outlook { services: self.services, world: self.world, stack }
    }

    /// What `get_resource` gives for a resource.
    pub fn reference_of(&self, resource: &Resource) -> Value {
        let Some(physical) = &resource.physical else {
            return json!(resource.name);
        };
        match &resource.target {
            Target::Builtin(kind) => match kind.as_str() {
                "OS::Heat::RandomString" => resource.data["value"].clone(),
                "OS::Heat::ResourceGroup" => json!(self.arn(physical)),
                _ => json!(physical),
            },
            // A template may say which of its resources it stands for.
            Target::Template(_) => match self.world.stacks.get(physical) {
                Some(nested) if nested.plan.outputs.iter().any(|o| o.name == "OS::stack_id") => {
                    self.inner(nested).output("OS::stack_id").unwrap_or(Value::Null)
                }
                _ => json!(self.arn(physical)),
            },
        }
    }

    fn arn(&self, id: &str) -> String {
        let name = self.world.stacks.get(id).map_or("", |s| s.identity.name.as_str());
        format!("arn:openstack:heat::{}:stacks/{name}/{id}", self.stack.identity.project)
    }

    /// An output's value now.
    pub fn output(&self, name: &str) -> Result<Value, String> {
        match self.stack.plan.outputs.iter().find(|o| o.name == name) {
            Some(output) => super::functions::resolve(self, &output.value),
            None => Err(format!("The Output ({name}) could not be found.")),
        }
    }

    /// One attribute with its path. Whatever is not there yet is nothing.
    pub fn attribute_of(
        &self,
        resource: &Resource,
        attribute: &str,
        path: &[Value],
    ) -> Result<Value, String> {
        if resource.action == Action::Init || resource.action == Action::Delete {
            return Ok(Value::Null);
        }
        let Some(physical) = &resource.physical else { return Ok(Value::Null) };
        let value = match &resource.target {
            Target::Template(_) => match self.world.stacks.get(physical) {
                Some(nested) => self.of_template(nested, resource, attribute)?,
                None => Value::Null,
            },
            Target::Builtin(kind) if kind == "OS::Heat::ResourceGroup" => {
                return match self.world.stacks.get(physical) {
                    Some(nested) => self.of_group(nested, resource, attribute, path),
                    None => Ok(Value::Null),
                };
            }
            Target::Builtin(kind) => match (kind.as_str(), attribute) {
                ("OS::Heat::Value" | "OS::Heat::RandomString", "value") => {
                    resource.data["value"].clone()
                }
                ("OS::Heat::WaitCondition", "data") => self.signals(resource),
                ("OS::Heat::WaitConditionHandle", "curl_cli") => json!(format!(
                    "curl -i -X POST -H 'X-Auth-Token: lab' -H 'Content-Type: application/json' \
                     -H 'Accept: application/json' {}",
                    self.signal_path(resource)
                )),
                ("OS::Heat::WaitConditionHandle", "endpoint") => json!(self.signal_path(resource)),
                (kind, _) if kind.starts_with("OS::Heat::SoftwareDeployment") => {
                    resource.data["signal"][attribute].clone()
                }
                (kind, _) if kind.starts_with("OS::Heat::") => {
                    resource.properties.get(attribute).cloned().unwrap_or(Value::Null)
                }
                (kind, _) => {
                    self.services.attribute(kind, physical, attribute).unwrap_or(Value::Null)
                }
            },
        };
        Ok(select(value, path))
    }

    fn signal_path(&self, resource: &Resource) -> String {
        let identity = &self.stack.identity;
        format!(
            "/v1/{}/stacks/{}/{}/resources/{}/signal",
            identity.project, identity.name, identity.id, resource.name
        )
    }

    /// The handle that a wait condition waits for.
    pub fn handle(&self, condition: &Resource) -> Option<&Resource> {
        let handle = condition.properties.get("handle")?.as_str()?;
        self.stack.resources.values().find(|r| r.physical.as_deref() == Some(handle))
    }

    fn signals(&self, condition: &Resource) -> Value {
        let signals = self.handle(condition).and_then(|h| h.data["signals"].as_object());
        let data: Map<String, Value> = signals
            .into_iter()
            .flatten()
            .map(|(id, signal)| (id.clone(), signal["data"].clone()))
            .collect();
        json!(py_json(&Value::Object(data)))
    }

    fn of_template(
        &self,
        nested: &Stack,
        resource: &Resource,
        attribute: &str,
    ) -> Result<Value, String> {
        let inner = self.inner(nested);
        if let Some(rest) = attribute.strip_prefix("resource.") {
            return inner.member(rest, &[]);
        }
        if nested.plan.outputs.iter().any(|o| o.name == attribute) {
            return inner.output(attribute);
        }
        if attribute == "show" {
            return Ok(Value::Null);
        }
        let name = &resource.name;
        Err(format!("The Referenced Attribute ({name} {attribute}) is incorrect."))
    }

    /// `resource.<name>` or `resource.<name>.<attribute>` without the first word.
    fn member(&self, rest: &str, path: &[Value]) -> Result<Value, String> {
        let (name, attribute) = match rest.split_once('.') {
            Some((name, attribute)) => (name, Some(attribute)),
            None => (rest, None),
        };
        let Some(member) = self.stack.resources.get(name) else {
            return Err(format!("Member '{name}' not found in group resource."));
        };
        match attribute {
            None => Ok(self.reference_of(member)),
            Some(attribute) => self.attribute_of(member, attribute, path),
        }
    }

    fn of_group(
        &self,
        nested: &Stack,
        resource: &Resource,
        attribute: &str,
        path: &[Value],
    ) -> Result<Value, String> {
        let inner = self.inner(nested);
        if let Some(rest) = attribute.strip_prefix("resource.") {
            return inner.member(rest, path);
        }
        let mut members: Vec<&Resource> = nested.resources.values().collect();
        members.sort_by_key(|m| m.name.parse::<u64>().unwrap_or(u64::MAX));
        let each = |attribute: &str, path: &[Value]| {
            members
                .iter()
                .map(|m| Ok((m.name.clone(), inner.attribute_of(m, attribute, path)?)))
                .collect::<Result<Vec<(String, Value)>, String>>()
        };
        match attribute {
            "refs" => {
                let refs: Vec<Value> = members.iter().map(|m| inner.reference_of(m)).collect();
                Ok(select(Value::Array(refs), path))
            }
            "refs_map" => {
                let map: Map<String, Value> =
                    members.iter().map(|m| (m.name.clone(), inner.reference_of(m))).collect();
                Ok(select(Value::Object(map), path))
            }
            "removed_rsrc_list" => Ok(resource.data["removed"].clone()),
            "attributes" => match path.split_first() {
                Some((Value::String(attribute), path)) => {
                    Ok(Value::Object(each(attribute, path)?.into_iter().collect()))
                }
                _ => {
                    let name = &resource.name;
                    Err(format!("The Referenced Attribute ({name} attributes) is incorrect."))
                }
            },
            "show" => Ok(Value::Null),
            attribute => {
                Ok(each(attribute, path)?.into_iter().map(|(_, v)| v).collect::<Vec<_>>().into())
            }
        }
    }
}

impl Scope for Outlook<'_> {
    fn version(&self) -> Version {
        self.stack.plan.template.version
    }

    fn parameter(&self, name: &str) -> Result<Value, String> {
        self.stack.plan.parameters.get(name)
    }

    fn reference(&self, name: &str) -> Result<Value, String> {
        self.resource(name).map(|resource| self.reference_of(resource))
    }

    fn attribute(&self, name: &str, attribute: Option<&str>) -> Result<Value, String> {
        let resource = self.resource(name)?;
        match attribute {
            Some(attribute) => self.attribute_of(resource, attribute, &[]),
            None => Ok(self.all(resource)),
        }
    }

    fn attribute_at(&self, name: &str, attribute: &str, path: &[Value]) -> Result<Value, String> {
        self.attribute_of(self.resource(name)?, attribute, path)
    }

    fn file(&self, name: &str) -> Option<String> {
        self.stack.plan.files.get(name).cloned()
    }

    fn condition(&self, name: &str) -> Result<bool, String> {
        self.stack.plan.condition(name)
    }
}

impl Outlook<'_> {
    /// Every attribute of a resource, as `GET …/resources/{name}` shows them.
    pub fn all(&self, resource: &Resource) -> Value {
        let names: Vec<String> = match &resource.target {
            Target::Builtin(kind) if kind == "OS::Heat::ResourceGroup" => {
                vec!["refs".to_owned(), "refs_map".to_owned(), "removed_rsrc_list".to_owned()]
            }
            Target::Builtin(kind) => {
                if let Some(show @ Value::Object(_)) = resource
                    .physical
                    .as_ref()
                    .filter(|_| !super::validate::is_own(kind))
                    .and_then(|id| self.services.attribute(kind, id, "show"))
                {
                    return show;
                }
                let schema = super::schema::kind(kind);
                schema.map(|s| s.attributes.clone()).unwrap_or_default()
            }
            Target::Template(_) => {
                let nested = self.world.nested(resource);
                nested.map_or_else(Vec::new, |n| {
                    n.plan.outputs.iter().map(|o| o.name.clone()).collect()
                })
            }
        };
        let value = |name: &String| self.attribute_of(resource, name, &[]).unwrap_or(Value::Null);
        let map: Map<String, Value> =
            names.iter().filter(|n| *n != "show").map(|n| (n.clone(), value(n))).collect();
        Value::Object(map)
    }
}
