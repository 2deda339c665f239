//! One step of a stack towards its goal: look at what is being made, begin what can begin.

use serde_json::{Map, Value};

use super::engine::Engine;
use super::environment::Target;
use super::failure::Failure;
use super::functions;
use super::outlook::Outlook;
use super::schema::{self, Depth};
use super::services::{Services, State};
use super::stack::{Action, Resource, Stack, Status, World};
use super::validate::{is_own, nested_template};

impl<S: Services> Engine<S> {
    /// Moves a stack and everything below it; true when something changed.
    pub fn advance(&self, world: &mut World, id: &str) -> bool {
        let Some(mut stack) = world.stacks.remove(id) else { return false };
        world.held += stack.plan.definitions.len();
        let moved = self.step(world, &mut stack);
        world.held -= stack.plan.definitions.len().min(world.held);
        world.stacks.insert(id.to_owned(), stack);
        moved
    }

    fn step(&self, world: &mut World, stack: &mut Stack) -> bool {
        let mut moved = false;
        let children: Vec<String> = stack
            .resources
            .values()
            .chain(&stack.retired)
            .filter(|r| r.is_nested())
            .filter_map(|r| r.physical.clone())
            .collect();
        for child in children {
            moved |= self.advance(world, &child);
        }
        if !stack.in_progress() {
            return moved;
        }
        if self.now() > stack.deadline {
            self.time_out(world, stack);
            return true;
        }
        let step = match stack.action {
            Action::Delete => self.clear(world, stack),
            _ => self.build(world, stack),
        };
        match step {
            Ok(more) => moved | more,
            Err(failure) => {
                self.fail(world, stack, failure);
                true
            }
        }
    }

    fn build(&self, world: &mut World, stack: &mut Stack) -> Result<bool, Failure> {
        let mut moved = false;
        let running: Vec<String> = stack
            .resources
            .values()
            .filter(|r| r.status == Status::InProgress)
            .map(|r| r.name.clone())
            .collect();
        for name in running {
            if self.look(world, stack, &name)? {
                let action = stack.resources[&name].action;
                stack.resources.get_mut(&name).expect("it was just there").before = None;
                self.set(stack, &name, (action, Status::Complete), "state changed");
                moved = true;
            }
        }
        let ready: Vec<String> = stack
            .resources
            .values()
            .filter(|r| r.due && r.status != Status::InProgress)
            .filter(|r| {
                let needs = stack.plan.requires.get(&r.name).into_iter().flatten();
                needs
                    .filter_map(|n| stack.resources.get(n))
                    .all(|n| !n.due && n.status == Status::Complete)
            })
            .map(|r| r.name.clone())
            .collect();
        // What is ready begins side by side; a failure does not hold back its neighbours.
        let mut failure = Ok(());
        for name in ready {
            failure = failure.and(self.start(world, stack, &name));
            moved = true;
        }
        failure?;
        if stack.resources.values().any(|r| r.due || r.status == Status::InProgress) {
            return Ok(moved);
        }
        if !stack.retired.is_empty() {
            return Ok(self.clear(world, stack)? | moved);
        }
        let reason = format!("Stack {} completed successfully", stack.action);
        stack.set(Status::Complete, reason, self.now(), &self.entropy);
        Ok(true)
    }

    /// Whether a resource is ready; what went wrong otherwise.
    fn look(&self, world: &World, stack: &Stack, name: &str) -> Result<bool, Failure> {
        let resource = &stack.resources[name];
        let Some(physical) = &resource.physical else { return Ok(true) };
        if resource.is_nested() {
            let Some(nested) = world.stacks.get(physical) else {
                return Err(Failure::of(resource, "NotFound", "the nested stack is gone"));
            };
            return match nested.status {
                Status::InProgress => Ok(false),
                Status::Complete => Ok(true),
                Status::Failed => Err(Failure::lifted(resource, &nested.reason)),
            };
        }
        let Target::Builtin(kind) = &resource.target else { return Ok(true) };
        if is_own(kind) {
            let outlook = Outlook { services: &*self.services, world, stack };
            return super::own::ready(&outlook, resource, self.now());
        }
        match self.services.state(kind, physical) {
            State::Active => Ok(true),
            State::Building => Ok(false),
            State::Gone => Err(Failure::of(
                resource,
                "ResourceUnknownStatus",
                "Resource failed - Unknown status DELETED due to \"Unknown\"",
            )),
            State::Error(message) => Err(Failure::in_error(resource, kind, &message)),
        }
    }

    fn start(&self, world: &mut World, stack: &mut Stack, name: &str) -> Result<(), Failure> {
        let resource = stack.resources.get_mut(name).expect("a due resource is there");
        resource.due = false;
        if resource.action == Action::Init {
            return self.make(world, stack, name);
        }
        let properties = self.properties(world, stack, name)?;
        let resource = &stack.resources[name];
        let definition = &stack.plan.definitions[name];
        let target = stack.plan.environment.target(&definition.kind, &stack.plan.files);
        let broken = resource.status == Status::Failed && self.is_to_be_replaced(resource);
        if target.as_ref() != Ok(&resource.target) || broken || resource.physical.is_none() {
            return self.replace(world, stack, name);
        }
        if resource.is_nested() {
            return self.change_nested(world, stack, name, properties);
        }
        let Target::Builtin(kind) = resource.target.clone() else { return Ok(()) };
        let schema = schema::kind(&kind).expect("a built-in type has a schema");
        let changed: Vec<String> = schema
            .properties
            .keys()
            .filter(|key| {
                let before = resource.before.as_ref().unwrap_or(&resource.properties);
                properties.get(*key) != before.get(*key)
            })
            .cloned()
            .collect();
        if changed.is_empty() {
            if resource.status == Status::Failed {
                let complete = (Action::Update, Status::Complete);
                stack.resources.get_mut(name).expect("it was just there").before = None;
                self.set(stack, name, complete, "state changed");
            }
            return Ok(());
        }
        let of = |key: &String| &schema.properties[key];
        if let Some(frozen) = changed.iter().find(|key| of(key).immutable) {
            let message =
                format!("Update to property {frozen} of {name} ({kind}) is not supported.");
            return Err(Failure::of(resource, "NotSupported", &message));
        }
        if changed.iter().any(|key| !of(key).update_allowed) {
            return self.replace(world, stack, name);
        }
        self.set(stack, name, (Action::Update, Status::InProgress), "state changed");
        let resource = stack.resources.get_mut(name).expect("it was just there");
        let last = std::mem::replace(&mut resource.properties, properties);
        resource.before.get_or_insert(last);
        if !is_own(&kind) {
            let id = resource.physical.clone().unwrap_or_default();
            let all = Value::Object(resource.properties.clone());
            self.services.update(&stack.owner, &kind, &id, &all, &changed).map_err(|refused| {
                Failure::of(&stack.resources[name], refused.kind, &refused.message)
            })?;
        } else {
            super::own::updated(resource);
        }
        Ok(())
    }

    /// Of what failed: Heat keeps a server that Nova has and that is not in error.
    fn is_to_be_replaced(&self, resource: &Resource) -> bool {
        match (&resource.target, &resource.physical) {
            (Target::Builtin(kind), Some(id)) if kind == "OS::Nova::Server" => {
                matches!(self.services.state(kind, id), State::Error(_) | State::Gone)
            }
            _ => !resource.is_nested(),
        }
    }

    /// The old one is retired, and a new one takes its name.
    fn replace(&self, world: &mut World, stack: &mut Stack, name: &str) -> Result<(), Failure> {
        let old = stack.resources.remove(name).expect("a due resource is there");
        if let (Target::Builtin(kind), Some(id)) = (&old.target, &old.physical) {
            self.services.prepare_for_replace(kind, id);
        }
        let definition = &stack.plan.definitions[name];
        let target = stack.plan.environment.target(&definition.kind, &stack.plan.files);
        let now = self.now();
        let fresh = Resource {
            kind: definition.kind.clone(),
            target: target.unwrap_or_else(|_| old.target.clone()),
            action: Action::Init,
            status: Status::Complete,
            reason: String::new(),
            physical: None,
            created: now,
            updated: now,
            requires: stack.plan.requires.get(name).cloned().unwrap_or_default(),
            policy: definition.deletion_policy,
            external: definition.external_id.is_some(),
            description: definition.description.clone(),
            properties: Map::new(),
            before: None,
            due: false,
            data: Value::Null,
            ..old.clone()
        };
        stack.retired.push(Resource { due: true, ..old });
        stack.resources.insert(name.to_owned(), fresh);
        self.make(world, stack, name)
    }

    fn make(&self, world: &mut World, stack: &mut Stack, name: &str) -> Result<(), Failure> {
        self.set(stack, name, (Action::Create, Status::InProgress), "state changed");
        let properties = self.properties(world, stack, name)?;
        let definition = stack.plan.definitions[name].clone();
        let metadata = {
            let outlook = Outlook { services: &*self.services, world, stack };
            functions::resolve(&outlook, &definition.metadata)
        };
        let resource = stack.resources.get_mut(name).expect("a due resource is there");
        resource.metadata = metadata.map_err(|e| Failure::of(resource, "ValueError", &e))?;
        resource.properties = properties.clone();
        resource.requires = stack.plan.requires.get(name).cloned().unwrap_or_default();
        if let Some(id) = definition.external_id {
            resource.physical = Some(id);
            return Ok(());
        }
        if resource.is_nested() {
            return self.make_nested(world, stack, name, properties);
        }
        let Target::Builtin(kind) = resource.target.clone() else { return Ok(()) };
        if is_own(&kind) {
            let made = super::own::make(&kind, &properties, &self.entropy);
            (resource.physical, resource.data) = (Some(made.0), made.1);
            return Ok(());
        }
        let physical_name = self.physical_name(stack, name);
        let made =
            self.services.create(&stack.owner, &kind, &physical_name, &Value::Object(properties));
        let resource = stack.resources.get_mut(name).expect("it was just there");
        match made {
            Ok(id) => {
                resource.physical = Some(id);
                Ok(())
            }
            Err(refused) => Err(Failure::of(resource, refused.kind, &refused.message)),
        }
    }

    /// `<stack>-<resource>-<twelve letters>`.
    pub fn physical_name(&self, stack: &Stack, resource: &str) -> String {
        let short = crate::base::id::ShortId::of(self.entropy.uuid());
        format!("{}-{resource}-{short}", stack.identity.name)
    }

    /// A resource's properties as they are now, checked in full.
    fn properties(
        &self,
        world: &World,
        stack: &Stack,
        name: &str,
    ) -> Result<Map<String, Value>, Failure> {
        let resource = &stack.resources[name];
        let definition = &stack.plan.definitions[name];
        let outlook = Outlook { services: &*self.services, world, stack };
        let wrong = |message: String| Failure::of(resource, "StackValidationFailed", &message);
        let given = match functions::resolve(&outlook, &definition.properties) {
            Ok(Value::Object(map)) => map,
            Ok(_) => Map::new(),
            Err(message) => {
                return Err(wrong(format!("Property error: {name}.Properties: {message}")));
            }
        };
        let template;
        let target = stack.plan.environment.target(&definition.kind, &stack.plan.files);
        let schema = match target {
            Ok(Target::Builtin(kind)) => &schema::kind(&kind).expect("known").properties,
            Ok(Target::Template(file)) => {
                let inner = nested_template(&stack.plan, &file).map_err(|e| wrong(e.message))?;
                template =
                    schema::of_parameters(&inner.parameters, &stack.plan.environment.defaults);
                &template
            }
            Err(refusal) => return Err(wrong(refusal.message)),
        };
        let fail = |e: super::refusal::Invalid| {
            wrong(e.titled("Property error").within(&[name, "Properties"]).to_string())
        };
        schema::unknown(schema, &given).map_err(fail)?;
        let lookup = |kind: &str, name: &str| self.services.exists(&stack.owner, kind, name);
        let depth = Depth { constraints: true, lookup: &lookup };
        let mut out = Map::new();
        for (key, property) in schema {
            let value = schema::property(key, property, given.get(key), depth).map_err(fail)?;
            out.extend(value.map(|value| (key.clone(), value)));
        }
        Ok(out)
    }

    pub fn set(&self, stack: &mut Stack, name: &str, to: (Action, Status), reason: &str) {
        stack.set_resource(name, to, reason, self.now(), &self.entropy);
    }
}
