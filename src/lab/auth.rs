//! `POST /v3/auth/tokens`: who proves what, and for which scope.

use serde_json::{Value, json};

use crate::base::clock::Timestamp;

use super::heat::services::Refused;
use super::identity::{Identity, Scope, Token, User, with_implied};
use super::refusal::Answer;
use super::world::{State, World};

/// Whoever has proved who they are.
struct Proven {
    user: User,
    method: &'static str,
    /// A token's own end, which rescoping cannot push back.
    ends: Option<Timestamp>,
    credential: Option<String>,
}

/// Logs in; the new token is kept and returned.
pub(super) fn login(world: &World, body: &Value) -> Answer<Token> {
    let now = world.clock.now();
    let mut guard = world.lock();
    let state = &mut *guard;
    let auth = &body["auth"];
    if !auth["identity"].is_object() {
        return Err(Refused::bad("'identity' is a required property of 'auth'."));
    }
    let proven = prove(&state.identity, &auth["identity"], now)?;
    let mut token = scoped(state, &proven, &auth["scope"], now)?;
    token.id = format!("gAAAAAB{}{}", world.entropy.hex_token(), world.entropy.hex_token());
    token.audit_id = world.entropy.hex_token()[..22].to_owned();
    state.identity.tokens.retain(|_, t| t.expires_at > now);
    state.identity.tokens.insert(token.id.clone(), token.clone());
    Ok(token)
}

fn prove(identity: &Identity, given: &Value, now: Timestamp) -> Answer<Proven> {
    let methods = given["methods"].as_array().map(Vec::as_slice).unwrap_or_default();
    let Some(method) = methods.first().and_then(Value::as_str) else {
        return Err(Refused::bad("'methods' is a required property of 'identity'."));
    };
    let denied = Refused::unauthorised;
    match method {
        "password" => {
            let user = find_user(identity, &given["password"]["user"])?;
            let password = given["password"]["user"]["password"].as_str();
            if password != Some(user.password.as_str()) || !user.enabled {
                return Err(denied());
            }
            Ok(Proven { user: user.clone(), method: "password", ends: None, credential: None })
        }
        "token" => {
            let id = given["token"]["id"].as_str().unwrap_or_default();
            let token = identity.token(id, now).ok_or_else(denied)?;
            if token.trust.is_some() || token.credential.is_some() {
                return Err(Refused::forbidden(
                    "You are not authorized to perform the requested action: \
                     rescope a scoped token.",
                ));
            }
            let user = identity.user(&token.user_id).ok_or_else(denied)?.clone();
            Ok(Proven { user, method: "token", ends: Some(token.expires_at), credential: None })
        }
        "application_credential" => {
            let given = &given["application_credential"];
            let found = match given["id"].as_str() {
                Some(id) => identity.credentials.get(id),
                None => {
                    let owner = find_user(identity, &given["user"])?;
                    let name = given["name"].as_str();
                    let mut all = identity.credentials.values();
                    all.find(|c| c.user_id == owner.id && Some(c.name.as_str()) == name)
                }
            };
            let credential = found.ok_or_else(denied)?;
            let alive = credential.expires_at.is_none_or(|end| end > now);
            if given["secret"].as_str() != Some(credential.secret.as_str()) || !alive {
                return Err(denied());
            }
            let user = identity.user(&credential.user_id).filter(|u| u.enabled);
            let user = user.ok_or_else(denied)?.clone();
            let (method, ends) = ("application_credential", credential.expires_at);
            Ok(Proven { user, method, ends, credential: Some(credential.id.clone()) })
        }
        _ => Err(denied()),
    }
}

fn find_user<'i>(identity: &'i Identity, given: &Value) -> Answer<&'i User> {
    if let Some(id) = given["id"].as_str() {
        return identity.user(id).ok_or_else(Refused::unauthorised);
    }
    let domain = domain_id(identity, &given["domain"])?;
    let Some(name) = given["name"].as_str() else {
        return Err(Refused::bad("'user' needs an 'id', or a 'name' and a 'domain'."));
    };
    identity.user_named(name, &domain).ok_or_else(Refused::unauthorised)
}

fn domain_id(identity: &Identity, given: &Value) -> Answer<String> {
    let found = match (given["id"].as_str(), given["name"].as_str()) {
        (Some(id), _) => identity.domain(id),
        (None, Some(name)) => identity.domains.iter().find(|d| d.name.eq_ignore_ascii_case(name)),
        (None, None) => {
            return Err(Refused::bad("A 'domain' with an 'id' or a 'name' is required."));
        }
    };
    Ok(found.ok_or_else(Refused::unauthorised)?.id.clone())
}

fn scoped(state: &State, proven: &Proven, wanted: &Value, now: Timestamp) -> Answer<Token> {
    let identity = &state.identity;
    let life = now.plus(state.token_life);
    let mut token = Token {
        id: String::new(),
        user_id: proven.user.id.clone(),
        scope: Scope::Unscoped,
        roles: Vec::new(),
        methods: vec![proven.method.to_owned()],
        issued_at: now,
        expires_at: proven.ends.map_or(life, |end| end.min(life)),
        audit_id: String::new(),
        trust: None,
        credential: proven.credential.clone(),
    };
    if let Some(credential) = proven.credential.as_ref().and_then(|c| identity.credentials.get(c)) {
        if wanted.is_object() {
            return Err(Refused::unauthorised());
        }
        token.scope = Scope::Project(credential.project_id.clone());
        let still = identity.roles_of(&token.user_id, &token.scope);
        token.roles = credential.roles.iter().filter(|r| still.contains(r)).cloned().collect();
    } else if let Some(trust) = wanted["OS-TRUST:trust"]["id"].as_str() {
        through_trust(identity, &mut token, trust, now)?;
    } else if let Some(scope) = wanted_scope(identity, wanted)? {
        token.roles = identity.roles_of(&token.user_id, &scope);
        token.scope = scope;
    }
    if token.scope != Scope::Unscoped && token.roles.is_empty() {
        return Err(Refused::unauthorised());
    }
    Ok(token)
}

/// A trust hands over what the trustor still has; with impersonation also who they are.
fn through_trust(identity: &Identity, token: &mut Token, id: &str, now: Timestamp) -> Answer<()> {
    let trust = identity.trusts.get(id).filter(|t| t.expires_at.is_none_or(|end| end > now));
    let trust = trust.ok_or_else(|| Refused::missing(format!("Could not find trust: {id}.")))?;
    if trust.trustee != token.user_id {
        return Err(Refused::forbidden("User is not a trustee."));
    }
    if identity.user(&trust.trustor).is_none_or(|trustor| !trustor.enabled) {
        return Err(Refused::forbidden("Trustor is disabled."));
    }
    let scope = Scope::Project(trust.project.clone());
    let still = identity.roles_of(&trust.trustor, &scope);
    if trust.roles.iter().any(|role| !still.contains(role)) {
        return Err(Refused::forbidden(
            "Trustor no longer has the roles that the trust delegates.",
        ));
    }
    // A trusted role brings the weaker ones along, as a granted one does.
    token.roles = with_implied(trust.roles.clone());
    token.scope = scope;
    token.trust = Some(trust.id.clone());
    if trust.impersonation {
        token.user_id.clone_from(&trust.trustor);
    }
    if let Some(end) = trust.expires_at {
        token.expires_at = token.expires_at.min(end);
    }
    Ok(())
}

fn wanted_scope(identity: &Identity, wanted: &Value) -> Answer<Option<Scope>> {
    let denied = Refused::unauthorised;
    if let Some(project) = wanted.get("project") {
        let found = match project["id"].as_str() {
            Some(id) => identity.project(id),
            None => {
                let domain = domain_id(identity, &project["domain"])?;
                let name = project["name"].as_str();
                let mut all = identity.projects.iter();
                all.find(|p| p.domain_id == domain && Some(p.name.as_str()) == name)
            }
        };
        return Ok(Some(Scope::Project(found.ok_or_else(denied)?.id.clone())));
    }
    if let Some(domain) = wanted.get("domain") {
        return Ok(Some(Scope::Domain(domain_id(identity, domain)?)));
    }
    Ok(wanted["system"]["all"].as_bool().filter(|all| *all).map(|_| Scope::System))
}

/// The `token` object, as logins and validations answer it.
pub(super) fn view(identity: &Identity, token: &Token, catalog: Option<Value>) -> Value {
    let domain = |id: &str| {
        let name = identity.domain(id).map(|d| d.name.as_str()).unwrap_or_default();
        json!({"id": id, "name": name})
    };
    let user = identity.user(&token.user_id);
    let mut view = json!({
        "methods": token.methods,
        "user": {
            "id": token.user_id,
            "name": user.map(|u| u.name.as_str()).unwrap_or_default(),
            "domain": domain(user.map(|u| u.domain_id.as_str()).unwrap_or_default()),
            "password_expires_at": Value::Null,
        },
        "audit_ids": [token.audit_id],
        "issued_at": date(token.issued_at),
        "expires_at": date(token.expires_at),
    });
    match &token.scope {
        Scope::Unscoped => return view,
        Scope::Project(id) => {
            let project = identity.project(id);
            view["project"] = json!({
                "id": id,
                "name": project.map(|p| p.name.as_str()).unwrap_or_default(),
                "domain": domain(project.map(|p| p.domain_id.as_str()).unwrap_or_default()),
            });
            view["is_domain"] = json!(false);
        }
        Scope::Domain(id) => view["domain"] = domain(id),
        Scope::System => view["system"] = json!({"all": true}),
    }
    let roles = token.roles.iter().filter_map(|name| identity.role(name));
    view["roles"] = roles.map(|r| json!({"id": r.id, "name": r.name})).collect();
    if let Some(trust) = token.trust.as_ref().and_then(|id| identity.trusts.get(id)) {
        view["OS-TRUST:trust"] = json!({
            "id": trust.id,
            "impersonation": trust.impersonation,
            "trustor_user": {"id": trust.trustor},
            "trustee_user": {"id": trust.trustee},
        });
    }
    if let Some(credential) = token.credential.as_ref().and_then(|id| identity.credentials.get(id))
    {
        view["application_credential"] = json!({
            "id": credential.id,
            "name": credential.name,
            "restricted": !credential.unrestricted,
        });
    }
    if let Some(catalog) = catalog {
        view["catalog"] = catalog;
    }
    view
}

/// Keystone's dates end in Z.
pub(super) fn date(at: Timestamp) -> String {
    at.to_string().replace("+00:00", "Z")
}
