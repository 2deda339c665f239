//! The engine: takes orders for stacks and sees them through, a task for each.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{Map, Value};

use super::environment::{Environment, Files};
use super::plan::{Identity, Plan};
use super::refusal::Refusal;
use super::services::{Owner, Services};
use super::stack::{Action, Parent, Resource, Stack, Status, World};
use super::template::Template;
use super::validate::Check;
use crate::base::clock::{Clock, Timestamp};
use crate::base::id::Entropy;

/// How often the engine looks at what is being built.
const GLANCE: Duration = Duration::from_secs(1);
/// Heat's `stack_action_timeout`, in minutes.
const TIMEOUT: u64 = 60;

/// What a caller wants a stack to be.
#[derive(Clone, Debug, Default)]
pub struct Order {
    pub template: Option<Value>,
    pub files: Files,
    pub environment: Environment,
    pub timeout_minutes: Option<u64>,
    pub disable_rollback: Option<bool>,
    pub tags: Option<Vec<String>>,
    /// PATCH: what is not given stays.
    pub existing: bool,
    pub clear_parameters: Vec<String>,
}

/// Who gives the order.
#[derive(Clone, Debug)]
pub struct Caller {
    pub owner: Owner,
    pub token: String,
    pub username: Option<String>,
    /// Sees stacks of all projects.
    pub admin: bool,
}

#[derive(Debug)]
pub struct Engine<S> {
    pub services: Arc<S>,
    pub clock: Clock,
    pub entropy: Entropy,
    world: Mutex<World>,
}

impl<S: Services> Engine<S> {
    pub fn new(services: Arc<S>, clock: Clock, entropy: Entropy) -> Arc<Self> {
        Arc::new(Self { services, clock, entropy, world: Mutex::default() })
    }

    pub fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads and checks an order: everything that can be refused is refused here.
    pub fn plan(
        &self,
        caller: &Caller,
        identity: &Identity,
        order: &Order,
        strict: bool,
    ) -> Result<Plan, Refusal> {
        let Some(template) = &order.template else {
            return Err(Refusal::bad_request("No template specified"));
        };
        let template = Template::read(template.clone())?;
        let lookup = |kind: &str, name: &str| self.services.exists(&caller.owner, kind, name);
        let plan = Plan::new(
            Arc::new(template),
            Arc::new(order.files.clone()),
            Arc::new(order.environment.clone()),
            identity,
            strict,
            &lookup,
        )?;
        let services = &*self.services;
        Check { services, lookup: &lookup, strict, depth: 0 }.plan(&plan)?;
        Ok(plan)
    }

    /// Begins to make a stack; returns its id.
    pub fn create(
        self: &Arc<Self>,
        caller: &Caller,
        name: &str,
        order: &Order,
    ) -> Result<Identity, Refusal> {
        let project = caller.owner.project_id.clone();
        let exists = || Refusal::new("StackExists", format!("The Stack ({name}) already exists."));
        if self.world().named(&project, name).is_some() {
            return Err(exists());
        }
        let id = self.entropy.uuid().to_string();
        let identity = Identity { name: name.to_owned(), id, project };
        let plan = self.plan(caller, &identity, order, true)?;
        let trust = self
            .services
            .stack_trust(&caller.token)
            .map_err(|refused| Refusal::new(refused.kind, refused.message))?;
        let mut stack = self.blank(caller.owner.clone(), identity.clone(), plan);
        stack.username.clone_from(&caller.username);
        stack.tags = order.tags.clone().unwrap_or_default();
        stack.timeout_minutes = order.timeout_minutes;
        stack.disable_rollback = order.disable_rollback.unwrap_or(true);
        stack.trust = Some(trust.clone());
        let plan = Arc::clone(&stack.plan);
        self.begin(&mut stack, plan, Action::Create);
        let mut world = self.world();
        // Two requests may have come this far side by side; the name decides.
        if world.named(&identity.project, name).is_some() {
            drop(world);
            self.services.drop_stack_trust(&trust);
            return Err(exists());
        }
        world.stacks.insert(identity.id.clone(), stack);
        drop(world);
        self.drive(&identity.id);
        Ok(identity)
    }

    /// Begins to bring a stack in line with an order.
    ///
    /// Heat with its convergence engine lets a second update overtake a running one; without
    /// it, and here, that is refused: whoever relies on overtaking should find out.
    pub fn update(
        self: &Arc<Self>,
        caller: &Caller,
        id: &str,
        order: Order,
    ) -> Result<(), Refusal> {
        self.keep_trust(caller, id)?;
        let (order, identity) = {
            let world = self.world();
            let stack = world.stacks.get(id).ok_or_else(|| Refusal::not_found("Stack", id))?;
            busy(stack)?;
            (merged(stack, order), stack.identity.clone())
        };
        let plan = self.plan(caller, &identity, &order, true)?;
        let mut world = self.world();
        let stack = world.stacks.get_mut(id).ok_or_else(|| Refusal::not_found("Stack", id))?;
        busy(stack)?;
        let frozen = stack.plan.parameters.frozen_changes(&plan.parameters);
        if !frozen.is_empty() {
            let message = format!(
                "The following parameters are immutable and may not be updated: {}",
                frozen.join(", ")
            );
            return Err(Refusal::new("ImmutableParameterModified", message));
        }
        if order.timeout_minutes.is_some() {
            stack.timeout_minutes = order.timeout_minutes;
        }
        stack.disable_rollback = order.disable_rollback.unwrap_or(stack.disable_rollback);
        if let Some(tags) = order.tags {
            stack.tags = tags;
        }
        self.begin(stack, Arc::new(plan), Action::Update);
        drop(world);
        self.drive(id);
        Ok(())
    }

    /// Begins to delete a stack, whatever it is doing.
    pub fn delete(self: &Arc<Self>, caller: &Caller, id: &str) -> Result<(), Refusal> {
        self.keep_trust(caller, id)?;
        let mut world = self.world();
        let stack = world.stacks.get_mut(id).ok_or_else(|| Refusal::not_found("Stack", id))?;
        if stack.is_gone() {
            return Err(Refusal::not_found("Stack", &stack.identity.name));
        }
        let plan = Arc::new(stack.plan.empty());
        self.begin(stack, plan, Action::Delete);
        drop(world);
        self.drive(id);
        Ok(())
    }

    /// The trust that is kept with a stack must be of whoever changes it: where it is somebody
    /// else's, or has ended, Heat makes another one (`Stack._check_refresh_cred`). Keystone's
    /// refusal of that comes out of the engine as it is, which the API does not expect.
    fn keep_trust(&self, caller: &Caller, id: &str) -> Result<(), Refusal> {
        let kept = self.world().stacks.get(id).map(|s| (s.trust.clone(), s.trustor.clone()));
        let Some((Some(kept), trustor)) = kept else { return Ok(()) };
        let own = (caller.owner.user_id.clone(), caller.owner.project_id.clone());
        if trustor == own && self.services.has_stack_trust(&kept) {
            return Ok(());
        }
        let made = self
            .services
            .stack_trust(&caller.token)
            .map_err(|refused| Refusal::new("RemoteError", refused.message))?;
        if self.services.has_stack_trust(&kept) {
            self.services.drop_stack_trust(&kept);
        }
        if let Some(stack) = self.world().stacks.get_mut(id) {
            stack.trust = Some(made);
            stack.trustor = own;
        }
        Ok(())
    }

    /// A stack before its first action.
    pub fn blank(&self, owner: Owner, identity: Identity, plan: Plan) -> Stack {
        let now = self.clock.now();
        Stack {
            trustor: (owner.user_id.clone(), owner.project_id.clone()),
            owner,
            username: None,
            parent: None,
            root: identity.id.clone(),
            depth: 0,
            identity,
            plan: Arc::new(plan),
            previous: None,
            tags: Vec::new(),
            timeout_minutes: None,
            disable_rollback: true,
            action: Action::Init,
            status: Status::Complete,
            reason: String::new(),
            created: now,
            updated: None,
            deleted: None,
            deadline: now,
            traversal: 0,
            resources: BTreeMap::new(),
            retired: Vec::new(),
            events: Vec::new(),
            trust: None,
        }
    }

    /// A child of a stack, hanging on one of its resources.
    pub fn child(&self, parent: &Stack, resource: &str, identity: Identity, plan: Plan) -> Stack {
        let mut child = self.blank(parent.owner.clone(), identity, plan);
        child.username.clone_from(&parent.username);
        child.parent =
            Some(Parent { stack: parent.identity.id.clone(), resource: resource.to_owned() });
        child.root.clone_from(&parent.root);
        child.depth = parent.depth + 1;
        child.timeout_minutes = parent.timeout_minutes;
        child
    }

    /// Sets a new goal for a stack: what the plan lacks is retired, the rest is due.
    pub fn begin(&self, stack: &mut Stack, plan: Arc<Plan>, action: Action) {
        let now = self.clock.now();
        if action != Action::Create {
            stack.updated = Some(now);
            stack.previous = Some(std::mem::replace(&mut stack.plan, plan));
        }
        let minutes = stack.timeout_minutes.filter(|m| *m > 0).unwrap_or(TIMEOUT);
        stack.deadline = now.plus(Duration::from_secs(minutes.saturating_mul(60)));
        stack.traversal += 1;
        stack.action = action;
        let kept = |name: &String| stack.plan.definitions.contains_key(name);
        let (resources, gone): (BTreeMap<_, _>, BTreeMap<_, _>) =
            std::mem::take(&mut stack.resources).into_iter().partition(|(name, _)| kept(name));
        stack.resources = resources;
        stack.retired.extend(gone.into_values());
        for resource in &mut stack.retired {
            // A deletion that was given up is begun again.
            resource.due = true;
        }
        for (name, definition) in &stack.plan.definitions {
            let target = stack.plan.environment.target(&definition.kind, &stack.plan.files);
            let Ok(target) = target else { continue };
            let fresh = || Resource {
                name: name.clone(),
                kind: definition.kind.clone(),
                target,
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
                metadata: Value::Null,
                properties: Map::new(),
                before: None,
                due: true,
                data: Value::Null,
            };
            stack.resources.entry(name.clone()).or_insert_with(fresh).due = true;
        }
        stack.set(Status::InProgress, format!("Stack {action} started"), now, &self.entropy);
    }

    /// Looks after a root stack until it settles or is given another goal.
    pub fn drive(self: &Arc<Self>, id: &str) {
        let Some(traversal) = self.world().stacks.get(id).map(|s| s.traversal) else { return };
        // A cloud that was dropped takes its tasks along.
        let engine = Arc::downgrade(self);
        let clock = self.clock.clone();
        let id = id.to_owned();
        tokio::spawn(async move {
            while engine.upgrade().is_some_and(|engine| engine.tick(&id, traversal)) {
                clock.sleep(GLANCE).await;
            }
        });
    }

    fn tick(&self, id: &str, traversal: u64) -> bool {
        let mut world = self.world();
        let ours = |world: &World| {
            world.stacks.get(id).is_some_and(|s| s.traversal == traversal && s.in_progress())
        };
        if !ours(&world) {
            return false;
        }
        while self.advance(&mut world, id) {}
        ours(&world)
    }

    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }
}

fn busy(stack: &Stack) -> Result<(), Refusal> {
    let Identity { name, .. } = &stack.identity;
    if stack.is_gone() {
        return Err(Refusal::not_found("Stack", name));
    }
    if stack.action == Action::Delete {
        let message = "Updating a stack when it is deleting is not supported.";
        return Err(Refusal::new("NotSupported", message));
    }
    if stack.in_progress() {
        let action = stack.action;
        let message = format!("Stack {name} already has an action ({action}) in progress.");
        return Err(Refusal::new("ActionInProgress", message));
    }
    Ok(())
}

/// A PATCH over what the stack has; a PUT stands for itself.
fn merged(stack: &Stack, mut order: Order) -> Order {
    if !order.existing {
        return order;
    }
    let plan = &stack.plan;
    let template = order.template.get_or_insert_with(|| plan.template.raw.clone()).clone();
    let mut files = (*plan.files).clone();
    files.extend(order.files);
    order.files = files;
    let mut environment = (*plan.environment).clone();
    environment.parameters.retain(|name, _| !order.clear_parameters.contains(name));
    environment.extend(order.environment);
    let known = template.get("parameters").and_then(Value::as_object);
    environment.parameters.retain(|name, _| known.is_some_and(|k| k.contains_key(name)));
    order.environment = environment;
    order
}
