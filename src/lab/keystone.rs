//! Keystone's interface: tokens, and who there is. Trusts and credentials are next door.

use serde_json::{Value, json};

use super::auth::{date, login, view};
use super::heat::services::Refused;
use super::identity::{Grant, Identity, Scope, Token, User};
use super::refusal::Answer;
use super::wire::{Ask, Reply};
use super::world::{State, World};
use super::{credentials, trusts};

/// The body of every refusal.
pub(super) fn refuse(refused: &Refused) -> Reply {
    let title = match refused.status {
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        409 => "Conflict",
        405 => "Method Not Allowed",
        413 => "Request Entity Too Large",
        _ => "Internal Server Error",
    };
    let body = json!({"error": {
        "code": refused.status, "message": refused.message, "title": title,
    }});
    let reply = Reply::json(refused.status, &body);
    match refused.status {
        401 => reply.with("www-authenticate", "Keystone uri=\"/v3\""),
        _ => reply,
    }
}

fn version(base: &str) -> Value {
    json!({
        "id": "v3.14",
        "status": "stable",
        "updated": "2020-04-07T00:00:00Z",
        "links": [{"rel": "self", "href": format!("{base}/v3/")}],
        "media-types": [{"base": "application/json",
                         "type": "application/vnd.openstack.identity-v3+json"}],
    })
}

pub(super) fn forbidden(action: &str) -> Refused {
    Refused::forbidden(format!(
        "You are not authorized to perform the requested action: identity:{action}."
    ))
}

pub(super) fn absent(what: &str, id: &str) -> Refused {
    Refused::missing(format!("Could not find {what}: {id}."))
}

/// Whether the token's owner administers everything, or at least that domain.
fn administers(token: &Token, domain: &str) -> bool {
    token.roles.iter().any(|r| r == "admin")
        && match &token.scope {
            Scope::Domain(own) => own == domain,
            Scope::Project(_) | Scope::System => true,
            Scope::Unscoped => false,
        }
}

fn is_admin(token: &Token) -> bool {
    !matches!(token.scope, Scope::Domain(_)) && administers(token, "")
}

pub(super) fn answer(world: &World, ask: &Ask) -> Answer<Reply> {
    let path = ask.path();
    match (ask.method.as_str(), path.as_slice()) {
        ("GET", []) => {
            let body = json!({"versions": {"values": [version(&ask.base)]}});
            return Ok(Reply::json(300, &body));
        }
        ("GET", ["v3"]) => return Ok(Reply::json(200, &json!({"version": version(&ask.base)}))),
        ("POST", ["v3", "auth", "tokens"]) => {
            let token = login(world, &ask.body()?)?;
            let state = world.lock();
            let catalog = (ask.query("nocatalog").is_none()).then(|| catalog(&state, &token));
            let body = json!({"token": view(&state.identity, &token, catalog)});
            return Ok(Reply::json(201, &body).with("x-subject-token", token.id));
        }
        _ => {}
    }
    let now = world.clock.now();
    let mut guard = world.lock();
    let state = &mut *guard;
    let own = ask.header("x-auth-token").and_then(|id| state.identity.token(id, now)).cloned();
    let token = own.ok_or_else(Refused::unauthorised)?;
    match path.get(1..).unwrap_or_default() {
        ["auth", "tokens"] => tokens(state, &token, ask, now),
        ["users", user, "application_credentials", rest @ ..] => {
            credentials::answer(world, state, &token, ask, user, rest)
        }
        ["OS-TRUST", "trusts", rest @ ..] => trusts::answer(world, state, &token, ask, rest),
        ["users"] | ["users", _] => users(world, state, &token, ask),
        ["projects", project, "users", user, "roles", role] => {
            let place = Scope::Project((*project).to_owned());
            grants(&mut state.identity, &token, ask, place, [user, role])
        }
        ["domains", domain, "users", user, "roles", role] => {
            let place = Scope::Domain((*domain).to_owned());
            grants(&mut state.identity, &token, ask, place, [user, role])
        }
        [kind @ ("services" | "endpoints"), rest @ ..] if ask.method != "GET" => {
            if !is_admin(&token) {
                return Err(forbidden("change_catalog"));
            }
            state.registry.change(&world.entropy, ask, kind, rest.first().copied())
        }
        [kind @ ("domains" | "projects"), rest @ ..] if ask.method != "GET" => {
            if !is_admin(&token) {
                return Err(forbidden("change_resource"));
            }
            state.identity.change_place(&world.entropy, ask, kind, rest.first().copied())
        }
        _ if ask.method == "GET" => lists(state, &token, ask),
        _ => Err(Refused::missing("(http://localhost/): The resource could not be found.")),
    }
}

/// Validation and revocation.
fn tokens(
    state: &mut State,
    token: &Token,
    ask: &Ask,
    now: crate::base::clock::Timestamp,
) -> Answer<Reply> {
    let Some(id) = ask.header("x-subject-token") else {
        return Err(Refused::bad("The header X-Subject-Token is missing."));
    };
    let may = id == token.id || token.roles.iter().any(|r| r == "admin" || r == "service");
    if !may {
        return Err(forbidden("validate_token"));
    }
    let subject = state.identity.token(id, now).cloned();
    let subject = subject.ok_or_else(|| Refused::missing("Failed to validate token"))?;
    match ask.method.as_str() {
        "GET" | "HEAD" => {
            let catalog = (ask.query("nocatalog").is_none()).then(|| catalog(state, &subject));
            let body = json!({"token": view(&state.identity, &subject, catalog)});
            Ok(Reply::json(200, &body).with("x-subject-token", subject.id))
        }
        "DELETE" => {
            state.identity.tokens.remove(id);
            Ok(Reply::empty(204))
        }
        _ => Err(Refused::new(405, "MethodNotAllowed", "The method is not allowed here.")),
    }
}

/// The catalogue of a scoped token.
fn catalog(state: &State, token: &Token) -> Value {
    match &token.scope {
        Scope::Unscoped => json!([]),
        Scope::Project(id) => state.registry.catalog(Some(id)),
        _ => state.registry.catalog(None),
    }
}

fn users(world: &World, state: &mut State, token: &Token, ask: &Ask) -> Answer<Reply> {
    let identity = &mut state.identity;
    let id = ask.path.get(2);
    match (ask.method.as_str(), id) {
        ("GET", None) => {
            let domain = ask.query("domain_id");
            let may = |u: &&User| administers(token, &u.domain_id);
            if !domain
                .map_or_else(|| token.roles.iter().any(|r| r == "admin"), |d| administers(token, d))
            {
                return Err(forbidden("list_users"));
            }
            let fits = |u: &&User| {
                domain.is_none_or(|d| u.domain_id == d)
                    && ask.query("name").is_none_or(|n| u.name == n)
            };
            let users: Vec<Value> =
                identity.users.iter().filter(may).filter(fits).map(user_view).collect();
            Ok(Reply::json(200, &json!({"users": users, "links": links(ask)})))
        }
        ("POST", None) => {
            let body = ask.body()?;
            let user = &body["user"];
            let domain = match (user["domain_id"].as_str(), &token.scope) {
                (Some(domain), _) => domain.to_owned(),
                (None, Scope::Domain(own)) => own.clone(),
                (None, _) => "default".to_owned(),
            };
            if !administers(token, &domain) {
                return Err(forbidden("create_user"));
            }
            let Some(name) = user["name"].as_str() else {
                return Err(Refused::bad("'name' is a required property of 'user'."));
            };
            let password = user["password"].as_str().unwrap_or_default();
            let made = identity.create_user(&world.entropy, name, &domain, password)?;
            let made = identity.users.iter_mut().find(|u| u.id == made.id).expect("just made");
            made.description = user["description"].as_str().unwrap_or_default().to_owned();
            made.enabled = user["enabled"].as_bool().unwrap_or(true);
            Ok(Reply::json(201, &json!({"user": user_view(made)})))
        }
        (method, Some(id)) => {
            let user = identity.user(id).ok_or_else(|| absent("user", id))?;
            let admin = administers(token, &user.domain_id);
            match method {
                "GET" if admin || user.id == token.user_id => {
                    Ok(Reply::json(200, &json!({"user": user_view(user)})))
                }
                "GET" => Err(forbidden("get_user")),
                "PATCH" if admin => {
                    let body = ask.body()?;
                    let change = &body["user"];
                    let (password, enabled) =
                        (change["password"].as_str(), change["enabled"].as_bool());
                    let shown = identity.change_user(id, password, enabled, world.clock.now())?;
                    Ok(Reply::json(200, &json!({"user": user_view(shown)})))
                }
                "PATCH" => Err(forbidden("update_user")),
                "DELETE" if admin => {
                    identity.delete_user(id)?;
                    Ok(Reply::empty(204))
                }
                "DELETE" => Err(forbidden("delete_user")),
                _ => Err(Refused::new(405, "MethodNotAllowed", "The method is not allowed here.")),
            }
        }
        _ => Err(Refused::new(405, "MethodNotAllowed", "The method is not allowed here.")),
    }
}

/// Roles given to users on projects and domains, and taken away.
fn grants(
    identity: &mut Identity,
    token: &Token,
    ask: &Ask,
    scope: Scope,
    [user, role]: [&str; 2],
) -> Answer<Reply> {
    if !is_admin(token) {
        return Err(forbidden("create_grant"));
    }
    let role = identity.role(role).ok_or_else(|| absent("role", role))?.name.clone();
    identity.user(user).ok_or_else(|| absent("user", user))?;
    match &scope {
        Scope::Domain(id) => drop(identity.domain(id).ok_or_else(|| absent("domain", id))?),
        Scope::Project(id) => drop(identity.project(id).ok_or_else(|| absent("project", id))?),
        Scope::System | Scope::Unscoped => {}
    }
    let grant = Grant { user: user.to_owned(), scope, role };
    let has = identity.grants.contains(&grant);
    match ask.method.as_str() {
        "PUT" if !has => identity.grants.push(grant),
        "PUT" => {}
        "DELETE" | "HEAD" if !has => return Err(absent("role assignment", role_name(&grant))),
        "DELETE" => identity.end_grant(&grant),
        "HEAD" => {}
        _ => return Err(Refused::new(405, "MethodNotAllowed", "The method is not allowed here.")),
    }
    Ok(Reply::empty(204))
}

fn role_name(grant: &Grant) -> &str {
    &grant.role
}

/// What there is only to read.
fn lists(state: &State, token: &Token, ask: &Ask) -> Answer<Reply> {
    let identity = &state.identity;
    let path = ask.path();
    let path = path.get(1..).unwrap_or_default();
    let member_of = |project: &str| {
        !identity.roles_of(&token.user_id, &Scope::Project(project.to_owned())).is_empty()
    };
    let project = |p: &super::identity::Project| {
        json!({"id": p.id, "name": p.name, "domain_id": p.domain_id, "parent_id": p.domain_id,
               "enabled": true, "is_domain": false, "description": p.description, "tags": [],
               "options": {}})
    };
    let (key, all): (&str, Vec<Value>) = match path {
        ["auth", "catalog"] => ("catalog", value_list(catalog(state, token))),
        ["auth", "projects"] | ["users", _, "projects"] => {
            let user = if path[0] == "users" { path[1] } else { &token.user_id };
            if user != token.user_id && !is_admin(token) {
                return Err(forbidden("list_user_projects"));
            }
            let mine = |p: &&super::identity::Project| {
                !identity.roles_of(user, &Scope::Project(p.id.clone())).is_empty()
            };
            ("projects", identity.projects.iter().filter(mine).map(project).collect())
        }
        ["auth", "domains"] | ["auth", "system"] => (path[1], Vec::new()),
        ["projects", id] => {
            let found = identity.project(id).filter(|p| is_admin(token) || member_of(&p.id));
            let found = found.ok_or_else(|| absent("project", id))?;
            return Ok(Reply::json(200, &json!({"project": project(found)})));
        }
        _ if !token.roles.iter().any(|r| r == "admin") => {
            let action = format!("list_{}", path.first().copied().unwrap_or_default());
            return Err(forbidden(&action));
        }
        ["projects", ..] => ("projects", identity.projects.iter().map(project).collect()),
        ["domains", ..] => {
            let of = |d: &super::identity::Domain| json!({"id": d.id, "name": d.name, "enabled": d.enabled, "description": d.description, "options": {}});
            ("domains", identity.domains.iter().map(of).collect())
        }
        ["roles", ..] => {
            let of = |r: &super::identity::Role| json!({"id": r.id, "name": r.name, "domain_id": Value::Null, "options": {}});
            ("roles", identity.roles.iter().map(of).collect())
        }
        ["services", ..] => ("services", state.registry.service_views()),
        ["endpoints", ..] => ("endpoints", state.registry.endpoint_views()),
        ["regions", ..] => {
            let view = |id: &str| json!({"id": id, "description": "", "parent_region_id": null});
            ("regions", state.registry.regions().into_iter().map(view).collect())
        }
        ["role_assignments"] => {
            let of = |g: &Grant| {
                let domain = |id: &str| json!({"id": id, "name": identity.domain(id).map(|d| d.name.as_str())});
                let scope = match &g.scope {
                    Scope::Project(id) => {
                        let project = identity.project(id);
                        let home = project.map(|p| domain(&p.domain_id));
                        let name = project.map(|p| p.name.as_str());
                        json!({"project": {"id": id, "name": name, "domain": home}})
                    }
                    Scope::Domain(id) => json!({"domain": domain(id)}),
                    _ => json!({"system": {"all": true}}),
                };
                let role = identity.role(&g.role).map(|r| json!({"id": r.id, "name": r.name}));
                let user = identity.user(&g.user);
                let home = user.map(|u| domain(&u.domain_id));
                let name = user.map(|u| u.name.as_str());
                json!({"user": {"id": g.user, "name": name, "domain": home}, "role": role,
                       "scope": scope, "links": {}})
            };
            ("role_assignments", identity.grants.iter().map(of).collect())
        }
        _ => return Err(Refused::missing("The resource could not be found.")),
    };
    // One thing by id, or the list by its filters.
    if let [_, id] = path
        && path[0] != "auth"
    {
        let one = all.into_iter().find(|v| v["id"] == *id);
        let singular = key.trim_end_matches('s');
        let one = one.ok_or_else(|| absent(singular, id))?;
        return Ok(Reply::json(200, &json!({ (singular): one })));
    }
    let fits = |value: &Value| {
        ask.query.iter().all(|(k, wanted)| {
            value[k.as_str()].is_null() || value[k.as_str()].as_str().is_none_or(|v| v == wanted)
        })
    };
    let list: Vec<Value> = all.into_iter().filter(fits).collect();
    Ok(Reply::json(200, &json!({ (key): list, "links": links(ask) })))
}

fn value_list(value: Value) -> Vec<Value> {
    match value {
        Value::Array(list) => list,
        _ => Vec::new(),
    }
}

pub(super) fn links(ask: &Ask) -> Value {
    let href = format!("{}/{}", ask.base, ask.path.join("/"));
    json!({"self": href, "previous": Value::Null, "next": Value::Null})
}

fn user_view(user: &User) -> Value {
    json!({
        "id": user.id,
        "name": user.name,
        "domain_id": user.domain_id,
        "enabled": user.enabled,
        "description": user.description,
        "password_expires_at": Value::Null,
        "options": {},
    })
}

/// A date a client sent, such as a trust's end.
pub(super) fn end(value: &Value) -> Answer<Option<crate::base::clock::Timestamp>> {
    let Some(text) = value.as_str() else { return Ok(None) };
    let zoned = if text.ends_with('Z') { text.to_owned() } else { format!("{text}Z") };
    let parsed = crate::base::clock::Timestamp::parse(&zoned);
    parsed.map(Some).ok_or_else(|| {
        Refused::bad(format!("Invalid input for field 'expires_at': '{text}' is not a date-time."))
    })
}

/// A date or null.
pub(super) fn date_or_null(at: Option<crate::base::clock::Timestamp>) -> Value {
    at.map_or(Value::Null, |at| json!(date(at)))
}
