//! Looks at APIs of every kind: well, ill, foreign and hostile, over real TLS.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
};
use serde_json::{Value, json as value};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::*;
use crate::base::http::server::{self, HttpListener, Limits, Request, Response, Service, response};
use crate::base::http::tls;

const DEADLINE: Duration = Duration::from_millis(1500);

type Answers = Box<dyn Fn(&str, &str) -> Response + Send + Sync>;

struct Api(Answers);

impl Service for Api {
    async fn handle(&self, request: Request) -> Response {
        (self.0)(&request.path, &request.query.unwrap_or_default())
    }
}

/// An authority, with the PEM of its certificate.
struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        tls::install_provider();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.distinguished_name.push(DnType::CommonName, "k1");
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { pem, issuer: Issuer::new(params, key) }
    }

    fn sign(&self, name: &str, usage: ExtendedKeyUsagePurpose) -> (String, String) {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.extended_key_usages = vec![usage];
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }

    /// What a client of this authority needs to ask there.
    fn access(&self, url: &str) -> Access {
        let (certificate, key) = self.sign("admin", ExtendedKeyUsagePurpose::ClientAuth);
        Access { url: url.to_owned(), authorities: self.pem.clone(), certificate, key: key.into() }
    }

    /// Serves with a certificate for `name`.
    async fn serve(&self, name: &str, answers: Answers) -> (String, DropGuard) {
        let (certificate, key) = self.sign(name, ExtendedKeyUsagePurpose::ServerAuth);
        let clients = tls::client_verifier(&self.pem).unwrap();
        let settings = tls::server_config_for(&certificate, &key, clients).unwrap();
        let listener =
            HttpListener::bind(([127, 0, 0, 1], 0).into(), Limits::default()).await.unwrap();
        let url = format!("https://{}", listener.address().unwrap());
        let stop = CancellationToken::new();
        let listener = listener.with_tls(watch::channel(Arc::new(settings)).1);
        tokio::spawn(listener.serve(Arc::new(Api(answers)), stop.clone()));
        (url, stop.drop_guard())
    }

    /// What a look finds at an API that is well but for its list of nodes.
    async fn look(
        &self,
        nodes: impl Fn(&str) -> Response + Send + Sync + 'static,
    ) -> Result<Vec<Node>, KubeError> {
        let answers: Answers = Box::new(move |path, query| match path {
            "/healthz" => text("ok"),
            _ => nodes(query),
        });
        let (url, _guard) = self.serve("127.0.0.1", answers).await;
        look(&self.access(&url), DEADLINE).await
    }
}

fn text(body: impl Into<Bytes>) -> Response {
    response(StatusCode::OK, "text/plain", body)
}

fn list(nodes: &[String], next: &str) -> Response {
    let ready = value!({"conditions": [{"type": "Ready", "status": "True"}]});
    let items = nodes.iter().map(|n| value!({"metadata": {"name": n}, "status": ready}));
    let items: Vec<Value> = items.collect();
    server::json(StatusCode::OK, &value!({"metadata": {"continue": next}, "items": items}))
}

#[tokio::test]
async fn a_cluster_that_is_well_shows_all_of_its_nodes() {
    let ours = Authority::new();
    let found = ours
        .look(|query| {
            assert!(query.starts_with("limit=50"), "{query}");
            match query.split_once("&continue=") {
                None => list(&["a".to_owned(), "b".to_owned()], "t=/1"),
                Some((_, next)) => {
                    assert_eq!(next, "t%3D%2F1");
                    list(&["c".to_owned()], "")
                }
            }
        })
        .await
        .unwrap();
    let names: Vec<&str> = found.iter().map(|n| n.name.as_str()).collect();
    assert_eq!(names, ["a", "b", "c"]);
    assert!(found.iter().all(|n| n.is_ready));
}

#[tokio::test]
async fn only_the_clusters_own_authorities_are_believed() {
    let (ours, other) = (Authority::new(), Authority::new());
    let well = || {
        Box::new(|path: &str, _: &str| match path {
            "/healthz" => text("ok"),
            _ => list(&[], ""),
        })
    };
    let (url, _guard) = ours.serve("127.0.0.1", well()).await;
    let mut access = ours.access(&url);
    // While the authority is being replaced there are several.
    access.authorities = format!("{}{}", other.pem, ours.pem);
    assert_eq!(look(&access, DEADLINE).await, Ok(Vec::new()));

    access.authorities.clone_from(&other.pem);
    let foreign = look(&access, DEADLINE).await.unwrap_err().to_string();
    assert!(foreign.contains("cannot be reached: invalid peer certificate"), "{foreign}");
    let (elsewhere, _guard) = ours.serve("192.0.2.1", well()).await;
    let renamed = look(&ours.access(&elsewhere), DEADLINE).await.unwrap_err();
    assert!(matches!(renamed, KubeError::Unreachable(_)), "{renamed}");

    // Nor does the API believe everybody.
    let mut stranger = other.access(&url);
    stranger.authorities.clone_from(&ours.pem);
    let refused = look(&stranger, DEADLINE).await.unwrap_err();
    assert!(matches!(refused, KubeError::Unwell(_)), "{refused}");
}

#[tokio::test]
async fn what_is_not_an_address_or_not_a_key_is_not_tried() {
    let ours = Authority::new();
    for url in [
        "http://127.0.0.1:8080",
        "",
        "127.0.0.1:6443",
        "https://",
        "https://127.0.0.1:22/x:6443",
        "https://user@127.0.0.1:6443",
        "https://127.0.0.1:22:6443",
        "https://a b:6443",
    ] {
        let error = look(&ours.access(url), DEADLINE).await.unwrap_err();
        assert!(matches!(error, KubeError::Unusable(_)), "{url}: {error}");
    }
    let broken: [fn(&mut Access); 3] = [
        |access| access.authorities.clear(),
        |access| access.certificate = "no certificate".to_owned(),
        |access| access.key = "no key".to_owned().into(),
    ];
    for spoil in broken {
        let mut access = ours.access("https://127.0.0.1:1");
        spoil(&mut access);
        let error = look(&access, DEADLINE).await.unwrap_err();
        assert!(matches!(error, KubeError::Unusable(_)), "{error}");
    }
}

#[tokio::test]
async fn nobody_and_silence_are_told_in_words_that_stay_the_same() {
    let ours = Authority::new();
    let refused = look(&ours.access("https://127.0.0.1:1"), DEADLINE).await.unwrap_err();
    assert!(refused.to_string().contains("refused"), "{refused}");
    let silent = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let access = ours.access(&format!("https://{}", silent.local_addr().unwrap()));
    let began = Instant::now();
    let silence = look(&access, DEADLINE).await.unwrap_err();
    assert!(began.elapsed() < DEADLINE * 2, "{:?}", began.elapsed());
    assert_eq!(silence.to_string(), "the API did not answer within 1.5 s");
}

#[tokio::test]
async fn an_api_that_is_ill_is_quoted_shortly() {
    let ours = Authority::new();
    let (status, json) = (StatusCode::INTERNAL_SERVER_ERROR, "application/json");
    let cases: [(Answers, &str); 4] = [
        (Box::new(move |_, _| response(status, json, "[-]etcd failed")), "answered with 500"),
        (Box::new(|_, _| text("not\r\n\u{7}ok")), "/healthz says not ok"),
        (Box::new(|_, _| text("x".repeat(5000))), "xxx…"),
        (Box::new(|_, _| text(vec![b'x'; 100_000])), "more than 65536 bytes"),
    ];
    for (answers, words) in cases {
        let (url, _guard) = ours.serve("127.0.0.1", answers).await;
        let said = look(&ours.access(&url), DEADLINE).await.unwrap_err().to_string();
        assert!(said.contains(words) && said.len() < 300, "{said}");
    }
}

#[tokio::test]
async fn a_hostile_list_ends_the_look_and_nothing_else() {
    let ours = Authority::new();
    let said = |found: Result<Vec<Node>, KubeError>| found.unwrap_err().to_string();
    let (status, json) = (StatusCode::FOUND, "application/json");
    let elsewhere = move |_: &str| {
        let mut answer = response(status, json, "{}");
        answer.headers_mut().insert("location", "http://127.0.0.1:1/".parse().unwrap());
        answer
    };
    assert_eq!(said(ours.look(elsewhere).await), "/api/v1/nodes is answered with 302");
    let nonsense = said(ours.look(|_| text("<html>")).await);
    assert!(nonsense.contains("/api/v1/nodes: not a node list"), "{nonsense}");
    let huge = said(ours.look(|_| text(vec![b' '; 5 << 20])).await);
    assert!(huge.contains("more than 4194304 bytes"), "{huge}");

    // A list without end is given up, whichever limit is met first.
    let many: Vec<String> = (0..2500).map(|n| format!("n{n}")).collect();
    let endless = said(ours.look(move |_| list(&many, "more")).await);
    assert_eq!(endless, "/api/v1/nodes lists more than 5000 nodes");
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let began = Instant::now();
    let empty = ours.look(move |_| {
        count.fetch_add(1, Ordering::SeqCst);
        list(&[], "more")
    });
    assert_eq!(said(empty.await), "the API did not answer within 1.5 s");
    assert!(began.elapsed() < DEADLINE * 2 && asked.load(Ordering::SeqCst) > 1);
}
