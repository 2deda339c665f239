//! What is shown, to whom, in which version.

use hyper::{Method, StatusCode};
use serde_json::{Value, json};

use super::place::{Place, admin, alt, demo, mate, read, reader, request, requester, trustee};
use crate::api::column::Columns;
use crate::api::{Policy, Service};
use crate::base::clock::{Clock, Timestamp};
use crate::base::id::Entropy;
use crate::model::NodeGroupId;
use crate::model::certificate::{Certificate, CertificateKind};
use crate::model::cluster::Cluster;
use crate::model::cluster_template::ClusterTemplate;
use crate::model::nodegroup::NodeGroup;
use crate::model::service;
use crate::model::status::Status;
use crate::pki::material;

fn names(list: &Value, kind: &str) -> Vec<String> {
    let items = list[kind].as_array().unwrap();
    items.iter().map(|item| item["name"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn one_cluster_is_shown_as_upstream_shows_it() {
    let place = Place::new();
    let template = place.template(1, "p1", "base");
    place.put(&template).await;
    let cluster = place.cluster(7, "p1", "k1").await;
    let path = format!("/v1/clusters/{}", cluster.id);
    let at = |version: &'static str| [("openstack-api-version", version)];
    let how = at("container-infra 1.12");
    let old = place.ask(demo(), Method::GET, &path, &how, b"").await;
    assert_eq!(old.status, StatusCode::OK);
    assert_eq!(old.header("openstack-api-version"), "container-infrastructure-management 1.12");
    assert_eq!(old.header("vary"), "OpenStack-API-Version");
    assert!(old.header("x-openstack-request-id").starts_with("req-"));
    // Key for key as in the golden transcript of upstream.
    let uuid = cluster.id.to_string();
    let expected = json!({
        "uuid": uuid, "name": "k1", "cluster_template_id": template.id.to_string(),
        "keypair": "default", "node_count": 2, "master_count": 1, "docker_volume_size": null,
        "labels": { "from": "template", "kube_tag": "v1.30.9", "own": "1" },
        "master_flavor_id": "m1.small", "flavor_id": "m1.small", "create_timeout": 30,
        "links": [
            { "href": format!("http://magnum.example:9511/v1/clusters/{uuid}"), "rel": "self" },
            { "href": format!("http://magnum.example:9511/clusters/{uuid}"), "rel": "bookmark" },
        ],
        "stack_id": "47db5fb7-cda3-470d-9680-c3e20cdb6a54", "status": "CREATE_COMPLETE",
        "status_reason": null, "health_status": null, "health_status_reason": {},
        "discovery_url": null, "api_address": "https://10.0.0.8:6443", "coe_version": "v1.30.9",
        "container_version": null, "project_id": "p1", "user_id": "demo",
        "node_addresses": ["10.0.6.0", "10.0.6.1"], "master_addresses": ["10.0.6.0"],
        "fixed_network": null, "fixed_subnet": null, "floating_ip_enabled": false,
        "merge_labels": false, "labels_overridden": { "kube_tag": "v1.30.0" },
        "labels_added": { "own": "1" }, "labels_skipped": {}, "master_lb_enabled": false,
        "created_at": "1970-01-01T00:00:00.000000+00:00", "updated_at": null,
    });
    assert_eq!(old.body, expected);
    let new = place.get(demo(), &path).await;
    assert_eq!(new.body["cluster_id"], "47db5fb7-cda3-470d-9680-c3e20cdb6a54");
    assert!(new.body.get("stack_id").is_none());
}

#[tokio::test]
async fn a_failed_cluster_tells_its_faults_and_a_stackless_one_null() {
    let place = Place::new();
    let mut cluster = place.cluster(7, "p1", "k1").await;
    cluster.status = Status::CreateFailed;
    cluster.stack_id = None;
    place.put(&cluster).await;
    let mut worker = place.store.read(|v| v.nodegroups(cluster.id)).unwrap().remove(1).record;
    worker.status = Status::CreateFailed;
    worker.status_reason = Some("No valid host".to_owned());
    place.put(&worker).await;
    let shown = place.get(demo(), "/v1/clusters/k1").await.body;
    assert_eq!(shown["faults"], json!({ "default-worker": "No valid host" }));
    assert_eq!(shown["cluster_id"], Value::Null);
    assert!(shown.as_object().unwrap().contains_key("cluster_id"));
    let detail = place.get(demo(), "/v1/clusters/detail").await.body;
    assert!(detail["clusters"][0].get("faults").is_none(), "only one at a time");
}

#[tokio::test]
async fn lists_are_short_paged_and_sorted() {
    let place = Place::new();
    place.put(&place.template(1, "p1", "base")).await;
    for (number, name) in [(7, "c"), (8, "a"), (9, "b")] {
        place.cluster(number, "p1", name).await;
    }
    place.cluster(10, "p2", "theirs").await;
    let list = |query: &'static str| place.get(demo(), query);
    let all = list("/v1/clusters").await.body;
    assert_eq!(names(&all, "clusters"), ["c", "a", "b"]);
    assert!(all.get("next").is_none() && all["clusters"][0].get("api_address").is_none());
    assert_eq!(all["clusters"][0]["merge_labels"], false);
    assert_eq!(all["clusters"][0]["node_count"], 2);
    let sorted = list("/clusters/?sort_key=name&sort_dir=desc").await.body;
    assert_eq!(names(&sorted, "clusters"), ["c", "b", "a"]);
    // Following `next` visits everything once and ends in an empty page.
    for start in ["/v1/clusters?limit=1", "/v1/clusters/detail?limit=1&sort_key=name"] {
        let (mut seen, mut path) = (Vec::new(), Some(start.to_owned()));
        while let Some(next) = path {
            let page = place.get(demo(), &next).await.body;
            seen.extend(names(&page, "clusters"));
            path = page["next"]
                .as_str()
                .map(|url| url.strip_prefix("http://magnum.example:9511").unwrap().to_owned());
        }
        seen.sort();
        assert_eq!(seen, ["a", "b", "c"], "{start}");
    }
    let everyone = place.get(admin(), "/v1/clusters").await.body;
    assert_eq!(names(&everyone, "clusters").len(), 4);
}

fn sort_keys<R: Columns>() -> Vec<&'static str> {
    R::COLUMNS.iter().map(|(name, _)| *name).collect()
}

#[tokio::test]
async fn every_column_is_a_sort_key() {
    let place = Place::new();
    place.put(&place.template(1, "p1", "base")).await;
    place.cluster(7, "p1", "k1").await;
    for (path, keys) in [
        ("/v1/clusters", sort_keys::<Cluster>()),
        ("/v1/clusters/detail", sort_keys::<Cluster>()),
        ("/v1/clustertemplates", sort_keys::<ClusterTemplate>()),
        ("/v1/clusters/k1/nodegroups", sort_keys::<NodeGroup>()),
    ] {
        for key in keys {
            for direction in ["asc", "desc"] {
                let query = format!("{path}?sort_key={key}&sort_dir={direction}");
                let answer = place.get(demo(), &query).await;
                assert_eq!(answer.status, StatusCode::OK, "{query}: {}", answer.text);
            }
        }
    }
    for key in ["node_count", "master_count", "node_addresses", "sequence"] {
        let answer = place.get(demo(), &format!("/v1/clusters?sort_key={key}")).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{key}");
    }
}

#[tokio::test]
async fn templates_are_seen_by_those_they_are_for() {
    let place = Place::new();
    let private = place.template(1, "p1", "private");
    let mut public = place.template(2, "p1", "public");
    public.public = true;
    let mut hidden = place.template(3, "p1", "hidden");
    (hidden.public, hidden.hidden) = (true, true);
    let mut kept = place.template(4, "p1", "kept");
    kept.hidden = true;
    for template in [private, public, hidden, kept] {
        place.put(&template).await;
    }
    place.put(&place.template(5, "p2", "own")).await;
    let listed = |who| async {
        names(&place.get(who, "/v1/clustertemplates").await.body, "clustertemplates")
    };
    assert_eq!(listed(demo()).await, ["private", "public", "hidden", "kept"]);
    assert_eq!(listed(alt()).await, ["public", "own"]);
    assert_eq!(listed(admin()).await.len(), 5);
    let page = place.get(alt(), "/v1/clustertemplates?limit=1").await.body;
    assert_eq!(names(&page, "clustertemplates"), ["public"]);
    assert!(page["next"].as_str().unwrap().contains("/v1/clustertemplates?sort_key=id"));
    for (name, status) in [("private", 404), ("public", 200), ("hidden", 404), ("kept", 404)] {
        let answer = place.get(alt(), &format!("/v1/clustertemplates/{name}")).await;
        assert_eq!(answer.status.as_u16(), status, "{name}");
    }
    let shown = place.get(demo(), "/v1/clustertemplates/private").await.body;
    let keys: Vec<&str> = shown.as_object().unwrap().keys().map(String::as_str).collect();
    let golden = "uuid name coe image_id flavor_id master_flavor_id dns_nameserver keypair_id \
        external_network_id fixed_network fixed_subnet network_driver apiserver_port \
        docker_volume_size cluster_distro links http_proxy https_proxy no_proxy volume_driver \
        registry_enabled labels tls_disabled public server_type insecure_registry \
        docker_storage_driver master_lb_enabled floating_ip_enabled project_id user_id hidden \
        tags driver created_at updated_at";
    assert_eq!(keys, golden.split_whitespace().collect::<Vec<_>>());
}

#[tokio::test]
async fn identifiers_are_uuids_in_any_spelling_or_names() {
    let place = Place::new();
    let cluster = place.cluster(0xabc, "p1", "k1").await;
    let uuid = cluster.id.to_string();
    for ident in [uuid.clone(), uuid.to_uppercase(), uuid.replace('-', ""), "k1".to_owned()] {
        let answer = place.get(demo(), &format!("/v1/clusters/{ident}")).await;
        assert_eq!(answer.body["uuid"], uuid, "{ident}");
    }
    for nothing in ["k", "k1%00", "K1", "%20k1"] {
        let answer = place.get(demo(), &format!("/v1/clusters/{nothing}")).await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND, "{nothing}");
    }
    place.cluster(8, "p1", "k1").await;
    let twice = place.get(demo(), "/v1/clusters/k1").await;
    assert_eq!(twice.status, StatusCode::CONFLICT);
    assert_eq!(
        twice.detail(),
        "Multiple clusters exist with same name. Please use the cluster uuid instead."
    );
}

#[tokio::test]
async fn policies_hold_for_whole_requests() {
    let place = Place::new();
    place.put(&place.template(1, "p1", "base")).await;
    let cluster = place.cluster(1, "p1", "k1").await;
    let certificate = format!("/v1/certificates/{}", cluster.id);
    let mut unscoped_admin = admin();
    unscoped_admin.project_id = None;
    unscoped_admin.system_scope = true;
    let nobody = || requester("x", "p1", &[]);
    let table = [
        (demo(), "/v1/clusters/k1", 200),
        (mate(), "/v1/clusters/k1", 200),
        (reader(), "/v1/clusters/k1", 200),
        (alt(), "/v1/clusters/k1", 404),
        (admin(), "/v1/clusters/k1", 200),
        (unscoped_admin.clone(), "/v1/clusters/k1", 403),
        (trustee(), "/v1/clusters/k1", 200),
        (nobody(), "/v1/clusters/k1", 403),
        (trustee(), "/v1/clusters", 403),
        (trustee(), "/v1/clustertemplates/base", 404),
        (trustee(), "/v1/stats", 403),
        // The CA is not drawn yet, so who may see it gets 404 and the rest 403.
        (demo(), &certificate, 404),
        (mate(), &certificate, 403),
        (reader(), &certificate, 403),
        (admin(), &certificate, 404),
        (trustee(), &certificate, 404),
        (demo(), "/v1/mservices", 403),
        (admin(), "/v1/mservices", 200),
        (demo(), "/v1/quotas", 403),
        (demo(), "/v1/quotas/p1/Cluster", 200),
        (demo(), "/v1/quotas/p2/Cluster", 403),
        (admin(), "/v1/quotas/p2/Cluster", 200),
        (demo(), "/v1/stats?project_id=p1", 200),
        (demo(), "/v1/stats?project_id=p2", 403),
        (admin(), "/v1/stats?project_id=p2", 200),
        (demo(), "/v1/stats?type=pony", 400),
        (demo(), "/v1/federations", 200),
    ];
    for (who, path, status) in table {
        let user = who.user_id.clone();
        let answer = place.get(who, path).await;
        assert_eq!(answer.status.as_u16(), status, "{user} {path}: {}", answer.text);
    }
    let denied = place.get(reader(), &certificate).await;
    assert_eq!(denied.detail(), "Policy doesn't allow certificate:get to be performed.");
    let stranger = requester("trustee-9", "", &[]);
    assert_eq!(place.get(stranger, "/v1/clusters/k1").await.status.as_u16(), 404);
}

#[tokio::test]
async fn an_operators_rules_replace_ours() {
    let rules = [
        ("certificate:get".to_owned(), json!("rule:admin_or_project_reader")),
        ("cluster:get_all_all_projects".to_owned(), json!("!")),
    ];
    let place = Place::with(|settings| settings, Policy::with_overrides(rules));
    place.cluster(7, "p1", "k1").await;
    assert_eq!(place.get(reader(), "/v1/certificates/k1").await.status.as_u16(), 404);
    assert_eq!(place.get(admin(), "/v1/clusters").await.status.as_u16(), 403);
}

#[tokio::test]
async fn certificates_are_shown_and_signed() {
    let place = Place::new();
    let cluster = place.cluster(7, "p1", "k1").await;
    let keys: Vec<_> = (0..material::KEYS).map(|_| rcgen::KeyPair::generate().unwrap()).collect();
    let year = std::time::Duration::from_secs(31_536_000);
    let now = Clock::real().now();
    let drawn =
        material::assemble("k1", &CertificateKind::ALL, &keys, year, now, &Entropy::new()).unwrap();
    for (kind, pair) in drawn {
        let owner = Certificate::owner(cluster.id, kind);
        let key = place.store.sealer().seal(&owner, pair.key.expose().as_bytes());
        place.put(&Certificate { cluster_id: cluster.id, kind, pem: pair.pem, key }).await;
    }
    let pem = async |query: &str| {
        let answer = place.get(demo(), &format!("/v1/certificates/k1{query}")).await;
        answer.body["pem"].as_str().unwrap().to_owned()
    };
    let main = pem("").await;
    assert!(main.starts_with("-----BEGIN CERTIFICATE-----") && !main.ends_with('\n'));
    assert_eq!(pem("?ca_cert_type=kubelet").await, main);
    assert_ne!(pem("?ca_cert_type=etcd").await, main);
    assert_eq!(pem("?ca_cert_type=front_proxy").await, pem("?ca_cert_type=front-proxy").await);
    let unknown = place.get(demo(), "/v1/certificates/k1?ca_cert_type=etdc").await;
    assert_eq!(unknown.status.as_u16(), 400, "{}", unknown.text);
    assert!(unknown.detail().contains("ca_cert_type. Value: 'etdc'"), "{}", unknown.text);
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(Vec::<String>::new()).unwrap();
    let csr = params.serialize_request(&key).unwrap().pem().unwrap();
    let post = |who, body: Value| {
        let place = &place;
        async move { place.send(who, Method::POST, "/v1/certificates", &body).await }
    };
    let wish = json!({ "cluster_uuid": "k1", "csr": csr, "ca_cert_type": "etcd" });
    for who in [demo(), admin(), {
        let mut own = trustee();
        own.user_id = "trustee-7".to_owned();
        own
    }] {
        let signed = post(who, wish.clone()).await;
        assert_eq!(signed.status, StatusCode::CREATED, "{}", signed.text);
        assert_eq!(signed.body["csr"], wish["csr"]);
        assert_eq!(signed.body["cluster_uuid"], cluster.id.to_string());
        assert_eq!(signed.body["ca_cert_type"], "etcd");
        assert!(signed.body["pem"].as_str().unwrap().ends_with("-----END CERTIFICATE-----"));
    }
    let table = [
        (demo(), json!({ "cluster_uuid": "k1" }), 400, "attribute csr"),
        (demo(), json!({ "csr": csr }), 400, "attribute cluster_uuid"),
        (demo(), json!({ "cluster_uuid": "k1", "csr": "garbage" }), 400, "csr"),
        (demo(), json!({ "cluster_uuid": "nope", "csr": csr }), 400, "Cluster nope could not"),
        (
            demo(),
            json!({ "cluster_uuid": "k1", "csr": csr, "ca_cert_type": "etdc" }),
            400,
            "kubernetes, kubelet, etcd, front-proxy",
        ),
        (alt(), wish.clone(), 400, "Cluster k1 could not be found."),
        (mate(), wish.clone(), 403, "certificate:create"),
        (demo(), json!({ "cluster_uuid": "k1", "csr": csr, "colour": 1 }), 400, "colour"),
    ];
    for (who, body, status, sentence) in table {
        let answer = post(who, body).await;
        assert_eq!(answer.status.as_u16(), status, "{}", answer.text);
        assert!(answer.detail().contains(sentence), "{}", answer.text);
    }
}

#[tokio::test]
async fn node_groups_are_shown_from_1_9_on() {
    let place = Place::new();
    let cluster = place.cluster(7, "p1", "k1").await;
    let list = place.get(reader(), "/v1/clusters/k1/nodegroups/").await.body;
    assert_eq!(names(&list, "nodegroups"), ["default-master", "default-worker"]);
    let keys: Vec<&str> =
        list["nodegroups"][0].as_object().unwrap().keys().map(String::as_str).collect();
    let golden = "uuid name flavor_id image_id node_count role min_node_count max_node_count \
                  is_default stack_id status merge_labels";
    assert_eq!(keys, golden.split_whitespace().collect::<Vec<_>>());
    let masters = place.get(demo(), "/v1/clusters/k1/nodegroups?role=master").await.body;
    assert_eq!(names(&masters, "nodegroups"), ["default-master"]);
    let path = format!("/v1/clusters/{}/nodegroups/default-worker", cluster.id);
    let one = place.get(demo(), &path).await.body;
    assert_eq!(one["cluster_id"], cluster.id.to_string());
    assert_eq!(one["node_labels"], json!({}));
    let how = [("openstack-api-version", "container-infra 1.9")];
    let old = place.ask(demo(), Method::GET, &path, &how, b"").await;
    assert_eq!(old.status, StatusCode::OK);
    assert!(old.body.get("node_labels").is_none());
    let how = [("openstack-api-version", "container-infra 1.8")];
    let older = place.ask(demo(), Method::GET, &path, &how, b"").await;
    assert_eq!(older.status, StatusCode::NOT_ACCEPTABLE);
    assert!(older.detail().starts_with("Version 1.8 was requested but the requested API get_one"));
    let missing = place.get(demo(), "/v1/clusters/k1/nodegroups/nope").await;
    assert_eq!(missing.detail(), "Nodegroup nope could not be found.");
}

#[tokio::test]
async fn pages_of_node_groups_keep_to_a_role() {
    let place = Place::new();
    let cluster = place.cluster(7, "p1", "k1").await;
    let worker = place.store.read(|v| v.nodegroups(cluster.id)).unwrap().remove(1).record;
    for (number, name, role) in [(1, "a", "gpu + ssd"), (2, "b", "other"), (3, "c", "gpu + ssd")] {
        let mut group = worker.clone();
        group.id = NodeGroupId::new(uuid::Uuid::from_u128(number));
        group.sequence = place.store.next_sequence();
        (group.name, group.role) = (name.to_owned(), role.to_owned());
        place.put(&group).await;
    }
    let start = "/v1/clusters/k1/nodegroups?role=gpu%20%2B%20ssd&limit=1";
    let (mut seen, mut path) = (Vec::new(), Some(start.to_owned()));
    while let Some(next) = path {
        let page = place.get(demo(), &next).await.body;
        seen.push(names(&page, "nodegroups"));
        path = page["next"].as_str().map(|url| url.replace("http://magnum.example:9511", ""));
    }
    assert_eq!(seen, [vec!["a"], vec!["c"], vec![]], "full pages, then an empty one");
}

#[tokio::test]
async fn links_lead_back_through_the_proxy_that_the_operator_named() {
    let hostile = [
        ("x-forwarded-proto", "javascript"),
        ("x-forwarded-host", "evil.example/\"><script>"),
        ("x-forwarded-prefix", "//evil.example"),
    ];
    let proxied = [
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "cloud.example"),
        ("x-forwarded-prefix", "/container-infra"),
        // Not ours: whoever sets X-Forwarded-* may well pass on what a client says here.
        ("forwarded", "proto=http;host=evil.example"),
    ];
    for (trusted, how, base) in [
        (true, &proxied[..], "https://cloud.example/container-infra"),
        (false, &proxied[..], "http://magnum.example:9511"),
        (true, &hostile[..], "http://magnum.example:9511"),
        (false, &hostile[..], "http://magnum.example:9511"),
        (true, &[][..], "http://magnum.example:9511"),
    ] {
        let with = |settings| crate::api::Settings { trust_proxy_headers: trusted, ..settings };
        let place = Place::with(with, Policy::builtin());
        place.put(&place.template(1, "p1", "base")).await;
        let cluster = place.cluster(7, "p1", "k1").await;
        let get = async |path: &str| place.ask(demo(), Method::GET, path, how, b"").await.body;
        let root = get("/").await;
        assert_eq!(root["versions"][0]["links"][0]["href"], format!("{base}/v1/"));
        assert_eq!(get("/v1").await["stats"][1]["href"], format!("{base}/stats/"));
        let one = get("/clusters/k1").await;
        assert_eq!(one["links"][0]["href"], format!("{base}/v1/clusters/{}", cluster.id));
        assert_eq!(one["links"][1]["href"], format!("{base}/clusters/{}", cluster.id));
        let list = get("/v1/clusters?limit=1").await;
        let next = list["next"].as_str().unwrap();
        assert!(next.starts_with(&format!("{base}/v1/clusters?")), "{next}");
        assert!(!format!("{root}{one}{list}").contains("evil"));
    }
}

#[tokio::test]
async fn counts_and_signs_of_life() {
    let place = Place::new();
    place.cluster(7, "p1", "k1").await;
    place.cluster(8, "p2", "k2").await;
    let stats = |who| async { place.get(who, "/v1/stats").await.body };
    assert_eq!(stats(alt()).await, json!({ "clusters": 1, "nodes": 3 }));
    let of_p2 = place.get(admin(), "/v1/stats?project_id=p2&type=cluster").await.body;
    assert_eq!(of_p2, json!({ "clusters": 1, "nodes": 3 }));
    assert_eq!(stats(demo()).await, json!({ "clusters": 1, "nodes": 3 }));
    assert_eq!(stats(admin()).await, json!({ "clusters": 2, "nodes": 6 }));
    let service = service::Service {
        id: 1,
        host: "peer".to_owned(),
        report_count: 3,
        last_seen_up: Clock::real().now(),
        created_at: Timestamp::EPOCH,
    };
    place.put(&service).await;
    let services = place.get(admin(), "/v1/mservices").await.body;
    assert_eq!(services["mservices"][0]["state"], "up");
    assert_eq!(services["mservices"][0]["binary"], "magnum-conductor");
}

#[tokio::test]
async fn some_documents_need_no_token() {
    let place = Place::new();
    let open = async |path: &str, how: &[(&str, &str)]| {
        read(place.api.handle(request(Method::GET, path, how, b"")).await).await
    };
    let root = open("/", &[]).await;
    assert_eq!(root.body["versions"][0]["max_version"], "1.14");
    assert_eq!(root.header("openstack-api-version"), "");
    let v1 = open("/v1/", &[]).await;
    assert_eq!(v1.header("openstack-api-version"), "container-infrastructure-management 1.1");
    assert_eq!(v1.body["clusters"][0]["href"], "http://magnum.example:9511/v1/clusters/");
    assert_eq!(
        v1.body["nodegroups"][0]["href"],
        "http://magnum.example:9511/v1/clusters/{cluster_id}/nodegroups"
    );
    assert_eq!(open("/healthcheck", &[]).await.text, "OK");
    let json = open("/healthcheck", &[("accept", "application/json")]).await;
    assert_eq!(json.body, json!({ "detailed": false, "reasons": ["OK"] }));
    std::fs::write(place.disable_file(), "").unwrap();
    assert_eq!(open("/healthcheck", &[]).await.status.as_u16(), 503);
    for path in ["/v1/clusters", "/v1/nothing", "/v2"] {
        let answer = open(path, &[("x-user-id", "demo"), ("x-roles", "admin")]).await;
        assert_eq!(answer.status.as_u16(), 401, "{path}");
        assert_eq!(answer.header("www-authenticate"), "Keystone uri=\"http://keystone/v3\"");
        assert_eq!(answer.body["error"]["title"], "Unauthorized");
    }
    let keystone_away = open("/v1/clusters", &[("x-auth-token", "gAAAA")]).await;
    assert_eq!(keystone_away.status.as_u16(), 503);
}

#[test]
fn a_read_carries_no_more_state_than_it_needs() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let place = runtime.block_on(async { Place::new() });
    let answering = place.api.handle(request(Method::GET, "/v1/clusters", &[], b""));
    let bytes = std::mem::size_of_val(&answering);
    assert!(bytes < 8 << 10, "{bytes} bytes");
}
