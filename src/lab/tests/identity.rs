//! Logins, validation, trustees, trusts, credentials.

use std::time::Duration;

use serde_json::{Value, json};

use super::Tenant;

const DEFAULT: &str = r#"{"name": "Default"}"#;

fn domain() -> Value {
    serde_json::from_str(DEFAULT).unwrap()
}

impl Tenant {
    async fn domain_admin(&self) -> (String, String) {
        let told = self
            .login(
                json!({"name": "magnum_domain_admin", "domain": {"name": "magnum"},
                       "password": "secret"}),
                json!({"domain": {"name": "magnum"}}),
            )
            .await;
        assert_eq!(told.status, 201, "{}", told.text);
        assert!(told.body["token"]["project"].is_null());
        (told.subject, told.body["token"]["domain"]["id"].as_str().unwrap().to_owned())
    }

    async fn trustee(&self, name: &str) -> String {
        let (admin, domain) = self.domain_admin().await;
        let user = json!({"user": {"name": name, "password": "pw", "domain_id": domain}});
        let made = self.send("POST", self.url("identity", "/users"), &admin, user).await;
        assert_eq!(made.status, 201, "{}", made.text);
        made.body["user"]["id"].as_str().unwrap().to_owned()
    }

    /// Who owns a token, as the service account learns it.
    async fn whose(&self, token: &str) -> Value {
        let service = self.token("magnum", "service").await;
        let url = self.url("identity", "/auth/tokens?nocatalog");
        let mut told = self.try_send("GET", url, &service, token, None).await.unwrap();
        told.body["token"].take()
    }

    async fn make_trust(
        &self,
        token: &str,
        trustor: &str,
        trustee: &str,
        project: &str,
        role: &str,
    ) -> super::Told {
        let body = json!({"trust": {
            "trustor_user_id": trustor, "trustee_user_id": trustee, "project_id": project,
            "impersonation": true, "roles": [{"name": role}],
        }});
        self.send("POST", self.url("identity", "/OS-TRUST/trusts"), token, body).await
    }
}

#[tokio::test]
async fn logins_of_every_kind() {
    let t = Tenant::quick().await;
    let demo = || json!({"name": "demo", "domain": domain(), "password": "secret"});
    let project = |name: &str| json!({"project": {"name": name, "domain": domain()}});
    let good = t.login(demo(), project("demo")).await;
    let token = &good.body["token"];
    assert_eq!(token["user"]["name"], "demo");
    let catalog = token["catalog"].as_array().unwrap();
    let heat = catalog.iter().find(|s| s["type"] == "orchestration").unwrap();
    let url = heat["endpoints"][0]["url"].as_str().unwrap();
    assert!(url.ends_with(token["project"]["id"].as_str().unwrap()), "{url}");
    let roles: Vec<&str> =
        token["roles"].as_array().unwrap().iter().map(|r| r["name"].as_str().unwrap()).collect();
    assert!(roles.contains(&"member") && roles.contains(&"reader"), "{roles:?}");

    let wrong = json!({"name": "demo", "domain": domain(), "password": "Secret"});
    for (who, scope) in [
        (wrong, project("demo")),
        (json!({"name": "nobody", "domain": domain(), "password": "secret"}), Value::Null),
        (demo(), project("alt")),
        (demo(), project("nowhere")),
        (demo(), json!({"system": {"all": true}})),
        (demo(), json!({"domain": {"name": "magnum"}})),
    ] {
        let told = t.login(who, scope).await;
        assert_eq!(told.status, 401);
        let sentence = "The request you have made requires authentication.";
        assert_eq!(told.body["error"]["message"], sentence);
    }
    let unscoped = t.login(demo(), Value::Null).await;
    assert!(
        unscoped.body["token"]["catalog"].is_null() && unscoped.body["token"]["roles"].is_null()
    );

    let url = t.url("identity", "/auth/tokens");
    let rescope = json!({"auth": {
        "identity": {"methods": ["token"], "token": {"id": unscoped.subject}},
        "scope": project("demo"),
    }});
    assert_eq!(t.send("POST", url.clone(), "", rescope).await.status, 201);
    for body in [json!({}), json!({"auth": {"identity": {}}}), json!([1]), json!("x")] {
        assert_eq!(t.send("POST", url.clone(), "", body).await.status, 400);
    }
    t.lab.set_api_url("http://127.0.0.1:7/v1");
    let again = t.login(demo(), project("demo")).await;
    assert!(again.text.contains("http://127.0.0.1:7/v1"));
}

#[tokio::test]
async fn only_services_validate_and_only_what_lives() {
    let t = Tenant::quick().await;
    let (service, demo) = (t.token("magnum", "service").await, t.token("demo", "demo").await);
    let url = || t.url("identity", "/auth/tokens");
    let validate = async |own: &str, subject: &str| {
        t.try_send("GET", url(), own, subject, None).await.unwrap().status
    };
    assert_eq!(validate(&service, &demo).await, 200);
    assert_eq!(validate(&demo, &demo).await, 200, "one's own");
    assert_eq!(validate(&demo, &service).await, 403);
    assert_eq!(validate(&service, "gAAAA-nonsense").await, 404);
    assert_eq!(validate("gAAAA-nonsense", &demo).await, 401);
    assert_eq!(t.try_send("DELETE", url(), &demo, &demo, None).await.unwrap().status, 204);
    assert_eq!(validate(&service, &demo).await, 404, "revoked");

    t.lab.set_token_life(Duration::from_secs(1));
    let brief = t.token("demo", "demo").await;
    t.until("the token ends", async || validate(&service, &brief).await == 404).await;
    t.lab.revoke_tokens();
    assert_eq!(validate(&service, &brief).await, 401, "our own ended as well");
}

#[tokio::test]
async fn a_trust_hands_over_roles_and_ends_with_its_people() {
    let t = Tenant::quick().await;
    let demo = t.token("demo", "demo").await;
    let owner = t.whose(&demo).await;
    let id = |value: &Value| value["id"].as_str().unwrap().to_owned();
    let (user, project) = (id(&owner["user"]), id(&owner["project"]));
    let trustee = t.trustee("cluster-1").await;
    let (admin, domain) = t.domain_admin().await;

    // The same name again is refused, and in another's domain nothing may be made.
    for (domain, status) in [(domain.as_str(), 409), ("default", 403)] {
        let again = json!({"user": {"name": "cluster-1", "domain_id": domain}});
        assert_eq!(t.send("POST", t.url("identity", "/users"), &admin, again).await.status, status);
    }
    let url = t.url("identity", &format!("/users?name=cluster-1&domain_id={domain}"));
    assert_eq!(t.get(url.clone(), &admin).await.body["users"][0]["id"], trustee);
    assert_eq!(t.get(url, &demo).await.status, 403);

    let missing = t.make_trust(&demo, &user, &trustee, &project, "admin").await;
    assert_eq!(
        (missing.status, missing.body["error"]["message"].as_str().unwrap()),
        (404, "Could not find role: admin.")
    );
    assert_eq!(t.make_trust(&demo, &user, "nobody", &project, "member").await.status, 404);
    let alt = t.token("alt", "alt").await;
    assert_eq!(t.make_trust(&alt, &user, &trustee, &project, "member").await.status, 403);
    let made = t.make_trust(&demo, &user, &trustee, &project, "member").await;
    assert_eq!(made.status, 201, "{}", made.text);
    let trust = id(&made.body["trust"]);

    let login = || {
        t.login(json!({"id": trustee, "password": "pw"}), json!({"OS-TRUST:trust": {"id": trust}}))
    };
    let session = login().await;
    assert_eq!(session.status, 201, "{}", session.text);
    let seen = t.whose(&session.subject).await;
    assert_eq!(seen["user"]["id"], user, "impersonation");
    assert_eq!(seen["OS-TRUST:trust"]["trustee_user"]["id"], trustee);
    assert_eq!(seen["roles"].as_array().unwrap().len(), 2, "member and reader");
    let second = t.make_trust(&session.subject, &user, &trustee, &project, "member").await;
    assert_eq!(second.status, 403, "no trust from a trust");
    let foreign = t
        .login(
            json!({"name": "alt", "domain": super::identity::domain(), "password": "secret"}),
            json!({"OS-TRUST:trust": {"id": trust}}),
        )
        .await;
    assert_eq!(foreign.status, 403);

    let plain = t.login(json!({"id": trustee, "password": "pw"}), Value::Null).await;
    let list = t.url("identity", &format!("/OS-TRUST/trusts?trustee_user_id={trustee}"));
    assert_eq!(t.get(list.clone(), &plain.subject).await.body["trusts"][0]["id"], trust);
    assert_eq!(t.get(list, &alt).await.status, 403);
    let one = t.url("identity", &format!("/OS-TRUST/trusts/{trust}"));
    assert_eq!(t.delete(one.clone(), &plain.subject).await, 403, "a trustee may not");
    assert_eq!(t.lab.count("trusts"), 1);

    // The user goes, and with them the trust and its tokens.
    let url = t.url("identity", &format!("/users/{trustee}"));
    assert_eq!(t.delete(url.clone(), &admin).await, 204);
    assert_eq!(t.delete(url, &admin).await, 404);
    assert!(t.whose(&session.subject).await.is_null());
    assert_eq!(t.get(one, &demo).await.status, 404);
    assert!(t.lab.leftovers().is_empty(), "{:?}", t.lab.leftovers());
}

#[tokio::test]
async fn a_restricted_credential_makes_no_trust() {
    let t = Tenant::quick().await;
    let demo = t.token("demo", "demo").await;
    let owner = t.whose(&demo).await;
    let id = |value: &Value| value["id"].as_str().unwrap().to_owned();
    let (user, project) = (id(&owner["user"]), id(&owner["project"]));
    let trustee = t.trustee("cluster-2").await;
    for (unrestricted, status) in [(false, 403), (true, 201)] {
        let url = t.url("identity", &format!("/users/{user}/application_credentials"));
        let body = json!({"application_credential": {
            "name": format!("c-{unrestricted}"), "unrestricted": unrestricted}});
        let made = t.send("POST", url, &demo, body).await;
        let credential = &made.body["application_credential"];
        let login = json!({"auth": {"identity": {"methods": ["application_credential"],
            "application_credential": {"id": credential["id"], "secret": credential["secret"]}}}});
        let url = t.url("identity", "/auth/tokens");
        let token = t.send("POST", url, "", login).await.subject;
        assert_eq!(t.whose(&token).await["application_credential"]["restricted"], !unrestricted);
        let made = t.make_trust(&token, &user, &trustee, &project, "member").await;
        assert_eq!(made.status, status, "{}", made.text);
    }
}

/// Regression: tokens outlived the role that they were given for, and their disabled owner logged
/// in with an application credential or through a trust.
#[tokio::test]
async fn what_a_token_rests_on_may_be_taken_away() {
    let t = Tenant::quick().await;
    let admin = t.token("admin", "admin").await;
    let demo = t.token("demo", "demo").await;
    let owner = t.whose(&demo).await;
    let id = |value: &Value| value["id"].as_str().unwrap().to_owned();
    let (user, project) = (id(&owner["user"]), id(&owner["project"]));
    let trustee = t.trustee("cluster-3").await;
    let trust = t.make_trust(&demo, &user, &trustee, &project, "member").await;
    let trust = id(&trust.body["trust"]);
    let url = t.url("identity", &format!("/users/{user}/application_credentials"));
    let body = json!({"application_credential": {"name": "c", "unrestricted": true}});
    let made = t.send("POST", url, &demo, body).await.body;
    let credential = &made["application_credential"];
    let by_credential = || {
        let login = json!({"auth": {"identity": {"methods": ["application_credential"],
            "application_credential": {"id": credential["id"], "secret": credential["secret"]}}}});
        t.send("POST", t.url("identity", "/auth/tokens"), "", login)
    };
    let by_trust = || {
        t.login(json!({"id": trustee, "password": "pw"}), json!({"OS-TRUST:trust": {"id": trust}}))
    };
    let by_password = || {
        let demo = json!({"name": "demo", "domain": domain(), "password": "secret"});
        t.login(demo, json!({"project": {"name": "demo", "domain": domain()}}))
    };
    let held = by_trust().await.subject;
    let enable = async |enabled: bool| {
        let url = t.url("identity", &format!("/users/{user}"));
        let told = t.send("PATCH", url, &admin, json!({"user": {"enabled": enabled}})).await;
        assert_eq!(told.body["user"]["enabled"], enabled, "{}", told.text);
    };
    enable(false).await;
    assert_eq!(by_password().await.status, 401);
    assert_eq!(by_credential().await.status, 401);
    assert_eq!(by_trust().await.status, 403);
    assert!(t.whose(&demo).await.is_null() && t.whose(&held).await.is_null());
    enable(true).await;
    assert!(t.whose(&demo).await.is_null(), "a token that was revoked stays so");
    let demo = by_password().await.subject;
    assert_eq!(by_credential().await.status, 201);

    let path = format!("/projects/{project}/users/{user}/roles/member");
    assert_eq!(t.delete(t.url("identity", &path), &admin).await, 204);
    assert!(t.whose(&demo).await.is_null());
    assert_eq!(by_credential().await.status, 401);
    assert_eq!(by_trust().await.status, 403);
}
