//! Clients that hang up at any moment of their request: what was made durable is carried out.

use std::collections::BTreeSet;
use std::time::Duration;

use hyper::StatusCode;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::harness::{Lab, Running, template};

/// How long the client stays after its last byte: from not at all to longer than any answer takes.
const STAYS: u64 = 40;

/// Sends a request and goes away after a while, without waiting for an answer.
async fn hung_up(daemon: &Running, token: &str, method: &str, path: &str, body: &str, turn: u64) {
    let mut stream = TcpStream::connect(daemon.addresses.api).await.unwrap();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nhost: magnumd\r\nx-auth-token: {token}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    tokio::time::sleep(Duration::from_micros(turn * turn * 25)).await;
    // Not a polite end: the server meets a reset.
    socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
}

async fn names(daemon: &Running, token: &str) -> BTreeSet<String> {
    let (status, body) = daemon.get(token, "/v1/clusters").await;
    assert_eq!(status, StatusCode::OK, "{body}");
    let clusters = body["clusters"].as_array().unwrap().iter();
    clusters.map(|c| c["uuid"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn no_cluster_is_stranded() {
    let mut lab = Lab::new().await;
    // No periodic look comes to help.
    lab.configure("[periodic]", "sync_interval = '10h'");
    lab.configure("[quota]", "max_clusters_per_project = 1000");
    let token = lab.token("demo").await;
    let daemon = lab.daemon().await;
    let (status, body) = daemon.post(&token, "/v1/clustertemplates", template()).await;
    assert_eq!(status, StatusCode::CREATED, "{body}");
    for turn in 0..STAYS {
        let body = json!({"name": format!("k{turn}"), "cluster_template_id": "k8s",
                          "node_count": 0})
        .to_string();
        hung_up(&daemon, &token, "POST", "/v1/clusters", &body, turn).await;
    }
    // What was handed over before the client went may take a moment to be on disk.
    let mut made = names(&daemon, &token).await;
    loop {
        tokio::time::sleep(Duration::from_secs(2)).await;
        let now = names(&daemon, &token).await;
        if now == made {
            break;
        }
        made = now;
    }
    assert!(!made.is_empty(), "some clients have stayed long enough");
    for uuid in &made {
        let cluster = daemon.settled(&token, uuid).await;
        assert_eq!(cluster["status"], "CREATE_COMPLETE", "{cluster}");
    }
    for (turn, uuid) in (0..).zip(&made) {
        let path = format!("/v1/clusters/{uuid}/actions/resize");
        let body = json!({"node_count": 1}).to_string();
        hung_up(&daemon, &token, "POST", &path, &body, turn % STAYS).await;
    }
    for uuid in &made {
        let cluster: Value = daemon.settled(&token, uuid).await;
        assert!(cluster["status"].as_str().unwrap().ends_with("_COMPLETE"), "{cluster}");
    }
    for (turn, uuid) in (0..).zip(&made) {
        let path = format!("/v1/clusters/{uuid}");
        hung_up(&daemon, &token, "DELETE", &path, "", turn % STAYS).await;
    }
    for uuid in &made {
        let (status, cluster) = daemon.get(&token, &format!("/v1/clusters/{uuid}")).await;
        // Those that hung up too early have asked for nothing.
        if status == StatusCode::OK && cluster["status"] != "DELETE_IN_PROGRESS" {
            daemon.delete(&token, &format!("/v1/clusters/{uuid}")).await;
        }
        daemon.gone(&token, uuid).await;
    }
    assert_eq!(lab.cloud.leftovers(), Vec::<String>::new());
    daemon.end().await;
}
