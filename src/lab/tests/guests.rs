//! Nodes that boot, against a magnumd that is only a few lines long.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use hyper::header::ACCEPT;
use hyper::{Method, StatusCode};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::Tenant;
use crate::base::http::client::{HttpClient, HttpError, Outgoing};
use crate::base::http::server::{self, HttpListener, Limits, Request, Response, Service};
use crate::base::http::tls;
use crate::lab::guest::bundle;
use crate::lab::heat::services::{Owner, Services};

/// A bootstrap interface and a discovery service for one cluster.
struct Double {
    ca: String,
    ca_key: String,
    issuer: Issuer<'static, KeyPair>,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    /// `node phase state message`
    reports: Vec<String>,
    bundles: usize,
    members: Vec<(String, String)>,
    unauthorised: usize,
    /// Certificates are signed by somebody else.
    forge: bool,
    /// What the bundle tells kubeadm.
    kubeadm: String,
}

impl Double {
    async fn start(stop: &CancellationToken) -> (Arc<Self>, String) {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let ca = params.self_signed(&key).unwrap().pem();
        let ca_key = key.serialize_pem();
        let issuer = Issuer::new(params, key);
        let kubeadm = "apiServer: {certSANs: [k1]}\n".to_owned();
        let seen = Mutex::new(Seen { kubeadm, ..Seen::default() });
        let double = Arc::new(Self { ca, ca_key, issuer, seen });
        let door = HttpListener::bind(([127, 0, 0, 1], 0).into(), Limits::default()).await.unwrap();
        let url = format!("http://{}", door.address().unwrap());
        tokio::spawn(door.serve(Arc::clone(&double), stop.clone()));
        (double, url)
    }

    fn reports(&self) -> Vec<String> {
        self.seen.lock().unwrap().reports.clone()
    }

    fn discovery(&self, request: &Request, rest: &str) -> Response {
        let mut seen = self.seen.lock().unwrap();
        let body = String::from_utf8_lossy(request.body.as_ref().unwrap()).into_owned();
        let body_text = match (request.method.as_str(), rest) {
            ("GET", "/_config/size") => json!({"node": {"key": "/t/_config/size", "value": "2"}}),
            ("PUT", id) => {
                let value = body.strip_prefix("value=").unwrap();
                let value = percent_encoding::percent_decode_str(value).decode_utf8_lossy();
                seen.members.push((id.trim_start_matches('/').to_owned(), value.into_owned()));
                json!({"action": "create", "node": {"key": id, "createdIndex": 10}})
            }
            _ => {
                let node = |(n, (key, value)): (usize, &(String, String))| {
                    json!({"key": format!("/t/{key}"), "value": value, "createdIndex": 10 + n,
                           "modifiedIndex": 10 + n})
                };
                let nodes: Vec<Value> = seen.members.iter().enumerate().map(node).collect();
                let waits = request.query.as_deref().is_some_and(|q| q.contains("wait=true"));
                match waits {
                    // The other member, told as an event.
                    true => {
                        json!({"action": "create", "node": {"key": "/t/ffff", "createdIndex": 20,
                               "value": "other=https://192.0.2.9:2380", "modifiedIndex": 20}})
                    }
                    false => json!({"node": {"key": "/t", "dir": true, "nodes": nodes}}),
                }
            }
        };
        let mut response = server::json(StatusCode::OK, &body_text);
        response.headers_mut().insert("x-etcd-index", "11".parse().unwrap());
        response
    }
}

impl Service for Double {
    async fn handle(&self, request: Request) -> Response {
        let path = request.path.clone();
        if let Some(rest) = path.strip_prefix("/t") {
            return self.discovery(&request, rest);
        }
        if request.header("authorization") != Some("Bearer enrol")
            || request.header("x-magnumd-instance").is_none_or(|id| id.len() != 36)
        {
            self.seen.lock().unwrap().unauthorised += 1;
            return server::empty(StatusCode::UNAUTHORIZED);
        }
        let (node, what) = path.strip_prefix("/bootstrap/v1/").unwrap().split_once('/').unwrap();
        let body = request.body.as_ref().unwrap();
        let body: Value = serde_json::from_slice(body).unwrap_or_default();
        let mut seen = self.seen.lock().unwrap();
        match what {
            "bundle" => {
                seen.bundles += 1;
                // The addresses are "not known yet" at first.
                if seen.bundles < 3 {
                    let mut wait = server::empty(StatusCode::SERVICE_UNAVAILABLE);
                    wait.headers_mut().insert("retry-after", "5".parse().unwrap());
                    return wait;
                }
                let tar = bundle::tar(&[
                    ("etc/x", "hi"),
                    ("pki/ca.crt", &self.ca),
                    ("pki/ca.key", &self.ca_key),
                    ("kubeadm/v1beta4.yaml", &seen.kubeadm),
                ]);
                server::response(StatusCode::OK, "application/x-tar", tar)
            }
            "csr" => {
                let csr = CertificateSigningRequestParams::from_pem(body["csr"].as_str().unwrap());
                let mut certificate = csr.unwrap().signed_by(&self.issuer).unwrap().pem();
                if seen.forge {
                    certificate.clone_from(&self.ca);
                }
                let answer = json!({"certificate": certificate.trim_end(), "ca": self.ca});
                server::json(StatusCode::OK, &answer)
            }
            // A node that is ready asks for duties, and there are none.
            "duty" => server::empty(StatusCode::NO_CONTENT),
            _ => {
                let text = |key: &str| body[key].as_str().unwrap().to_owned();
                let line =
                    format!("{node} {} {} {}", text("phase"), text("state"), text("message"));
                seen.reports.push(line.trim_end().to_owned());
                server::empty(StatusCode::NO_CONTENT)
            }
        }
    }
}

impl Tenant {
    /// A port on the private network, and an address that leads to it from outside.
    async fn reachable_port(&self, token: &str) -> (String, String) {
        let net = async |name: &str| {
            let url = self.url("network", &format!("/v2.0/networks?name={name}"));
            self.get(url, token).await.body["networks"][0]["id"].clone()
        };
        let (private, public) = (net("private").await, net("public").await);
        let port = self.make(token, "ports", json!({"network_id": private})).await;
        let floating = json!({"floating_network_id": public, "port_id": port});
        let id = self.make(token, "floatingips", floating).await;
        let shown = self.get(self.url("network", &format!("/v2.0/floatingips/{id}")), token).await;
        let address = &shown.body["floatingip"]["floating_ip_address"];
        (port, address.as_str().unwrap().to_owned())
    }

    /// Starts a server as Heat would, with this user data.
    fn boot(&self, name: &str, user_data: &str) -> String {
        self.boot_on(&json!({"network": "private"}), name, user_data)
    }

    fn boot_on(&self, interface: &Value, name: &str, user_data: &str) -> String {
        let state = self.lab.world.lock();
        let user = state.identity.user_named("demo", "default").unwrap().id.clone();
        let project = state.identity.projects.iter().find(|p| p.name == "demo").unwrap().id.clone();
        drop(state);
        let owner = Owner { project_id: project, user_id: user, roles: vec!["member".to_owned()] };
        let properties = json!({
            "name": name, "flavor": "m1.small", "image": "ubuntu", "user_data": user_data,
            "user_data_format": "RAW", "networks": [interface],
        });
        self.lab.world.create(&owner, "OS::Nova::Server", "x", &properties).unwrap()
    }
}

fn user_data(url: &str, role: &str, discovery: &str) -> String {
    format!(
        "#cloud-config\nwrite_files:\n- path: /etc/magnumd/node.env\n  content: |\n    \
         MAGNUMD_BOOTSTRAP_URL='{url}'\n    MAGNUMD_ENROLMENT_TOKEN='enrol'\n    \
         MAGNUMD_NODE_ROLE='{role}'\n    MAGNUMD_ETCD_DISCOVERY_URL='{discovery}'\n"
    )
}

#[tokio::test]
async fn a_master_and_a_worker_become_ready() {
    let stop = CancellationToken::new();
    let _guard = stop.clone().drop_guard();
    let (double, url) = Double::start(&stop).await;
    let t = Tenant::quick().await;
    t.boot("c-master-0", &user_data(&url, "master", &format!("{url}/t")));
    t.boot("c-node-0", &user_data(&url, "worker", ""));
    t.boot("c-idle", "#cloud-config\n");
    let ready = |line: &str| double.reports().iter().any(|r| r == line);
    t.until("both ready", async || ready("c-master-0 ready done") && ready("c-node-0 ready done"))
        .await;
    let reports = double.reports();
    let master: Vec<&str> = reports.iter().filter_map(|r| r.strip_prefix("c-master-0 ")).collect();
    assert_eq!(master[0], "booted started");
    assert!(master.contains(&"certs done 3 certificates"), "{master:?}");
    let etcd = master.iter().find(|r| r.starts_with("etcd done")).unwrap();
    assert!(etcd.contains("c-master-0=https://10.20.") && etcd.contains(",other="), "{etcd}");
    let worker = reports.iter().any(|r| r == "c-node-0 certs done 1 certificates");
    assert!(worker, "{reports:?}");
    assert!(!reports.iter().any(|r| r.starts_with("c-idle")));
    assert_eq!(double.seen.lock().unwrap().unauthorised, 0);
}

impl Double {
    /// A client that trusts the cluster's authority and shows a certificate of it.
    fn client(&self, organization: &str) -> HttpClient {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::OrganizationName, organization);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap().pem();
        let key = key.serialize_pem().into();
        let tls = tls::mutual_client_config(&self.ca, &certificate, &key).unwrap();
        HttpClient::new(tls, Duration::from_secs(5))
    }
}

/// The answer's text, or why there is none.
async fn ask(http: &HttpClient, url: &str) -> Result<String, HttpError> {
    let asked = Outgoing::new(Method::GET, url).deadline(Duration::from_secs(1));
    let answer = http.send(asked).await?;
    Ok(String::from_utf8(answer.body.to_vec()).unwrap())
}

#[tokio::test]
async fn a_master_serves_its_api_to_administrators() {
    let stop = CancellationToken::new();
    let _guard = stop.clone().drop_guard();
    let (double, url) = Double::start(&stop).await;
    let t = Tenant::quick().await;
    let demo = t.token("demo", "demo").await;
    let (port, address) = t.reachable_port(&demo).await;
    double.seen.lock().unwrap().kubeadm = format!("apiServer: {{certSANs: [\"{address}\"]}}\n");
    let plan = user_data(&url, "master", "");
    let server = t.boot_on(&json!({"port": port}), "c-master-0", &plan);
    for n in 0..3 {
        t.boot(&format!("c-node-{n}"), &user_data(&url, "worker", ""));
    }
    let base = format!("https://{address}:6443");
    let nodes = format!("{base}/api/v1/nodes");
    let names = |list: &str| {
        let list: Value = serde_json::from_str(list).unwrap();
        let ready = |n: &Value| n["status"]["conditions"][3]["status"].as_str().unwrap().to_owned();
        let items = list["items"].as_array().unwrap().iter();
        let named = |n: &Value| (n["metadata"]["name"].as_str().unwrap().to_owned(), ready(n));
        (items.map(named).collect::<Vec<_>>(), list["metadata"]["continue"].clone())
    };
    // A connection each time: what is kept open does not notice a fault.
    let fresh = |path: &str| {
        let (http, url) = (double.client("system:masters"), format!("{base}{path}"));
        async move { ask(&http, &url).await }
    };
    t.until("all nodes", async || {
        fresh("/api/v1/nodes").await.is_ok_and(|list| names(&list).0.len() == 4)
    })
    .await;
    assert_eq!(fresh("/healthz").await.unwrap(), "ok");
    // What `kubectl` asks before anything else, and what it then finds.
    let document =
        async |path: &str| -> Value { serde_json::from_str(&fresh(path).await.unwrap()).unwrap() };
    assert_eq!(document("/api").await["versions"], json!(["v1"]));
    assert_eq!(document("/apis").await["kind"], "APIGroupList");
    assert_eq!(document("/version").await["gitVersion"], "v1.32.0");
    let offered = document("/api/v1").await;
    let offered: Vec<&str> = offered["resources"]
        .as_array()
        .unwrap()
        .iter()
        .map(|r| r["name"].as_str().unwrap())
        .collect();
    assert_eq!(offered, ["events", "namespaces", "nodes", "pods", "services"]);
    for kind in &offered {
        let list = document(&format!("/api/v1/{kind}")).await;
        assert!(list["kind"].as_str().unwrap().ends_with("List"), "{list}");
        assert!(list["items"].is_array(), "{list}");
    }
    assert_eq!(document("/api/v1/namespaces/kube-system/pods").await["items"], json!([]));
    let one = document("/api/v1/nodes/c-master-0").await;
    assert_eq!((&one["kind"], &one["metadata"]["name"]), (&json!("Node"), &json!("c-master-0")));
    let masters = "/api/v1/nodes?labelSelector=node-role.kubernetes.io/control-plane";
    assert_eq!(names(&fresh(masters).await.unwrap()).0.len(), 1);
    for (path, reason) in [
        ("/api/v1/nodes/nobody", "NotFound"),
        ("/api/v1/secrets", "NotFound"),
        ("/apis/apps/v1/deployments", "NotFound"),
        ("/api/v1/namespaces/default/nodes", "NotFound"),
        ("/api/v1/nodes?watch=1", "BadRequest"),
    ] {
        let refused = document(path).await;
        assert_eq!((&refused["kind"], &refused["reason"]), (&json!("Status"), &json!(reason)));
    }
    let asked = Outgoing::new(Method::GET, nodes.as_str())
        .header(ACCEPT, "application/json;as=Table;v=v1;g=meta.k8s.io,application/json")
        .deadline(Duration::from_secs(1));
    let table = double.client("system:masters").send(asked).await.unwrap().body;
    let table: Value = serde_json::from_slice(&table).unwrap();
    let cells = |row: usize| table["rows"][row]["cells"].as_array().unwrap()[..3].to_vec();
    assert_eq!(table["columnDefinitions"][1]["name"], "Status");
    assert_eq!(cells(0), ["c-master-0", "Ready", "control-plane"]);
    assert_eq!(cells(1), ["c-node-0", "Ready", "<none>"]);
    let asked =
        Outgoing::new(Method::DELETE, format!("{nodes}/c-node-0")).deadline(Duration::from_secs(1));
    let refused = double.client("system:masters").send(asked).await.unwrap();
    assert_eq!(refused.status, StatusCode::METHOD_NOT_ALLOWED);

    let http = double.client("system:masters");
    let (first, next) = names(&ask(&http, &format!("{nodes}?limit=3")).await.unwrap());
    assert_eq!(first.last().unwrap(), &("c-node-1".to_owned(), "True".to_owned()));
    let next = next.as_str().unwrap().replace('=', "%3D");
    let (rest, end) =
        names(&ask(&http, &format!("{nodes}?limit=3&continue={next}")).await.unwrap());
    assert_eq!((rest[0].0.as_str(), rest.len(), end), ("c-node-2", 1, json!("")));

    let unprivileged = ask(&double.client("system:nodes"), &base).await;
    assert!(unprivileged.is_err(), "{unprivileged:?}");
    let nobody = tls::pinned_client_config(&double.ca).unwrap();
    let nobody = ask(&HttpClient::new(nobody, Duration::from_secs(5)), &base).await;
    assert!(nobody.is_err(), "{nobody:?}");

    for (fault, words) in [
        ("guest:c-master-*:api:dead", "no answer"),
        ("guest:c-master-*:api:refuse", "refused"),
        ("guest:c-master-*:api:forge", "certificate"),
    ] {
        t.lab.inject(fault.parse().unwrap());
        t.until(fault, async || {
            fresh("/healthz").await.is_err_and(|e| e.to_string().contains(words))
        })
        .await;
        t.lab.clear_faults();
        t.until("well again", async || fresh("/healthz").await.is_ok()).await;
    }
    t.lab.inject("guest:c-node-0:node:not-ready".parse().unwrap());
    t.lab.inject("guest:c-node-1:node:unknown".parse().unwrap());
    let (shown, _) = names(&fresh("/api/v1/nodes").await.unwrap());
    let said: Vec<&str> = shown.iter().map(|(_, ready)| ready.as_str()).collect();
    assert_eq!(said, ["True", "False", "Unknown", "True"]);

    t.lab.world.delete("OS::Nova::Server", &server).unwrap();
    t.until("its API has ended", async || {
        fresh("/healthz").await.is_err_and(|e| matches!(e, HttpError::Connect { .. }))
    })
    .await;
}

#[tokio::test]
async fn faults_and_forged_certificates_end_a_boot() {
    let stop = CancellationToken::new();
    let _guard = stop.clone().drop_guard();
    let (double, url) = Double::start(&stop).await;
    let t = Tenant::quick().await;
    t.lab.inject("guest:*-master-0:runtime:fail=disk full: /var".parse().unwrap());
    t.lab.inject("guest:*-master-1:network:hang".parse().unwrap());
    double.seen.lock().unwrap().forge = true;
    for name in ["c-master-0", "c-master-1", "c-master-2"] {
        t.boot(name, &user_data(&url, "master", ""));
    }
    let has = |part: &str| double.reports().iter().any(|r| r.starts_with(part));
    t.until("failed", async || {
        has("c-master-0 runtime failed disk full: /var")
            && has("c-master-2 certs failed etcd-server: the certificate is for another key")
    })
    .await;
    assert!(has("c-master-1 booted done") && !has("c-master-1 network"));
    assert!(!has("c-master-0 certs") && !has("c-master-2 etcd"));
}

#[tokio::test]
async fn a_deleted_server_falls_silent() {
    let stop = CancellationToken::new();
    let _guard = stop.clone().drop_guard();
    // Nobody listens there: the guest tries for ever.
    let t = Tenant::quick().await;
    let id = t.boot("c-node-0", &user_data("http://127.0.0.1:9", "worker", ""));
    let power = t.lab.world.lock().compute.servers[&id].power.clone();
    t.lab.world.delete("OS::Nova::Server", &id).unwrap();
    assert!(power.is_cancelled());
    t.until("gone", async || t.lab.count("servers") == 0).await;
    assert!(t.lab.leftovers().is_empty(), "{:?}", t.lab.leftovers());
}
