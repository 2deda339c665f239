//! What is refused, with which sentence, and what is changed without a cloud.

use hyper::{Method, StatusCode};
use serde_json::{Value, json};

use super::place::{LATEST, Place, admin, alt, demo, read, reader, request, trustee};
use crate::base::http::server::BodyError;
use crate::model::status::Status;

const JSON: (&str, &str) = ("content-type", "application/json");

#[tokio::test]
async fn routes_methods_and_versions() {
    let place = Place::new();
    type Headers<'h> = &'h [(&'h str, &'h str)];
    let table: &[(Method, &str, Headers<'_>, u16)] = &[
        (Method::GET, "/v1/nothing", &LATEST, 404),
        (Method::GET, "/v2", &LATEST, 404),
        (Method::GET, "/v1/bays", &LATEST, 404),
        (Method::PUT, "/v1/clusters", &LATEST, 405),
        (Method::HEAD, "/v1/clusters", &LATEST, 405),
        (Method::OPTIONS, "/v1/clusters", &LATEST, 405),
        (Method::GET, "/v1/certificates", &LATEST, 405),
        (Method::GET, "/v1/clusters/k1/actions/resize", &LATEST, 405),
        (Method::DELETE, "/v1/clusters", &LATEST, 400),
        (Method::PATCH, "/v1/clustertemplates", &LATEST, 400),
        (Method::HEAD, "/", &LATEST, 200),
        (Method::POST, "/", &LATEST, 405),
        // Before anybody looks for a cluster of that name.
        (Method::PATCH, "/v1/clusters/detail", &LATEST, 400),
        (Method::GET, "/v1/clusters/k1/detail", &LATEST, 404),
        (Method::GET, "/v1/federations?limit=0", &LATEST, 400),
        (Method::GET, "/v1/federations?sort_key=name&limit=3", &LATEST, 200),
        (Method::GET, "/v1/federations/f", &LATEST, 404),
        (Method::POST, "/v1/federations?colour=red", &LATEST, 400),
        (Method::GET, "/v1/mservices?limit=1", &LATEST, 400),
        (Method::GET, "/v1/stats?limit=1", &LATEST, 400),
        (Method::GET, "/v1/quotas/p1/Cluster?x=1", &LATEST, 400),
        (Method::GET, "/v1/clusters?foo=1", &LATEST, 400),
        (Method::GET, "/v1/clusters?limit=0", &LATEST, 400),
        (Method::GET, "/v1/clusters", &[("openstack-api-version", "container-infra 1.15")], 406),
        (Method::GET, "/v1/clusters", &[("openstack-api-version", "container-infra x")], 406),
        (Method::GET, "/v1/clusters", &[("accept", "application/xml")], 406),
        (Method::GET, "/v1/clusters", &[("accept", "")], 200),
        (Method::GET, "/v1/clusters", &[("accept", "text/html, */*;q=0.1")], 200),
        (Method::POST, "/v1/clusters/k/actions/resize", &[], 406),
        (
            Method::PATCH,
            "/v1/credentials/k",
            &[("openstack-api-version", "container-infra 1.11")],
            406,
        ),
    ];
    for (method, path, how, status) in table {
        let answer = place.ask(demo(), method.clone(), path, how, b"").await;
        assert_eq!(answer.status.as_u16(), *status, "{method} {path}: {}", answer.text);
        if *status >= 400 {
            let error = &answer.body["errors"][0];
            assert_eq!(error["status"], *status);
            assert!(!error["title"].as_str().unwrap().is_empty(), "magnumclient needs one");
            assert_eq!(error["request_id"], answer.header("x-openstack-request-id"));
        }
    }
    let delete = place.delete(demo(), "/v1/clusters").await;
    assert_eq!(delete.detail(), "Missing argument: \"cluster_ident\"");
    let put = place.ask(demo(), Method::PUT, "/v1/clusters", &LATEST, b"").await;
    assert_eq!(put.header("allow"), "DELETE, GET, PATCH, POST");
    let how = [("openstack-api-version", "container-infra 9.99")];
    let out = place.ask(demo(), Method::GET, "/v1/clusters", &how, b"").await;
    assert_eq!(out.header("openstack-api-version"), "container-infrastructure-management 9.99");
    assert_eq!(out.body["errors"][0]["code"], "magnum.microversion-unsupported");
    assert_eq!(out.body["errors"][0]["max_version"], "1.14");
    let how = [("openstack-api-version", "container-infra x.y")];
    let malformed = place.ask(demo(), Method::GET, "/v1/clusters", &how, b"").await;
    assert_eq!(malformed.detail(), "Invalid value for OpenStack-API-Version header");
    assert!(malformed.header("openstack-api-maximum-version").ends_with(" 1.14"));
}

#[tokio::test]
async fn bodies_that_are_none() {
    let place = Place::new();
    for path in ["/v1/clusters", "/v1/clustertemplates"] {
        let post = async |body: &[u8], kind: &'static str| {
            let how = [LATEST[0], ("content-type", kind)];
            place.ask(demo(), Method::POST, path, &how, body).await
        };
        for bad in [&b"{"[..], b"\xff\xfe", "[".repeat(200_000).as_bytes()] {
            let answer = post(bad, "application/json").await;
            assert_eq!(answer.detail(), "Request is not in valid JSON format");
        }
        for odd in [&b"[]"[..], b"\"x\"", b"5", b"null", b"{}"] {
            assert_eq!(post(odd, "application/json").await.status.as_u16(), 400);
        }
        let empty = post(b"", "application/octet-stream").await;
        assert!(empty.detail().starts_with("Missing argument: \"cluster"));
        let form = post(b"a=1", "application/x-www-form-urlencoded").await;
        assert_eq!(form.status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
        assert!(form.detail().starts_with("Unknown mimetype: application/x-www-form"));
        let utf8 = post(b"{}", "application/json; charset=utf-8").await;
        assert_eq!(utf8.status.as_u16(), 400);
    }
    let mut large = request(Method::POST, "/v1/clusters", &[LATEST[0], JSON], b"");
    large.body = Err(BodyError::TooLarge { limit: 1 << 20 });
    let caller = super::super::Caller {
        requester: std::sync::Arc::new(demo()),
        token: crate::base::secret::Secret::new("t".to_owned()),
        is_confirmed: false,
    };
    let answer = read(place.api.respond(&large, Some(Ok(caller))).await).await;
    assert_eq!(answer.status, StatusCode::PAYLOAD_TOO_LARGE);
}

#[tokio::test]
async fn clusters_that_cannot_be() {
    let place = Place::new();
    let template = place.template(1, "p1", "base");
    place.put(&template).await;
    let mut hidden = place.template(2, "p1", "hidden");
    hidden.hidden = true;
    place.put(&hidden).await;
    let table = [
        (json!({ "cluster_template_id": null }), 400, "attribute cluster_template_id"),
        (json!({ "cluster_template_id": "nope" }), 404, "ClusterTemplate nope could not be found."),
        (json!({ "cluster_template_id": "hidden" }), 403, "Not authorized."),
        (json!({ "master_count": 0 }), 400, "greater or equal to 1"),
        (json!({ "master_count": 2 }), 400, "size of 2 is invalid, size cannot be an even number."),
        (json!({ "node_count": -1 }), 400, "Value: '-1'"),
        (json!({ "node_count": "many" }), 400, "attribute node_count. Value: 'many'"),
        (json!({ "create_timeout": -1 }), 400, "greater or equal to 0"),
        (json!({ "name": "1 bad/name" }), 400, "Value should match the pattern ^[a-zA-Z]"),
        (json!({ "name": "n".repeat(243) }), 400, "maximum character requirement of 242"),
        (json!({ "colour": "red" }), 400, "Unknown attribute for argument cluster: colour"),
        (json!({ "labels": "x" }), 400, "attribute labels"),
        (json!({ "stack_id": "x" }), 400, "Value: 'x'. Cannot set read only field."),
        (
            json!({ "status": "CREATE_COMPLETE" }),
            400,
            "attribute status. Value: 'CREATE_COMPLETE'. Cannot",
        ),
        (json!({ "faults": {} }), 400, "attribute faults. Value: '{}'. Cannot set read only"),
        (json!({ "uuid": "x" }), 400, "attribute uuid. Value: 'x'. Cannot set read only field."),
        (json!({ "labels_added": { "a": "b" } }), 400, "attribute labels_added. Value: "),
        (json!({ "floating_ip_enabled": "perhaps" }), 400, "attribute floating_ip_enabled"),
        (json!({ "discovery_url": "file:///etc/passwd" }), 400, "http or https URL"),
        (json!({ "discovery_url": "http://x/'; reboot" }), 400, "http or https URL"),
        // What passes all this is asked of the cloud, which is away.
        (json!({ "name": "", "node_count": "3", "discovery_url": null, "uuid": null }), 503, ""),
        (json!({ "status": null, "node_count": 0 }), 503, ""),
    ];
    for (extra, status, sentence) in table {
        let mut body = json!({ "name": "k1", "cluster_template_id": "base" });
        for (name, value) in extra.as_object().unwrap() {
            body[name] = value.clone();
        }
        let answer = place.send(demo(), Method::POST, "/v1/clusters", &body).await;
        assert_eq!(answer.status.as_u16(), status, "{extra}: {}", answer.text);
        assert!(answer.detail().contains(sentence), "{extra}: {}", answer.text);
    }
    let at = async |version: Option<&'static str>, body: Value| {
        let mut how = vec![JSON];
        how.extend(version.map(|version| ("openstack-api-version", version)));
        let text = body.to_string();
        place.ask(demo(), Method::POST, "/v1/clusters", &how, text.as_bytes()).await.status.as_u16()
    };
    let unknown = json!({ "cluster_template_id": "nope" });
    assert_eq!(at(None, unknown.clone()).await, 400, "as tempest wants it");
    assert_eq!(at(Some("container-infra 1.9"), unknown.clone()).await, 400);
    assert_eq!(at(Some("container-infra 1.10"), unknown).await, 404);
    let none = json!({ "cluster_template_id": "base", "node_count": 0 });
    assert_eq!(at(Some("container-infra 1.9"), none.clone()).await, 400);
    assert_eq!(at(None, none).await, 503, "not held to 1.1 without a header");
    let reader = place.send(reader(), Method::POST, "/v1/clusters", &json!([])).await;
    assert_eq!(reader.detail(), "Policy doesn't allow cluster:create to be performed.");
}

#[tokio::test]
async fn a_template_is_patched() {
    let place = Place::new();
    let template = place.template(1, "p1", "golden");
    place.put(&template).await;
    let path = format!("/v1/clustertemplates/{}", template.id);
    let patch = async |who, steps: Value| place.send(who, Method::PATCH, &path, &steps).await;
    let rename = json!([{ "op": "replace", "path": "/name", "value": "silver" }]);
    let done = patch(demo(), rename.clone()).await;
    assert_eq!(done.status, StatusCode::OK, "{}", done.text);
    assert_eq!(done.body["name"], "silver");
    assert!(done.body["updated_at"].is_string() && done.body["links"].is_array());
    assert_eq!(patch(demo(), json!([])).await.status, StatusCode::OK);
    let unpublished = json!([{ "op": "replace", "path": "/public", "value": false }]);
    assert_eq!(patch(demo(), unpublished).await.status, StatusCode::OK, "nothing changes");
    let published = json!([{ "op": "replace", "path": "/public", "value": "true" }]);
    let table = [
        (demo(), published.clone(), 403, "Not authorized to set public or hidden flag"),
        (reader(), rename.clone(), 403, "clustertemplate:update"),
        (alt(), rename.clone(), 404, "could not be found"),
        (demo(), json!({ "op": "remove" }), 400, "not a valid list"),
        (demo(), json!([{ "op": "replace", "path": "/uuid", "value": "x" }]), 400, "internal"),
        (demo(), json!([{ "op": "remove", "path": "/hidden" }]), 400, "mandatory"),
        (
            demo(),
            json!([{ "op": "replace", "path": "/labels", "value": "{'a':'b', 'q':'it's', 'c':'d'}" }]),
            400,
            "attribute labels. Value: '{'a':'b', 'q':'it's', 'c':'d'}'. Value should be a map",
        ),
        (
            demo(),
            json!([{ "op": "replace", "path": "/labels", "value": "{'q':'it's','c':'d'}" }]),
            400,
            "a quote inside a text is written \\'.",
        ),
        (demo(), json!([{ "op": "replace", "path": "/coe", "value": "pony" }]), 400, "pony"),
        (
            demo(),
            json!([{ "op": "replace", "path": "/docker_volume_size", "value": "big" }]),
            400,
            "'big'",
        ),
        (demo(), json!([{ "op": "replace", "path": "/driver", "value": "x" }]), 503, ""),
        (demo(), json!([{ "op": "remove", "path": "/flavor_id" }]), 503, ""),
    ];
    for (who, steps, status, sentence) in table {
        let answer = patch(who, steps.clone()).await;
        assert_eq!(answer.status.as_u16(), status, "{steps}: {}", answer.text);
        assert!(answer.detail().contains(sentence), "{steps}: {}", answer.text);
    }
    assert_eq!(patch(admin(), published).await.body["public"], true);
    let theirs = patch(alt(), rename.clone()).await;
    assert_eq!(theirs.status, StatusCode::FORBIDDEN, "seen, but not theirs");
    // In use, one harmless thing at a time.
    place.cluster(7, "p1", "k1").await;
    assert_eq!(patch(demo(), rename).await.status.as_u16(), 400, "it is called so already");
    let table = [
        (json!([{ "op": "replace", "path": "/name", "value": "gold" }]), 200),
        (json!([{ "op": "replace", "path": "/tags", "value": "a,b" }]), 200),
        (json!([{ "op": "replace", "path": "/image_id", "value": "x" }]), 400),
        (
            json!([
                { "op": "replace", "path": "/name", "value": "a" },
                { "op": "replace", "path": "/tags", "value": "b" },
            ]),
            400,
        ),
    ];
    for (steps, status) in table {
        let answer = patch(demo(), steps.clone()).await;
        assert_eq!(answer.status.as_u16(), status, "{steps}: {}", answer.text);
    }
    let used = place.delete(demo(), &path).await;
    assert_eq!(used.status.as_u16(), 400);
    assert_eq!(
        used.detail(),
        format!("ClusterTemplate {} is referenced by one or multiple clusters.", template.id)
    );
}

#[tokio::test]
async fn deleting_is_idempotent_and_told_at_once() {
    let place = Place::new();
    place.put(&place.template(1, "p1", "used")).await;
    place.put(&place.template(2, "p1", "free")).await;
    let cluster = place.cluster(7, "p1", "k1").await;
    assert_eq!(place.delete(demo(), "/v1/clustertemplates/free").await.status.as_u16(), 204);
    assert_eq!(place.delete(demo(), "/v1/clustertemplates/free").await.status.as_u16(), 404);
    assert_eq!(place.delete(alt(), "/v1/clusters/k1").await.status.as_u16(), 404);
    assert_eq!(place.delete(reader(), "/v1/clusters/k1").await.status.as_u16(), 403);
    for _ in 0..2 {
        let gone = place.delete(demo(), "/v1/clusters/k1/").await;
        assert_eq!((gone.status.as_u16(), gone.text.as_str()), (204, ""));
        let shown = place.get(demo(), "/v1/clusters/k1").await;
        assert_eq!(shown.body["status"], Status::DeleteInProgress.as_str());
    }
    let operation = place.store.read(|v| v.operation_of(cluster.id)).unwrap();
    assert!(operation.is_some(), "the wish is durable");
    let other = place.cluster(8, "p2", "k2").await;
    let by_admin = place.delete(admin(), &format!("/clusters/{}", other.id)).await;
    assert_eq!(by_admin.status.as_u16(), 204);
}

#[tokio::test]
async fn changes_that_cannot_be() {
    let place = Place::new();
    place.put(&place.template(1, "p1", "base")).await;
    let cluster = place.cluster(7, "p1", "k1").await;
    let patch =
        |op: &str, path: &str, value: Value| json!([{ "op": op, "path": path, "value": value }]);
    let group = "/v1/clusters/k1/nodegroups";
    let worker = "/v1/clusters/k1/nodegroups/default-worker";
    let master = "/v1/clusters/k1/nodegroups/default-master";
    let resize = "/v1/clusters/k1/actions/resize";
    let upgrade = "/v1/clusters/k1/actions/upgrade";
    let label = |key: &str| json!({ "name": "g", "node_labels": { key: "x" } });
    let (send, change) = (Method::POST, Method::PATCH);
    let table = [
        (&change, "/v1/clusters/k1", json!({}), 400, "Value not a valid list"),
        (
            &change,
            "/v1/clusters/k1",
            patch("replace", "/name", json!("k9")),
            400,
            "property(ies) name.",
        ),
        (&change, "/v1/clusters/k1", patch("replace", "/stack_id", json!("x")), 400, "internal"),
        (&change, "/v1/clusters/k1", patch("replace", "/node_count", json!("many")), 400, "'many'"),
        (&change, "/v1/clusters/k1", patch("replace", "/node_count", json!(-1)), 400, "'-1'"),
        (
            &change,
            "/v1/clusters/k1",
            patch("replace", "/health_status", json!("FINE")),
            400,
            "one of: HEALTHY",
        ),
        (
            &change,
            "/v1/clusters/k1",
            patch("replace", "/health_status_reason", json!("{'a'")),
            400,
            "map",
        ),
        (&change, "/v1/clusters/k1?rollback=perhaps", json!([]), 400, "rollback"),
        (&send, resize, json!({}), 400, "attribute node_count"),
        (&send, resize, json!({ "node_count": 1, "nodes_to_remove": "x" }), 400, "list of texts"),
        (&send, resize, json!({ "node_count": 1, "nodegroup": "nope" }), 404, "Nodegroup nope"),
        (&send, resize, json!({ "node_count": 1, "nodegroup": "default-master" }), 400, "master"),
        (
            &send,
            resize,
            json!({ "node_count": 1, "colour": "red" }),
            400,
            "cluster_resize_req: colour",
        ),
        (&send, upgrade, json!({}), 400, "attribute cluster_template"),
        (&send, upgrade, json!({ "cluster_template": "nope" }), 404, "ClusterTemplate nope"),
        (
            &send,
            upgrade,
            json!({ "cluster_template": "base", "max_batch_size": 0 }),
            400,
            "or equal to 1",
        ),
        (
            &send,
            upgrade,
            json!({ "cluster_template": "base", "nodegroup": "x" }),
            404,
            "Nodegroup x",
        ),
        (&send, group, json!({}), 400, "attribute name"),
        (&send, group, json!({ "name": "default-worker" }), 409, "already exists"),
        (&send, group, json!({ "name": "g", "role": "master" }), 400, "Creating master nodegroups"),
        (
            &send,
            group,
            json!({ "name": "g", "node_count": 1, "min_node_count": 2 }),
            409,
            "min_node_count for g",
        ),
        (
            &send,
            group,
            json!({ "name": "g", "node_count": 3, "max_node_count": 2 }),
            409,
            "max_node_count for g",
        ),
        (&send, group, json!({ "name": "-lead" }), 400, "Value: '-lead'. The name of a node group"),
        (&send, group, json!({ "name": "a/b" }), 400, "attribute name. Value: 'a/b'"),
        (&send, group, json!({ "name": "n".repeat(64) }), 400, "at most 63 letters"),
        (
            &send,
            group,
            json!({ "name": "g", "node_taints": [
                { "key": "a", "effect": "NoSchedule", "value": "1" },
                { "key": "a", "effect": "NoSchedule", "value": "2" },
            ] }),
            400,
            "'a:NoSchedule'. Value should have no two taints",
        ),
        (
            &change,
            worker,
            patch("replace", "/node_labels", json!("{'a':'b', 'q':'it's', 'c':'d'}")),
            400,
            "attribute node_labels. Value: '{'a':'b', 'q'",
        ),
        (&send, group, label("kubernetes.io/role"), 409, "node_labels"),
        (&send, group, label("$(reboot)"), 400, "node_labels"),
        (
            &send,
            group,
            json!({ "name": "g", "node_taints": [{ "key": "a", "effect": "x" }] }),
            400,
            "effect should be NoSchedule, PreferNoSchedule or NoExecute.",
        ),
        (
            &change,
            worker,
            patch("replace", "/node_taints", json!([{ "key": "a b", "effect": "NoSchedule" }])),
            400,
            "attribute node_taints. Value: '{\"key\":\"a b\"",
        ),
        (
            &change,
            worker,
            patch("replace", "/node_labels", json!("{'a': 'b', 'a': 'c'}")),
            400,
            "attribute node_labels. Value: 'a'. The name stands there twice",
        ),
        (&change, worker, patch("replace", "/name", json!("x")), 400, "internal"),
        (&change, worker, patch("replace", "/max_node_count", json!(1)), 409, "max_node_count for"),
        (&change, master, patch("replace", "/node_labels", json!("{'a': 'b'}")), 409, "master"),
        (&Method::DELETE, worker, Value::Null, 400, "Deleting a default nodegroup"),
        (&send, "/v1/federations", json!({}), 400, "not supported"),
    ];
    for (method, path, body, status, sentence) in table {
        let answer = place.send(demo(), method.clone(), path, &body).await;
        assert_eq!(answer.status.as_u16(), status, "{method} {path} {body}: {}", answer.text);
        assert!(answer.detail().contains(sentence), "{method} {path} {body}: {}", answer.text);
        let denied =
            place.send(reader(), method.clone(), path.split('?').next().unwrap(), &body).await;
        assert_eq!(denied.status.as_u16(), 403, "{path}: {}", denied.text);
    }
    let stored = place.store.read(|v| v.cluster(cluster.id)).unwrap().unwrap();
    assert_eq!(stored.record, cluster, "nothing was changed");
}

/// As upstream and its conformance tests have it: what is wrong with a body is said before anybody
/// looks for what the path names.
#[tokio::test]
async fn a_body_is_read_before_anything_is_looked_up() {
    let place = Place::new();
    place.put(&place.template(1, "p1", "base")).await;
    place.cluster(7, "p1", "k1").await;
    let odd = json!([{ "op": "replace", "path": "/uuid", "value": "x" }]);
    let fine = json!([{ "op": "replace", "path": "/max_node_count", "value": 5 }]);
    let (send, change) = (Method::POST, Method::PATCH);
    // The kind of path, a body that cannot be, one that could, and whom the path misses.
    let table = [
        (&change, "/v1/clustertemplates/nope", odd.clone(), fine.clone(), "ClusterTemplate nope"),
        (&change, "/v1/clusters/nope", odd.clone(), json!([]), "Cluster nope"),
        (&change, "/v1/clusters/detail", odd.clone(), json!([]), "Cluster detail"),
        (
            &send,
            "/v1/clusters/nope/actions/resize",
            json!({ "node_count": "many" }),
            json!({ "node_count": 2 }),
            "Cluster nope",
        ),
        (
            &send,
            "/v1/clusters/nope/actions/upgrade",
            json!({ "cluster_template": "base", "max_batch_size": 0 }),
            json!({ "cluster_template": "base" }),
            "Cluster nope",
        ),
        (
            &send,
            "/v1/clusters/nope/nodegroups",
            json!({ "name": "g", "node_count": -1 }),
            json!({ "name": "g" }),
            "Cluster nope",
        ),
        (
            &send,
            "/v1/clusters/nope/nodegroups",
            json!({ "name": "-lead" }),
            json!({ "name": "g" }),
            "Cluster nope",
        ),
        (&change, "/v1/clusters/nope/nodegroups/g", odd.clone(), fine.clone(), "Cluster nope"),
        (&change, "/v1/clusters/k1/nodegroups/nope", odd.clone(), fine.clone(), "Nodegroup nope"),
    ];
    for (method, path, bad, good, missing) in table {
        let refused = place.send(demo(), method.clone(), path, &bad).await;
        assert_eq!(refused.status.as_u16(), 400, "{method} {path} {bad}: {}", refused.text);
        let missed = place.send(demo(), method.clone(), path, &good).await;
        assert_eq!(missed.status.as_u16(), 404, "{method} {path} {good}: {}", missed.text);
        assert!(missed.detail().starts_with(missing), "{path}: {}", missed.text);
    }
    // Whoever may not change what is there is told nothing else.
    let denied = place.send(reader(), Method::PATCH, "/v1/clustertemplates/base", &odd).await;
    assert_eq!(denied.status, StatusCode::FORBIDDEN, "{}", denied.text);
    // A version that does not know the path comes before its body.
    let how = [JSON, ("openstack-api-version", "container-infra 1.8")];
    let old = place.ask(demo(), Method::PATCH, "/v1/clusters/k1/nodegroups/x", &how, b"[1]").await;
    assert_eq!(old.status.as_u16(), 406, "{}", old.text);
}

#[tokio::test]
async fn a_trustee_reports_on_its_own_cluster_and_changes_nothing() {
    let place = Place::new();
    let cluster = place.cluster(1, "p1", "k1").await;
    place.cluster(2, "p1", "k2").await;
    let health = json!({ "op": "replace", "path": "/health_status", "value": "UNHEALTHY" });
    let count = json!({ "op": "replace", "path": "/node_count", "value": 3 });
    let name = json!({ "op": "replace", "path": "/name", "value": "x" });
    let table = [
        ("k1", json!([count]), 403, "cluster:update "),
        ("k1", json!([health, count]), 403, "cluster:update "),
        ("k1", json!([name]), 400, "property(ies) name"),
        ("k2", json!([health]), 404, "Cluster k2"),
    ];
    for (cluster, body, status, sentence) in table {
        let path = format!("/v1/clusters/{cluster}");
        let answer = place.send(trustee(), Method::PATCH, &path, &body).await;
        assert_eq!(answer.status.as_u16(), status, "{body}: {}", answer.text);
        assert!(answer.detail().contains(sentence), "{body}: {}", answer.text);
    }
    let stored = place.store.read(|v| v.cluster(cluster.id)).unwrap().unwrap();
    assert_eq!(stored.record, cluster, "nothing was changed");
    let told = place.send(trustee(), Method::PATCH, "/v1/clusters/k1", &json!([health])).await;
    assert_eq!(told.status.as_u16(), 202, "{}", told.text);
    let shown = place.get(trustee(), "/v1/clusters/k1").await;
    assert_eq!(shown.body["health_status"], "UNHEALTHY");
}

#[tokio::test]
async fn what_a_version_does_not_have_is_refused() {
    let place = Place::new();
    place.cluster(7, "p1", "k1").await;
    let at = async |version: &str, method: Method, path: &str, body: Value| {
        let version = format!("container-infra {version}");
        let how = [JSON, ("openstack-api-version", version.as_str())];
        place.ask(demo(), method, path, &how, body.to_string().as_bytes()).await
    };
    let count = |n: u32| json!({ "node_count": n });
    let none = json!([{ "op": "replace", "path": "/node_count", "value": 0 }]);
    let labels = json!({ "name": "g", "node_labels": { "a": "b" } });
    let taints = json!([{ "op": "replace", "path": "/node_taints", "value": [] }]);
    let table = [
        ("1.2", Method::PATCH, "/v1/clusters/k1?rollback=true", json!([]), 400),
        ("1.3", Method::PATCH, "/v1/clusters/k1?rollback=true", json!([]), 202),
        ("1.6", Method::POST, "/v1/clusters/k1/actions/resize", count(1), 406),
        ("1.9", Method::POST, "/v1/clusters/k1/actions/resize", count(0), 400),
        ("1.9", Method::PATCH, "/v1/clusters/k1", none, 400),
        ("1.8", Method::POST, "/v1/clusters/k1/nodegroups", json!({}), 406),
        ("1.13", Method::POST, "/v1/clusters/k1/nodegroups", labels, 400),
        ("1.13", Method::PATCH, "/v1/clusters/k1/nodegroups/default-worker", taints, 400),
        ("1.11", Method::PATCH, "/v1/credentials/k1", json!({}), 406),
    ];
    for (version, method, path, body, status) in table {
        let answer = at(version, method, path, body).await;
        assert_eq!(answer.status.as_u16(), status, "{version} {path}: {}", answer.text);
    }
}
