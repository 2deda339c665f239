//! `/v3/users/{id}/application_credentials`.

use serde_json::{Value, json};

use super::heat::services::Refused;
use super::identity::{Credential, Identity, Scope, Token};
use super::keystone::{absent, date_or_null, end, forbidden, links};
use super::refusal::Answer;
use super::wire::{Ask, Reply};
use super::world::{State, World};

pub(super) fn answer(
    world: &World,
    state: &mut State,
    token: &Token,
    ask: &Ask,
    user: &str,
    rest: &[&str],
) -> Answer<Reply> {
    let identity = &mut state.identity;
    if token.user_id != user {
        return Err(forbidden("list_application_credentials"));
    }
    let mine = |c: &&Credential| c.user_id == user;
    match (ask.method.as_str(), rest) {
        ("GET", []) => {
            let all = identity.credentials.values().filter(mine);
            let named = all.filter(|c| ask.query("name").is_none_or(|n| n == c.name));
            let list: Vec<Value> = named.map(|c| view(identity, c)).collect();
            Ok(Reply::json(200, &json!({"application_credentials": list, "links": links(ask)})))
        }
        ("POST", []) => {
            let body = ask.body()?;
            let credential = create(world, identity, token, &body["application_credential"])?;
            let mut shown = view(identity, &credential);
            shown["secret"] = json!(credential.secret);
            Ok(Reply::json(201, &json!({"application_credential": shown})))
        }
        (method, [id]) => {
            let found = identity.credentials.get(*id).filter(mine);
            let found = found.ok_or_else(|| absent("application credential", id))?;
            match method {
                "GET" => {
                    let body = json!({"application_credential": view(identity, found)});
                    Ok(Reply::json(200, &body))
                }
                "DELETE" => {
                    identity.credentials.remove(*id);
                    identity.tokens.retain(|_, t| t.credential.as_deref() != Some(*id));
                    Ok(Reply::empty(204))
                }
                _ => Err(Refused::new(405, "MethodNotAllowed", "The method is not allowed here.")),
            }
        }
        _ => Err(Refused::new(405, "MethodNotAllowed", "The method is not allowed here.")),
    }
}

fn create(
    world: &World,
    identity: &mut Identity,
    token: &Token,
    body: &Value,
) -> Answer<Credential> {
    let Scope::Project(project) = &token.scope else {
        return Err(forbidden("create_application_credential"));
    };
    let parent = token.credential.as_ref().and_then(|id| identity.credentials.get(id));
    if token.trust.is_some() || parent.is_some_and(|c| !c.unrestricted) {
        return Err(Refused::forbidden(
            "Using method 'application_credential' is not allowed for managing additional \
             application credentials.",
        ));
    }
    let Some(name) = body["name"].as_str().filter(|n| !n.is_empty()) else {
        return Err(Refused::bad("'name' is a required property of 'application_credential'."));
    };
    if identity.credentials.values().any(|c| c.user_id == token.user_id && c.name == name) {
        return Err(Refused::conflict(format!(
            "Conflict occurred attempting to store application_credential - Duplicate entry \
             found with name {name}."
        )));
    }
    let mut roles = token.roles.clone();
    if let Some(wanted) = body["roles"].as_array() {
        roles.clear();
        for wish in wanted {
            let wish = wish["id"].as_str().or(wish["name"].as_str()).unwrap_or_default();
            match identity.role(wish) {
                Some(role) if token.roles.contains(&role.name) => roles.push(role.name.clone()),
                _ => return Err(absent("role", wish)),
            }
        }
    }
    let credential = Credential {
        id: world.entropy.hex_token(),
        name: name.to_owned(),
        secret: body["secret"].as_str().map_or_else(|| world.entropy.password(), str::to_owned),
        user_id: token.user_id.clone(),
        project_id: project.clone(),
        roles,
        unrestricted: body["unrestricted"].as_bool().unwrap_or(false),
        expires_at: end(&body["expires_at"])?,
    };
    identity.credentials.insert(credential.id.clone(), credential.clone());
    Ok(credential)
}

fn view(identity: &Identity, credential: &Credential) -> Value {
    let roles = credential.roles.iter().filter_map(|name| identity.role(name));
    json!({
        "id": credential.id,
        "name": credential.name,
        "description": Value::Null,
        "project_id": credential.project_id,
        "user_id": credential.user_id,
        "roles": roles.map(|r| json!({"id": r.id, "name": r.name})).collect::<Vec<_>>(),
        "unrestricted": credential.unrestricted,
        "expires_at": date_or_null(credential.expires_at),
    })
}
