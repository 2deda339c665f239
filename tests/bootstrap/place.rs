//! A bootstrap door that is open, and a cluster behind it.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hyper::Method;
use hyper::header::{AUTHORIZATION, HeaderName};
use magnumd::base::clock::{Clock, Timestamp};
use magnumd::base::fail_points::FailPoints;
use magnumd::base::http::client::{Answer, HttpClient, HttpError, Outgoing};
use magnumd::base::http::server::HttpListener;
use magnumd::base::http::tls::{
    Trust, mutual_client_config, optional_client_verifier, pinned_client_config, server_config_for,
};
use magnumd::base::id::Entropy;
use magnumd::base::secret::{Sealer, Secret};
use magnumd::bootstrap::{Bootstrap, Parts, limits};
use magnumd::conductor::{Conductor, Parts as ConductorParts, Settings};
use magnumd::driver::{Drivers, plan};
use magnumd::model::certificate::{Certificate, CertificateKind, KeyAlgorithm};
use magnumd::model::cluster::Cluster;
use magnumd::model::cluster_template::{ClusterTemplate, Coe};
use magnumd::model::credential::Credential;
use magnumd::model::facts::CloudFacts;
use magnumd::model::node::{Node, Phase, PhaseState};
use magnumd::model::node_key::{Holder, NodeKey};
use magnumd::model::nodegroup::{DEFAULT_MASTER, DEFAULT_WORKER, MASTER, NodeGroup, WORKER};
use magnumd::model::{ClusterId, NodeGroupId, TemplateId};
use magnumd::openstack::{Accounts, Cloud, CloudSettings, Identity, Service, ServiceSettings};
use magnumd::pki::enrolment::{Enrolment, EnrolmentKey};
use magnumd::pki::identity::{Identity as NodeIdentity, key_of_request};
use magnumd::pki::key_generator::{KeyGenerator, Keys};
use magnumd::pki::{KeyPairPem, listener, material};
use magnumd::store::{Change, Store};
use rustls::ClientConfig;
use serde_json::json;
use tokio::sync::{OnceCell, watch};
use tokio_util::sync::{CancellationToken, DropGuard};
use uuid::Uuid;

pub const INSTANCE: &str = "11111111-2222-3333-4444-555555555555";
pub const KEY: [u8; 32] = [7; 32];
pub const DAY: Duration = Duration::from_secs(86_400);

/// As whom a client comes: with a certificate or without one.
#[derive(Clone)]
struct Guise {
    tls: ClientConfig,
    client: HttpClient,
}

impl Guise {
    fn new(tls: ClientConfig) -> Self {
        Self { client: HttpClient::new(tls.clone(), Duration::from_secs(5)), tls }
    }
}

/// An open door before a cluster of two masters and a worker.
pub struct Place {
    _folder: tempfile::TempDir,
    _open: DropGuard,
    pub store: Store,
    pub clock: Clock,
    pub address: SocketAddr,
    bare: Guise,
    authority: KeyPairPem,
    /// Of nodes that have made their first contact.
    holders: Mutex<HashMap<String, Guise>>,
    pub cluster: Cluster,
}

impl Place {
    pub async fn new() -> Self {
        Self::offering(None).await
    }

    /// With files that nodes may fetch.
    pub async fn offering(artifact_dir: Option<PathBuf>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("state.redb"), Sealer::new(&[1; 32])).unwrap();
        let (clock, entropy) = (Clock::real(), Entropy::new());
        let conductor = conductor(&store, &clock);
        let stop = CancellationToken::new();
        let door = HttpListener::bind(([127, 0, 0, 1], 0).into(), limits()).await.unwrap();
        let address = door.address().unwrap();
        let authority = listener::authority(clock.now(), &entropy).unwrap();
        let own = listener::certificate(&authority, "127.0.0.1", clock.now(), &entropy).unwrap();
        let nodes = optional_client_verifier(&authority.pem).unwrap();
        let tls = server_config_for(&own.pem, own.key.expose(), nodes).unwrap();
        let door = door.with_tls(watch::channel(Arc::new(tls)).1);
        let service = Bootstrap::new(Parts {
            store: store.clone(),
            conductor,
            enrolment: EnrolmentKey::new(&KEY),
            authority: authority.clone(),
            clock: clock.clone(),
            entropy,
            artifact_dir,
        });
        tokio::spawn(door.serve(Arc::new(service), stop.clone()));
        let bare = Guise::new(pinned_client_config(&authority.pem).unwrap());
        let cluster = add_cluster(&store, 7, clock.now()).await;
        let (_open, holders) = (stop.drop_guard(), Mutex::default());
        Self { _folder: folder, _open, store, clock, address, bare, authority, holders, cluster }
    }

    pub fn master(&self, index: u32) -> String {
        format!("{}-master-{index}", self.cluster.stack_name())
    }

    pub fn worker(&self, index: u32) -> String {
        format!("{}-node-{index}", self.cluster.stack_name())
    }

    pub fn master_token(&self, index: u32) -> String {
        self.token(DEFAULT_MASTER, "master", Some(self.master(index)), DAY / 2)
    }

    pub fn worker_token(&self) -> String {
        self.token(DEFAULT_WORKER, "worker", None, DAY / 2)
    }

    pub fn token(&self, group: &str, role: &str, node: Option<String>, life: Duration) -> String {
        let claims = Enrolment {
            cluster: self.cluster.id,
            nodegroup: group.to_owned(),
            role: role.to_owned(),
            node,
            expires_at: self.clock.now().plus(life),
        };
        EnrolmentKey::new(&KEY).mint(&claims).expose().clone()
    }

    /// As if Nova had confirmed it before, and it had been given its certificate.
    pub async fn bind(&self, name: &str, role: &str) {
        self.bind_former(name, role).await;
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
        let holder = self.hold(self.cluster.id, name, &key, self.clock.now());
        let free = NodeKey::free(self.cluster.id, name.to_owned());
        let key = NodeKey { holder: Some(holder), ..free };
        self.store.commit(Change::new().put(&key)).await.unwrap();
    }

    /// Speaks for the node with this key from now on, whatever is on record, and with a
    /// certificate that says it was given at `since`.
    pub fn hold(
        &self,
        cluster: ClusterId,
        name: &str,
        key: &rcgen::KeyPair,
        since: Timestamp,
    ) -> Holder {
        let asked = rcgen::CertificateParams::new(Vec::new()).unwrap();
        let request = asked.serialize_request(key).unwrap().pem().unwrap();
        let (node, instance) = (name.to_owned(), INSTANCE.to_owned());
        let identity = NodeIdentity { cluster, node, instance, since };
        let pem = identity.issue(&self.authority, &request, &Entropy::new()).unwrap();
        let secret = Secret::new(key.serialize_pem());
        let tls = mutual_client_config(&self.authority.pem, &pem, &secret).unwrap();
        self.holders.lock().unwrap().insert(name.to_owned(), Guise::new(tls));
        let key = key_of_request(&request).unwrap();
        let (instance, address) = (INSTANCE.to_owned(), "127.0.0.1".to_owned());
        Holder { instance, key, certificate: pem, since, address }
    }

    /// As a magnumd did that knew no keys of nodes.
    pub async fn bind_former(&self, name: &str, role: &str) {
        let now = self.clock.now();
        let node = Node {
            cluster_id: self.cluster.id,
            name: name.to_owned(),
            nodegroup: format!("default-{role}"),
            role: role.to_owned(),
            instance: Some(INSTANCE.to_owned()),
            phase: Phase::Booted,
            state: PhaseState::Started,
            message: String::new(),
            log_tail: String::new(),
            first_seen: now,
            last_seen: now,
        };
        self.store.commit(Change::new().put(&node)).await.unwrap();
    }

    /// The cluster becomes one of another driver.
    pub async fn give_driver(&self, name: &str) {
        let cluster = Cluster { driver: name.to_owned(), ..self.cluster.clone() };
        self.store.commit(Change::new().put(&cluster)).await.unwrap();
    }

    pub fn node(&self, name: &str) -> Option<Node> {
        self.store.read(|v| v.node(self.cluster.id, name)).unwrap().map(|n| n.record)
    }

    pub fn ask(&self, node: &str, errand: &str, token: &str) -> Outgoing {
        let is_read = errand == "bundle" || errand == "duty" || errand.starts_with("artifact/");
        let method = if is_read { Method::GET } else { Method::POST };
        let url = self.url(&format!("/bootstrap/v1/{node}/{errand}"));
        Outgoing::new(method, url)
            .header(AUTHORIZATION, &format!("Bearer {token}"))
            .header(HeaderName::from_static("x-magnumd-instance"), INSTANCE)
            .deadline(Duration::from_secs(20))
    }

    pub fn url(&self, path: &str) -> String {
        format!("https://{}{path}", self.address)
    }

    /// What a client of its own needs that comes as `node`, or without a certificate.
    #[allow(dead_code, reason = "not every test that uses this file has one")]
    pub fn tls(&self, node: Option<&str>) -> ClientConfig {
        match node {
            Some(node) => self.holders.lock().unwrap()[node].tls.clone(),
            None => self.bare.tls.clone(),
        }
    }

    /// With the certificate of the node that the path names, if it has one.
    pub async fn send(&self, ask: Outgoing) -> Answer {
        self.try_send(ask).await.unwrap()
    }

    /// Without a certificate.
    pub async fn send_bare(&self, ask: Outgoing) -> Answer {
        self.bare.client.send(ask).await.unwrap()
    }

    /// With the certificate of another node.
    #[allow(dead_code, reason = "not every test that uses this file has one")]
    pub async fn send_as(&self, node: &str, ask: Outgoing) -> Answer {
        let guise = self.holders.lock().unwrap()[node].clone();
        guise.client.send(ask).await.unwrap()
    }

    pub async fn try_send(&self, ask: Outgoing) -> Result<Answer, HttpError> {
        let node = ask.url.split("/bootstrap/v1/").nth(1).and_then(|rest| rest.split('/').next());
        let held = node.and_then(|node| self.holders.lock().unwrap().get(node).cloned());
        held.unwrap_or_else(|| self.bare.clone()).client.send(ask).await
    }

    /// Reports; answers the status.
    pub async fn status(&self, node: &str, token: &str, phase: &str, state: &str) -> u16 {
        let body = json!({"phase": phase, "state": state, "message": "m", "log_tail": "l"});
        self.send(self.ask(node, "status", token).json(&body)).await.status.as_u16()
    }

    pub async fn csr(&self, node: &str, token: &str, purpose: &str, csr: &str) -> Answer {
        let body = json!({ "purpose": purpose, "csr": csr });
        self.send(self.ask(node, "csr", token).json(&body)).await
    }
}

fn conductor(store: &Store, clock: &Clock) -> Conductor {
    let nobody =
        Identity { id: Some("u".to_owned()), name: None, domain_id: None, domain_name: None };
    let accounts = Accounts {
        // Nothing listens there.
        auth_url: "http://127.0.0.1:1/v3".to_owned(),
        service_user: nobody.clone(),
        service_password: Secret::new("secret".to_owned()),
        service_project: nobody.clone(),
        trustee_domain_id: Some("d".to_owned()),
        trustee_domain_name: None,
        domain_admin: nobody,
        domain_admin_password: Secret::new("secret".to_owned()),
    };
    let reach =
        ServiceSettings { region: None, interface: "public".to_owned(), trust: Trust::default() };
    let services: HashMap<_, _> = Service::ALL.into_iter().map(|s| (s, reach.clone())).collect();
    let settings = CloudSettings {
        accounts,
        services,
        concurrency: 8,
        connect_timeout: Duration::from_secs(1),
        deadline: Duration::from_secs(5),
        remember_tokens: Duration::from_secs(60),
        remember_lookups: Duration::from_secs(60),
    };
    Conductor::new(ConductorParts {
        store: store.clone(),
        cloud: Cloud::new(settings, clock.clone()).unwrap(),
        drivers: Drivers::builtin(&[]),
        settings: Settings {
            driver: plan::Settings {
                auth_url: "http://127.0.0.1:1/v3".to_owned(),
                region: None,
                bootstrap_url: "http://127.0.0.1:9513".to_owned(),
                bootstrap_ca: String::new(),
                magnum_url: String::new(),
                discovery_base: String::new(),
                openstack_ca: String::new(),
                default_network_driver: "flannel".to_owned(),
                create_timeout: 60,
                nested: false,
            },
            host: "h".to_owned(),
            lanes: 1,
            look_interval: Duration::from_secs(1),
            sync_interval: Duration::from_secs(60),
            health_interval: None,
            health_timeout: Duration::from_secs(10),
            max_clusters_per_project: 20,
            trust_roles: Vec::new(),
            certificate_validity: DAY,
            boot_volume_size: 0,
            allowed_network_drivers: Vec::new(),
            default_driver: None,
            discovery_url: String::new(),
            heat_reauthenticates: false,
            lb_delete_timeout: Duration::from_secs(60),
            unknown_labels: Default::default(),
            health_allow_loopback: false,
            own_addresses: Vec::new(),
            first_contact: Default::default(),
        },
        clock: clock.clone(),
        entropy: Entropy::new(),
        enrolment: EnrolmentKey::new(&KEY),
        key_generator: KeyGenerator::start(1, Keys::plain(KeyAlgorithm::Rsa)).unwrap(),
        points: FailPoints::none(),
    })
}

/// Drawing RSA keys is slow, so all tests share one set.
async fn keys() -> &'static [(CertificateKind, KeyPairPem)] {
    static KEYS: OnceCell<Vec<(CertificateKind, KeyPairPem)>> = OnceCell::const_new();
    let drawn = KEYS.get_or_init(|| async {
        let keys = KeyGenerator::start(2, Keys::plain(KeyAlgorithm::Rsa))
            .unwrap()
            .draw(&CertificateKind::ALL)
            .await
            .unwrap();
        material::assemble(
            "k1",
            &CertificateKind::ALL,
            &keys,
            DAY,
            Clock::real().now(),
            &Entropy::new(),
        )
        .unwrap()
    });
    drawn.await
}

pub async fn add_cluster(store: &Store, number: u128, now: Timestamp) -> Cluster {
    let id = ClusterId::new(Uuid::from_u128(number));
    let template = template(store, now);
    let cluster = Cluster {
        sequence: store.next_sequence(),
        project_id: "p".to_owned(),
        user_id: "u".to_owned(),
        floating_ip_enabled: true,
        create_timeout: 60,
        driver: "k8s_kubeadm_v1".to_owned(),
        created_at: now,
        ..Cluster::plain(id, "k1", template.id)
    };
    let facts = CloudFacts {
        master_addresses: vec!["10.0.0.10".to_owned(), "10.0.0.11".to_owned()],
        ..CloudFacts::plain(id, "i", "ubuntu", "f")
    };
    let credential = Credential {
        cluster_id: id,
        trustee_name: format!("{id}_p"),
        trustee_password: store.sealer().seal(&Credential::owner(id), b"secret"),
        trustee_user_id: Some("trustee".to_owned()),
        trust_id: Some("trust".to_owned()),
        next_password: None,
        next_trust: None,
        former_trust: None,
    };
    let mut change = Change::new().put(&template).put(&cluster).put(&facts).put(&credential);
    for (number, role, count) in [(1, MASTER, 2), (2, WORKER, 1)] {
        change = change.put(&group(store, &cluster, number, role, count));
    }
    for (kind, pair) in keys().await {
        let sealed =
            store.sealer().seal(&Certificate::owner(id, *kind), pair.key.expose().as_bytes());
        let certificate =
            Certificate { cluster_id: id, kind: *kind, pem: pair.pem.clone(), key: sealed };
        change = change.put(&certificate);
    }
    store.commit(change).await.unwrap();
    cluster
}

fn template(store: &Store, now: Timestamp) -> ClusterTemplate {
    ClusterTemplate {
        sequence: store.next_sequence(),
        project_id: "p".to_owned(),
        user_id: "u".to_owned(),
        floating_ip_enabled: true,
        created_at: now,
        ..ClusterTemplate::plain(TemplateId::new(Uuid::from_u128(1)), "t", Coe::Kubernetes, "i")
    }
}

fn group(
    store: &Store,
    cluster: &Cluster,
    number: u128,
    role: &'static str,
    count: u32,
) -> NodeGroup {
    NodeGroup {
        id: NodeGroupId::new(Uuid::from_u128(number)),
        sequence: store.next_sequence(),
        min_node_count: 1,
        ..NodeGroup::default_of(cluster, "i", role, count)
    }
}
