//! One look into a cluster: a new TLS connection with keys as clusters have them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::StatusCode;
use magnumd::base::clock::Clock;
use magnumd::base::http::server::{
    HttpListener, Limits, Request, Response, Service, json, response,
};
use magnumd::base::http::tls;
use magnumd::base::id::Entropy;
use magnumd::kube::{self, Access};
use magnumd::model::certificate::{CertificateKind, KeyAlgorithm};
use magnumd::pki::key_generator::{KeyGenerator, Keys};
use magnumd::pki::material::assemble;
use rcgen::{CertificateParams, Issuer, KeyPair};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

const LOOKS: usize = 200;

/// The median of many, one after the other.
pub async fn into_a_cluster(stop: CancellationToken) -> Duration {
    let keys = KeyGenerator::start(2, Keys::plain(KeyAlgorithm::Rsa))
        .unwrap()
        .draw(&CertificateKind::ALL)
        .await
        .unwrap();
    let (day, now) = (Duration::from_secs(86_400), Clock::real().now());
    let drawn = assemble("k", &CertificateKind::ALL, &keys, day, now, &Entropy::new()).unwrap();
    let (ca, client) = (&drawn[0].1, &drawn[3].1);
    let issuer = KeyPair::from_pem(ca.key.expose()).unwrap();
    let issuer = Issuer::from_ca_cert_pem(&ca.pem, issuer).unwrap();
    let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    // An API server's own key is RSA too.
    let certificate = params.signed_by(&keys[4], &issuer).unwrap().pem();
    let clients = tls::client_verifier(&ca.pem).unwrap();
    let settings = tls::server_config_for(&certificate, &keys[4].serialize_pem(), clients).unwrap();
    let listener = HttpListener::bind(([127, 0, 0, 1], 0).into(), Limits::default()).await.unwrap();
    let access = Access {
        url: format!("https://{}", listener.address().unwrap()),
        authorities: ca.pem.clone(),
        certificate: client.pem.clone(),
        key: client.key.clone(),
    };
    let listener = listener.with_tls(watch::channel(Arc::new(settings)).1);
    tokio::spawn(listener.serve(Arc::new(Api), stop));
    let mut times = Vec::with_capacity(LOOKS);
    for _ in 0..LOOKS {
        let began = Instant::now();
        let nodes = kube::look(&access, Duration::from_secs(10)).await.unwrap();
        assert_eq!(nodes.len(), 3);
        times.push(began.elapsed());
    }
    times.sort();
    times[LOOKS / 2]
}

struct Api;

impl Service for Api {
    async fn handle(&self, request: Request) -> Response {
        if request.path == "/healthz" {
            return response(StatusCode::OK, "text/plain", "ok");
        }
        let node = |n: u8| {
            let ready = json!([{"type": "Ready", "status": "True"}]);
            json!({"metadata": {"name": format!("n{n}")}, "status": {"conditions": ready}})
        };
        let nodes: Vec<Value> = (0..3).map(node).collect();
        json(StatusCode::OK, &json!({"kind": "NodeList", "items": nodes}))
    }
}
