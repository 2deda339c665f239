//! A cloud whose catalogue has every service in two regions.

use std::time::Duration;

use hyper::StatusCode;

use crate::harness::{Lab, template};

/// Nothing is asked of a region that nobody has chosen; what was promised waits, and goes on when it
/// is configured.
#[tokio::test(flavor = "multi_thread")]
async fn operations_wait_until_a_region_is_configured() {
    let mut lab = Lab::new().await;
    let daemon = lab.daemon().await;
    let (token, uuid) = lab.built(&daemon, "k1").await;
    daemon.end().await;

    lab.cloud.add_region("RegionTwo");
    let daemon = lab.daemon().await;
    let mut other = template();
    other["name"] = "other".into();
    let (status, body) = daemon.post(&token, "/v1/clustertemplates", other.clone()).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{body}");
    let said = body["errors"][0]["detail"].as_str().unwrap();
    let wanted =
        "in the regions RegionOne and RegionTwo, and the configuration of magnumd names none";
    assert!(said.contains(wanted), "{said}");
    let path = format!("/v1/clusters/{uuid}");
    assert_eq!(daemon.delete(&token, &path).await, StatusCode::NO_CONTENT);
    let cluster = daemon
        .until(&token, &uuid, |c| c["status_reason"].as_str().unwrap_or_default().contains(wanted))
        .await;
    assert_eq!(cluster["status"], "DELETE_IN_PROGRESS", "{cluster}");
    tokio::time::sleep(Duration::from_millis(500)).await;
    let (_, cluster) = daemon.get(&token, &path).await;
    assert_eq!(cluster["status"], "DELETE_IN_PROGRESS", "{cluster}");
    daemon.end().await;

    lab.configure("[clients.default]", "region = 'RegionOne'");
    let daemon = lab.daemon().await;
    let (status, body) = daemon.post(&token, "/v1/clustertemplates", other).await;
    assert_eq!(status, StatusCode::CREATED, "{body}");
    daemon.gone(&token, &uuid).await;
    assert_eq!(lab.cloud.leftovers(), Vec::<String>::new());
    daemon.end().await;
}
