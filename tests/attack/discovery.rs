//! Row 9. Threat: whoever gets hold of a discovery token registers as a member of a cluster's etcd.
//! Actor: a worker of the cluster, and whoever reads a state file, a backup or an export. Target: a
//! member registers only its own address, and no token lies anywhere in plain text.
//!
//! What else belongs to the row is where it is decided: bogus tokens that queue before good ones in
//! `src/openstack/token`, a clock that is set in `tests/lab/late.rs`, secrets as flags in
//! `src/config/layers.rs`, floods of reports in `tests/bootstrap`.

use std::os::unix::fs::PermissionsExt;
use std::time::Instant;

use hyper::header::CONTENT_TYPE;
use hyper::{Method, StatusCode};
use magnumd::base::http::client::Outgoing;
use serde_json::{Value, json};

use crate::process::{PATIENCE, Process, Site};
use crate::records::{stop, verb};

/// Looks at a cluster until it is complete.
async fn complete(magnumd: &Process, token: &str, uuid: &str) -> Value {
    let began = Instant::now();
    loop {
        let (status, body) = magnumd.get(&format!("/v1/clusters/{uuid}"), token).await;
        assert_eq!(status, 200, "{body}");
        let cluster: Value = serde_json::from_str(&body).unwrap();
        match cluster["status"].as_str().unwrap() {
            "CREATE_COMPLETE" => return cluster,
            "CREATE_IN_PROGRESS" => assert!(began.elapsed() < PATIENCE, "{cluster}"),
            _ => panic!("{cluster}"),
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
}

fn holds(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|part| part == text.as_bytes())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_lies_nowhere_in_plain_text_and_opens_nothing_to_strangers() {
    let site = Site::new().await;
    let magnumd = site.start(site.command()).await;
    let owner = site.token().await;
    assert_eq!(
        magnumd.add_template(&owner, "k8s", &json!({"etcd_bootstrap": "discovery"})).await.status,
        StatusCode::CREATED
    );
    let asked = json!({"name": "ha", "cluster_template_id": "k8s", "master_count": 3,
                       "node_count": 1});
    let made = magnumd.ask(Method::POST, "/v1/clusters", &owner, Some(&asked)).await;
    assert_eq!(made.status, StatusCode::ACCEPTED, "{:?}", made.body);
    let made: Value = serde_json::from_slice(&made.body).unwrap();
    let uuid = made["uuid"].as_str().unwrap();
    let cluster = complete(&magnumd, &owner, uuid).await;

    // The owner is shown it, and it is the one that the members have used.
    let url = cluster["discovery_url"].as_str().unwrap();
    let (_, token) = url.rsplit_once('/').unwrap();
    assert_eq!(token.len(), 32, "{url}");
    let listing = site.http.send(Outgoing::new(Method::GET, url.to_owned())).await.unwrap();
    let listing: Value = serde_json::from_slice(&listing.body).unwrap();
    let members = listing["node"]["nodes"].as_array().unwrap();
    assert_eq!(members.len(), 3, "{listing}");

    // Whoever has it is no member: all of them are there, and the cluster runs.
    let stranger = Outgoing::new(Method::PUT, format!("{url}/abc"))
        .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
        .body("value=ha-x-master-0%3Dhttps%3A%2F%2F127.0.0.9%3A2380".to_owned());
    let refused = site.http.send(stranger).await.unwrap();
    assert!(refused.status.is_client_error(), "{:?}", refused.body);

    // Neither a backup nor an export has it, nor the state as it lies on the disk.
    let backup = site.folder().join("backup");
    let (code, _, complaint) = verb(&site, &["backup", backup.to_str().unwrap()]);
    assert_eq!(code, 0, "{complaint}");
    assert!(!holds(&std::fs::read(&backup).unwrap(), token), "the backup");
    let (code, export, complaint) = verb(&site, &["export"]);
    assert_eq!(code, 0, "{complaint}");
    assert!(export.contains(uuid) && !holds(export.as_bytes(), token), "the export");
    let (code, export, _) = verb(&site, &["export", "--with-secrets"]);
    // In base64, for it moves a state to another key.
    assert!(code == 0 && !holds(export.as_bytes(), token), "{export}");
    let log = magnumd.log();
    assert!(!log.contains(token), "the log");
    stop(magnumd).await;
    for entry in std::fs::read_dir(site.state()).unwrap() {
        let path = entry.unwrap().path();
        let file = std::fs::metadata(&path).unwrap();
        if file.is_file() {
            assert!(!holds(&std::fs::read(&path).unwrap(), token), "{}", path.display());
            let mode = file.permissions().mode() & 0o077;
            assert_eq!(mode, 0, "others may read {}", path.display());
        }
    }
    assert_eq!(verb(&site, &["verify"]).0, 0);
    // And it is still there for whoever may have it.
    let magnumd = site.start(site.command()).await;
    assert_eq!(complete(&magnumd, &owner, uuid).await["discovery_url"], url);
    stop(magnumd).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_uuid_that_is_in_use_elsewhere_is_refused() {
    let site = Site::new().await;
    let magnumd = site.start(site.command()).await;
    let (owner, other) = (site.token().await, site.token_of("alt", "alt").await);
    let made = magnumd.add_template(&owner, "k8s", &json!({})).await;
    let made: Value = serde_json::from_slice(&made.body).unwrap();
    let asked = json!({"uuid": made["uuid"], "name": "mine", "coe": "kubernetes",
                       "image_id": "ubuntu", "keypair_id": "default", "flavor_id": "m1.small",
                       "external_network_id": "public", "master_flavor_id": "m1.small"});
    let answer = magnumd.ask(Method::POST, "/v1/clustertemplates", &other, Some(&asked)).await;
    assert_eq!(answer.status, StatusCode::CONFLICT, "{:?}", answer.body);
    assert_eq!(magnumd.get("/v1/clustertemplates/k8s", &owner).await.0, 200);
    stop(magnumd).await;
}
