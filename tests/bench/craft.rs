//! What is pure computation: rules and signatures, on one thread.

use std::time::{Duration, Instant};

use magnumd::api::{Policy, PolicyCredentials, PolicyTarget};
use magnumd::base::clock::{Clock, Timestamp};
use magnumd::base::id::Entropy;
use magnumd::driver::Drivers;
use magnumd::driver::sample::Sample;
use magnumd::model::certificate::{CertificateKind, KeyAlgorithm};
use magnumd::model::cluster::Cluster;
use magnumd::model::requester::Requester;
use magnumd::pki::authority::Authority;
use magnumd::pki::csr::Rules;
use magnumd::pki::key_generator::{KeyGenerator, Keys};
use magnumd::pki::material;
use rcgen::KeyPair;

/// How long one evaluation takes: of the usual rule, and of the slowest of all.
pub fn policy(cluster: &Cluster) -> (Duration, Duration) {
    const ROUNDS: u32 = 100_000;
    let policy = Policy::builtin();
    let member = Requester {
        user_id: "a".repeat(32),
        user_name: "demo".to_owned(),
        user_domain_id: "default".to_owned(),
        user_domain_name: "Default".to_owned(),
        project_id: Some(cluster.project_id.clone()),
        project_name: Some("demo".to_owned()),
        project_domain_id: Some("default".to_owned()),
        domain_id: None,
        system_scope: false,
        roles: ["reader", "member", "load-balancer_member"].map(str::to_owned).to_vec(),
        trust: None,
        restricted_credential: false,
        expires_at: Timestamp::from_micros(i64::MAX),
    };
    let who = PolicyCredentials { requester: &member, is_admin: false };
    let target = PolicyTarget::cluster(cluster, Some("trustees"));
    let time = |rule: &str| {
        let began = Instant::now();
        let allowed = (0..ROUNDS)
            .filter(|_| std::hint::black_box(&policy).allows(rule, &who, &target))
            .count();
        assert!(allowed == 0 || allowed == ROUNDS as usize);
        began.elapsed() / ROUNDS
    };
    let sample = magnumd::api::policy_sample();
    let rules = sample.lines().filter_map(|line| line.strip_prefix("#\"")?.split('"').next());
    let slowest = rules.map(time).max().unwrap();
    (time("cluster:get"), slowest)
}

/// How long the slowest of all drivers takes to draw a cluster, and which it is.
pub fn drawing(masters: u32, workers: u32) -> (Duration, String) {
    const ROUNDS: u32 = 50;
    let all = Drivers::builtin(&[]);
    let time = |driver: &std::sync::Arc<magnumd::driver::Driver>| {
        let mut sample = Sample { masters, workers, ..Sample::default() };
        sample.cluster.master_lb_enabled = true;
        let plan = sample.plan(driver);
        let began = Instant::now();
        for _ in 0..ROUNDS {
            std::hint::black_box(driver.bundle(&plan).unwrap());
        }
        (began.elapsed() / ROUNDS, driver.name().to_owned())
    };
    all.iter().map(time).max().unwrap()
}

/// Times of one signature: the authority loaded, and then the request signed.
pub struct Signing {
    pub load: Duration,
    pub sign: Duration,
}

/// P-256 requests before an authority of its kind: RSA as magnumd draws it, or P-256.
pub async fn signing(rsa: bool) -> Signing {
    const ROUNDS: u32 = 500;
    let keys: Vec<KeyPair> = match rsa {
        true => KeyGenerator::start(2, Keys::plain(KeyAlgorithm::Rsa))
            .unwrap()
            .draw(&CertificateKind::ALL)
            .await
            .unwrap(),
        false => (0..material::KEYS).map(|_| KeyPair::generate().unwrap()).collect(),
    };
    let (now, entropy) = (Clock::real().now(), Entropy::new());
    let day = Duration::from_secs(86_400);
    let drawn = material::assemble("k", &CertificateKind::ALL, &keys, day, now, &entropy).unwrap();
    let ca = drawn.into_iter().find(|(kind, _)| *kind == CertificateKind::Kubernetes).unwrap().1;
    let load = || Authority::load(&ca.pem, &ca.key).unwrap();
    let began = Instant::now();
    (0..ROUNDS).for_each(|_| drop(std::hint::black_box(load())));
    let loaded = began.elapsed() / ROUNDS;
    let (authority, csr, rules) = (load(), csr(), Rules::default());
    let began = Instant::now();
    for _ in 0..ROUNDS {
        std::hint::black_box(authority.sign(&csr, &rules, day, now, &entropy).unwrap());
    }
    Signing { load: loaded, sign: began.elapsed() / ROUNDS }
}

/// What a node asks for: a P-256 key, names and usages.
pub fn csr() -> String {
    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let mut asked = rcgen::CertificateParams::new(vec!["node-0".to_owned()]).unwrap();
    asked.distinguished_name = rcgen::DistinguishedName::new();
    asked.distinguished_name.push(rcgen::DnType::OrganizationName, "system:nodes");
    asked.distinguished_name.push(rcgen::DnType::CommonName, "system:node:node-0");
    asked.key_usages = vec![rcgen::KeyUsagePurpose::DigitalSignature];
    asked.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
    asked.serialize_request(&key).unwrap().pem().unwrap()
}
