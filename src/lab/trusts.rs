//! `/v3/OS-TRUST/trusts`.

use hyper::Method;
use serde_json::{Value, json};

use super::heat::services::Refused;
use super::identity::{Identity, NewTrust, Token, Trust};
use super::keystone::{absent, date_or_null, end, forbidden, links};
use super::refusal::Answer;
use super::wire::{Ask, Reply};
use super::world::{State, World};

pub(super) fn answer(
    world: &World,
    state: &mut State,
    token: &Token,
    ask: &Ask,
    rest: &[&str],
) -> Answer<Reply> {
    let identity = &mut state.identity;
    let admin = token.roles.iter().any(|r| r == "admin");
    if ask.method != Method::POST && identity.is_restricted(token) {
        return Err(Refused::forbidden(
            "You are not authorized to perform the requested action: \
             Delegated tokens cannot manage trusts..",
        ));
    }
    match (ask.method.as_str(), rest) {
        ("POST", []) => {
            let body = ask.body()?;
            let trust = create(world, identity, token, &body["trust"])?;
            Ok(Reply::json(201, &json!({"trust": view(identity, &trust)})))
        }
        ("GET", []) => {
            let (trustor, trustee) = (ask.query("trustor_user_id"), ask.query("trustee_user_id"));
            // Each side may list its own trusts; all of them only administrators.
            let own = trustor == Some(&token.user_id) || trustee == Some(&token.user_id);
            if !own && !admin {
                return Err(forbidden("list_trusts"));
            }
            let fits = |t: &&Trust| {
                trustor.is_none_or(|id| t.trustor == id) && trustee.is_none_or(|id| t.trustee == id)
            };
            let trusts: Vec<Value> =
                identity.trusts.values().filter(fits).map(|t| view(identity, t)).collect();
            Ok(Reply::json(200, &json!({"trusts": trusts, "links": links(ask)})))
        }
        (method, [id, rest @ ..]) => {
            let trust = identity.trusts.get(*id).ok_or_else(|| absent("trust", id))?;
            let trustor = trust.trustor == token.user_id;
            let trustee = trust.trustee == token.user_id;
            match (method, rest) {
                ("GET", []) if trustor || trustee || admin => {
                    Ok(Reply::json(200, &json!({"trust": view(identity, trust)})))
                }
                ("GET", []) => Err(forbidden("get_trust")),
                ("GET", ["roles"]) if trustor || trustee || admin => {
                    let roles = view(identity, trust)["roles"].take();
                    Ok(Reply::json(200, &json!({"roles": roles, "links": links(ask)})))
                }
                ("DELETE", []) if trustor || admin => {
                    identity.end_trust(id);
                    Ok(Reply::empty(204))
                }
                ("DELETE", []) => Err(forbidden("delete_trust")),
                _ => Err(Refused::new(405, "MethodNotAllowed", "The method is not allowed here.")),
            }
        }
        _ => Err(Refused::new(405, "MethodNotAllowed", "The method is not allowed here.")),
    }
}

fn create(world: &World, identity: &mut Identity, token: &Token, body: &Value) -> Answer<Trust> {
    let required = |key: &str| {
        body[key]
            .as_str()
            .map(str::to_owned)
            .ok_or_else(|| Refused::bad(format!("'{key}' is a required property of 'trust'.")))
    };
    let Some(impersonation) = body["impersonation"].as_bool() else {
        return Err(Refused::bad("'impersonation' is a required property of 'trust'."));
    };
    let roles = body["roles"].as_array().map(Vec::as_slice).unwrap_or_default();
    let name = |role: &Value| role["id"].as_str().or(role["name"].as_str()).map(str::to_owned);
    let wanted = NewTrust {
        trustor: required("trustor_user_id")?,
        trustee: required("trustee_user_id")?,
        project: required("project_id")?,
        roles: roles.iter().filter_map(name).collect(),
        impersonation,
        expires_at: end(&body["expires_at"])?,
    };
    identity.create_trust(&world.entropy, token, wanted)
}

fn view(identity: &Identity, trust: &Trust) -> Value {
    let roles = trust.roles.iter().filter_map(|name| identity.role(name));
    json!({
        "id": trust.id,
        "trustor_user_id": trust.trustor,
        "trustee_user_id": trust.trustee,
        "project_id": trust.project,
        "impersonation": trust.impersonation,
        "roles": roles.map(|r| json!({"id": r.id, "name": r.name})).collect::<Vec<_>>(),
        "expires_at": date_or_null(trust.expires_at),
        "deleted_at": Value::Null,
        "remaining_uses": Value::Null,
        "redelegation_count": 0,
    })
}
