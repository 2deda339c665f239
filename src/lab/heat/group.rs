//! `OS::Heat::ResourceGroup`: many resources from one definition, in a stack of their own.

use serde_json::{Map, Value, json};

use super::refusal::Refusal;
use super::template::Template;

/// A group's properties, resolved.
#[derive(Debug)]
pub struct Group<'g> {
    properties: &'g Map<String, Value>,
}

impl<'g> Group<'g> {
    pub fn of(properties: &'g Map<String, Value>) -> Self {
        Self { properties }
    }

    pub fn count(&self) -> usize {
        self.properties.get("count").and_then(Value::as_u64).map_or(1, |n| n as usize)
    }

    /// Names of the members: the lowest numbers that were never removed.
    pub fn names(&self, skipped: &[String]) -> Vec<String> {
        // Heat's limit of a thousand resources is checked later; a count of a billion must not
        // cost memory before.
        let wanted = self.count().min(super::template::RESOURCE_LIMIT + 1);
        let all = (0u64..).map(|n| n.to_string());
        all.filter(|name| !skipped.contains(name)).take(wanted).collect()
    }

    /// What `removal_policies` asks to be removed: names, indices or physical ids.
    pub fn removals(&self, members: &Map<String, Value>) -> Vec<String> {
        let policies = self.properties.get("removal_policies").and_then(Value::as_array);
        let listed = policies.into_iter().flatten().flat_map(|policy| {
            policy.get("resource_list").and_then(Value::as_array).into_iter().flatten()
        });
        listed
            .filter_map(|entry| {
                let text = match entry {
                    Value::String(text) => text.clone(),
                    Value::Number(number) => number.to_string(),
                    _ => return None,
                };
                if members.contains_key(&text) || members.is_empty() {
                    return Some(text);
                }
                members.iter().find(|(_, id)| id.as_str() == Some(&text)).map(|(n, _)| n.clone())
            })
            .collect()
    }

    pub fn replaces_removals(&self) -> bool {
        self.properties.get("removal_policies_mode") == Some(&json!("update"))
    }

    /// The template of the members' stack.
    pub fn template(&self, names: &[String]) -> Result<Template, Refusal> {
        let variable = match self.properties.get("index_var") {
            Some(Value::String(variable)) if !variable.is_empty() => variable.as_str(),
            _ => "%index%",
        };
        let definition = self.properties.get("resource_def").cloned().unwrap_or(Value::Null);
        let mut resources = Map::new();
        for name in names {
            let mut member = json!({"type": definition["type"]});
            for key in ["properties", "metadata"] {
                if let Some(Value::Object(map)) = definition.get(key) {
                    let clean: Map<String, Value> = map
                        .iter()
                        .filter(|(_, value)| !value.is_null())
                        .map(|(k, v)| (k.clone(), v.clone()))
                        .collect();
                    let value = Value::Object(clean);
                    // Metadata is passed on as it is.
                    member[key] =
                        if key == "properties" { index(&value, variable, name) } else { value };
                }
            }
            resources.insert(name.clone(), member);
        }
        let references: Map<String, Value> =
            names.iter().map(|name| (name.clone(), json!({"get_resource": name}))).collect();
        let raw = json!({
            "heat_template_version": "2015-04-30",
            "resources": resources,
            "outputs": {"refs_map": {"value": references}},
        });
        Template::read(raw)
    }
}

fn index(value: &Value, variable: &str, name: &str) -> Value {
    match value {
        Value::String(text) => Value::String(text.replace(variable, name)),
        Value::Array(items) => {
            items.iter().map(|v| index(v, variable, name)).collect::<Vec<_>>().into()
        }
        Value::Object(map) => map
            .iter()
            .map(|(key, v)| (key.clone(), index(v, variable, name)))
            .collect::<Map<_, _>>()
            .into(),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn properties(value: Value) -> Map<String, Value> {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn members_are_numbered_and_removed_numbers_never_return() {
        let given = properties(json!({
            "count": 3,
            "resource_def": {"type": "OS::Neutron::Net",
                             "properties": {"name": "n-%index%", "tags": ["%index%"], "x": null}},
        }));
        let group = Group::of(&given);
        assert_eq!(group.names(&["1".to_owned()]), ["0", "2", "3"]);
        let template = group.template(&group.names(&[])).unwrap();
        let member = &template.resources[2];
        assert_eq!(member.name, "2");
        assert_eq!(member.properties, json!({"name": "n-2", "tags": ["2"]}));
    }

    #[test]
    fn removals_are_found_by_index_name_or_id() {
        let given = properties(json!({
            "removal_policies": [{"resource_list": [1, "uuid-2", "nobody"]}],
        }));
        let members = properties(json!({"0": "uuid-0", "1": "uuid-1", "2": "uuid-2"}));
        assert_eq!(Group::of(&given).removals(&members), ["1", "2"]);
    }
}
