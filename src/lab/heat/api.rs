//! Heat's REST interface: one table of routes, and a short function for each.

use hyper::header::{HeaderValue, LOCATION};
use hyper::{Method, StatusCode};
use serde_json::{Map, Value, json};

use super::Heat;
use super::engine::Caller;
use super::intake::{self, Query};
use super::listing;
use super::own;
use super::plan::Identity;
use super::refusal::Refusal;
use super::schema;
use super::services::Services;
use super::stack::{Action, Stack, Status, World};
use super::view::View;
use crate::base::http::server::{self, Request, Response};

type Answer = Result<Response, Refusal>;

fn ok(body: &Value) -> Answer {
    Ok(server::json(StatusCode::OK, body))
}

fn not_found() -> Refusal {
    Refusal::new("HTTPNotFound", "The resource could not be found.")
}

fn forbidden() -> Refusal {
    Refusal::new("HTTPForbidden", "Access was denied to this resource.")
}

/// One request with everything it needs.
struct Call<'c, S> {
    heat: &'c Heat<S>,
    caller: &'c Caller,
    request: &'c Request,
    query: Query,
    base: String,
}

/// Answers one authenticated request.
pub fn answer<S: Services>(heat: &Heat<S>, caller: &Caller, request: &Request) -> Response {
    let host = request.header("host").unwrap_or("127.0.0.1");
    let base = format!("http://{host}");
    let query = Query::read(request.query.as_deref());
    let call = Call { heat, caller, request, query, base };
    call.route().unwrap_or_else(|refusal| {
        let status = StatusCode::from_u16(refusal.status()).unwrap_or(StatusCode::BAD_REQUEST);
        server::json(status, &refusal.body())
    })
}

impl<S: Services> Call<'_, S> {
    fn route(&self) -> Answer {
        let pieces = intake::pieces(&self.request.path);
        let path: Vec<&str> = pieces.iter().map(String::as_str).collect();
        let Some((&"v1", [project, path @ ..])) = path.split_first() else {
            return Err(not_found());
        };
        if *project != self.caller.owner.project_id {
            return Err(forbidden());
        }
        let method = self.request.method.as_str();
        self.allow(method)?;
        match (method, path) {
            ("POST", ["validate"]) => self.validate(),
            ("GET", ["build_info"]) => ok(&json!({
                "api": {"revision": "lab"}, "engine": {"revision": "lab"},
            })),
            ("GET", ["services"]) => ok(&json!({"services": []})),
            ("GET", ["template_versions"]) => ok(&listing::template_versions()),
            ("GET", ["resource_types"]) => {
                let kinds: Vec<&str> = schema::kinds()
                    .filter(|k| k.starts_with("OS::Heat::") || self.services().has_kind(k))
                    .collect();
                ok(&json!({"resource_types": kinds}))
            }
            ("GET", ["resource_types", kind]) => ok(&listing::resource_type(kind)?),
            ("GET", ["stacks"]) => self.list(),
            ("GET", ["stacks", "detail"]) => self.detail(),
            ("POST", ["stacks"]) => self.create(),
            (_, ["stacks", name]) => self.look_up(name, &[]),
            ("GET", ["stacks", name, rest @ ..]) if is_part(rest) => self.look_up(name, rest),
            ("POST", ["stacks", name, "actions"]) => self.look_up(name, &["actions"]),
            (_, ["stacks", name, id, rest @ ..]) => self.stack(method, name, id, rest),
            (_, ["validate" | "build_info" | "stacks" | "resource_types"]) => Err(Refusal::new(
                "HTTPMethodNotAllowed",
                "The method specified is not allowed for this resource.",
            )),
            _ => Err(not_found()),
        }
    }

    fn services(&self) -> &S {
        &self.heat.engine.services
    }

    /// Heat's default policy: readers look, members act.
    fn allow(&self, method: &str) -> Result<(), Refusal> {
        let roles = &self.caller.owner.roles;
        let has = |wanted: &[&str]| roles.iter().any(|role| wanted.contains(&role.as_str()));
        let may = match method {
            "GET" | "HEAD" => has(&["admin", "manager", "member", "reader", "service"]),
            _ => has(&["admin", "manager", "member"]),
        };
        if may || self.caller.admin { Ok(()) } else { Err(forbidden()) }
    }

    fn see<T>(&self, show: impl FnOnce(&View<'_>) -> T) -> T {
        let world = self.heat.engine.world();
        show(&View { base: &self.base, world: &world, services: self.services() })
    }

    /// A stack by its full address; deleted ones only where the caller says so.
    fn find<'w>(
        &self,
        world: &'w World,
        name: &str,
        id: &str,
        gone: bool,
    ) -> Result<&'w Stack, Refusal> {
        world
            .stacks
            .get(id)
            .filter(|s| gone || !s.is_gone())
            .filter(|s| self.caller.admin || s.identity.project == self.caller.owner.project_id)
            .filter(|s| s.identity.name == name)
            .ok_or_else(|| Refusal::not_found("Stack", name))
    }

    fn with<T>(
        &self,
        (name, id): (&str, &str),
        show: impl FnOnce(&View<'_>, &Stack) -> Result<T, Refusal>,
    ) -> Result<T, Refusal> {
        self.see(|view| show(view, self.find(view.world, name, id, false)?))
    }

    fn validate(&self) -> Answer {
        let body = intake::needed(self.request)?;
        let order = intake::order(&body, false)?;
        let identity = Identity {
            name: "dummy".to_owned(),
            id: String::new(),
            project: self.caller.owner.project_id.clone(),
        };
        let plan = self.heat.engine.plan(self.caller, &identity, &order, false).map_err(|e| {
            // The engine hands these back as an error text, the API makes them its own.
            match e.kind.as_str() {
                "StackValidationFailed" | "InvalidSchemaError" => Refusal::bad_request(e.message),
                _ => e,
            }
        })?;
        let mut out = json!({
            "Description": plan.template.description,
            "Parameters": plan.parameters.described(),
            "Environment": {
                "parameters": plan.environment.parameters,
                "parameter_defaults": plan.environment.defaults,
                "resource_registry": plan.environment.registry,
                "encrypted_param_names": [],
                "event_sinks": [],
            },
        });
        if !plan.template.groups.is_null() {
            out["ParameterGroups"] = plan.template.groups.clone();
        }
        ok(&out)
    }

    fn create(&self) -> Answer {
        let body = intake::needed(self.request)?;
        let name = intake::stack_name(&body)?;
        let order = intake::order(&body, false)?;
        let identity = self.heat.engine.create(self.caller, &name, &order)?;
        let url = self.see(|view| view.url(&identity));
        let links = json!([{"href": url, "rel": "self"}]);
        let body = json!({"stack": {"id": identity.id, "links": links}});
        Ok(server::json(StatusCode::CREATED, &body))
    }

    fn list(&self) -> Answer {
        self.see(|view| {
            let stacks = listing::stacks(&self.query, self.caller, view.world)?;
            let mut out = json!({
                "stacks": stacks.iter().map(|s| view.summary(s)).collect::<Vec<_>>(),
            });
            if self.query.truth("with_count", false)? {
                out["count"] = json!(stacks.len());
            }
            ok(&out)
        })
    }

    fn detail(&self) -> Answer {
        self.see(|view| {
            let stacks = listing::stacks(&self.query, self.caller, view.world)?;
            let stacks: Vec<Value> = stacks.iter().map(|s| view.stack(s, true)).collect();
            ok(&json!({"stacks": stacks}))
        })
    }

    /// By name or id alone Heat answers with the full address.
    fn look_up(&self, name: &str, rest: &[&str]) -> Answer {
        let location = self.see(|view| {
            let project = &self.caller.owner.project_id;
            let by_id = view.world.stacks.get(name).filter(|s| s.identity.project == *project);
            let found = by_id.or_else(|| view.world.named(project, name));
            let stack = found.ok_or_else(|| Refusal::not_found("Stack", name))?;
            let mut location = view.url(&stack.identity);
            for piece in rest {
                location = format!("{location}/{}", super::view::quote(piece));
            }
            if let Some(query) = &self.request.query {
                location = format!("{location}?{query}");
            }
            Ok::<_, Refusal>(location)
        })?;
        let mut response = server::empty(StatusCode::FOUND);
        let location = HeaderValue::from_str(&location).map_err(|_| not_found())?;
        response.headers_mut().insert(LOCATION, location);
        Ok(response)
    }

    fn stack(&self, method: &str, name: &str, id: &str, rest: &[&str]) -> Answer {
        let at = (name, id);
        match (method, rest) {
            ("GET", []) => {
                let resolve = self.query.truth("resolve_outputs", true)?;
                self.see(|view| {
                    let stack = self.find(view.world, name, id, true)?;
                    ok(&json!({"stack": view.stack(stack, resolve)}))
                })
            }
            ("PUT" | "PATCH", []) => {
                let existing = method == "PATCH";
                let body = match existing {
                    true => intake::body(self.request)?.unwrap_or_default(),
                    false => intake::needed(self.request)?,
                };
                let existing = existing || body.get("existing") == Some(&json!(true));
                let order = intake::order(&body, existing)?;
                self.with(at, |_, _| Ok(()))?;
                self.heat.engine.update(self.caller, id, order)?;
                Ok(server::empty(StatusCode::ACCEPTED))
            }
            ("DELETE", []) => {
                self.with(at, |_, _| Ok(()))?;
                self.heat.engine.delete(self.caller, id)?;
                Ok(server::empty(StatusCode::NO_CONTENT))
            }
            ("GET", ["template"]) => self.with(at, |_, s| ok(&s.plan.template.raw)),
            ("GET", ["files"]) => self.with(at, |_, s| ok(&json!(*s.plan.files))),
            ("GET", ["environment"]) => self.with(at, |_, s| {
                let environment = &s.plan.environment;
                ok(&json!({
                    "parameters": environment.parameters,
                    "parameter_defaults": environment.defaults,
                    "resource_registry": environment.registry,
                }))
            }),
            ("GET", ["outputs"]) => self.with(at, |view, s| {
                let names = s.plan.outputs.iter().map(|o| o.name.as_str());
                let outputs: Vec<Value> = names.map(|n| view.output(s, n, false)).collect();
                ok(&json!({"outputs": outputs}))
            }),
            ("GET", ["outputs", key]) => self.with(at, |view, s| {
                if !s.plan.outputs.iter().any(|o| o.name == *key) {
                    let message = format!("Specified output key {key} not found.");
                    return Err(Refusal::new("NotFound", message));
                }
                ok(&json!({"output": view.output(s, key, true)}))
            }),
            ("GET", ["resources"]) => self.with(at, |view, s| {
                ok(&json!({"resources": listing::resources(&self.query, view, s)?}))
            }),
            ("GET", ["resources", resource]) => self.with(at, |view, s| {
                let found = resource_of(s, resource)?;
                let mut shown = view.resource(s, found, true);
                for extra in self.query.all("with_attr") {
                    let value = view.outlook(s).attribute_of(found, extra, &[]);
                    shown["attributes"][extra] = value.unwrap_or(Value::Null);
                }
                ok(&json!({"resource": shown}))
            }),
            ("GET", ["resources", resource, "metadata"]) => {
                self.with(at, |_, s| ok(&json!({"metadata": resource_of(s, resource)?.metadata})))
            }
            ("POST", ["resources", resource, "signal"]) => self.signal(at, resource),
            ("GET", ["events"]) => self.with(at, |view, s| {
                ok(&json!({"events": listing::events(&self.query, view, s, None)?}))
            }),
            ("GET", ["resources", resource, "events"]) => self.with(at, |view, s| {
                let events = listing::events(&self.query, view, s, Some(resource))?;
                if events.is_empty() {
                    let message = format!("No events found for resource {resource}");
                    return Err(Refusal::new("HTTPNotFound", message));
                }
                ok(&json!({"events": events}))
            }),
            ("GET", ["resources", _, "events", event]) => self.with(at, |view, s| {
                let found = s.events.iter().find(|e| e.id == *event).ok_or_else(|| {
                    Refusal::new("HTTPNotFound", format!("No event {event} found"))
                })?;
                ok(&json!({"event": view.event(s, found, true)}))
            }),
            ("POST", ["actions"]) => self.act(at),
            _ => Err(not_found()),
        }
    }

    fn signal(&self, at: (&str, &str), resource: &str) -> Answer {
        let details = Value::Object(intake::body(self.request)?.unwrap_or_default());
        self.with(at, |_, _| Ok(()))?;
        let mut world = self.heat.engine.world();
        let stack = world.stacks.get_mut(at.1).ok_or_else(not_found)?;
        resource_of(stack, resource)?;
        own::signal(stack, resource, &details)
            .map_err(|message| Refusal::new("ResourceActionNotSupported", message))?;
        Ok(server::json(StatusCode::OK, &Value::Null))
    }

    fn act(&self, at: (&str, &str)) -> Answer {
        let body: Map<String, Value> = intake::needed(self.request)?;
        let actions: Vec<&String> = body.keys().collect();
        let [action] = actions.as_slice() else {
            return Err(Refusal::bad_request("Multiple actions specified"));
        };
        self.with(at, |_, s| match s.in_progress() {
            true => Err(Refusal::new(
                "ActionInProgress",
                format!("Stack {} already has an action ({}) in progress.", at.0, s.action),
            )),
            false => Ok(()),
        })?;
        if *action != "check" {
            return Err(Refusal::bad_request(format!("Invalid action {action} specified")));
        }
        let engine = &self.heat.engine;
        let mut world = engine.world();
        let stack = world.stacks.get_mut(at.1).ok_or_else(not_found)?;
        stack.action = Action::Check;
        let reason = "Stack CHECK completed successfully".to_owned();
        stack.set(Status::Complete, reason, engine.now(), &engine.entropy);
        Ok(server::json(StatusCode::OK, &Value::Null))
    }
}

/// Parts of a stack that may be asked for by the stack's name alone.
fn is_part(rest: &[&str]) -> bool {
    let parts = ["resources", "events", "template", "environment", "files", "outputs", "actions"];
    matches!(rest, [part] if parts.contains(part))
}

fn resource_of<'s>(stack: &'s Stack, name: &str) -> Result<&'s super::stack::Resource, Refusal> {
    stack.resources.get(name).or_else(|| stack.retired.iter().find(|r| r.name == name)).ok_or_else(
        || {
            let stack = &stack.identity.name;
            let message = format!("The Resource ({name}) could not be found in Stack {stack}.");
            Refusal::new("ResourceNotFound", message)
        },
    )
}

/// The document at the root, which needs no token.
pub fn versions(request: &Request) -> Response {
    let host = request.header("host").unwrap_or("127.0.0.1");
    let link = json!([{"href": format!("http://{host}/v1/"), "rel": "self"}]);
    let body = json!({"versions": [{"id": "v1.0", "status": "CURRENT", "links": link}]});
    match request.method {
        Method::GET => server::json(StatusCode::MULTIPLE_CHOICES, &body),
        _ => server::empty(StatusCode::METHOD_NOT_ALLOWED),
    }
}
