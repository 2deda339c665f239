//! An API over a store in a temporary folder, with two projects in it.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, StatusCode};
use serde_json::Value;
use uuid::Uuid;

use crate::api::context::Caller;
use crate::api::{Api, Parts, Policy, Settings};
use crate::base::clock::{Clock, Timestamp};
use crate::base::http::server::Request;
use crate::base::id::Entropy;
use crate::base::pool::Pool;
use crate::base::secret::{Sealer, Secret};
use crate::conductor::test_support;
use crate::model::cluster::Cluster;
use crate::model::cluster_template::{ClusterTemplate, Coe};
use crate::model::labels::Labels;
use crate::model::nodegroup::{self, NodeGroup};
use crate::model::requester::Requester;
use crate::model::status::Status;
use crate::model::{ClusterId, NodeGroupId, TemplateId};
use crate::pki::csr;
use crate::store::{Change, Record, Store};

pub struct Place {
    _folder: tempfile::TempDir,
    pub store: Store,
    pub api: Api,
}

/// An answer as a client reads it.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Value,
    pub text: String,
}

impl Answer {
    pub fn detail(&self) -> &str {
        self.body["errors"][0]["detail"].as_str().unwrap_or_default()
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |v| v.to_str().unwrap())
    }
}

/// Members of two projects, a reader and an administrator.
pub fn demo() -> Requester {
    requester("demo", "p1", &["member", "reader"])
}

pub fn mate() -> Requester {
    requester("mate", "p1", &["member", "reader"])
}

pub fn reader() -> Requester {
    requester("reader", "p1", &["reader"])
}

pub fn alt() -> Requester {
    requester("alt", "p2", &["member", "reader"])
}

pub fn admin() -> Requester {
    requester("admin", "p3", &["admin", "member", "reader"])
}

/// A cluster's own user: without a project, without a role.
pub fn trustee() -> Requester {
    let mut trustee = requester("trustee-1", "", &[]);
    trustee.project_id = None;
    trustee.user_domain_id = "trustees".to_owned();
    trustee
}

pub fn requester(user: &str, project: &str, roles: &[&str]) -> Requester {
    Requester {
        user_id: user.to_owned(),
        user_name: user.to_owned(),
        user_domain_id: "default".to_owned(),
        user_domain_name: "Default".to_owned(),
        project_id: Some(project.to_owned()),
        project_name: Some(project.to_owned()),
        project_domain_id: Some("default".to_owned()),
        domain_id: None,
        system_scope: false,
        roles: roles.iter().map(|r| (*r).to_owned()).collect(),
        trust: None,
        restricted_credential: false,
        expires_at: Timestamp::from_micros(i64::MAX),
    }
}

impl Api {
    /// An answer to somebody who has been let in, or has not.
    pub(crate) async fn respond(
        &self,
        request: &Request,
        caller: Option<crate::api::error::Outcome<Caller>>,
    ) -> crate::base::http::server::Response {
        let request_id = format!("req-{}", self.entropy.uuid());
        self.answer_as(request, caller, &request_id).await
    }
}

impl Place {
    pub fn new() -> Self {
        Self::with(|settings| settings, Policy::builtin())
    }

    pub fn with(change: impl FnOnce(Settings) -> Settings, policy: Policy) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("magnumd.redb");
        let store = Store::open(&path, Sealer::new(&[1; 32])).unwrap();
        let (conductor, tokens) = test_support::conductor(store.clone());
        let trustee_domain_id = Arc::new(OnceLock::new());
        trustee_domain_id.set("trustees".to_owned()).unwrap();
        let settings = Settings {
            www_authenticate_uri: "http://keystone/v3".to_owned(),
            own_url: "http://127.0.0.1:9511".to_owned(),
            max_limit: 1000,
            trust_proxy_headers: false,
            cors_origins: Vec::new(),
            healthcheck_disable_file: Some(folder.path().join("disabled")),
            service_down_time: Duration::from_secs(180),
            csr_rules: csr::Rules::default(),
            certificate_validity: Duration::from_secs(86_400),
            trustee_domain_id,
            max_clusters_per_project: 20,
            max_templates_per_project: 100,
        };
        let parts = Parts {
            store: store.clone(),
            conductor,
            tokens,
            clock: Clock::real(),
            entropy: Entropy::new(),
            settings: change(settings),
            scans: Pool::start("scan", 1, 0).unwrap(),
        };
        Self { api: Api::new(parts).with_policy(policy), store, _folder: folder }
    }

    pub fn disable_file(&self) -> std::path::PathBuf {
        self._folder.path().join("disabled")
    }

    pub async fn put<R: Record>(&self, record: &R) {
        self.store.commit(Change::new().put(record)).await.unwrap();
    }

    /// A template of `project`.
    pub fn template(&self, number: u128, project: &str, name: &str) -> ClusterTemplate {
        ClusterTemplate {
            sequence: self.store.next_sequence(),
            project_id: project.to_owned(),
            user_id: "demo".to_owned(),
            cluster_distro: Some("fedora-coreos".to_owned()),
            flavor_id: Some("m1.small".to_owned()),
            master_flavor_id: Some("m1.small".to_owned()),
            keypair_id: Some("default".to_owned()),
            external_network_id: Some("public".to_owned()),
            dns_nameserver: Some("192.0.2.53".to_owned()),
            network_driver: Some("flannel".to_owned()),
            labels: Labels::from_iter([("from", "template"), ("kube_tag", "v1.30.0")]),
            ..ClusterTemplate::plain(
                TemplateId::new(Uuid::from_u128(number)),
                name,
                Coe::Kubernetes,
                "fedora-coreos",
            )
        }
    }

    /// A complete cluster of `project` from template 1, with its two default groups stored.
    pub async fn cluster(&self, number: u128, project: &str, name: &str) -> Cluster {
        let id = ClusterId::new(Uuid::from_u128(number));
        let own = [("from", "template"), ("kube_tag", "v1.30.9"), ("own", "1")];
        let cluster = Cluster {
            sequence: self.store.next_sequence(),
            project_id: project.to_owned(),
            user_id: "demo".to_owned(),
            keypair: Some("default".to_owned()),
            labels: Labels::from_iter(own),
            master_flavor_id: Some("m1.small".to_owned()),
            flavor_id: Some("m1.small".to_owned()),
            create_timeout: 30,
            api_address: Some("https://10.0.0.8:6443".to_owned()),
            coe_version: Some("v1.30.9".to_owned()),
            stack_id: Some("47db5fb7-cda3-470d-9680-c3e20cdb6a54".to_owned()),
            status: Status::CreateComplete,
            driver: "k8s_kubeadm_v1".to_owned(),
            trustee_user_id: Some(format!("trustee-{number}")),
            ..Cluster::plain(id, name, TemplateId::new(Uuid::from_u128(1)))
        };
        let master = self.group(&cluster, number + 1000, nodegroup::MASTER, 1);
        let worker = self.group(&cluster, number + 2000, nodegroup::WORKER, 2);
        self.store.commit(Change::new().put(&cluster).put(&master).put(&worker)).await.unwrap();
        cluster
    }

    fn group(&self, of: &Cluster, number: u128, role: &'static str, count: u32) -> NodeGroup {
        NodeGroup {
            id: NodeGroupId::new(Uuid::from_u128(number)),
            sequence: self.store.next_sequence(),
            stack_id: of.stack_id.clone(),
            status: of.status,
            node_addresses: (0..count).map(|n| format!("10.0.{}.{n}", role.len())).collect(),
            ..NodeGroup::default_of(of, "fedora-coreos", role, count)
        }
    }

    /// One request by `who`, `how` in the order header, value.
    pub async fn ask(
        &self,
        who: Requester,
        method: Method,
        path: &str,
        how: &[(&str, &str)],
        body: &[u8],
    ) -> Answer {
        let caller = Caller {
            requester: Arc::new(who),
            token: Secret::new("token".to_owned()),
            is_confirmed: false,
        };
        let request = request(method, path, how, body);
        read(self.api.respond(&request, Some(Ok(caller))).await).await
    }

    pub async fn get(&self, who: Requester, path: &str) -> Answer {
        self.ask(who, Method::GET, path, &LATEST, b"").await
    }

    /// A request with a JSON body.
    pub async fn send(&self, who: Requester, method: Method, path: &str, body: &Value) -> Answer {
        let how = [LATEST[0], ("content-type", "application/json")];
        self.ask(who, method, path, &how, body.to_string().as_bytes()).await
    }

    pub async fn delete(&self, who: Requester, path: &str) -> Answer {
        let how = [LATEST[0], ("content-type", "application/octet-stream")];
        self.ask(who, Method::DELETE, path, &how, b"").await
    }
}

pub const LATEST: [(&str, &str); 1] = [("openstack-api-version", "container-infra latest")];

pub fn request(method: Method, path: &str, how: &[(&str, &str)], body: &[u8]) -> Request {
    let (path, query) = match path.split_once('?') {
        Some((path, query)) => (path, Some(query.to_owned())),
        None => (path, None),
    };
    let mut headers = HeaderMap::new();
    headers.insert("host", HeaderValue::from_static("magnum.example:9511"));
    for (name, value) in how {
        let name: HeaderName = name.parse().unwrap();
        headers.insert(name, HeaderValue::from_str(value).unwrap());
    }
    Request {
        method,
        path: path.to_owned(),
        query,
        headers,
        certificate: None,
        peer: "127.0.0.1:1".parse().unwrap(),
        since: std::time::Instant::now(),
        body: Ok(Bytes::copy_from_slice(body)),
    }
}

pub async fn read(response: crate::base::http::server::Response) -> Answer {
    let (parts, body) = response.into_parts();
    let bytes = body.collect().await.unwrap().to_bytes();
    let text = String::from_utf8(bytes.to_vec()).unwrap();
    let body = serde_json::from_str(&text).unwrap_or_default();
    Answer { status: parts.status, headers: parts.headers, body, text }
}
