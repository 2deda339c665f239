//! Heat: stacks, looked at, made and deleted.

use std::collections::BTreeMap;

use hyper::Method;
use serde_json::{Value, json};

use super::call::{Call, SharedCaller, encode};
use super::error::{CloudError, Service};
use super::{Actor, Cloud};
use crate::base::clock::Timestamp;
use crate::base::printable;
use crate::model::stack::{Stack, StackStatus};

/// Calls to Heat on behalf of one actor.
#[derive(Debug)]
pub struct Heat<'c> {
    caller: &'c SharedCaller,
    actor: &'c Actor,
    base: String,
}

/// A stack to be made.
#[derive(Clone, Debug)]
pub struct NewStack<'b> {
    pub name: &'b str,
    pub template: &'b str,
    pub parameters: &'b BTreeMap<String, Value>,
    pub files: &'b BTreeMap<String, String>,
    pub timeout_minutes: u32,
    pub tag: &'b str,
}

/// What a stack shall become. What is not said stays as it is.
#[derive(Clone, Debug)]
pub struct StackUpdate<'b> {
    pub template: &'b str,
    pub parameters: &'b BTreeMap<String, Value>,
    pub files: &'b BTreeMap<String, String>,
    pub timeout_minutes: u32,
    /// Whether Heat restores the stack if the update fails.
    pub rollback: bool,
}

/// Whose stacks a list covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Projects {
    Own,
    Every,
}

/// What a list shows of a stack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedStack {
    pub id: String,
    pub name: String,
    pub project_id: String,
    /// None where Heat shows one that it has not.
    pub status: Option<StackStatus>,
    pub created_at: Option<Timestamp>,
    pub tags: Vec<String>,
}

/// A resource that failed, with Heat's own sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailedResource {
    /// Path from the stack down, such as `kube_minions.0`.
    pub name: String,
    pub kind: String,
    pub reason: String,
}

impl Cloud {
    pub async fn heat<'c>(&'c self, actor: &'c Actor) -> Result<Heat<'c>, CloudError> {
        let base = self.url(Service::Heat, &actor.project_id).await?;
        Ok(Heat { caller: &self.inner.caller, actor, base })
    }
}

impl Heat<'_> {
    /// Asks Heat whether it would accept the template: wrong properties, missing resource
    /// types and references are named within seconds.
    pub async fn validate(&self, stack: &NewStack<'_>) -> Result<(), CloudError> {
        let body = json!({
            "template": stack.template,
            "parameters": stack.parameters,
            "files": stack.files,
        });
        let call = self.call("/validate", "the template").method(Method::POST).body(body);
        self.caller.json(call).await.map(|_| ())
    }

    /// Starts making a stack; returns its id.
    pub async fn create(&self, stack: &NewStack<'_>) -> Result<String, CloudError> {
        let body = json!({
            "stack_name": stack.name,
            "template": stack.template,
            "parameters": stack.parameters,
            "files": stack.files,
            "timeout_mins": stack.timeout_minutes,
            "disable_rollback": true,
            "tags": stack.tag,
        });
        let call = self.call("/stacks", "the project").method(Method::POST).body(body);
        let answer = self.caller.json(call).await?;
        answer["stack"]["id"].as_str().map(str::to_owned).ok_or_else(|| CloudError::Unknown {
            service: Service::Heat,
            reason: "the new stack's id is missing".to_owned(),
        })
    }

    /// Starts to change a stack.
    pub async fn update(
        &self,
        name: &str,
        id: &str,
        update: &StackUpdate<'_>,
    ) -> Result<(), CloudError> {
        let body = json!({
            "existing": true,
            "template": update.template,
            "parameters": update.parameters,
            "files": update.files,
            "timeout_mins": update.timeout_minutes,
            "disable_rollback": !update.rollback,
        });
        let path = path(name, id);
        let call = self.call(&path, "the stack").method(Method::PATCH).body(body);
        self.caller.send(call).await.map(|_| ())
    }

    /// An update that changes nothing but the mark of the last one.
    pub async fn mark(&self, name: &str, id: &str, revision: &str) -> Result<(), CloudError> {
        let body = json!({ "existing": true, "parameters": { "revision": revision } });
        let path = path(name, id);
        let call = self.call(&path, "the stack").method(Method::PATCH).body(body);
        self.caller.send(call).await.map(|_| ())
    }

    /// Live stacks that carry a tag: id and name.
    pub async fn tagged(&self, tag: &str) -> Result<Vec<(String, String)>, CloudError> {
        let listed = self.listed(&format!("?tags={}", encode(tag))).await?;
        Ok(listed.into_iter().map(|s| (s.id, s.name)).collect())
    }

    /// Every live stack of the actor's project, or of all projects where Heat's policy lets
    /// the actor see them.
    pub async fn all(&self, projects: Projects) -> Result<Vec<ListedStack>, CloudError> {
        self.listed(match projects {
            Projects::Own => "",
            Projects::Every => "?global_tenant=True",
        })
        .await
    }

    async fn listed(&self, query: &str) -> Result<Vec<ListedStack>, CloudError> {
        let call = self.call(&format!("/stacks{query}"), "the stacks");
        let body = self.caller.json(call).await?;
        let stacks = body["stacks"].as_array().map(Vec::as_slice).unwrap_or_default();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let listed = |s: &Value| ListedStack {
            id: text(&s["id"]),
            name: text(&s["stack_name"]),
            project_id: text(&s["project"]),
            status: s["stack_status"].as_str().and_then(StackStatus::parse),
            created_at: s["creation_time"].as_str().and_then(Timestamp::parse),
            tags: s["tags"].as_array().into_iter().flatten().map(text).collect(),
        };
        Ok(stacks.iter().map(listed).collect())
    }

    /// One stack, addressed fully: by name or id alone Heat answers with a redirect.
    pub async fn show(&self, name: &str, id: &str, outputs: bool) -> Result<Stack, CloudError> {
        let resolve = if outputs { "True" } else { "False" };
        let path = format!("{}?resolve_outputs={resolve}", path(name, id));
        let body = self.caller.json(self.call(&path, "the stack")).await?;
        stack(&body["stack"]).ok_or_else(|| CloudError::Unknown {
            service: Service::Heat,
            reason: "the stack's description is incomplete, or its status is none".to_owned(),
        })
    }

    /// Resources in a failed state, innermost first.
    pub async fn failures(&self, name: &str, id: &str) -> Result<Vec<FailedResource>, CloudError> {
        let path = format!("{}/resources?nested_depth=2", path(name, id));
        let body = self.caller.json(self.call(&path, "the stack")).await?;
        Ok(failed(&body["resources"]))
    }

    pub async fn delete(&self, name: &str, id: &str) -> Result<(), CloudError> {
        let path = path(name, id);
        let call = self.call(&path, "the stack").method(Method::DELETE);
        self.caller.send(call).await.map(|_| ())
    }

    fn call<'c>(&'c self, path: &str, what: &'c str) -> Call<'c> {
        Call::get(Service::Heat, format!("{}{path}", self.base), &self.actor.token, what)
    }
}

fn path(name: &str, id: &str) -> String {
    format!("/stacks/{}/{}", encode(name), encode(id))
}

pub(super) fn stack(body: &Value) -> Option<Stack> {
    let text = |key: &str| body[key].as_str().map(str::to_owned);
    let outputs = body["outputs"].as_array().map(Vec::as_slice).unwrap_or_default();
    let parameters = body["parameters"].as_object();
    let tags = body["tags"].as_array().map(Vec::as_slice).unwrap_or_default();
    Some(Stack {
        id: text("id")?,
        name: text("stack_name")?,
        status: StackStatus::parse(body["stack_status"].as_str()?)?,
        status_reason: sentence(&body["stack_status_reason"]),
        parameters: parameters
            .map(|map| map.iter().map(|(k, v)| (k.clone(), v.clone())).collect())
            .unwrap_or_default(),
        outputs: outputs
            .iter()
            .filter_map(|o| Some((o["output_key"].as_str()?.to_owned(), o["output_value"].clone())))
            .collect(),
        tags: tags.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
    })
}

/// What Heat says of a failure, of which the end tells least.
fn sentence(value: &Value) -> String {
    const MOST: usize = 4000;
    let text = value.as_str().unwrap_or_default();
    match text.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}…", printable::line(&text[..end])),
        None => printable::line(text),
    }
}

/// Failed resources of a nested listing. A group fails because of its member, so what has a
/// failed child below it is left out: the innermost one carries the service's own sentence.
pub(super) fn failed(resources: &Value) -> Vec<FailedResource> {
    let all = resources.as_array().map(Vec::as_slice).unwrap_or_default();
    // Members of the project may change a stack: its names are shown like its reasons.
    let text = |value: &Value| printable::line(value.as_str().unwrap_or_default());
    let failures: Vec<(FailedResource, Option<String>)> = all
        .iter()
        .filter(|r| r["resource_status"].as_str().is_some_and(|s| s.ends_with("_FAILED")))
        .map(|r| {
            let parent = r["parent_resource"].as_str().map(printable::line);
            let own = text(&r["resource_name"]);
            let name = match &parent {
                Some(parent) => format!("{parent}.{own}"),
                None => own,
            };
            let reason = sentence(&r["resource_status_reason"]);
            (FailedResource { name, kind: text(&r["resource_type"]), reason }, parent)
        })
        .collect();
    let parents: Vec<String> = failures.iter().filter_map(|(_, parent)| parent.clone()).collect();
    // "aborted" is what Heat writes on the neighbours of the one that really failed.
    let (aborted, mut real): (Vec<_>, Vec<_>) = failures
        .into_iter()
        .map(|(failure, _)| failure)
        .filter(|failure| !parents.contains(&failure.name))
        .partition(|failure| failure.reason.contains("aborted"));
    real.extend(aborted);
    real
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_innermost_failure_speaks() {
        let resources = json!([
            {"resource_name": "network", "resource_type": "OS::Neutron::Net",
             "resource_status": "CREATE_COMPLETE", "resource_status_reason": "state changed"},
            {"resource_name": "master_0", "resource_type": "OS::Nova::Server",
             "resource_status": "CREATE_FAILED", "resource_status_reason": "CREATE aborted"},
            {"resource_name": "kube_minions", "resource_type": "OS::Heat::ResourceGroup",
             "resource_status": "CREATE_FAILED", "resource_status_reason": "ResourceInError: x"},
            {"resource_name": "1", "resource_type": "OS::Nova::Server",
             "parent_resource": "kube_minions", "resource_status": "CREATE_FAILED",
             "resource_status_reason": "ResourceInError: resources[1]: No valid host was found."},
        ]);
        let found = failed(&resources);
        assert_eq!(found[0].name, "kube_minions.1");
        assert!(found[0].reason.contains("No valid host"));
        assert_eq!(found.len(), 2, "{found:?}");
    }

    #[test]
    fn a_stack_is_read_with_outputs() {
        let shown = stack(&json!({
            "id": "1", "stack_name": "s", "stack_status": "CREATE_COMPLETE",
            "stack_status_reason": "ok", "parameters": {"cluster_uuid": "u"},
            "outputs": [{"output_key": "kube_masters", "output_value": ["10.0.0.5", null]}],
        }))
        .unwrap();
        assert_eq!(shown.list("kube_masters"), ["10.0.0.5"]);
        assert!(!shown.is_in_progress() && !shown.has_failed());
    }

    #[test]
    fn what_heat_says_does_nothing_to_a_terminal() {
        let reason = "Resource\u{1b}[2J CREATE failed:\nNo valid\u{202e} host";
        let shown = stack(&json!({
            "id": "1", "stack_name": "s", "stack_status": "CREATE_FAILED",
            "stack_status_reason": reason,
        }))
        .unwrap();
        assert_eq!(shown.status_reason, "Resource[2J CREATE failed: No valid host");
        let found = failed(&json!([
            {"resource_name": "a\u{7}", "resource_type": "OS::\u{202e}Nova", "parent_resource": "b\n",
             "resource_status": "CREATE_FAILED", "resource_status_reason": reason},
        ]));
        let FailedResource { name, kind, reason } = &found[0];
        assert_eq!((name.as_str(), kind.as_str()), ("b.a", "OS::Nova"));
        assert_eq!(reason, &shown.status_reason);
    }

    #[test]
    fn what_heat_says_is_kept_as_far_as_somebody_reads_it() {
        let shown = stack(&json!({
            "id": "1", "stack_name": "s", "stack_status": "CREATE_FAILED",
            "stack_status_reason": "ä".repeat(5_000_000),
        }))
        .unwrap();
        assert_eq!(shown.status_reason.chars().count(), 4001);
        assert!(shown.status_reason.ends_with("ä…"));
    }
}
