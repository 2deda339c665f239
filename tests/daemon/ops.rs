//! `/livez`, `/readyz`, `/metrics`.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use hyper::{Method, StatusCode};
use serde_json::{Value, json};

use crate::process::{PATIENCE, Process, Site};

/// Every sample; each must belong to a family that was announced.
async fn metrics(magnumd: &Process) -> HashMap<String, f64> {
    let (status, text) = magnumd.get("/metrics", "").await;
    assert_eq!(status, 200, "{text}");
    assert!(text.ends_with("# EOF\n"), "{text}");
    let families: Vec<&str> =
        text.lines().filter_map(|l| l.strip_prefix("# TYPE ")?.split(' ').next()).collect();
    let mut found = HashMap::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (name, value) = line.rsplit_once(' ').unwrap();
        assert!(families.iter().any(|family| name.starts_with(family)), "{line}");
        found.insert(name.to_owned(), value.parse().unwrap());
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn figures_say_what_happens_and_nothing_of_tenants() {
    let site = Site::new().await;
    let magnumd = site.start(site.command()).await;
    let token = site.token().await;
    let labels = json!({"etcd_bootstrap": "discovery"});
    assert_eq!(magnumd.add_template(&token, "k8s", &labels).await.status, StatusCode::CREATED);
    let asked = json!({"name": "telltale", "cluster_template_id": "k8s", "node_count": 1});
    let answer = magnumd.ask(Method::POST, "/v1/clusters", &token, Some(&asked)).await;
    assert_eq!(answer.status, StatusCode::ACCEPTED, "{:?}", answer.body);
    let uuid: Value = serde_json::from_slice(&answer.body).unwrap();
    let uuid = uuid["uuid"].as_str().unwrap().to_owned();
    let began = Instant::now();
    let cluster: Value = loop {
        let (_, body) = magnumd.get(&format!("/v1/clusters/{uuid}"), &token).await;
        let cluster: Value = serde_json::from_str(&body).unwrap();
        if cluster["status"] == "CREATE_COMPLETE" {
            break cluster;
        }
        assert!(began.elapsed() < PATIENCE, "{cluster}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    };
    let (refused, _) = magnumd.get("/v1/clusters", "no-such-token").await;
    assert_eq!(refused, 401);

    let metrics = metrics(&magnumd).await;
    let at = |name: &str| *metrics.get(name).unwrap_or_else(|| panic!("{name}: {metrics:#?}"));
    let some = |start: &str| {
        metrics.iter().filter(|(n, _)| n.starts_with(start)).map(|(_, v)| v).sum::<f64>()
    };
    let created = "magnumd_http_requests_total{listener=\"api\",route=\"/v1/clusters\",method=\"POST\",status=\"202\"}";
    assert_eq!(at(created), 1.0);
    assert!(
        at(
            "magnumd_http_requests_total{listener=\"api\",route=\"/v1/clusters/{id}\",method=\"GET\",status=\"200\"}"
        ) >= 1.0
    );
    assert!(
        at(
            "magnumd_http_request_duration_seconds_count{listener=\"api\",route=\"/v1/clusters\",method=\"POST\"}"
        ) >= 1.0
    );
    assert!(some("magnumd_http_requests_total{listener=\"bootstrap\",route=\"bundle\"") >= 2.0);
    assert!(some("magnumd_http_requests_total{listener=\"discovery\",route=\"register\"") >= 1.0);
    assert_eq!(
        at(
            "magnumd_operation_steps_total{operation=\"create\",step=\"stack\",outcome=\"advanced\"}"
        ),
        1.0
    );
    assert_eq!(
        at(
            "magnumd_operation_steps_total{operation=\"create\",step=\"await\",outcome=\"finished\"}"
        ),
        1.0
    );
    assert!(at("magnumd_openstack_calls_total{service=\"Heat\",outcome=\"ok\"}") >= 2.0);
    assert!(at("magnumd_openstack_call_duration_seconds_count{service=\"Keystone\"}") >= 2.0);
    assert!(at("magnumd_token_cache_hits_total") >= 1.0);
    assert!(at("magnumd_token_cache_misses_total") >= 2.0);
    assert_eq!(at("magnumd_token_refusals_total"), 1.0);
    assert!(at("magnumd_state_commits_total") >= 5.0);
    assert!(at("magnumd_state_commit_duration_seconds_count") >= 5.0);
    assert!(at("magnumd_state_file_size_bytes") > 0.0 && at("magnumd_state_disk_free_bytes") > 0.0);
    assert_eq!(at("magnumd_state_writable"), 1.0);
    assert!(
        at("magnumd_discovery_registrations_total{protocol=\"v2\",outcome=\"registered\"}") >= 1.0
    );
    assert_eq!(at("magnumd_clusters{status=\"CREATE_COMPLETE\"}"), 1.0);
    assert_eq!(at("magnumd_queue_lanes"), 32.0);
    let started = at("magnumd_start_time_seconds");
    let years = |seconds: f64| seconds / (365.0 * 86_400.0);
    for kind in ["kubernetes", "etcd", "front-proxy", "client"] {
        let end = at(&format!("magnumd_certificate_expiry_timestamp_seconds{{kind=\"{kind}\"}}"));
        assert!((4.9..5.1).contains(&years(end - started)), "{kind}: {end}");
    }
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(some(&format!("magnumd_build_info{{version=\"{version}\"")), 1.0);

    let documented: Vec<&str> = include_str!("../../config/metrics.md")
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split('`').next())
        .collect();
    let (_, text) = magnumd.get("/metrics", "").await;
    let shown: Vec<&str> =
        text.lines().filter_map(|l| l.strip_prefix("# TYPE ")?.split(' ').next()).collect();
    for name in &shown {
        assert!(documented.contains(name), "{name} is not in config/metrics.md");
    }
    for name in documented {
        assert!(shown.contains(&name), "{name} is in config/metrics.md only");
    }

    // Of the tenant: nothing.
    let tenants = ["project_id", "user_id", "stack_id"].map(|k| cluster[k].as_str().unwrap());
    for word in tenants.into_iter().chain(["telltale", "k8s", &uuid, "demo"]) {
        assert!(!text.contains(word), "{word}: {text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listener_of_its_own_takes_the_figures_from_the_api() {
    let mut site = Site::new().await;
    let own = format!("127.0.0.1:{}", site.port + 3);
    site.configure("[ops]", &format!("listen = '{own}'"));
    let drain = site.folder().join("drain");
    site.configure("[api]", &format!("healthcheck_disable_file = '{}'", drain.display()));
    let mut magnumd = site.start(site.command()).await;
    assert_eq!(magnumd.get("/livez", "").await, (200, "ok\n".to_owned()));
    assert_eq!(magnumd.get("/readyz", "").await, (200, "ok\n".to_owned()));
    assert_eq!(magnumd.get("/metrics", "").await.0, 401, "a path like any unknown one");
    let wrong = magnumd.ask(Method::POST, "/livez", "", None).await;
    assert_eq!((wrong.status.as_u16(), wrong.header("allow")), (405, Some("GET, HEAD")));
    magnumd.url = format!("http://{own}");
    assert!(metrics(&magnumd).await.contains_key("magnumd_state_writable"));
    assert_eq!(magnumd.get("/v1", "").await.0, 404);
    let (status, body) = magnumd.get("/readyz?verbose", "").await;
    assert_eq!(status, 200);
    for check in ["writer", "conductor", "started", "running", "enabled", "state", "keystone"] {
        assert!(body.contains(&format!("[+] {check}: ok")), "{body}");
    }
    std::fs::write(&drain, "").unwrap();
    let (status, body) = magnumd.get("/readyz", "").await;
    assert_eq!(status, 503);
    assert!(body.contains("[-] enabled: disabled by file"), "{body}");
    assert_eq!(magnumd.get("/livez", "").await.0, 200);
}
