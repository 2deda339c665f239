//! Which clusters are looked into, what is said of them, and who waits for whom.

use std::sync::atomic::{AtomicBool, Ordering};

use rcgen::{CertificateParams, Issuer, KeyPair};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::watch;
use uuid::Uuid;

use super::*;
use crate::base::clock::Clock;
use crate::base::http::server::{self, HttpListener, Limits, Request, Response, Service};
use crate::base::http::tls;
use crate::base::id::Entropy;
use crate::base::secret::Sealer;
use crate::conductor::test_support;
use crate::model::{Sequence, TemplateId};
use crate::pki::KeyPairPem;
use crate::pki::material::{KEYS, assemble};
use crate::store::{Change, Store};

/// A cluster with an API that can be reached.
fn cluster(number: u64) -> Cluster {
    Cluster {
        sequence: Sequence(number),
        project_id: "p1".to_owned(),
        user_id: "u1".to_owned(),
        floating_ip_enabled: true,
        create_timeout: 60,
        api_address: Some("https://192.0.2.7:6443".to_owned()),
        status: Status::CreateComplete,
        driver: "k8s_kubeadm_v1".to_owned(),
        ..Cluster::plain(
            ClusterId::new(Uuid::from_u128(number.into())),
            &format!("k{number}"),
            TemplateId::new(Uuid::from_u128(1)),
        )
    }
}

fn reason(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
}

/// `ask`, `nothing`, or what is said of the API.
fn wished(change: impl FnOnce(&mut Cluster)) -> String {
    let mut cluster = cluster(1);
    change(&mut cluster);
    match next_check(&cluster) {
        NextCheck::Nothing => "nothing".to_owned(),
        NextCheck::Ask { url } => format!("ask {url}"),
        NextCheck::Say(finding) => format!("{} {}", finding.status, finding.reason["api"]),
    }
}

#[test]
fn clusters_that_live_or_should_are_asked() {
    let asked = "ask https://192.0.2.7:6443";
    for &status in Status::ALL {
        let wanted = match status.as_str() {
            "CREATE_IN_PROGRESS"
            | "UPDATE_IN_PROGRESS"
            | "DELETE_IN_PROGRESS"
            | "ROLLBACK_IN_PROGRESS"
            | "CREATE_COMPLETE"
            | "UPDATE_COMPLETE"
            | "ROLLBACK_COMPLETE"
            | "CREATE_FAILED"
            | "UPDATE_FAILED"
            | "DELETE_FAILED"
            | "ROLLBACK_FAILED"
            | "RESUME_FAILED" => asked,
            _ => "nothing",
        };
        assert_eq!(wished(|c| c.status = status), wanted, "{status}");
    }
    let without = |status| wished(|c| (c.status, c.api_address) = (status, None));
    assert_eq!(without(Status::CreateInProgress), "nothing");
    assert_eq!(without(Status::DeleteInProgress), "nothing");
    assert_eq!(without(Status::CreateFailed), "UNHEALTHY The cluster k1 has no API address.");
}

#[test]
fn what_cannot_be_reached_by_design_is_unknown() {
    let unknown = "UNKNOWN The cluster k1 is not accessible.";
    let asked = "ask https://192.0.2.7:6443";
    for (balancer, floating, label, wanted) in [
        (false, true, "", asked),
        (false, false, "", unknown),
        (false, false, "true", unknown),
        (true, true, "", asked),
        (true, true, "false", unknown),
        (true, false, "", unknown),
        (true, false, "True", asked),
    ] {
        let found = wished(|c| {
            (c.master_lb_enabled, c.floating_ip_enabled) = (balancer, floating);
            c.labels.insert("master_lb_floating_ip_enabled", label);
        });
        assert_eq!(found, wanted, "{balancer} {floating} {label}");
    }
}

#[test]
fn whoever_heals_itself_is_left_alone() {
    for (enabled, controller, is_left_alone) in [
        ("true", "magnum-auto-healer", true),
        ("True", "magnum-auto-healer", true),
        ("false", "magnum-auto-healer", false),
        ("", "magnum-auto-healer", false),
        ("true", "draino", false),
        ("true", "", false),
    ] {
        let found = wished(|c| {
            c.labels.insert("auto_healing_enabled", enabled);
            c.labels.insert("auto_healing_controller", controller);
        });
        assert_eq!(found == "nothing", is_left_alone, "{enabled} {controller}: {found}");
    }
}

#[test]
fn a_cluster_is_as_well_as_its_nodes() {
    let node = |name: &str, is_ready| Node { name: name.to_owned(), is_ready };
    let finding = judge(Ok(vec![node("a", true), node("b", true)]));
    assert_eq!(finding.status, HealthStatus::Healthy);
    assert_eq!(finding.reason, reason(&[("api", "ok"), ("a.Ready", "True"), ("b.Ready", "True")]));
    let finding = judge(Ok(vec![node("a", true), node("b", false)]));
    assert_eq!(finding.status, HealthStatus::Unhealthy);
    assert_eq!(finding.reason["b.Ready"], "False");
    let silent = judge(Err(KubeError::Silent(Duration::from_secs(10))));
    assert_eq!(silent.status, HealthStatus::Unhealthy);
    assert_eq!(silent.reason, reason(&[("api", NO_ANSWER)]));
    assert_eq!(judge(Err(KubeError::Unreachable("refused".to_owned()))), silent, "one sentence");

    // However many there are, the record stays small and names those that are not ready.
    let mut many: Vec<Node> = (0..4000).map(|n| node(&format!("n{n:04}"), true)).collect();
    many.push(node("z", false));
    let finding = judge(Ok(many));
    assert_eq!(finding.status, HealthStatus::Unhealthy);
    assert_eq!((finding.reason.len(), finding.reason["z.Ready"].as_str()), (NAMED + 1, "False"));
}

/// A store, a conductor that looks often, and the keys of every cluster in it.
struct Place {
    store: Store,
    conductor: Conductor,
    keys: Vec<(CertificateKind, KeyPairPem)>,
    _folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        tls::install_provider();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("magnumd.redb");
        let store = Store::open(&path, Sealer::new(&[7; Sealer::KEY_BYTES])).unwrap();
        let (conductor, _) = test_support::conductor_with(store.clone(), |settings| {
            settings.health_interval = Some(Duration::from_millis(100));
        });
        let keys: Vec<KeyPair> = (0..KEYS).map(|_| KeyPair::generate().unwrap()).collect();
        let (day, now) = (Duration::from_secs(86_400), Clock::real().now());
        let keys = assemble("k", &CertificateKind::ALL, &keys, day, now, &Entropy::new()).unwrap();
        Self { store, conductor, keys, _folder: folder }
    }

    /// As if Neutron had been asked.
    async fn vouch(&self, cluster: &Cluster) {
        let known = (cluster.id, cluster.api_address.clone().unwrap());
        self.conductor.inner.vouched.insert(known, ()).await;
    }

    async fn put(&self, cluster: &Cluster) {
        let mut change = Change::new().put(cluster);
        for (kind, pair) in &self.keys {
            let owner = Certificate::owner(cluster.id, *kind);
            let key = self.store.sealer().seal(&owner, pair.key.expose().as_bytes());
            let (cluster_id, kind, pem) = (cluster.id, *kind, pair.pem.clone());
            change = change.put(&Certificate { cluster_id, kind, pem, key });
        }
        self.store.commit(change).await.unwrap();
    }

    fn get(&self, id: ClusterId) -> Stored<Cluster> {
        self.store.read(|view| view.cluster(id)).unwrap().unwrap()
    }

    /// Waits for a status; returns how long that took.
    async fn until(&self, id: ClusterId, status: HealthStatus) -> Duration {
        let began = Instant::now();
        while self.get(id).health_status != Some(status) {
            let shown = self.get(id);
            let waited = began.elapsed();
            assert!(waited < Duration::from_secs(60), "{:?}", shown.health_status_reason);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        began.elapsed()
    }

    /// An API with a certificate of the clusters' authority; where it is.
    async fn api(&self, stop: &CancellationToken) -> (Arc<Api>, String) {
        let (_, ca) = &self.keys[0];
        let key = KeyPair::from_pem(ca.key.expose()).unwrap();
        let issuer = Issuer::from_ca_cert_pem(&ca.pem, key).unwrap();
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &issuer).unwrap().pem();
        let clients = tls::client_verifier(&ca.pem).unwrap();
        let tls = tls::server_config_for(&certificate, &key.serialize_pem(), clients).unwrap();
        let listener =
            HttpListener::bind(([127, 0, 0, 1], 0).into(), Limits::default()).await.unwrap();
        let url = format!("https://{}", listener.address().unwrap());
        let api = Arc::new(Api { is_ready: AtomicBool::new(true) });
        let listener = listener.with_tls(watch::channel(Arc::new(tls)).1);
        tokio::spawn(listener.serve(Arc::clone(&api), stop.clone()));
        (api, url)
    }
}

struct Api {
    is_ready: AtomicBool,
}

impl Service for Api {
    async fn handle(&self, request: Request) -> Response {
        let status = if self.is_ready.load(Ordering::SeqCst) { "True" } else { "False" };
        let node = json!({
            "metadata": {"name": "n"},
            "status": {"conditions": [{"type": "Ready", "status": status}]},
        });
        let ok = hyper::StatusCode::OK;
        match request.path.as_str() {
            "/healthz" => server::response(ok, "text/plain", "ok"),
            _ => server::json(ok, &json!({"kind": "NodeList", "items": [node]})),
        }
    }
}

#[tokio::test]
async fn what_is_known_already_is_not_written_again() {
    let place = Place::new();
    let mut hidden = cluster(1);
    hidden.floating_ip_enabled = false;
    place.put(&hidden).await;
    place.conductor.look_into(hidden.id).await;
    let shown = place.get(hidden.id);
    assert_eq!(shown.health_status, Some(HealthStatus::Unknown));
    for _ in 0..3 {
        place.conductor.look_into(hidden.id).await;
    }
    assert_eq!(place.get(hidden.id).revision, shown.revision);
}

#[tokio::test]
async fn a_finding_undoes_nothing_that_was_written_meanwhile() {
    let place = Place::new();
    let asked = cluster(1);
    place.put(&asked).await;
    let well = Finding::of(HealthStatus::Healthy, "ok");
    let subject = || place.conductor.subject(asked.id).unwrap().unwrap();

    // An operation moves on: both are kept.
    let before = subject();
    let mut updating = before.cluster.record.clone();
    updating.status = Status::UpdateInProgress;
    place.store.commit(Change::new().put(&updating)).await.unwrap();
    place.conductor.tell(before, well.clone()).await.unwrap();
    let shown = place.get(asked.id);
    assert_eq!(shown.status, Status::UpdateInProgress);
    assert_eq!(shown.health_status, Some(HealthStatus::Healthy));

    // A member reports: the look had begun before, and says nothing.
    let before = subject();
    let said = reason(&[("n.Ready", "False")]);
    let unhealthy = Some(HealthStatus::Unhealthy);
    place.conductor.set_health(&shown, unhealthy, said.clone()).await.unwrap();
    let late = Finding::of(HealthStatus::Unknown, "late");
    place.conductor.tell(before, late.clone()).await.unwrap();
    let shown = place.get(asked.id);
    assert_eq!((shown.health_status, &shown.health_status_reason), (unhealthy, &said));

    // The authority is another: what was found with the former one is worth nothing.
    let before = subject();
    place.put(&shown.record).await;
    place.conductor.tell(before, late.clone()).await.unwrap();
    assert_eq!(place.get(asked.id).health_status, unhealthy);

    // The cluster is gone, and stays so.
    let before = subject();
    place.store.commit(Change::new().delete_cluster(asked.id)).await.unwrap();
    place.conductor.tell(before, late).await.unwrap();
    assert!(place.store.read(|view| view.cluster(asked.id)).unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_dead_clusters_keep_no_living_one_waiting() {
    let place = Place::new();
    let stop = CancellationToken::new();
    let _guard = stop.clone().drop_guard();
    // The system accepts connections there, and nobody ever answers.
    let silent = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let nobody = format!("https://{}", silent.local_addr().unwrap());
    for number in 0..100 {
        let mut dead = cluster(number);
        dead.api_address = Some(nobody.clone());
        place.put(&dead).await;
        place.vouch(&dead).await;
    }
    let (api, url) = place.api(&stop).await;
    let mut living = cluster(100);
    living.api_address = Some(url);
    place.put(&living).await;
    place.vouch(&living).await;

    let conductor = place.conductor.clone();
    let watching = tokio::spawn({
        let stop = stop.clone();
        async move { conductor.watch_health(stop).await }
    });
    // It stands behind all the others; each of those takes 10 s.
    let waited = place.until(living.id, HealthStatus::Healthy).await;
    assert!(waited < Duration::from_secs(9), "{waited:?}");
    let first = ClusterId::new(Uuid::from_u128(0));
    place.until(first, HealthStatus::Unhealthy).await;
    assert_eq!(place.get(first).health_status_reason, reason(&[("api", NO_ANSWER)]));
    for (is_ready, status) in [(false, HealthStatus::Unhealthy), (true, HealthStatus::Healthy)] {
        api.is_ready.store(is_ready, Ordering::SeqCst);
        let waited = place.until(living.id, status).await;
        assert!(waited < Duration::from_secs(3), "{status}: {waited:?}");
    }
    stop.cancel();
    tokio::time::timeout(Duration::from_secs(1), watching).await.unwrap().unwrap();
}
