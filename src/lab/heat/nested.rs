//! Stacks within stacks: groups, and resources whose type is a template.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::engine::Engine;
use super::environment::Target;
use super::failure::Failure;
use super::group::Group;
use super::outlook::Outlook;
use super::plan::{Identity, Plan};
use super::refusal::Refusal;
use super::services::Services;
use super::stack::{Action, Stack, Status, World};
use super::template::{RESOURCE_LIMIT, Template};
use super::validate::{Check, NESTING, nested_template};

impl<S: Services> Engine<S> {
    /// Makes the stack behind a resource.
    pub fn make_nested(
        &self,
        world: &mut World,
        stack: &mut Stack,
        name: &str,
        properties: Map<String, Value>,
    ) -> Result<(), Failure> {
        let identity = Identity {
            name: self.physical_name(stack, name),
            id: self.entropy.uuid().to_string(),
            project: stack.identity.project.clone(),
        };
        let plan = self.nested_plan(world, stack, name, &identity, properties)?;
        let mut child = self.child(stack, name, identity.clone(), plan);
        let plan = Arc::clone(&child.plan);
        self.begin(&mut child, plan, Action::Create);
        child.deadline = stack.deadline;
        world.stacks.insert(identity.id.clone(), child);
        let resource = stack.resources.get_mut(name).expect("a nested resource is there");
        resource.physical = Some(identity.id);
        Ok(())
    }

    /// Brings the stack behind a resource in line with new properties.
    pub fn change_nested(
        &self,
        world: &mut World,
        stack: &mut Stack,
        name: &str,
        properties: Map<String, Value>,
    ) -> Result<(), Failure> {
        let resource = &stack.resources[name];
        let id = resource.physical.clone().unwrap_or_default();
        let Some(identity) = world.stacks.get(&id).map(|s| s.identity.clone()) else {
            return Err(Failure::of(resource, "NotFound", "the nested stack is gone"));
        };
        self.skip_removed(world, stack, name, &properties);
        let plan = self.nested_plan(world, stack, name, &identity, properties.clone())?;
        let resource = stack.resources.get_mut(name).expect("a nested resource is there");
        resource.properties = properties;
        self.set(stack, name, (Action::Update, Status::InProgress), "state changed");
        if let Some(child) = world.stacks.get_mut(&id) {
            child.timeout_minutes = stack.timeout_minutes;
            self.begin(child, Arc::new(plan), Action::Update);
            child.deadline = stack.deadline;
        }
        Ok(())
    }

    /// Members that removal policies name are never made again.
    fn skip_removed(
        &self,
        world: &World,
        stack: &mut Stack,
        name: &str,
        properties: &Map<String, Value>,
    ) {
        let resource = &stack.resources[name];
        if !matches!(&resource.target, Target::Builtin(kind) if kind == "OS::Heat::ResourceGroup") {
            return;
        }
        let members: Map<String, Value> = match world.nested(resource) {
            Some(nested) => {
                let outlook = Outlook { services: &*self.services, world, stack: nested };
                let one = |r| outlook.reference_of(r);
                nested.resources.values().map(|r| (r.name.clone(), one(r))).collect()
            }
            None => Map::new(),
        };
        let group = Group::of(properties);
        let mut removed: Vec<String> = match &resource.data["removed"] {
            Value::Array(before) if !group.replaces_removals() => {
                before.iter().filter_map(|v| v.as_str().map(str::to_owned)).collect()
            }
            _ => Vec::new(),
        };
        for name in group.removals(&members) {
            if !removed.contains(&name) {
                removed.push(name);
            }
        }
        if let Some(resource) = stack.resources.get_mut(name) {
            resource.data = json!({"removed": removed});
        }
    }

    fn nested_plan(
        &self,
        world: &World,
        stack: &Stack,
        name: &str,
        identity: &Identity,
        properties: Map<String, Value>,
    ) -> Result<Plan, Failure> {
        let resource = &stack.resources[name];
        let fail = |e: Refusal| Failure::of(resource, &e.kind, &e.message);
        let (template, values) = self.inside(stack, name, properties).map_err(fail)?;
        if stack.depth >= NESTING {
            return Err(fail(Refusal::limit(format!("Recursion depth exceeds {NESTING}."))));
        }
        let of_tree =
            world.stacks.values().filter(|s| s.root == stack.root && s.id() != identity.id);
        let others: usize = of_tree.map(|s| s.plan.definitions.len()).sum();
        if others + world.held + template.resources.len() > RESOURCE_LIMIT {
            return Err(fail(Refusal::limit("Maximum resources per stack exceeded.")));
        }
        let lookup = |kind: &str, name: &str| self.services.exists(&stack.owner, kind, name);
        let plan = Plan::new(
            Arc::new(template),
            Arc::clone(&stack.plan.files),
            Arc::new(stack.plan.environment.nested(values)),
            identity,
            true,
            &lookup,
        )
        .map_err(fail)?;
        let services = &*self.services;
        let check = Check { services, lookup: &lookup, strict: true, depth: stack.depth + 1 };
        check.plan(&plan).map_err(fail)?;
        Ok(plan)
    }

    fn inside(
        &self,
        stack: &Stack,
        name: &str,
        properties: Map<String, Value>,
    ) -> Result<(Template, Map<String, Value>), Refusal> {
        let resource = &stack.resources[name];
        match &resource.target {
            Target::Template(file) => Ok((nested_template(&stack.plan, file)?, properties)),
            Target::Builtin(_) => {
                let group = Group::of(&properties);
                let removed = resource.data["removed"].as_array().into_iter().flatten();
                let removed: Vec<String> =
                    removed.filter_map(|v| v.as_str().map(str::to_owned)).collect();
                Ok((group.template(&group.names(&removed))?, Map::new()))
            }
        }
    }
}
