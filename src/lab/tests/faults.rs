//! Every kind of fault, as a client meets it.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::Tenant;
use crate::base::http::client::HttpError;

#[tokio::test]
async fn every_fault_shows_and_clears() {
    let t = Tenant::quick().await;
    let demo = t.token("demo", "demo").await;
    let url = || t.url("network", "/v2.0/networks");
    let get = async || t.try_send("GET", url(), &demo, "", None).await;
    let inject = |line: &str| t.lab.inject(line.parse().unwrap());

    inject("neutron:GET:/networks:status=503:times=1");
    assert_eq!(get().await.unwrap().status, 503);
    assert_eq!(get().await.unwrap().status, 200);

    inject("neutron:GET:/networks:truncate:times=1");
    let cut = get().await.unwrap();
    assert!(cut.status == 200 && cut.body.is_null() && cut.text.len() > 10);

    inject("neutron:GET:*:drop:times=1");
    assert!(matches!(get().await, Err(HttpError::Broken { .. })));

    inject("*:GET:*:delay=300ms:times=1");
    let began = Instant::now();
    assert_eq!(get().await.unwrap().status, 200);
    assert!(began.elapsed() >= Duration::from_millis(300));

    // Performed, and yet no answer.
    inject("neutron:POST:/networks:after:drop");
    let body = json!({"network": {"name": "half"}});
    let lost = t.try_send("POST", url(), &demo, "", Some(body.clone())).await;
    assert!(lost.is_err());
    assert_eq!(t.lab.count("networks"), 1);
    t.lab.clear_faults();
    inject("neutron:POST:/networks:drop");
    assert!(t.try_send("POST", url(), &demo, "", Some(body)).await.is_err());
    assert_eq!(t.lab.count("networks"), 1, "not performed");

    t.lab.clear_faults();
    for line in ["neutron:POST:/networks:late=300ms:times=1", "neutron:POST:/networks:late"] {
        inject(line);
        let body = json!({"network": {"name": "late"}});
        assert!(t.try_send("POST", url(), &demo, "", Some(body)).await.is_err());
    }
    t.until("late", async || t.lab.count("networks") == 2).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(t.lab.count("networks"), 2, "not yet");
    t.lab.clear_faults();
    t.until("later", async || t.lab.count("networks") == 3).await;

    let calls = t.lab.calls();
    assert!(calls.contains(&"POST neutron /networks late".to_owned()), "{calls:?}");
    assert!(calls.contains(&"GET neutron /networks 503".to_owned()), "{calls:?}");
    assert!(calls.contains(&"POST neutron /networks dropped".to_owned()), "{calls:?}");
}

#[tokio::test]
async fn a_server_may_be_taken_on_and_fail() {
    let t = Tenant::quick().await;
    let demo = t.token("demo", "demo").await;
    t.lab.inject("nova:POST:/servers:error=No valid host was found.".parse().unwrap());
    let body = json!({"server": {"name": "s", "flavorRef": "1", "networks": []}});
    let made = t.send("POST", t.url("compute", "/servers"), &demo, body).await;
    assert_eq!(made.status, 202, "{}", made.text);
    let id = made.body["server"]["id"].as_str().unwrap().to_owned();
    let one = t.url("compute", &format!("/servers/{id}"));
    let show = async || t.get(one.clone(), &demo).await.body["server"].take();
    t.until("error", async || show().await["status"] == "ERROR").await;
    assert_eq!(show().await["fault"]["message"], "No valid host was found.");
}

#[tokio::test]
async fn a_stopped_service_refuses_and_comes_back_where_it_was() {
    let t = Tenant::quick().await;
    let demo = t.token("demo", "demo").await;
    let url = || t.url("image", "/v2/images");
    let get = async || t.try_send("GET", url(), &demo, "", None).await;
    assert_eq!(get().await.unwrap().status, 200);
    t.lab.stop_service("glance");
    t.until("refused", async || matches!(get().await, Err(HttpError::Connect { .. }))).await;
    t.lab.start_service("image");
    t.until("back", async || get().await.is_ok_and(|told| told.status == 200)).await;
    let other = t.get(t.url("network", "/v2.0/ports"), &demo).await;
    assert_eq!(other.status, 200);
    assert_ne!(other.body, Value::Null);
}
