//! What Heat remembers: stacks, their resources, and what happened to them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use serde_json::{Map, Value};

use super::environment::Target;
use super::plan::{Identity, Plan};
use super::services::Owner;
use super::template::DeletionPolicy;
use crate::base::clock::Timestamp;
use crate::base::id::Entropy;

/// What is being done to a stack or a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Init,
    Create,
    Update,
    Delete,
    Rollback,
    Check,
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Init => "INIT",
            Self::Create => "CREATE",
            Self::Update => "UPDATE",
            Self::Delete => "DELETE",
            Self::Rollback => "ROLLBACK",
            Self::Check => "CHECK",
        })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    InProgress,
    Complete,
    Failed,
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::InProgress => "IN_PROGRESS",
            Self::Complete => "COMPLETE",
            Self::Failed => "FAILED",
        })
    }
}

/// One resource of a stack, as far as it has come.
#[derive(Clone, Debug)]
pub struct Resource {
    pub name: String,
    /// The type as the template writes it.
    pub kind: String,
    pub target: Target,
    pub action: Action,
    pub status: Status,
    pub reason: String,
    /// The service's id; for a nested stack, that stack's.
    pub physical: Option<String>,
    pub created: Timestamp,
    pub updated: Timestamp,
    pub requires: BTreeSet<String>,
    pub policy: DeletionPolicy,
    pub external: bool,
    pub description: String,
    pub metadata: Value,
    /// As last asked for.
    pub properties: Map<String, Value>,
    /// As they were before an update that has not succeeded: what differs is tried again.
    pub before: Option<Map<String, Value>>,
    /// Not yet looked at since the stack's last change.
    pub due: bool,
    /// What Heat's own types remember: signals, drawn texts, removed members.
    pub data: Value,
}

impl Resource {
    pub fn is(&self, action: Action, status: Status) -> bool {
        self.action == action && self.status == status
    }

    pub fn is_nested(&self) -> bool {
        matches!(&self.target, Target::Template(_))
            || matches!(&self.target, Target::Builtin(k) if k == "OS::Heat::ResourceGroup")
    }

    /// `CREATE_COMPLETE`.
    pub fn state(&self) -> String {
        format!("{}_{}", self.action, self.status)
    }
}

/// Something that happened, as `GET …/events` lists it.
#[derive(Clone, Debug)]
pub struct Event {
    pub id: String,
    pub at: Timestamp,
    pub resource: String,
    pub kind: String,
    pub physical: String,
    pub state: String,
    pub reason: String,
}

/// Where a nested stack hangs.
#[derive(Clone, Debug)]
pub struct Parent {
    pub stack: String,
    pub resource: String,
}

#[derive(Clone, Debug)]
pub struct Stack {
    pub identity: Identity,
    pub owner: Owner,
    pub username: Option<String>,
    pub parent: Option<Parent>,
    pub root: String,
    pub depth: usize,
    pub plan: Arc<Plan>,
    /// What it was before the running update, to roll back to.
    pub previous: Option<Arc<Plan>>,
    pub tags: Vec<String>,
    pub timeout_minutes: Option<u64>,
    pub disable_rollback: bool,
    pub action: Action,
    pub status: Status,
    pub reason: String,
    pub created: Timestamp,
    pub updated: Option<Timestamp>,
    pub deleted: Option<Timestamp>,
    pub deadline: Timestamp,
    /// Changes with every action; a task for an older one stops by itself.
    pub traversal: u64,
    pub resources: BTreeMap<String, Resource>,
    /// No longer wanted, not yet gone.
    pub retired: Vec<Resource>,
    pub events: Vec<Event>,
    pub trust: Option<String>,
    /// Whose trust that is: user and project.
    pub trustor: (String, String),
}

impl Stack {
    pub fn id(&self) -> &str {
        &self.identity.id
    }

    pub fn in_progress(&self) -> bool {
        self.status == Status::InProgress
    }

    pub fn is_gone(&self) -> bool {
        self.deleted.is_some()
    }

    /// `CREATE_IN_PROGRESS`.
    pub fn state(&self) -> String {
        format!("{}_{}", self.action, self.status)
    }

    /// Moves the stack to a state and remembers the event.
    pub fn set(&mut self, status: Status, reason: String, at: Timestamp, entropy: &Entropy) {
        self.status = status;
        self.reason = reason;
        let event = Event {
            id: entropy.uuid().to_string(),
            at,
            resource: self.identity.name.clone(),
            kind: "OS::Heat::Stack".to_owned(),
            physical: self.identity.id.clone(),
            state: self.state(),
            reason: self.reason.clone(),
        };
        self.remember(event);
    }

    /// The event of a resource's present state.
    pub fn note(&mut self, resource: &Resource, at: Timestamp, entropy: &Entropy) {
        self.remember(Event {
            id: entropy.uuid().to_string(),
            at,
            resource: resource.name.clone(),
            kind: resource.kind.clone(),
            physical: resource.physical.clone().unwrap_or_default(),
            state: resource.state(),
            reason: resource.reason.clone(),
        });
    }

    /// Moves one of the resources to a state, with its event.
    pub fn set_resource(
        &mut self,
        name: &str,
        (action, status): (Action, Status),
        reason: &str,
        at: Timestamp,
        entropy: &Entropy,
    ) {
        let Some(mut resource) = self.resources.remove(name) else { return };
        resource.action = action;
        resource.status = status;
        resource.reason = reason.to_owned();
        resource.updated = at;
        self.note(&resource, at, entropy);
        self.resources.insert(name.to_owned(), resource);
    }

    fn remember(&mut self, event: Event) {
        // Heat's `max_events_per_stack`.
        if self.events.len() >= 1000 {
            self.events.drain(..200);
        }
        self.events.push(event);
    }
}

/// All stacks, roots and nested, living and deleted.
#[derive(Debug, Default)]
pub struct World {
    pub stacks: BTreeMap<String, Stack>,
    /// Resources of stacks that are taken out while they are being worked on.
    pub held: usize,
}

impl World {
    pub fn named(&self, project: &str, name: &str) -> Option<&Stack> {
        self.stacks
            .values()
            .find(|s| s.identity.project == project && s.identity.name == name && !s.is_gone())
    }

    /// A stack's children and their children.
    pub fn below(&self, root: &str) -> impl Iterator<Item = &Stack> {
        self.stacks.values().filter(move |s| s.root == root && s.id() != root && !s.is_gone())
    }

    /// The nested stack behind a resource.
    pub fn nested(&self, resource: &Resource) -> Option<&Stack> {
        if !resource.is_nested() {
            return None;
        }
        self.stacks.get(resource.physical.as_ref()?)
    }
}
