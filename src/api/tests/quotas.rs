//! Quotas of projects, as administrators and their members see them.

use hyper::Method;
use serde_json::{Value, json};

use super::place::{Place, admin, alt, demo};
use crate::base::clock::Timestamp;
use crate::model::quota::Quota;

pub(super) async fn quota(place: &Place, project: &str, hard_limit: u32) -> u64 {
    let quota = Quota {
        sequence: place.store.next_sequence(),
        project_id: project.to_owned(),
        hard_limit,
        created_at: Timestamp::EPOCH,
        updated_at: None,
    };
    place.put(&quota).await;
    quota.sequence.0
}

#[tokio::test]
async fn quotas_are_shown_to_those_they_bind() {
    let place = Place::new();
    let id = quota(&place, "p1", 7).await;
    let own = place.get(demo(), "/v1/quotas/p1/Cluster").await;
    assert_eq!(own.status.as_u16(), 200, "{}", own.text);
    let expected = json!({ "id": id, "hard_limit": 7, "project_id": "p1", "resource": "Cluster",
        "created_at": "1970-01-01T00:00:00.000000+00:00", "updated_at": null });
    assert_eq!(own.body, expected);
    let others = place.get(alt(), "/v1/quotas/p1/Cluster").await;
    assert_eq!((others.status.as_u16(), others.detail()), (403, "Not authorized."));
    let none = place.get(alt(), "/v1/quotas/p2/Cluster").await;
    let fallback = json!({ "project_id": "p2", "resource": "Cluster", "hard_limit": 20 });
    assert_eq!(none.body, fallback, "the configured limit, without an id");
    assert_eq!(place.get(admin(), "/v1/quotas/p1/Cluster").await.body, expected);
}

#[tokio::test]
async fn lists_are_cut_by_number() {
    let place = Place::new();
    let mut ids = Vec::new();
    for (project, limit) in [("p1", 3), ("p2", 1), ("p3", 2)] {
        ids.push(quota(&place, project, limit).await);
    }
    let projects = |body: &Value| -> Vec<String> {
        let quotas = body["quotas"].as_array().unwrap();
        quotas.iter().map(|q| q["project_id"].as_str().unwrap().to_owned()).collect()
    };
    let list = async |query: &str| place.get(admin(), &format!("/v1/quotas{query}")).await;
    assert_eq!(projects(&list("").await.body), ["p3"], "the administrator's own project");
    assert_eq!(projects(&list("?all_tenants=True").await.body), ["p1", "p2", "p3"]);
    let first = list("?all_tenants=1&limit=2&sort_key=hard_limit").await;
    assert_eq!(projects(&first.body), ["p2", "p3"]);
    let next = first.body["next"].as_str().unwrap();
    assert!(next.ends_with(&format!("marker={}&all_tenants=True", ids[2])), "{next}");
    let rest = format!("?all_tenants=1&limit=2&sort_key=hard_limit&marker={}", ids[2]);
    assert_eq!(projects(&list(&rest).await.body), ["p1"]);
    for (query, status) in [
        ("?marker=x", 400),
        ("?all_tenants=1&marker=99999", 404),
        ("?all_tenants=perhaps", 400),
        ("?limit=0", 400),
        ("?sort_key=colour", 400),
        ("?colour=red", 400),
    ] {
        assert_eq!(list(query).await.status.as_u16(), status, "{query}");
    }
}

#[tokio::test]
async fn quotas_change_and_go() {
    let place = Place::new();
    let path = "/v1/quotas/p1/Cluster";
    let send = async |body: Value| place.send(admin(), Method::PATCH, path, &body).await;
    assert_eq!(send(json!({ "hard_limit": 5 })).await.status.as_u16(), 404, "there is none yet");
    quota(&place, "p1", 7).await;
    let changed =
        send(json!({ "hard_limit": "5", "project_id": "p1", "resource": "Cluster" })).await;
    assert_eq!(changed.status.as_u16(), 202, "{}", changed.text);
    assert_eq!(changed.body["hard_limit"], 5);
    assert!(changed.body["updated_at"].is_string());
    for body in [
        json!({}),
        json!([{ "op": "replace", "path": "/hard_limit", "value": 2 }]),
        json!({ "hard_limit": -1 }),
        json!({ "hard_limit": "x" }),
        json!({ "hard_limit": 1, "resource": "Pony" }),
        json!({ "hard_limit": 1, "colour": "red" }),
    ] {
        assert_eq!(send(body.clone()).await.status.as_u16(), 400, "{body}");
    }
    let one = json!({ "hard_limit": 1 });
    let odd = place.send(admin(), Method::PATCH, "/v1/quotas/p1/cluster", &one).await;
    assert_eq!(odd.status.as_u16(), 404, "resources are spelled with a capital");
    let create = async |body: Value| place.send(admin(), Method::POST, "/v1/quotas", &body).await;
    let nameless = create(json!({ "project_id": null, "hard_limit": 5 })).await;
    assert_eq!(nameless.detail(), "Must provide a valid project ID.");
    let away = create(json!({ "project_id": "p1", "hard_limit": 5 })).await;
    assert_eq!(away.status.as_u16(), 503, "Keystone is asked about the project: {}", away.text);
    assert_eq!(place.delete(admin(), path).await.status.as_u16(), 204);
    assert_eq!(place.delete(admin(), path).await.status.as_u16(), 404);
    assert_eq!(place.get(admin(), path).await.body["hard_limit"], 20);
}
