//! What happens to a stack behind our back shows on the cluster.

use hyper::Method;
use serde_json::json;

use crate::harness::Lab;

#[tokio::test(flavor = "multi_thread")]
async fn a_stack_that_was_resized_or_deleted_by_somebody_else_shows() {
    let mut lab = Lab::new().await;
    lab.configure("[periodic]", "sync_interval = '2s'");
    let token = lab.token("demo").await;
    let daemon = lab.daemon().await;
    let uuid = daemon.create(&token, "k1").await;
    let cluster = daemon.settled(&token, &uuid).await;
    assert_eq!(cluster["status"], "CREATE_COMPLETE", "{cluster}");
    let (url, _) = lab.stack(&token, &cluster).await;
    let change = json!({"parameters": {"kube_version": "v9"}, "existing": true});
    let (status, body) = lab.cloud_call(Method::PATCH, &url, &token, Some(change)).await;
    assert!(status.is_success(), "{body}");
    daemon.until(&token, &uuid, |c| c["status"] == "UPDATE_COMPLETE").await;
    let (status, body) = lab.cloud_call(Method::DELETE, &url, &token, None).await;
    assert!(status.is_success(), "{body}");
    let cluster = daemon.until(&token, &uuid, |c| c["status"] == "UPDATE_FAILED").await;
    let reason = cluster["status_reason"].as_str().unwrap();
    assert!(reason.contains("default-"), "{reason}");
    daemon.delete(&token, &format!("/v1/clusters/{uuid}")).await;
    daemon.gone(&token, &uuid).await;
    assert_eq!(lab.cloud.leftovers(), Vec::<String>::new());
}
