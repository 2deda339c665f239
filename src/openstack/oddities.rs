//! Services that answer with JSON of a kind that nobody asked for: an error, never a panic, and never
//! an empty list.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hyper::StatusCode;
use hyper::header::HeaderValue;
use serde_json::{Value, json};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{
    Accounts, Actor, Cloud, CloudError, CloudSettings, Identity, Projects, Service, ServiceSettings,
};
use crate::base::clock::{Clock, Timestamp};
use crate::base::http::server::{self, HttpListener, Limits, Request, Response};
use crate::base::http::tls::Trust;
use crate::base::secret::Secret;

/// What is JSON, and no answer.
const ODD: [&str; 9] =
    ["[]", "1", r#""x""#, "[[{}]]", "null", "true", "[null]", "1e9", r#"[{"images": []}]"#];

/// Lets everybody log in, and answers everything else with the same words.
struct Odd {
    words: Mutex<&'static str>,
    url: String,
}

impl server::Service for Odd {
    async fn handle(&self, request: Request) -> Response {
        if request.path != "/v3/auth/tokens" || request.method == hyper::Method::GET {
            let words = *self.words.lock().unwrap();
            return server::response(StatusCode::OK, "application/json", words);
        }
        let catalog: Vec<Value> = Service::ALL
            .iter()
            .map(|service| {
                json!({"type": service.types()[0], "endpoints": [
                    {"interface": "public", "region_id": "r", "url": self.url}]})
            })
            .collect();
        let token = json!({"token": {
            "issued_at": "2026-11-30T00:00:00Z", "expires_at": "2099-11-30T00:00:00Z",
            "user": {"id": "u", "domain": {"id": "d"}}, "project": {"id": "p"},
            "domain": {"id": "d"}, "roles": [], "catalog": catalog,
        }});
        let mut answer = server::json(StatusCode::CREATED, &token);
        answer.headers_mut().insert("x-subject-token", HeaderValue::from_static("t"));
        answer
    }
}

async fn site() -> (Cloud, Arc<Odd>, DropGuard) {
    let listener = HttpListener::bind(([127, 0, 0, 1], 0).into(), Limits::default()).await.unwrap();
    let url = format!("http://{}", listener.address().unwrap());
    let (odd, stop) =
        (Arc::new(Odd { words: Mutex::new("{}"), url: url.clone() }), CancellationToken::new());
    tokio::spawn(listener.serve(Arc::clone(&odd), stop.clone()));
    let who = Identity {
        id: Some("u".to_owned()),
        name: None,
        domain_id: Some("d".to_owned()),
        domain_name: None,
    };
    let accounts = Accounts {
        auth_url: format!("{url}/v3"),
        service_user: who.clone(),
        service_password: Secret::new("x".to_owned()),
        service_project: who.clone(),
        trustee_domain_id: Some("d".to_owned()),
        trustee_domain_name: None,
        domain_admin: who,
        domain_admin_password: Secret::new("x".to_owned()),
    };
    let service = ServiceSettings {
        region: None,
        interface: "public".to_owned(),
        trust: Trust { ca_files: Vec::new(), insecure: false },
    };
    let settings = CloudSettings {
        accounts,
        services: Service::ALL.map(|s| (s, service.clone())).into_iter().collect::<HashMap<_, _>>(),
        concurrency: 4,
        connect_timeout: Duration::from_secs(5),
        deadline: Duration::from_secs(20),
        remember_tokens: Duration::from_secs(60),
        remember_lookups: Duration::from_secs(60),
    };
    (Cloud::new(settings, Clock::real()).unwrap(), odd, stop.drop_guard())
}

/// How everything that reads an answer ends, by name.
async fn ends(cloud: &Cloud, actor: &Actor) -> Vec<(&'static str, Result<(), CloudError>)> {
    let (uuid, since) = ("00000000-0000-4000-8000-000000000001", Timestamp::EPOCH);
    let (heat, keystone) = (cloud.heat(actor).await.unwrap(), cloud.keystone());
    vec![
        ("image", cloud.image(actor, "i").await.map(drop)),
        ("flavor", cloud.flavor(actor, "f").await.map(drop)),
        ("keypair", cloud.keypair(actor, "k").await.map(drop)),
        ("network", cloud.network(actor, "n").await.map(drop)),
        ("subnet", cloud.subnet(actor, "s").await.map(drop)),
        ("has_server", cloud.has_server(actor, "n", "s").await.map(drop)),
        ("image_of_server", cloud.image_of_server(actor, "s").await.map(drop)),
        ("failed_resize", cloud.failed_resize(actor, actor, "s", "f", since).await.map(drop)),
        ("reach", cloud.reach("p", "s").await.map(drop)),
        ("exit", cloud.exit(actor, "p", "n").await.map(drop)),
        ("balancers", cloud.balancers(actor).await.map(drop)),
        ("floating_ips", cloud.floating_ips(actor).await.map(drop)),
        ("leads_floating", cloud.leads_floating(actor, "p", "192.0.2.1").await.map(drop)),
        ("compute_quota", cloud.compute_quota(actor, "p").await.map(drop)),
        ("network_quota", cloud.network_quota(actor, "p").await.map(drop)),
        ("volume_quota", cloud.volume_quota(actor, "p").await.map(drop)),
        ("addresses", cloud.addresses(actor, "n").await.map(drop)),
        ("external_networks", cloud.external_networks(actor).await.map(drop)),
        ("resource_types", cloud.resource_types(actor).await.map(drop)),
        ("own_template", cloud.own_template(actor, "t").await.map(drop)),
        ("stacks", heat.all(Projects::Own).await.map(drop)),
        ("tagged", heat.tagged("t").await.map(drop)),
        ("stack", heat.show("k1", uuid, true).await.map(drop)),
        ("failures", heat.failures("k1", uuid).await.map(drop)),
        ("validate", keystone.validate(&actor.token).await.map(drop)),
        ("has_project", keystone.has_project("p").await.map(drop)),
        ("trustee_named", keystone.trustee_named("t").await.map(drop)),
        ("trustees", keystone.trustees().await.map(drop)),
    ]
}

#[tokio::test]
async fn an_answer_that_is_no_object_is_an_error_of_the_service() {
    let (cloud, odd, _stop) = site().await;
    let token = Secret::new("t".to_owned());
    let actor = Actor { token, project_id: "p".to_owned(), user_id: "u".to_owned() };
    for words in ODD {
        *odd.words.lock().unwrap() = words;
        for (name, ended) in ends(&cloud, &actor).await {
            assert!(matches!(ended, Err(CloudError::Unknown { .. })), "{name}, {words}: {ended:?}");
        }
    }
    // An object without what was asked for is none either: nothing is said to be missing that
    // nobody has looked for.
    for words in ["{}", r#"{"images": 1, "flavors": {}, "networks": "x", "subnets": null}"#] {
        *odd.words.lock().unwrap() = words;
        for (name, ended) in ends(&cloud, &actor).await.into_iter().take(5) {
            assert!(matches!(ended, Err(CloudError::Unknown { .. })), "{name}, {words}: {ended:?}");
        }
    }
}
