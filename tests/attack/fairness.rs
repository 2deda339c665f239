//! Row 7. Threat: one tenant's haste, or one node's, costs all others their turn. Actors: a hostile
//! member with many creations; a root shell in a worker that asks the bootstrap listener without
//! end. Targets on two cores: 300 creations at once are complete within 240 s and the first within
//! 10 s, another tenant's deletion takes 2 s meanwhile, and a creation beside a flood twice its time.
//!
//! Asserted here is the order in which things happen. `cargo bench --bench fair` measures against
//! the targets; `tests/bootstrap` floods with one token.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use hyper::header::{AUTHORIZATION, HeaderName};
use hyper::{Method, StatusCode};
use magnumd::base::http::client::{HttpClient, Outgoing};
use magnumd::base::http::tls::{self, Trust};
use serde_json::json;
use tokio::task::JoinSet;

use crate::harness::Lab;

/// Another tenant's deletion does not wait until all of one tenant's creations have been begun.
#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_does_not_stand_behind_the_creations_of_another_tenant() {
    let many = crate::size("MAGNUMD_ATTACK_CREATIONS", 60);
    let mut lab = Lab::new().await;
    lab.configure("[cluster]", "lanes = 2");
    lab.configure("[quota]", "max_clusters_per_project = 1000");
    let (demo, alt) = (lab.token("demo").await, lab.token("alt").await);
    let daemon = Arc::new(lab.daemon().await);
    let victim = daemon.create(&alt, "victim").await;
    daemon.settled(&alt, &victim).await;
    let mut asked = vec![daemon.create(&demo, "k0").await];
    for n in 1..many {
        asked.push(daemon.create(&demo, &format!("k{n}")).await);
    }
    let status = daemon.delete(&alt, &format!("/v1/clusters/{victim}")).await;
    assert_eq!(status, StatusCode::NO_CONTENT);
    daemon.gone(&alt, &victim).await;
    let begun = lab.cloud.count("stacks");
    assert!(begun < many, "all of the other's creations were begun before: {begun}");
}

/// The words of what Heat shows of a worker's user data: its token is among them.
async fn workers_token(lab: &Lab, token: &str, stack: &str) -> String {
    for part in ["files", "template"] {
        let (_, shown) = lab.cloud_call(Method::GET, &format!("{stack}/{part}"), token, None).await;
        let said = shown.to_string();
        // The role stands behind the token.
        let is_worker = |part: &&str| {
            let role = part.split("MAGNUMD_NODE_ROLE='").nth(1);
            role.is_some_and(|role| role.starts_with("worker"))
        };
        if let Some(found) = said.split("MAGNUMD_ENROLMENT_TOKEN='").skip(1).find(is_worker) {
            return found.split('\'').next().unwrap_or_default().to_owned();
        }
    }
    panic!("Heat shows no worker's token");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_floods_is_refused_and_stops_nobody() {
    let mut lab = Lab::new().await;
    lab.configure("[periodic]", "health_interval = '0s'");
    let (demo, alt) = (lab.token("demo").await, lab.token("alt").await);
    let daemon = lab.daemon().await;
    let hostile = daemon.create(&alt, "hostile").await;
    let cluster = daemon.settled(&alt, &hostile).await;
    let (stack, shown) = lab.stack(&alt, &cluster).await;
    let enrolment = workers_token(&lab, &alt, &stack).await;
    let node = format!("{}-node-", shown["stack_name"].as_str().unwrap());
    let stop = Arc::new(AtomicBool::new(false));
    let refused = Arc::<AtomicUsize>::default();
    let mut flooders = JoinSet::new();
    for n in 0..16 {
        let (stop, refused) = (Arc::clone(&stop), Arc::clone(&refused));
        let url = format!("https://{}/bootstrap/v1/{node}{n}/claim", daemon.addresses.bootstrap);
        let enrolment = format!("Bearer {enrolment}");
        flooders.spawn(async move {
            let trust = Trust { ca_files: Vec::new(), insecure: true };
            let http = HttpClient::new(tls::client_config(&trust).unwrap(), Duration::from_secs(5));
            let key = rcgen::KeyPair::generate().unwrap();
            let asked = rcgen::CertificateParams::new(Vec::new()).unwrap();
            let claim = json!({ "csr": asked.serialize_request(&key).unwrap().pem().unwrap() });
            for server in (0_u128..).take_while(|_| !stop.load(Ordering::Relaxed)) {
                let instance = uuid::Uuid::from_u128(server * 16 + n).to_string();
                let asked = Outgoing::new(Method::POST, url.clone())
                    .json(&claim)
                    .header(AUTHORIZATION, &enrolment)
                    .header(HeaderName::from_static("x-magnumd-instance"), &instance);
                if let Ok(answer) = http.send(asked).await {
                    assert!(!answer.status.is_success(), "a certificate for a stranger");
                    if answer.status == StatusCode::TOO_MANY_REQUESTS {
                        refused.fetch_add(1, Ordering::Relaxed);
                    }
                }
            }
        });
    }
    let uuid = daemon.create(&demo, "k1").await;
    let cluster = daemon.settled(&demo, &uuid).await;
    assert_eq!(cluster["status"], "CREATE_COMPLETE", "{cluster}");
    stop.store(true, Ordering::Relaxed);
    flooders.join_all().await;
    assert!(refused.load(Ordering::Relaxed) > 0, "nobody was told to wait");
    daemon.end().await;
}
