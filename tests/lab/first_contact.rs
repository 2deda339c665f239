//! A reader of the project has what Heat and Nova show: a master's token, and its server's id.
//! That must not make him the master, whatever the network is like; and the real one gets in.

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderName};
use hyper::{Method, StatusCode};
use magnumd::base::http::client::{Answer, HttpClient, Outgoing};
use magnumd::base::http::tls::{self, Trust};
use serde_json::{Value, json};

use crate::harness::{Lab, PATIENCE, Running};

/// What a reader found out about a master.
pub struct Loot {
    pub node: String,
    pub token: String,
    pub server: String,
    /// A request for a key of his own.
    csr: String,
}

/// All texts in a document.
fn texts(value: &Value) -> Vec<&str> {
    match value {
        Value::String(text) => vec![text],
        Value::Array(list) => list.iter().flat_map(texts).collect(),
        Value::Object(map) => map.values().flat_map(texts).collect(),
        _ => Vec::new(),
    }
}

/// Reads Heat and Nova until they show all that user data say of the master.
pub async fn loot(lab: &Lab, daemon: &Running, uuid: &str) -> Loot {
    let reader = lab.token("reader").await;
    let cluster = daemon.until(&reader, uuid, |c| !c["stack_id"].is_null()).await;
    let (stack, _) = lab.stack(&reader, &cluster).await;
    let nova = lab.cloud.endpoint("compute");
    let began = Instant::now();
    loop {
        let mut token = None;
        for part in ["template", "files"] {
            let url = format!("{stack}/{part}");
            let (status, shown) = lab.cloud_call(Method::GET, &url, &reader, None).await;
            assert_eq!(status, StatusCode::OK, "{shown}");
            let is_master = |text: &&str| text.contains("MAGNUMD_NODE_ROLE='master'");
            for text in texts(&shown).into_iter().filter(is_master) {
                let found = text.split("MAGNUMD_ENROLMENT_TOKEN='").nth(1);
                // The first of several is that of master 0.
                let found = found.and_then(|rest| rest.split('\'').next());
                token = token.or(found.map(str::to_owned));
            }
        }
        let url = format!("{nova}/servers/detail?name=master-0&status=ACTIVE");
        let (_, shown) = lab.cloud_call(Method::GET, &url, &reader, None).await;
        let server = &shown["servers"][0];
        if let (Some(token), Some(id)) = (token, server["id"].as_str()) {
            let node = server["name"].as_str().unwrap().to_owned();
            return Loot { node, token, server: id.to_owned(), csr: request() };
        }
        assert!(began.elapsed() < PATIENCE, "a reader is shown no token: {shown}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// PEM, for a key that is drawn for it.
pub fn request() -> String {
    let key = rcgen::KeyPair::generate().unwrap();
    let asked = rcgen::CertificateParams::new(Vec::new()).unwrap();
    asked.serialize_request(&key).unwrap().pem().unwrap()
}

impl Loot {
    /// Claims the master's name.
    pub async fn claim(&self, daemon: &Running, from: Ipv4Addr, secret: Option<&str>) -> Answer {
        let body = json!({ "csr": self.csr });
        self.ask(daemon, from, Method::POST, "claim", Some(body), secret).await
    }

    /// Asks in the master's name.
    pub async fn ask(
        &self,
        daemon: &Running,
        from: Ipv4Addr,
        method: Method,
        errand: &str,
        body: Option<Value>,
        secret: Option<&str>,
    ) -> Answer {
        let anyone = Trust { ca_files: Vec::new(), insecure: true };
        let tls = tls::client_config(&anyone).unwrap();
        let source = Some(IpAddr::V4(from));
        let client = HttpClient::from_source(tls, Duration::from_secs(5), source);
        let url =
            format!("https://{}/bootstrap/v1/{}/{errand}", daemon.addresses.bootstrap, self.node);
        let mut asked = Outgoing::new(method, url)
            .header(AUTHORIZATION, &format!("Bearer {}", self.token))
            .header(HeaderName::from_static("x-magnumd-instance"), &self.server);
        if let Some(secret) = secret {
            asked = asked.header(HeaderName::from_static("x-magnumd-vendor-secret"), secret);
        }
        if let Some(body) = &body {
            asked = asked.json(body);
        }
        client.send(asked).await.unwrap()
    }
}

pub const ELSEWHERE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 99);

pub fn said(answer: &Answer) -> String {
    let body: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    body["error"]["message"].as_str().unwrap_or_default().to_owned()
}

/// Nova's account asks for the vendor data of a server.
async fn vendor_data(lab: &Lab, daemon: &Running, token: &str, id: &str) -> (StatusCode, Value) {
    let asked = json!({"instance-id": id, "project-id": "p", "image-id": "i", "user-data": null,
                       "hostname": "h", "metadata": {}, "boot-roles": ""});
    lab.cloud_call(Method::POST, &daemon.url("/vendordata"), token, Some(asked)).await
}

async fn service_token(lab: &Lab) -> String {
    lab.log_in(json!({
        "identity": {"methods": ["password"], "password": {"user": {
            "name": "nova", "domain": {"id": "default"}, "password": "secret"}}},
        "scope": {"project": {"name": "service", "domain": {"id": "default"}}},
    }))
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_is_no_master_and_the_master_is() {
    let lab = Lab::with_faults(&["guest:*:booted:delay=40s"]).await;
    let daemon = lab.daemon().await;
    let token = lab.token("demo").await;
    let uuid = daemon.create(&token, "k1").await;
    let loot = loot(&lab, &daemon, &uuid).await;
    let own =
        lab.cloud.seen_from(&loot.server).expect("the lab's public network is on this machine");
    let forged = "A".repeat(43);
    let answer = loot.claim(&daemon, ELSEWHERE, None).await;
    assert_eq!(answer.status, StatusCode::FORBIDDEN, "{answer:?}");
    assert!(said(&answer).contains("comes from 127.0.0.99"), "{}", said(&answer));
    assert!(!said(&answer).contains(&own.to_string()), "not for whoever asks: {}", said(&answer));
    // Nobody has judged the second: it may be let in later.
    let again = loot.claim(&daemon, ELSEWHERE, None).await;
    assert_eq!(again.status, StatusCode::TOO_MANY_REQUESTS, "{}", said(&again));
    assert_eq!(again.header("retry-after"), Some("5"));
    // Not from beside it, nor from the right place with the wrong secret.
    let beside = Ipv4Addr::from_bits(own.to_bits() ^ 1);
    assert_eq!(loot.claim(&daemon, beside, None).await.status, StatusCode::FORBIDDEN);
    let answer = loot.claim(&daemon, own, Some(&forged)).await;
    assert_eq!(answer.status, StatusCode::FORBIDDEN, "{}", said(&answer));
    let refused = |c: &Value| {
        c["status_reason"]
            .as_str()
            .unwrap_or_default()
            .contains("Refused at first contact: requests in the name of k1-")
    };
    let shown = daemon.until(&token, &uuid, refused).await;
    assert_eq!(shown["status"], "CREATE_IN_PROGRESS", "{shown}");
    // A moment later the guest comes from where Neutron has it.
    let built = daemon.settled(&token, &uuid).await;
    assert_eq!(built["status"], "CREATE_COMPLETE", "{built}");
    assert!(!refused(&built), "{built}");
    daemon.end().await;
}

/// Several at once, one of them with another server's secret: nobody is let in beside the master.
#[tokio::test(flavor = "multi_thread")]
async fn several_readers_at_once_claim_nothing() {
    let lab = Lab::with_faults(&["guest:*:booted:hang"]).await;
    let daemon = lab.daemon().await;
    let token = lab.token("demo").await;
    let uuid = daemon.create(&token, "k1").await;
    let loot = loot(&lab, &daemon, &uuid).await;
    let own = lab.cloud.seen_from(&loot.server).unwrap();
    let from = |n: u8| Ipv4Addr::new(127, 0, 0, n);
    let forged = "A".repeat(43);
    let (a, b, c, d) = tokio::join!(
        loot.claim(&daemon, from(91), None),
        loot.claim(&daemon, from(92), None),
        loot.claim(&daemon, from(92), Some(&forged)),
        loot.claim(&daemon, own, Some(&forged)),
    );
    for answer in [a, b, c, d] {
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{}", said(&answer));
    }
    let master = loot.claim(&daemon, own, None).await;
    assert_eq!(master.status, StatusCode::OK, "{}", said(&master));
    daemon.end().await;
}

/// The discovery token is shown to him too, and every address: he takes no member's place.
#[tokio::test(flavor = "multi_thread")]
async fn a_reader_registers_no_member_of_etcd() {
    let lab = Lab::with_faults(&["guest:*:booted:delay=20s", "guest:*:certs:delay=30s"]).await;
    let daemon = lab.daemon().await;
    let token = lab.token("demo").await;
    daemon.template_of(&token, "k8s", "ubuntu", json!({"etcd_bootstrap": "discovery"})).await;
    let asked = json!({"name": "k1", "cluster_template_id": "k8s", "master_count": 3});
    let (status, body) = daemon.post(&token, "/v1/clusters", asked).await;
    assert_eq!(status, StatusCode::ACCEPTED, "{body}");
    let uuid = body["uuid"].as_str().unwrap().to_owned();
    let loot = loot(&lab, &daemon, &uuid).await;
    let reader = lab.token("reader").await;
    let shown = daemon.until(&reader, &uuid, |c| c["discovery_url"].is_string()).await;
    let url = shown["discovery_url"].as_str().unwrap().to_owned();
    let nova = lab.cloud.endpoint("compute");
    let servers = format!("{nova}/servers/detail?name=master-0&status=ACTIVE");
    let (_, found) = lab.cloud_call(Method::GET, &servers, &reader, None).await;
    let addresses = found["servers"][0]["addresses"].as_object().unwrap();
    let fixed = addresses.values().next().unwrap()[0]["addr"].as_str().unwrap().to_owned();
    let register = async |from: Ipv4Addr| {
        let tls = tls::client_config(&Trust::default()).unwrap();
        let source = Some(IpAddr::V4(from));
        let client = HttpClient::from_source(tls, Duration::from_secs(5), source);
        let value = format!("value={}=https://{fixed}:2380", loot.node);
        let asked = Outgoing::new(Method::PUT, format!("{url}/8e9e05c52164694d"))
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(value)
            .deadline(Duration::from_secs(20));
        let answer = client.send(asked).await.unwrap();
        (answer.status, String::from_utf8_lossy(&answer.body).into_owned())
    };
    let (status, said) = register(ELSEWHERE).await;
    assert!(!status.is_success() && said.contains("has not made its first contact"), "{said}");
    let began = Instant::now();
    loop {
        let (status, said) = register(ELSEWHERE).await;
        assert!(!status.is_success(), "{said}");
        if said.contains("from another address than") {
            break;
        }
        assert!(began.elapsed() < PATIENCE, "{said}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let built = daemon.settled(&token, &uuid).await;
    assert_eq!(built["status"], "CREATE_COMPLETE", "{built}");
    daemon.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_let_in_while_the_cloud_cannot_be_asked() {
    let lab = Lab::with_faults(&["guest:*:booted:hang"]).await;
    let daemon = lab.daemon().await;
    let token = lab.token("demo").await;
    let uuid = daemon.create(&token, "k1").await;
    let loot = loot(&lab, &daemon, &uuid).await;
    let own = lab.cloud.seen_from(&loot.server).unwrap();
    for service in ["nova", "neutron"] {
        lab.cloud.stop_service(service);
        let answer = loot.claim(&daemon, own, None).await;
        assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE, "{service}: {}", said(&answer));
        assert_eq!(answer.header("retry-after"), Some("5"));
        lab.cloud.start_service(service);
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let began = Instant::now();
    loop {
        let answer = loot.claim(&daemon, own, None).await;
        if answer.status == StatusCode::OK {
            break;
        }
        assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE, "{}", said(&answer));
        assert!(began.elapsed() < PATIENCE);
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    daemon.end().await;
}

/// Between nodes and magnumd is a NAT that Neutron does not know: the tenant is told why nothing
/// goes on, and a source that the operator names is enough.
#[tokio::test(flavor = "multi_thread")]
async fn behind_a_foreign_nat_nodes_wait_for_the_operator() {
    let mut lab = Lab::new().await;
    lab.cloud.put_behind(Some(ELSEWHERE));
    let daemon = lab.daemon().await;
    let token = lab.token("demo").await;
    let uuid = daemon.create(&token, "k1").await;
    let refused = |c: &Value| {
        let reason = c["status_reason"].as_str().unwrap_or_default();
        reason.contains("which did not come from an address of its server")
            && reason.contains("the operator finds the cure in magnumd's log")
    };
    let shown = daemon.until(&token, &uuid, refused).await;
    assert_eq!(shown["status"], "CREATE_IN_PROGRESS", "{shown}");
    assert!(!shown["status_reason"].as_str().unwrap().contains("127."), "{shown}");
    daemon.end().await;
    lab.configure("[bootstrap]", "trusted_sources = ['127.0.0.99']");
    let daemon = lab.daemon().await;
    let built = daemon.settled(&token, &uuid).await;
    assert_eq!(built["status"], "CREATE_COMPLETE", "{built}");
    daemon.end().await;
}

/// With vendor data a server is believed from anywhere; without, from nowhere.
#[tokio::test(flavor = "multi_thread")]
async fn vendor_data_are_enough_and_can_be_required() {
    let mut lab = Lab::with_faults(&["guest:*-master-0:booted:delay=40s"]).await;
    lab.configure("[bootstrap]", "first_contact = 'vendor-data'");
    lab.cloud.put_behind(Some(ELSEWHERE));
    let daemon = lab.daemon().await;
    let token = lab.token("demo").await;
    let uuid = daemon.create(&token, "k1").await;
    let loot = loot(&lab, &daemon, &uuid).await;
    let answer = loot.claim(&daemon, ELSEWHERE, None).await;
    assert_eq!(answer.status, StatusCode::FORBIDDEN, "{answer:?}");
    assert!(said(&answer).contains("vendor data"), "{}", said(&answer));
    let nova = service_token(&lab).await;
    let other = "00000000-0000-4000-8000-000000000001";
    let (status, given) = vendor_data(&lab, &daemon, &nova, other).await;
    assert_eq!(status, StatusCode::OK, "{given}");
    let theirs = given["secret"].as_str().unwrap();
    let answer = loot.claim(&daemon, ELSEWHERE, Some(theirs)).await;
    assert_eq!(answer.status, StatusCode::FORBIDDEN, "the secret of another server: {answer:?}");
    // The worker booted when Nova did not ask yet; the metadata service has it by now.
    lab.cloud.give_vendor_data(true);
    let built = daemon.settled(&token, &uuid).await;
    assert_eq!(built["status"], "CREATE_COMPLETE", "{built}");
    daemon.end().await;
}

/// Whoever got a secret could be any node: only services are given one.
#[tokio::test(flavor = "multi_thread")]
async fn vendor_data_are_for_nova_alone() {
    let lab = Lab::new().await;
    let daemon = lab.daemon().await;
    let id = "00000000-0000-4000-8000-000000000001";
    for user in ["demo", "demo2", "alt", "reader"] {
        let token = lab.token(user).await;
        let (status, body) = vendor_data(&lab, &daemon, &token, id).await;
        assert_eq!(status, StatusCode::FORBIDDEN, "{user}: {body}");
        assert!(!body.to_string().contains("secret\""), "{body}");
    }
    let (status, _) = vendor_data(&lab, &daemon, "no token", id).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    let nova = service_token(&lab).await;
    let (status, given) = vendor_data(&lab, &daemon, &nova, id).await;
    assert_eq!(status, StatusCode::OK, "{given}");
    assert_eq!(given.as_object().unwrap().len(), 1, "{given}");
    assert_eq!(vendor_data(&lab, &daemon, &nova, id).await.1, given, "the same again");
    for odd in ["", "no uuid", "../x"] {
        let (status, body) = vendor_data(&lab, &daemon, &nova, odd).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{body}");
        assert!(body.to_string().contains("instance-id must be the UUID"), "{body}");
    }
    daemon.end().await;
}
