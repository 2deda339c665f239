//! How stacks, resources and events look in answers.

use serde_json::{Value, json};

use super::outlook::Outlook;
use super::plan::Identity;
use super::services::Services;
use super::stack::{Event, Resource, Stack, World};
use crate::base::clock::Timestamp;

/// Percent-encoding as in Heat's links: nothing but the unreserved survives.
pub fn quote(text: &str) -> String {
    use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
    const SET: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');
    utf8_percent_encode(text, SET).to_string()
}

/// Dates as Heat prints them: whole seconds, UTC.
pub fn date(at: Timestamp) -> Value {
    let text = at.to_string();
    json!(format!("{}Z", text.get(..19).unwrap_or(&text)))
}

/// Builds answers for one request: links are absolute.
pub struct View<'v> {
    pub base: &'v str,
    pub world: &'v World,
    pub services: &'v dyn Services,
}

impl View<'_> {
    pub fn url(&self, identity: &Identity) -> String {
        let Identity { name, id, project } = identity;
        format!("{}/v1/{}/stacks/{}/{}", self.base, quote(project), quote(name), quote(id))
    }

    fn resource_url(&self, stack: &Stack, resource: &str) -> String {
        format!("{}/resources/{}", self.url(&stack.identity), quote(resource))
    }

    pub fn outlook<'o>(&'o self, stack: &'o Stack) -> Outlook<'o> {
        Outlook { services: self.services, world: self.world, stack }
    }

    /// As in lists.
    pub fn summary(&self, stack: &Stack) -> Value {
        json!({
            "id": stack.id(),
            "links": [{"href": self.url(&stack.identity), "rel": "self"}],
            "stack_name": stack.identity.name,
            "description": "",
            "stack_status": stack.state(),
            "stack_status_reason": stack.reason,
            "creation_time": date(stack.created),
            "updated_time": stack.updated.map(date),
            "deletion_time": stack.deleted.map(date),
            "stack_owner": stack.username,
            "parent": stack.parent.as_ref().map(|p| &p.stack),
            "stack_user_project_id": format!("{}-users", stack.root),
            "tags": tags(stack),
        })
    }

    /// A single stack in full.
    pub fn stack(&self, stack: &Stack, resolve_outputs: bool) -> Value {
        let mut out = self.summary(stack);
        let description = &stack.plan.template.description;
        out["description"] = json!(description);
        out["template_description"] = json!(description);
        out["parameters"] = Value::Object(stack.plan.parameters.shown());
        out["notification_topics"] = json!([]);
        out["capabilities"] = json!([]);
        out["disable_rollback"] = json!(stack.disable_rollback);
        out["timeout_mins"] = json!(stack.timeout_minutes);
        if resolve_outputs && !stack.is_gone() {
            let names = stack.plan.outputs.iter().map(|o| o.name.as_str());
            out["outputs"] = names.map(|name| self.output(stack, name, true)).collect();
        }
        out
    }

    /// One output, with its value or the reason there is none.
    pub fn output(&self, stack: &Stack, name: &str, resolve: bool) -> Value {
        let found = stack.plan.outputs.iter().find(|o| o.name == name);
        let description = found.and_then(|o| o.description.as_deref());
        let mut out = json!({
            "output_key": name,
            "description": description.unwrap_or("No description given"),
        });
        if resolve {
            match self.outlook(stack).output(name) {
                Ok(value) => out["output_value"] = value,
                Err(error) => {
                    out["output_error"] = json!(error);
                    out["output_value"] = Value::Null;
                }
            }
        }
        out
    }

    pub fn resource(&self, stack: &Stack, resource: &Resource, detail: bool) -> Value {
        let mut links = vec![
            json!({"href": self.resource_url(stack, &resource.name), "rel": "self"}),
            json!({"href": self.url(&stack.identity), "rel": "stack"}),
        ];
        if let Some(nested) = self.world.nested(resource) {
            links.push(json!({"href": self.url(&nested.identity), "rel": "nested"}));
        }
        let required_by: Vec<&str> = stack
            .plan
            .requires
            .iter()
            .filter(|(_, needs)| needs.contains(&resource.name))
            .map(|(name, _)| name.as_str())
            .collect();
        let mut out = json!({
            "updated_time": date(resource.updated),
            "creation_time": date(resource.created),
            "logical_resource_id": resource.name,
            "resource_name": resource.name,
            "physical_resource_id": resource.physical.as_deref().unwrap_or_default(),
            "resource_status": resource.state(),
            "resource_status_reason": resource.reason,
            "resource_type": resource.kind,
            "links": links,
            "required_by": required_by,
        });
        if let Some(parent) = &stack.parent {
            out["parent_resource"] = json!(parent.resource);
        }
        if detail {
            out["description"] = json!(resource.description);
            out["attributes"] = self.outlook(stack).all(resource);
        }
        out
    }

    /// A stack's resources, and those of stacks below it down to a depth.
    pub fn resources(&self, stack: &Stack, depth: u64, detail: bool) -> Vec<Value> {
        let all: Vec<&Resource> = stack.resources.values().chain(&stack.retired).collect();
        let mut out: Vec<Value> = all.iter().map(|r| self.resource(stack, r, detail)).collect();
        if depth > 0 {
            for nested in all.iter().filter_map(|r| self.world.nested(r)) {
                out.extend(self.resources(nested, depth - 1, detail));
            }
        }
        out
    }

    pub fn event(&self, stack: &Stack, event: &Event, detail: bool) -> Value {
        let resource = self.resource_url(stack, &event.resource);
        let mut out = json!({
            "id": event.id,
            "event_time": date(event.at),
            "logical_resource_id": event.resource,
            "resource_name": event.resource,
            "physical_resource_id": event.physical,
            "resource_status": event.state,
            "resource_status_reason": event.reason,
            "links": [
                {"href": format!("{resource}/events/{}", event.id), "rel": "self"},
                {"href": resource, "rel": "resource"},
                {"href": self.url(&stack.identity), "rel": "stack"},
            ],
        });
        if detail {
            out["resource_type"] = json!(event.kind);
            out["resource_properties"] = json!({});
        }
        out
    }
}

fn tags(stack: &Stack) -> Value {
    if stack.tags.is_empty() { Value::Null } else { json!(stack.tags) }
}
