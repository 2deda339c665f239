//! What is fuzzed, and what must come of it.

use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine;
use magnumd::api::PolicySource;
use magnumd::base::clock::{Clock, Timestamp};
use magnumd::base::http::server::Door;
use magnumd::base::id::Entropy;
use magnumd::base::secret::Sealer;
use magnumd::discovery::{Discovery, Parts, limits};
use magnumd::model::ClusterId;
use magnumd::model::discovery::DiscoveryToken;
use magnumd::model::requester::Requester;
use magnumd::store::{Change, Store};
use rcgen::{CertificateParams, CustomExtension, DnType, KeyPair};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use x509_parser::prelude::FromDer;

use crate::corpus::{Corpus, Names};
use crate::dice::Dice;
use crate::mutate;
use crate::place::{INSTANCE, Place};
use crate::run::{Run, target};
use crate::site::{Site, path, tame};
use crate::wire::{Sent, Wire};

/// Bodies of every POST.
#[test]
fn bodies() {
    target("bodies", fuzz_bodies);
}

async fn fuzz_bodies(mut run: Run) {
    let mut site = Site::new().await;
    let mut samples = site.corpus.of(&["POST"], |s| s.path.starts_with("/v1/"));
    let cluster = site.cluster.clone();
    for (path, body) in [
        (
            format!("/v1/clusters/{cluster}/nodegroups"),
            json!({ "name": "g", "node_labels": {
            "a": "b" }, "node_taints": [{ "key": "a", "value": "", "effect": "NoSchedule" }] }),
        ),
        (
            format!("/v1/clusters/{cluster}/actions/resize"),
            json!({ "node_count": 2,
            "nodes_to_remove": ["0"], "nodegroup": "default-worker" }),
        ),
        ("/v1/federations".to_owned(), json!({ "hostcluster_id": cluster })),
    ] {
        let sample = crate::corpus::Sample { method: "POST".to_owned(), path, body };
        samples.extend(vec![sample; 12]);
    }
    while let Some((case, mut dice)) = run.next() {
        let sample = dice.pick(&samples).clone();
        let mut body = sample.body.clone();
        // Names of clusters need not be unique, those of groups must be.
        if !dice.one_in(8) {
            mutate::json(&mut dice, &site.corpus, &mut body);
        }
        tame(&mut body);
        let sent = site.json(&mut dice, "POST", &sample.path, &body);
        let answer = site.wire.ask(&sent).await;
        run.check(&sent, &answer);
        if case % 60 == 59 {
            site.tidy().await;
        }
    }
    run.end(&[201, 202, 400, 404]);
}

/// JSON Patch on everything that takes one.
#[test]
fn patches() {
    target("patches", fuzz_patches);
}

async fn fuzz_patches(mut run: Run) {
    let mut site = Site::new().await;
    let samples = site.corpus.of(&["PATCH"], |s| s.body.is_array());
    let cluster = format!("/v1/clusters/{}", site.cluster);
    let paths = [
        cluster.clone(),
        format!("{cluster}?rollback=true"),
        format!("{cluster}/nodegroups/default-worker"),
        format!("/v1/clustertemplates/{}", site.spare),
        "/v1/clustertemplates/k8s".to_owned(),
        format!("/v1/quotas/{}/Cluster", site.project),
    ];
    while let Some((_, mut dice)) = run.next() {
        let mut body = match dice.below(3) {
            0 => dice.pick(&samples).body.clone(),
            _ => (0..dice.below(4)).map(|_| step(&mut dice, &site.corpus)).collect(),
        };
        if dice.one_in(3) {
            mutate::json(&mut dice, &site.corpus, &mut body);
        }
        tame(&mut body);
        let path = dice.pick(&paths).clone();
        let sent = site.json(&mut dice, "PATCH", &path, &body);
        let answer = site.wire.ask(&sent).await;
        run.check(&sent, &answer);
    }
    run.end(&[200, 202, 400]);
}

fn step(dice: &mut Dice, corpus: &Corpus) -> Value {
    const OPS: [&str; 6] = ["add", "replace", "remove", "test", "move", ""];
    const ATTRIBUTES: [&str; 12] = [
        "labels",
        "health_status",
        "health_status_reason",
        "node_count",
        "node_labels",
        "node_taints",
        "max_node_count",
        "min_node_count",
        "name",
        "tags",
        "hidden",
        "dns_nameserver",
    ];
    let known = if dice.one_in(10) { 6 } else { 3 };
    let op = *dice.pick(&OPS[..known]);
    let attribute = match dice.below(4) {
        0 => dice.pick(&corpus.keys).clone(),
        _ => (*dice.pick(&ATTRIBUTES)).to_owned(),
    };
    let member = *dice.pick(&["", "", "/a", "/a~1b.c", "/~", "/é", "/a/b", "/"]);
    let value = match dice.below(4) {
        0 => json!({ "a": "b" }),
        1 => json!("{'a': 'b', \"c\": 1}"),
        2 => json!([{ "key": "a", "value": "b", "effect": "NoExecute" }]),
        _ => mutate::value(dice, corpus),
    };
    json!({ "op": op, "path": format!("/{attribute}{member}"), "value": value })
}

/// Certificate requests: damaged ones, and odd ones that are signed as they should be.
#[test]
fn requests_for_certificates() {
    target("requests_for_certificates", fuzz_requests_for_certificates);
}

async fn fuzz_requests_for_certificates(mut run: Run) {
    let mut site = Site::new().await;
    let keys = [
        KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap(),
        KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap(),
        KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap(),
        KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).unwrap(),
    ];
    while let Some((_, mut dice)) = run.next() {
        let key = dice.pick(&keys);
        let csr = match odd_request(&mut dice, key) {
            Some(der) => written(&mut dice, der),
            None => continue,
        };
        let kind = *dice.pick(&["", "etcd", "front-proxy", "kubelet"]);
        let body = json!({ "cluster_uuid": site.cluster, "csr": csr, "ca_cert_type": kind });
        let sent = Sent::new("POST", "/v1/certificates")
            .header("x-auth-token", site.demo.as_str())
            .header("content-type", "application/json")
            .body(body.to_string());
        let answer = site.wire.ask(&sent).await;
        let Some(answer) = run.check(&sent, &answer) else { continue };
        if answer.status == 201 {
            let pem = answer.json().unwrap()["pem"].as_str().unwrap().to_owned();
            let (_, block) = x509_parser::pem::parse_x509_pem(pem.as_bytes()).unwrap();
            let (_, made) =
                x509_parser::certificate::X509Certificate::from_der(&block.contents).unwrap();
            let constraints = made.basic_constraints();
            if made.is_ca() || constraints.is_err() {
                run.fail(&csr, &format!("it has become a CA, or nobody knows: {pem}"));
            }
        }
    }
    run.end(&[201, 400]);
}

fn odd_request(dice: &mut Dice, key: &KeyPair) -> Option<Vec<u8>> {
    const OIDS: [&[u64]; 9] = [
        &[2, 5, 29, 14],
        &[2, 5, 29, 15],
        &[2, 5, 29, 17],
        &[2, 5, 29, 19],
        &[2, 5, 29, 37],
        &[2, 5, 29, 35],
        &[2, 5, 29, 32],
        &[1, 3, 6, 1, 5, 5, 7, 1, 1],
        &[1, 2, 3, 4],
    ];
    /// Contents that are something, for whatever they are put under.
    const CONTENTS: [&[u8]; 8] = [
        &[0x30, 0x00],
        &[0x30, 0x03, 0x01, 0x01, 0xff],
        &[0x30, 0x06, 0x01, 0x01, 0xff, 0x02, 0x01, 0x00],
        &[0x03, 0x02, 0x05, 0xa0],
        &[0x03, 0x03, 0x07, 0xff, 0x80],
        &[0x30, 0x06, 0x87, 0x04, 10, 0, 0, 1],
        &[0x30, 0x0a, 0x06, 0x08, 0x2b, 6, 1, 5, 5, 7, 3, 2],
        &[0x04, 0x00],
    ];
    const NAMES: [&str; 6] = ["k.example", "*.example", "10.0.0.1", "a_b", "xn--e1afmkfd", "::1"];
    let names: Vec<String> = (0..dice.below(4)).map(|_| (*dice.pick(&NAMES)).to_owned()).collect();
    let mut params = CertificateParams::new(names).ok()?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    for _ in 0..dice.below(5) {
        let kind = match dice.below(4) {
            0 => DnType::CommonName,
            1 => DnType::OrganizationName,
            2 => DnType::OrganizationalUnitName,
            _ => DnType::CustomDnType(dice.pick(&OIDS).to_vec()),
        };
        let mut text = (*dice.pick(&["admin", "system:masters", "é", ""])).to_owned();
        if dice.one_in(4) {
            mutate::text(dice, &mut text);
        }
        params.distinguished_name.push(kind, text);
    }
    for _ in 0..dice.below(4) {
        let mut content = dice.pick(&CONTENTS).to_vec();
        if dice.one_in(3) {
            mutate::bytes(dice, &mut content);
        }
        let oid = *dice.pick(&OIDS);
        let mut extension = CustomExtension::from_oid_content(oid, content);
        extension.set_criticality(dice.one_in(4));
        params.custom_extensions.push(extension);
    }
    Some(params.serialize_request(key).ok()?.der().to_vec())
}

/// DER as PEM, either of which may be damaged.
fn written(dice: &mut Dice, mut der: Vec<u8>) -> String {
    if dice.one_in(3) {
        mutate::bytes(dice, &mut der);
    }
    let label = *dice.pick(&["CERTIFICATE REQUEST", "NEW CERTIFICATE REQUEST", "CERTIFICATE"]);
    let body = base64::engine::general_purpose::STANDARD.encode(der);
    let width = *dice.pick(&[64, 64, 64, 76, 1, 10_000]);
    let lines: Vec<&str> =
        body.as_bytes().chunks(width).map(|line| std::str::from_utf8(line).unwrap()).collect();
    let end = *dice.pick(&["\n", "\n", "\r\n", "\n\n", ""]);
    let mut pem = format!("-----BEGIN {label}-----{end}{}", lines.join(end));
    pem += &format!("{end}-----END {label}-----{end}");
    if dice.one_in(8) {
        mutate::text(dice, &mut pem);
    }
    pem
}

/// Versions, other headers, paths and queries.
#[test]
fn versions_and_paths() {
    target("versions_and_paths", fuzz_versions_and_paths);
}

async fn fuzz_versions_and_paths(mut run: Run) {
    let mut site = Site::new().await;
    let mut samples = site.corpus.of(&["GET"], |s| s.path.len() < 300);
    let (root, version) = (samples[0].clone(), samples[0].clone());
    samples.push(crate::corpus::Sample { path: "/".to_owned(), ..root });
    samples.push(crate::corpus::Sample { path: "/v1".to_owned(), ..version });
    const VERSIONS: [&str; 9] = [
        "container-infra 1.9",
        "container-infra latest",
        "container-infrastructure-management 1.14",
        "compute 2.1, container-infra 1.5",
        "container-infra 1.15",
        "container-infra 0.0",
        "container-infra",
        "1.4",
        "latest",
    ];
    const ARGUMENTS: [&str; 12] = [
        "limit=1",
        "limit=0",
        "marker=x",
        "sort_key=name",
        "sort_dir=up",
        "role=worker",
        "type=cluster",
        "project_id=%00",
        "all_tenants=yes",
        "ca_cert_type=etcd",
        "%ff=%ff",
        "&&==&",
    ];
    while let Some((_, mut dice)) = run.next() {
        let mut asked = dice.pick(&samples).path.clone();
        for _ in 0..dice.below(3) {
            asked += if asked.contains('?') { "&" } else { "?" };
            asked += *dice.pick(&ARGUMENTS);
        }
        let asked = path(&mut dice, &asked);
        let method = *dice.pick(&["GET", "GET", "GET", "GET", "HEAD", "OPTIONS", "PUT", "DANCE"]);
        let mut version = dice.pick(&VERSIONS).as_bytes().to_vec();
        if dice.one_in(2) {
            mutate::bytes(&mut dice, &mut version);
        }
        let mut sent = site.bare(method, &asked).header("openstack-api-version", version);
        for (name, value) in [
            ("accept", "application/json"),
            ("host", "magnum.example:9511"),
            ("origin", "https://horizon.example"),
            ("x-forwarded-host", "cloud.example"),
            ("x-openstack-request-id", "req-00000000-0000-4000-8000-000000000000"),
            ("content-type", "application/json"),
        ] {
            if dice.one_in(4) {
                let mut value = value.as_bytes().to_vec();
                mutate::bytes(&mut dice, &mut value);
                sent = sent.header(name, value);
            }
        }
        let answer = site.wire.ask(&sent).await;
        let answer = run.check(&sent, &answer);
        let names_a_request = |a: &crate::wire::Answer| a.head.contains("x-openstack-request-id");
        if answer.is_some_and(|a| !a.is_not_ours() && !names_a_request(&a)) {
            run.fail(&asked, "an answer without a request id");
        }
    }
    run.end(&[200, 400, 404, 405, 406]);
}

/// Policy files: read or refused, and then asked.
#[test]
fn policy_files() {
    let mut run = Run::begin("policy_files");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("policy.yaml");
    let source = || PolicySource { file: Some(file.clone()), is_required: true, dirs: Vec::new() };
    let sample = magnumd::api::policy_sample();
    let lines: Vec<&str> = sample.lines().filter_map(|l| l.strip_prefix('#')).collect();
    let lines: Vec<&str> = lines.into_iter().filter(|l| l.starts_with('"')).collect();
    assert!(lines.len() > 50);
    const RULES: [&str; 14] = [
        "\"context_is_admin\": \"role:admin or rule:ours\"",
        "\"context_is_admin\": \"not (rule:ours and rule:admin_or_owner)\"",
        "\"ours\": \"rule:theirs or user_id:%(user_id)s\"",
        "\"theirs\": \"not rule:ours\"",
        "\"ours\": [[\"role:admin\", \"is_admin:True\"], \"@\", []]",
        "\"default\": \"rule:context_is_admin\"",
        "\"ours\": \"http://example.org/%(project_id)s\"",
        "\"ours\": &a \"@\"\n\"theirs\": *a",
        "\"ours\": !!binary aGk=",
        "\"ours\": |\n  role:a\n  or role:b",
        "\"ours\": \"'member':%(labels.x)s and 1.5:%(id)s and None:%(y)s\"",
        "ours: null",
        "? [a, b]\n: c",
        "<<: {\"ours\": \"!\"}",
    ];
    let requester = Requester {
        user_id: "u".to_owned(),
        user_name: "u".to_owned(),
        user_domain_id: "default".to_owned(),
        user_domain_name: "Default".to_owned(),
        project_id: Some("p".to_owned()),
        project_name: Some("p".to_owned()),
        project_domain_id: Some("default".to_owned()),
        domain_id: None,
        system_scope: false,
        roles: vec!["member".to_owned()],
        trust: None,
        restricted_credential: false,
        expires_at: Timestamp::from_micros(i64::MAX),
    };
    let (mut read, mut refused, mut admins) = (0_u64, 0_u64, 0_u64);
    while let Some((_, mut dice)) = run.next() {
        let mut text = String::new();
        for _ in 0..dice.below(8) {
            let rule = if dice.one_in(3) { *dice.pick(&lines) } else { *dice.pick(&RULES) };
            text += rule;
            text += "\n";
        }
        let mut bytes = match dice.below(3) {
            0 => text.into_bytes(),
            1 => {
                mutate::text(&mut dice, &mut text);
                text.into_bytes()
            }
            _ => {
                let mut bytes = text.into_bytes();
                mutate::bytes(&mut dice, &mut bytes);
                bytes
            }
        };
        bytes.truncate(1 << 20);
        std::fs::write(&file, &bytes).unwrap();
        let began = Instant::now();
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            source().read().map(|policy| policy.is_admin(&requester))
        }));
        let shown = String::from_utf8_lossy(&bytes);
        match outcome {
            Err(_) => run.fail(&shown, "a panic"),
            Ok(Ok(is_admin)) => {
                read += 1;
                admins += u64::from(is_admin);
            }
            Ok(Err(_)) => refused += 1,
        }
        if began.elapsed() > Duration::from_secs(5) {
            run.fail(&shown, &format!("it took {:?}", began.elapsed()));
        }
    }
    eprintln!("policy files: {read} read, {refused} refused, {admins} made an administrator");
    assert!(read > 0 && refused > 0 && admins > 0 && admins < read);
    run.end(&[]);
}

const TOKEN: &str = "0123456789abcdef0123456789abcdef";

/// The door of etcd discovery.
#[test]
fn discovery() {
    target("discovery", fuzz_discovery);
}

async fn fuzz_discovery(mut run: Run) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("state.redb"), Sealer::new(&[1; 32])).unwrap();
    let clock = Clock::real();
    let stop = CancellationToken::new();
    let service = Discovery::new(Parts {
        store: store.clone(),
        clock: clock.clone(),
        entropy: Entropy::new(),
        allow_loopback: true,
        advertise_url: "http://127.0.0.1:9512".to_owned(),
        stop: stop.clone(),
    });
    let address: SocketAddr = ([127, 0, 0, 1], 0).into();
    let door = Door::bind(address, limits()).await.unwrap();
    let mut wire = Wire::to(door.address().unwrap());
    let serving = tokio::spawn(door.serve(Arc::new(service), stop.clone()));
    const PATHS: [&str; 9] = [
        "",
        "/",
        "/_config/size",
        "/1",
        "/8e9e05c52164694d",
        "/8E9E",
        "/_config",
        "/1?wait=true&waitIndex=1",
        "?recursive=true&quorum=false&sorted=true",
    ];
    const VALUES: [&str; 5] = [
        "m0=http://10.0.0.5:2380",
        "m0=https://10.0.0.5:2380,m0=http://10.0.0.6:2380",
        "m1=http://127.0.0.1:2380",
        "m2=http://[fd00::1]:2380",
        "=",
    ];
    while let Some((case, mut dice)) = run.next() {
        if case % 200 == 0 {
            let now = clock.now();
            let (cluster, life) = (ClusterId::new(Uuid::from_u128(7)), Duration::from_secs(3600));
            let token = DiscoveryToken::issue(
                TOKEN.to_owned(),
                cluster,
                5,
                Vec::new(),
                Some("10.0.0.0/24".to_owned()),
                now,
                now.plus(life),
            );
            store.commit(Change::new().put(&token)).await.unwrap();
        }
        let prefix = *dice.pick(&["/", "/", "/v2/keys/_etcd/registry/", "/v2/keys/", "//"]);
        let asked = format!("{prefix}{TOKEN}{}", dice.pick(&PATHS));
        let asked = path(&mut dice, &asked);
        let method = *dice.pick(&["GET", "PUT", "PUT", "PUT", "DELETE", "HEAD", "POST"]);
        let mut value = (*dice.pick(&VALUES)).to_owned();
        if dice.one_in(2) {
            mutate::text(&mut dice, &mut value);
        }
        let extra = *dice.pick(&["", "&prevExist=false", "&prevExist=x", "&ttl=1", "&value=y"]);
        let mut body = format!("value={value}{extra}").into_bytes();
        if dice.one_in(6) {
            mutate::bytes(&mut dice, &mut body);
        }
        body.truncate(8 << 10);
        let kind = match dice.below(12) {
            0 => "text/plain",
            _ => "application/x-www-form-urlencoded; param=value",
        };
        let sent = Sent::new(method, &asked).header("content-type", kind).body(body);
        // Whoever waits for others may wait for long.
        let patience = match asked.contains("wait") {
            true => Duration::from_millis(30),
            false => Duration::from_secs(30),
        };
        match wire.ask_within(&sent, patience).await {
            Ok(None) if asked.contains("wait") => {}
            Ok(None) => run.fail(&asked, "no answer"),
            Ok(Some(answer)) => drop(run.check(&sent, &Ok(answer))),
            Err(why) => drop(run.check(&sent, &Err(why))),
        }
    }
    stop.cancel();
    serving.await.unwrap();
    run.end(&[200, 201, 400, 403, 404, 405]);
}

/// What nodes send while they boot.
#[test]
fn bootstrap() {
    target("bootstrap", fuzz_bootstrap);
}

async fn fuzz_bootstrap(mut run: Run) {
    let place = Place::new().await;
    let corpus = Corpus::read(&Names { template: "t", cluster: "c", project: "p" });
    let (master, worker) = (place.master(0), place.worker(0));
    let mut wire = Wire::to(place.address);
    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    while let Some((case, mut dice)) = run.next() {
        if case % 100 == 0 {
            // As good as new: a node that is ready is refused all it has had.
            place.bind(&master, "master").await;
            place.bind(&worker, "worker").await;
        }
        let (node, token) = match dice.below(2) {
            0 => (&master, place.master_token(0)),
            _ => (&worker, place.worker_token()),
        };
        let errand = *dice.pick(&["status", "csr", "csr", "status", "bundle"]);
        let mut body = match errand {
            "csr" => {
                let purposes = ["kubelet", "etcd-peer", "etcd-server", "front-proxy-client"];
                let csr = odd_request(&mut dice, &key).map(|der| written(&mut dice, der));
                json!({ "purpose": dice.pick(&purposes), "csr": csr })
            }
            _ => json!({
                "phase": dice.pick(&["booted", "network", "runtime", "certs", "etcd", "ready"]),
                "state": dice.pick(&["started", "done", "failed"]),
                "message": "m",
                "log_tail": "l",
            }),
        };
        if dice.one_in(2) {
            mutate::json(&mut dice, &corpus, &mut body);
        }
        let mut bytes = body.to_string().into_bytes();
        if dice.one_in(10) {
            mutate::bytes(&mut dice, &mut bytes);
        }
        // Less than this door reads.
        bytes.truncate(60_000);
        let mut token = format!("Bearer {token}").into_bytes();
        if dice.one_in(10) {
            mutate::bytes(&mut dice, &mut token);
        }
        let mut instance = INSTANCE.as_bytes().to_vec();
        if dice.one_in(20) {
            mutate::bytes(&mut dice, &mut instance);
        }
        let asked = path(&mut dice, &format!("/bootstrap/v1/{node}/{errand}"));
        let sent = Sent::new(if errand == "bundle" { "GET" } else { "POST" }, &asked)
            .header("authorization", token)
            .header("x-magnumd-instance", instance)
            .header("content-type", "application/json")
            .body(bytes);
        let answer = wire.ask(&sent).await;
        run.check(&sent, &answer);
    }
    run.end(&[200, 204, 400, 401, 404]);
}
