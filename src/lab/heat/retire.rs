//! The way down: deleting what is no longer wanted, giving up, rolling back.

use std::sync::Arc;

use super::engine::Engine;
use super::environment::Target;
use super::failure::Failure;
use super::services::{Services, State};
use super::stack::{Action, Resource, Stack, Status, World};
use super::template::DeletionPolicy;
use super::validate::is_own;

impl<S: Services> Engine<S> {
    /// Deletes retired resources, dependants first; ends the stack when it was to be deleted.
    pub fn clear(&self, world: &mut World, stack: &mut Stack) -> Result<bool, Failure> {
        let mut moved = false;
        let mut failure = Ok(());
        let mut index = 0;
        while index < stack.retired.len() {
            let resource = &stack.retired[index];
            let running = resource.is(Action::Delete, Status::InProgress) && !resource.due;
            let gone = if running {
                self.is_gone(world, resource)
            } else if stack.retired.iter().any(|r| r.requires.contains(&resource.name)) {
                Ok(false)
            } else if !resource.due {
                // It failed a moment ago.
                Ok(false)
            } else {
                moved = true;
                self.unmake(world, stack, index)
            };
            let gone = gone.unwrap_or_else(|first| {
                failure = std::mem::replace(&mut failure, Ok(())).and(Err(first));
                false
            });
            if gone {
                moved = true;
                let mut resource = stack.retired.remove(index);
                if let Some(physical) = resource.physical.as_ref().filter(|_| resource.is_nested())
                {
                    world.stacks.remove(physical);
                }
                if resource.action != Action::Init {
                    resource.action = Action::Delete;
                    resource.status = Status::Complete;
                    "state changed".clone_into(&mut resource.reason);
                    stack.note(&resource, self.now(), &self.entropy);
                }
            } else {
                index += 1;
            }
        }
        failure?;
        let ends = match stack.action {
            Action::Delete => true,
            Action::Rollback => stack.plan.definitions.is_empty() && stack.resources.is_empty(),
            _ => false,
        };
        if ends && stack.retired.is_empty() {
            let now = self.now();
            let reason = format!("Stack {} completed successfully", stack.action);
            stack.set(Status::Complete, reason, now, &self.entropy);
            if stack.action == Action::Delete {
                stack.deleted = Some(now);
                if let Some(trust) = stack.trust.take() {
                    self.services.drop_stack_trust(&trust);
                }
            }
            moved = true;
        }
        Ok(moved)
    }

    /// Begins to delete one; true when nothing needed doing.
    fn unmake(&self, world: &mut World, stack: &mut Stack, index: usize) -> Result<bool, Failure> {
        let now = self.now();
        let resource = &mut stack.retired[index];
        resource.due = false;
        if resource.action == Action::Init {
            return Ok(true);
        }
        resource.action = Action::Delete;
        resource.status = Status::InProgress;
        "state changed".clone_into(&mut resource.reason);
        let copy = resource.clone();
        stack.note(&copy, now, &self.entropy);
        let Some(physical) = &copy.physical else { return Ok(true) };
        if copy.policy == DeletionPolicy::Retain || copy.external {
            return Ok(true);
        }
        if copy.is_nested() {
            let Some(child) = world.stacks.get_mut(physical) else { return Ok(true) };
            let plan = Arc::new(child.plan.empty());
            child.timeout_minutes = stack.timeout_minutes;
            self.begin(child, plan, Action::Delete);
            child.deadline = stack.deadline;
            return Ok(false);
        }
        match &copy.target {
            Target::Builtin(kind) if !is_own(kind) => match self.services.delete(kind, physical) {
                Ok(()) => self.is_gone(world, &copy),
                Err(refused) if refused.status == 404 => Ok(true),
                Err(refused) => Err(Failure::of(&copy, refused.kind, &refused.message)),
            },
            _ => Ok(true),
        }
    }

    fn is_gone(&self, world: &World, resource: &Resource) -> Result<bool, Failure> {
        let Some(physical) = &resource.physical else { return Ok(true) };
        if resource.is_nested() {
            return match world.stacks.get(physical) {
                None => Ok(true),
                Some(nested) if nested.status == Status::Failed => {
                    Err(Failure::lifted(resource, &nested.reason))
                }
                Some(nested) => Ok(nested.is_gone()),
            };
        }
        match &resource.target {
            // A server that failed to build still says so while it is being deleted.
            Target::Builtin(kind) if !is_own(kind) => {
                Ok(self.services.state(kind, physical) == State::Gone)
            }
            _ => Ok(true),
        }
    }

    /// One resource failed: its neighbours are given up, and so is the stack.
    pub fn fail(&self, world: &mut World, stack: &mut Stack, failure: Failure) {
        let now = self.now();
        let deleting = |r: &&mut Resource| {
            r.name == failure.resource
                && r.action == Action::Delete
                && r.status == Status::InProgress
        };
        let mut action = stack.action;
        if let Some(resource) = stack.retired.iter_mut().find(deleting) {
            action = Action::Delete;
            resource.status = Status::Failed;
            resource.reason = failure.to_string();
            let copy = resource.clone();
            stack.note(&copy, now, &self.entropy);
        } else if let Some(resource) = stack.resources.get(&failure.resource) {
            // A resource that fails before its update begins fails in that update.
            action = match resource.status {
                Status::InProgress => resource.action,
                _ => Action::Update,
            };
            let reason = failure.to_string();
            self.set(stack, &failure.resource, (action, Status::Failed), &reason);
        }
        self.abort(world, stack, "");
        let reason = format!("Resource {action} failed: {failure}");
        stack.set(Status::Failed, reason, now, &self.entropy);
        let undo = matches!(stack.action, Action::Create | Action::Update);
        if undo && !stack.disable_rollback && stack.parent.is_none() {
            let back = match &stack.previous {
                Some(previous) if stack.action == Action::Update => Arc::clone(previous),
                _ => Arc::new(stack.plan.empty()),
            };
            let traversal = stack.traversal;
            self.begin(stack, back, Action::Rollback);
            // The same task goes on with it.
            stack.traversal = traversal;
        }
    }

    /// The stack took too long.
    pub fn time_out(&self, world: &mut World, stack: &mut Stack) {
        self.abort(world, stack, "Timed out");
        stack.set(Status::Failed, "Timed out".to_owned(), self.now(), &self.entropy);
    }

    /// Gives up whatever is running in a stack and below it.
    fn abort(&self, world: &mut World, stack: &mut Stack, why: &str) {
        let now = self.now();
        let mut nested = Vec::new();
        let mut noted = Vec::new();
        let (name, id) = (stack.identity.name.clone(), stack.identity.id.clone());
        for resource in stack.resources.values_mut().chain(&mut stack.retired) {
            if resource.status != Status::InProgress || resource.action == Action::Init {
                continue;
            }
            let action = resource.action;
            resource.status = Status::Failed;
            resource.reason = format!("{action} aborted");
            if !why.is_empty() {
                let class = resource.kind.rsplit("::").next().unwrap_or_default();
                let verb = action.to_string().to_lowercase();
                resource.reason.push_str(&format!(
                    " (Task {verb} from {class} \"{}\" Stack \"{name}\" [{id}] {why})",
                    resource.name
                ));
            }
            nested.extend(resource.physical.clone().filter(|_| resource.is_nested()));
            noted.push(resource.clone());
        }
        for resource in noted {
            stack.note(&resource, now, &self.entropy);
        }
        for id in nested {
            let Some(mut child) = world.stacks.remove(&id) else { continue };
            if child.in_progress() {
                self.abort(world, &mut child, why);
                let reason = if why.is_empty() {
                    format!("Stack {} cancelled", child.action)
                } else {
                    why.to_owned()
                };
                child.set(Status::Failed, reason, now, &self.entropy);
            }
            world.stacks.insert(id, child);
        }
    }
}
