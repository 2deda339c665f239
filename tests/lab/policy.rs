//! The operator's policy file, at the start and while the daemon runs.

use std::time::{Duration, Instant};

use hyper::StatusCode;
use magnumd::base::fail_points::FailPoints;

use crate::harness::{Lab, Running};

#[tokio::test(flavor = "multi_thread")]
async fn rules_are_read_at_the_start_and_followed() {
    let lab = Lab::new().await;
    let file = lab.folder().join("policy.yaml");
    std::fs::write(&file, "\"stats:get_all\": \"role:admin\"\n").unwrap();
    let (demo, admin) = (lab.token("demo").await, lab.token("admin").await);
    let daemon = lab.daemon().await;
    assert_eq!(daemon.get(&demo, "/v1/stats").await.0, StatusCode::FORBIDDEN);
    assert_eq!(daemon.get(&admin, "/v1/stats").await.0, StatusCode::OK);

    std::fs::write(&file, "\"stats:get_all\": \"@\"\n# longer\n").unwrap();
    becomes(&daemon, &demo, StatusCode::OK).await;

    // What is broken changes nothing; what comes after it does.
    std::fs::write(&file, "\"stats:get_all\": [broken\n").unwrap();
    tokio::time::sleep(Duration::from_millis(2500)).await;
    assert_eq!(daemon.get(&demo, "/v1/stats").await.0, StatusCode::OK);
    std::fs::write(&file, "{\"stats:get_all\": \"!\"}").unwrap();
    becomes(&daemon, &demo, StatusCode::FORBIDDEN).await;
    std::fs::remove_file(&file).unwrap();
    becomes(&daemon, &demo, StatusCode::OK).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_does_not_start_with_rules_that_it_cannot_read() {
    let lab = Lab::new().await;
    std::fs::write(lab.folder().join("policy.yaml"), "- not\n- a map\n").unwrap();
    let refused = lab.try_daemon(FailPoints::none()).await.err().unwrap().to_string();
    assert!(refused.contains("policy.yaml") && refused.contains("map of names"), "{refused}");
}

async fn becomes(daemon: &Running, token: &str, wanted: StatusCode) {
    let began = Instant::now();
    while daemon.get(token, "/v1/stats").await.0 != wanted {
        assert!(began.elapsed() < Duration::from_secs(10), "the file is not followed");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
