//! What is refused, with which status and which words, before anything is made.

use hyper::header::HeaderName;
use hyper::{Method, StatusCode};
use magnumd::base::http::client::Outgoing;
use serde_json::{Value, json};

use crate::first_contact::request;
use crate::harness::{Lab, template};

const TOKEN: HeaderName = HeaderName::from_static("x-auth-token");
const VERSION: HeaderName = HeaderName::from_static("openstack-api-version");
const CONTENT_TYPE: HeaderName = HeaderName::from_static("content-type");

fn detail(body: &Value) -> &str {
    body["errors"][0]["detail"].as_str().unwrap_or_else(|| panic!("no error body: {body}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_template_names_must_exist() {
    let lab = Lab::new().await;
    let token = lab.token("demo").await;
    let daemon = lab.daemon().await;
    let cases = [
        ("image_id", "nope", 400, "Image nope could not be found"),
        ("image_id", "no-distro", 400, "os_distro"),
        ("flavor_id", "nope", 400, "Unable to find flavor nope"),
        ("master_flavor_id", "nope", 400, "Unable to find flavor nope"),
        ("external_network_id", "nope", 400, "Unable to find external network nope"),
        ("external_network_id", "private", 400, "router:external"),
        ("fixed_network", "nope", 400, "Unable to find fixed network nope"),
        (
            "fixed_network",
            "public",
            400,
            "Unable to use fixed network public: it is router:external",
        ),
        ("coe", "nope", 400, "nope"),
        ("network_driver", "nope", 400, "nope"),
        ("driver", "nope", 400, "Cluster driver (nope) not supported"),
        ("driver", "k8s_fedora_coreos_v1", 400, "does not boot images with os_distro ubuntu"),
        ("cluster_distro", "windows", 400, "It is the os_distro of image ubuntu, ubuntu"),
        ("registry_enabled", "true", 400, "registry_enabled is not possible"),
        ("tls_disabled", "true", 400, "tls_disabled is not possible"),
        ("http_proxy", "nonsense", 400, "http_proxy nonsense of the cluster template"),
    ];
    for (field, value, status, words) in cases {
        let mut asked = template();
        asked[field] = json!(value);
        let (got, body) = daemon.post(&token, "/v1/clustertemplates", asked).await;
        assert_eq!(got.as_u16(), status, "{field}={value}: {body}");
        assert!(detail(&body).contains(words), "{field}={value}: {body}");
    }
    let (_, list) = daemon.get(&token, "/v1/clustertemplates").await;
    assert_eq!(list["clustertemplates"], json!([]), "nothing was made");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_cluster_asks_for_must_be_buildable() {
    let lab = Lab::new().await;
    let token = lab.token("demo").await;
    let daemon = lab.daemon().await;
    daemon.post(&token, "/v1/clustertemplates", template()).await;
    let cases = [
        (json!({"keypair": "nope"}), 404, "Unable to find keypair nope"),
        (json!({"flavor_id": "nope"}), 400, "Unable to find flavor nope"),
        (json!({"fixed_network": "nope"}), 400, "Unable to find fixed network nope"),
        (json!({"fixed_network": "public"}), 400, "Unable to use fixed network public: it is"),
        (json!({"master_count": 2}), 400, "cannot be an even number"),
        (json!({"master_count": 0}), 400, "greater or equal to 1"),
        (json!({"node_count": "many"}), 400, "node_count"),
        (json!({"create_timeout": -1}), 400, "greater or equal to 0"),
        (json!({"labels": {"kube_tag": null}}), 400, "kube_tag"),
        (json!({"labels": "text"}), 400, "labels"),
        (json!({"labels": {"etcd_volume_size": "soon"}}), 400, "etcd_volume_size"),
        (json!({"labels": {"etcd_bootstrap": "magic"}}), 400, "etcd_bootstrap"),
        (json!({"labels": {"boot_volume_size": "big"}}), 400, "boot_volume_size"),
        (json!({"name": "1 bad/name"}), 400, "match the pattern"),
        (json!({"colour": "red"}), 400, "Unknown attribute for argument cluster: colour"),
        (json!({"cluster_template_id": "nope"}), 400, "ClusterTemplate nope could not be found"),
        (json!({"cluster_template_id": null}), 400, "Mandatory field missing"),
    ];
    for (change, status, words) in cases {
        let mut asked = json!({"name": "k1", "cluster_template_id": "k8s"});
        for (field, value) in change.as_object().unwrap() {
            asked[field] = value.clone();
        }
        let (got, body) = daemon.post(&token, "/v1/clusters", asked).await;
        assert_eq!(got.as_u16(), status, "{change}: {body}");
        assert!(detail(&body).contains(words), "{change}: {body}");
    }
    let (_, list) = daemon.get(&token, "/v1/clusters").await;
    assert_eq!(list["clusters"], json!([]));
    assert_eq!(lab.cloud.leftovers(), Vec::<String>::new(), "nothing was made");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_is_told_so() {
    let lab = Lab::new().await;
    let demo = lab.token("demo").await;
    let daemon = lab.daemon().await;
    let uuid = daemon.create(&demo, "k1").await;
    let path = format!("/v1/clusters/{uuid}");

    let (status, body) = daemon.get("no-such-token", &path).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED, "{body}");
    let bare = daemon.send(Outgoing::new(Method::GET, daemon.url(&path))).await;
    assert_eq!(bare.status, StatusCode::UNAUTHORIZED);
    let challenge = bare.header("www-authenticate").unwrap();
    assert!(challenge.starts_with("Keystone uri=\""), "{challenge}");

    let alt = lab.token("alt").await;
    assert_eq!(daemon.get(&alt, &path).await.0, StatusCode::NOT_FOUND, "another project's");
    assert_eq!(daemon.delete(&alt, &path).await, StatusCode::NOT_FOUND);

    let reader = lab.token("reader").await;
    assert_eq!(daemon.get(&reader, &path).await.0, StatusCode::OK);
    assert_eq!(daemon.delete(&reader, &path).await, StatusCode::FORBIDDEN);
    let (status, body) =
        daemon.post(&reader, "/v1/clusters", json!({"cluster_template_id": "k8s"})).await;
    assert_eq!(status, StatusCode::FORBIDDEN, "{body}");
    assert!(detail(&body).contains("cluster:create"), "{body}");

    // A token that Keystone takes back is not believed for longer than the cache says; one that
    // it never knew is not believed at all.
    assert_eq!(daemon.get(&"x".repeat(300), &path).await.0, StatusCode::UNAUTHORIZED);
    assert_eq!(daemon.get("a b", &path).await.0, StatusCode::UNAUTHORIZED);
}

/// Keystone lets no restricted application credential make a trust. Upstream notices after the
/// cluster was accepted; here the tenant is told before anything is made, and told the cure.
#[tokio::test(flavor = "multi_thread")]
async fn an_application_credential_is_refused_before_any_side_effect() {
    let lab = Lab::new().await;
    let demo = lab.token("demo").await;
    let daemon = lab.daemon().await;
    daemon.post(&demo, "/v1/clustertemplates", template()).await;
    let identity = lab.cloud.identity_url();
    let user = own_id(&lab, &demo).await;
    let url = format!("{identity}/users/{user}/application_credentials");
    let asked = json!({"application_credential": {"name": "ci", "secret": "s3cret"}});
    let (status, made) = lab.cloud_call(Method::POST, &url, &demo, Some(asked)).await;
    assert_eq!(status, StatusCode::CREATED, "{made}");
    let id = &made["application_credential"]["id"];
    let restricted = lab
        .log_in(json!({"identity": {"methods": ["application_credential"],
            "application_credential": {"id": id, "secret": "s3cret"}}}))
        .await;
    assert_eq!(daemon.get(&restricted, "/v1/clusters").await.0, StatusCode::OK);
    let (status, body) = daemon
        .post(&restricted, "/v1/clusters", json!({"name": "k1", "cluster_template_id": "k8s"}))
        .await;
    assert_eq!(status, StatusCode::FORBIDDEN, "{body}");
    assert!(detail(&body).contains("application credential create --unrestricted"), "{body}");
    assert_eq!(lab.cloud.leftovers(), Vec::<String>::new());
}

/// Clients log in anew after a 401 only. A token whose user is gone was believed for minutes, and
/// the order that began with it failed later, where nobody could.
#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_remembered_asks_for_a_new_login_when_its_user_is_gone() {
    let lab = Lab::new().await;
    let daemon = lab.daemon().await;
    let (demo, uuid) = lab.built(&daemon, "k1").await;
    let wish = || json!({"name": "k2", "cluster_template_id": "k8s"});
    let mut other_image = template();
    other_image["image_id"] = json!("flatcar");
    let group = || json!({"name": "more"});
    let groups = format!("/v1/clusters/{uuid}/nodegroups");
    let csr = request();
    let certificate = json!({"cluster_uuid": uuid, "csr": csr});
    let hidden = json!([{"op": "replace", "path": "/name", "value": "renamed"}]);
    let most = json!([{"op": "replace", "path": "/max_node_count", "value": 9}]);
    let orders = [
        // Something is looked up with the token, and the service does not accept it.
        (Method::POST, "/v1/clustertemplates".to_owned(), Some(other_image)),
        // All is remembered that has to be looked up, and the token is needed later.
        (Method::POST, "/v1/clusters".to_owned(), Some(wish())),
        (Method::POST, format!("/v1/clusters/{uuid}/nodegroups"), Some(group())),
        (Method::PATCH, format!("/v1/credentials/{uuid}"), None),
        // Nothing is asked of the cloud, and what is given or written outlives the token.
        (Method::POST, "/v1/certificates".to_owned(), Some(certificate)),
        (Method::PATCH, "/v1/clustertemplates/k8s".to_owned(), Some(hidden)),
        (Method::DELETE, "/v1/clustertemplates/k8s".to_owned(), None),
        (Method::PATCH, format!("{groups}/default-worker"), Some(most)),
        (Method::POST, "/v1/quotas".to_owned(), Some(json!({}))),
        // Who asks comes before what is asked for: 400 and 404 otherwise.
        (Method::DELETE, format!("{groups}/default-worker"), None),
        (Method::DELETE, "/v1/clusters/nope".to_owned(), None),
    ];
    for (number, (method, path, body)) in orders.into_iter().enumerate() {
        let (id, token) = lab.mate(&format!("mate-{number}")).await;
        assert_eq!(daemon.get(&token, "/v1/clusters").await.0, StatusCode::OK);
        lab.delete_user(&id).await;
        let asked = Outgoing::new(method.clone(), daemon.url(&path))
            .header(TOKEN, &token)
            .header(VERSION, "container-infra latest");
        let asked = match body {
            Some(body) => asked.json(&body),
            None => asked,
        };
        let answer = daemon.send(asked).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{method} {path}: {:?}", answer.body);
        assert!(answer.header("www-authenticate").unwrap().starts_with("Keystone uri="));
        // From then on it is not believed for anything.
        let listed = daemon.get(&token, "/v1/clusters").await.0;
        assert_eq!(listed, StatusCode::UNAUTHORIZED, "after {method} {path}");
    }
    let (_, list) = daemon.get(&demo, "/v1/clusters").await;
    assert_eq!(list["clusters"].as_array().unwrap().len(), 1, "{list}");
    assert_eq!(list["clusters"][0]["status"], "CREATE_COMPLETE");
}

async fn own_id(lab: &Lab, token: &str) -> String {
    let url = format!("{}/auth/tokens", lab.cloud.identity_url());
    let asked = json!({"auth": {"identity": {"methods": ["token"], "token": {"id": token}}}});
    let (_, body) = lab.cloud_call(Method::POST, &url, token, Some(asked)).await;
    body["token"]["user"]["id"].as_str().unwrap_or_else(|| panic!("{body}")).to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_that_are_no_requests() {
    let lab = Lab::new().await;
    let token = lab.token("demo").await;
    let daemon = lab.daemon().await;
    let ask = |body: Vec<u8>, kind: &'static str| {
        let asked = Outgoing::new(Method::POST, daemon.url("/v1/clusters"))
            .header(TOKEN, &token)
            .header(CONTENT_TYPE, kind)
            .body(body);
        daemon.send(asked)
    };
    let json_kind = "application/json";
    let cases: Vec<(Vec<u8>, &str, u16)> = vec![
        (b"{".to_vec(), json_kind, 400),
        (b"".to_vec(), json_kind, 400),
        (b"[]".to_vec(), json_kind, 400),
        (b"\"x\"".to_vec(), json_kind, 400),
        (b"null".to_vec(), json_kind, 400),
        (b"\xff\xfe".to_vec(), json_kind, 400),
        ("[".repeat(100_000).into_bytes(), json_kind, 400),
        (b"<x/>".to_vec(), "text/xml", 415),
        (vec![b' '; (1 << 20) + 1], json_kind, 413),
    ];
    for (body, kind, status) in cases {
        let shown = String::from_utf8_lossy(&body[..body.len().min(20)]).into_owned();
        let answer = ask(body, kind).await;
        assert_eq!(answer.status.as_u16(), status, "{shown}: {:?}", answer.body);
        let body: Value = serde_json::from_slice(&answer.body).unwrap();
        assert!(!detail(&body).is_empty(), "{shown}");
        assert!(answer.header("x-openstack-request-id").unwrap().starts_with("req-"));
    }
}
