//! No field is taken and ignored: what a template or a label asks for is done, or refused in words.

use hyper::{Method, StatusCode};
use magnumd::base::fail_points::FailPoints;
use serde_json::{Value, json};

use crate::harness::{Lab, Running, template};

async fn make(daemon: &Running, token: &str, name: &str, change: &Value) -> (StatusCode, Value) {
    let mut asked = template();
    asked["name"] = json!(name);
    for (field, value) in change.as_object().unwrap() {
        asked[field] = value.clone();
    }
    daemon.post(token, "/v1/clustertemplates", asked).await
}

/// A template that must be taken.
async fn made(daemon: &Running, token: &str, name: &str, change: Value) {
    let (status, body) = make(daemon, token, name, &change).await;
    assert_eq!(status, StatusCode::CREATED, "{change}: {body}");
}

async fn create(daemon: &Running, token: &str, asked: Value) -> (StatusCode, Value) {
    daemon.post(token, "/v1/clusters", asked).await
}

/// A cluster that must be built, as it is shown then.
async fn built(daemon: &Running, token: &str, asked: Value) -> Value {
    let (status, body) = create(daemon, token, asked).await;
    assert_eq!(status, StatusCode::ACCEPTED, "{body}");
    let cluster = daemon.settled(token, body["uuid"].as_str().unwrap()).await;
    assert_eq!(cluster["status"], "CREATE_COMPLETE", "{cluster}");
    cluster
}

async fn upgrade(daemon: &Running, token: &str, cluster: &Value, to: &str) -> (StatusCode, Value) {
    let path = format!("/v1/clusters/{}/actions/upgrade", cluster["uuid"].as_str().unwrap());
    let order = json!({"cluster_template": to, "max_batch_size": 2});
    daemon.ask(token, Method::POST, &path, Some(order)).await
}

async fn upgraded(daemon: &Running, token: &str, cluster: &Value, to: &str) -> Value {
    let (status, body) = upgrade(daemon, token, cluster, to).await;
    assert_eq!(status, StatusCode::ACCEPTED, "{to}: {body}");
    let after = daemon.settled(token, cluster["uuid"].as_str().unwrap()).await;
    assert_eq!(after["status"], "UPDATE_COMPLETE", "{to}: {after}");
    after
}

fn detail(body: &Value) -> &str {
    body["errors"][0]["detail"].as_str().unwrap_or_else(|| panic!("no error body: {body}"))
}

/// Regression: an upgrade to a template with another flavor, network, volume or switch was answered
/// with 202 and ended in UPDATE_COMPLETE, and none of it was done.
#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_does_what_its_template_says_or_says_what_it_cannot() {
    let lab = Lab::new().await;
    // Else no template may ask for a volume or a load balancer.
    lab.cloud.announce_service("cinder", "block-storage");
    lab.cloud.announce_service("octavia", "load-balancer");
    let daemon = lab.daemon().await;
    let token = lab.token("demo").await;
    made(&daemon, &token, "old", json!({"floating_ip_enabled": false})).await;
    let one = json!({"name": "k1", "cluster_template_id": "old", "node_count": 1});
    let cluster = built(&daemon, &token, one).await;
    let cases = [
        ("keypair_id", json!("other"), "other", "default"),
        ("fixed_network", json!("private"), "private", "none"),
        ("docker_volume_size", json!(7), "7", "none"),
        ("floating_ip_enabled", json!(true), "true", "false"),
        ("master_lb_enabled", json!(true), "true", "false"),
    ];
    for (field, value, asked, has) in &cases {
        let mut change = json!({"floating_ip_enabled": false});
        change[*field] = value.clone();
        let name = format!("other-{field}").replace('_', "-");
        made(&daemon, &token, &name, change).await;
        let (status, body) = upgrade(&daemon, &token, &cluster, &name).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{field}: {body}");
        let said = detail(&body);
        let both = format!("its {field} is {asked}, the cluster has {has}, and");
        assert!(said.contains(&both) && said.contains("Choose a template"), "{field}: {said}");
    }
    let path = format!("/v1/clusters/{}", cluster["uuid"].as_str().unwrap());
    // A look at its health may come at any time.
    let still = |mut cluster: Value| {
        for field in ["health_status", "health_status_reason", "updated_at"] {
            cluster[field] = Value::Null;
        }
        cluster
    };
    let untouched = daemon.get(&token, &path).await.1;
    assert_eq!(still(untouched), still(cluster.clone()), "nothing is begun");

    // The same flavor by its id: no difference, and none that would hide the next one.
    let same = json!({"floating_ip_enabled": false, "flavor_id": "2", "hidden": false});
    made(&daemon, &token, "same", same).await;
    let after = upgraded(&daemon, &token, &cluster, "same").await;
    assert_eq!(after["flavor_id"], "2", "{after}");
    let (status, body) = upgrade(&daemon, &token, &after, "other-docker-volume-size").await;
    assert_eq!(status, StatusCode::BAD_REQUEST, "{body}");
    assert!(detail(&body).contains("its docker_volume_size is 7, the cluster has none,"), "{body}");

    // What a cluster has for itself is no difference; what is its template's alone is done.
    let own = json!({"name": "k2", "cluster_template_id": "old", "flavor_id": "m1.large",
                     "floating_ip_enabled": true, "node_count": 1});
    let own = built(&daemon, &token, own).await;
    let other = json!({"floating_ip_enabled": false, "flavor_id": "m1.medium", "tags": "x",
                       "dns_nameserver": "192.0.2.99"});
    made(&daemon, &token, "other", other).await;
    let after = upgraded(&daemon, &token, &own, "other").await;
    assert_eq!(after["floating_ip_enabled"], true, "{after}");
    assert_eq!(after["flavor_id"], "m1.large", "{after}");
    let kept = "flavor_id m1.medium of cluster template other: the cluster has its own, m1.large, \
                and keeps it.";
    let said = after["status_reason"].as_str().unwrap();
    assert!(said.contains("\nwarnings: ") && said.contains(kept), "{said}");
    assert!(!said.contains("dns_nameserver"), "it is done: {said}");
    let (_, base) = lab.cloud.endpoints().into_iter().find(|e| e.0 == "network").unwrap();
    let url = format!("{base}/v2.0/subnets");
    let (_, subnets) = lab.cloud_call(Method::GET, &url, &token, None).await;
    let count = |server: &str| subnets.to_string().matches(server).count();
    assert_eq!(count("192.0.2.99"), 1, "{subnets}");

    // With the image that the nodes have already nothing but the stack is changed.
    let proxy = json!({"floating_ip_enabled": false, "http_proxy": "http://p:3128"});
    made(&daemon, &token, "proxy", proxy).await;
    let (status, body) = upgrade(&daemon, &token, &cluster, "proxy").await;
    assert_eq!(status, StatusCode::BAD_REQUEST, "{body}");
    assert!(detail(&body).contains("http_proxy http://p:3128 instead of none"), "{body}");
}

/// Regression: name servers for a network that is not the cluster's, and a storage driver that its
/// driver does not know, were taken and came to nothing, and nobody was told.
#[tokio::test(flavor = "multi_thread")]
async fn what_an_upgrade_cannot_bring_to_this_cluster_is_told_with_its_last_word() {
    let lab = Lab::new().await;
    let daemon = lab.daemon().await;
    let token = lab.token("demo").await;
    let network = json!({"fixed_network": "private"});
    made(&daemon, &token, "old", network.clone()).await;
    let one = json!({"name": "k1", "cluster_template_id": "old", "node_count": 1});
    let cluster = built(&daemon, &token, one).await;
    let mut new = network;
    new["dns_nameserver"] = json!("192.0.2.99");
    new["docker_storage_driver"] = json!("overlay2");
    made(&daemon, &token, "new", new).await;
    let after = upgraded(&daemon, &token, &cluster, "new").await;
    let said = after["status_reason"].as_str().unwrap();
    let (first, warnings) = said.split_once("\nwarnings: ").unwrap_or_else(|| panic!("{said}"));
    assert!(first.ends_with("none was rebuilt; cluster template new is followed."), "{said}");
    for (field, value) in [("dns_nameserver", "192.0.2.99"), ("docker_storage_driver", "overlay2")]
    {
        let told = format!("{field} {value} of cluster template new, before ");
        assert!(warnings.contains(&told), "{said}");
    }
    assert_eq!(warnings.matches("it changes nothing of this cluster.").count(), 2, "{said}");
}

/// Regression: labels of a load balancer that there is not, or of a network that is not made, were
/// taken and came to nothing, and nobody was told.
#[tokio::test(flavor = "multi_thread")]
async fn what_has_no_effect_in_a_cluster_is_told_from_the_first_to_the_last_word() {
    let lab = Lab::new().await;
    let daemon = lab.daemon().await;
    let token = lab.token("demo").await;
    made(&daemon, &token, "idle", json!({"fixed_network": "private"})).await;
    let labels = json!({"fixed_subnet_cidr": "10.9.0.0/24", "octavia_provider": "amphora"});
    let asked = json!({"name": "k1", "cluster_template_id": "idle", "node_count": 1,
        "labels": labels, "merge_labels": true});
    let (status, body) = create(&daemon, &token, asked).await;
    assert_eq!(status, StatusCode::ACCEPTED, "{body}");
    let uuid = body["uuid"].as_str().unwrap();
    let (_, first) = daemon.get(&token, &format!("/v1/clusters/{uuid}")).await;
    for cluster in [first, daemon.settled(&token, uuid).await] {
        let said = cluster["status_reason"].as_str().unwrap_or_default();
        for label in ["fixed_subnet_cidr has no effect with", "octavia_provider has no effect w"] {
            assert!(said.contains(&format!(" The label {label}")), "{cluster}");
        }
    }
}

/// Regression: until an upgrade has begun no cluster follows its template, so somebody could delete
/// or change it; and a resize could pass the limits that the template brings along.
#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_that_was_accepted_is_as_good_as_begun() {
    let lab = Lab::new().await;
    let daemon = lab.daemon().await;
    let token = lab.token("demo").await;
    made(&daemon, &token, "old", json!({})).await;
    let one = json!({"name": "k1", "cluster_template_id": "old", "node_count": 1});
    let cluster = built(&daemon, &token, one).await;
    daemon.end().await;
    // Accepted, and the conductor has done nothing yet.
    let daemon = lab.daemon_with(FailPoints::stopping_after(0)).await;
    let labels = json!({"nodeport_open": "false", "max_node_count": "2"});
    made(&daemon, &token, "new", json!({"labels": labels})).await;
    let (status, body) = upgrade(&daemon, &token, &cluster, "new").await;
    assert_eq!(status, StatusCode::ACCEPTED, "{body}");
    let path = "/v1/clustertemplates/new";
    assert_eq!(daemon.delete(&token, path).await, StatusCode::BAD_REQUEST);
    let change = json!([{"op": "replace", "path": "/flavor_id", "value": "m1.large"}]);
    let (status, body) = daemon.patch(&token, path, change).await;
    assert_eq!(status, StatusCode::BAD_REQUEST, "{body}");
    let uuid = cluster["uuid"].as_str().unwrap();
    let path = format!("/v1/clusters/{uuid}/actions/resize");
    let beyond = Some(json!({"node_count": 3}));
    let (status, body) = daemon.ask(&token, Method::POST, &path, beyond).await;
    assert_eq!(status, StatusCode::BAD_REQUEST, "{body}");
    assert!(body.to_string().contains("max_node_count = 2"), "{body}");
    daemon.resize(&token, uuid, json!({"node_count": 2})).await;
    daemon.end().await;
    let daemon = lab.daemon().await;
    let after = daemon.settled(&token, uuid).await;
    assert_eq!(after["status"], "UPDATE_COMPLETE", "{after}");
    assert_ne!(after["cluster_template_id"], cluster["cluster_template_id"], "{after}");
    let group = daemon.group(&token, uuid, "default-worker").await;
    assert_eq!((&group["node_count"], &group["max_node_count"]), (&json!(2), &json!(2)), "{group}");
    daemon.end().await;
}

/// Regression: the autoscaler that was deployed found no group, because none had an upper limit.
#[tokio::test(flavor = "multi_thread")]
async fn labels_limit_the_default_workers() {
    let lab = Lab::new().await;
    let daemon = lab.daemon().await;
    let token = lab.token("demo").await;
    let limited = json!({"labels": {"min_node_count": "1", "max_node_count": "3"}});
    made(&daemon, &token, "limited", limited).await;
    for (count, words) in [
        (0, "label min_node_count. Value: '1'. It must be at most node_count, 0."),
        (4, "label max_node_count. Value: '3'. It must be at least node_count, 4."),
    ] {
        let asked = json!({"name": "k", "cluster_template_id": "limited", "node_count": count});
        let (status, body) = create(&daemon, &token, asked).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{body}");
        assert!(detail(&body).contains(words), "{body}");
    }
    for labels in
        [json!({"max_node_count": "few"}), json!({"min_node_count": 3, "max_node_count": 2})]
    {
        let (status, body) = make(&daemon, &token, "bad", &json!({ "labels": labels })).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{labels}: {body}");
        assert!(detail(&body).contains("label max_node_count"), "{labels}: {body}");
    }
    let asked = json!({"name": "k1", "cluster_template_id": "limited", "node_count": 2});
    let cluster = built(&daemon, &token, asked).await;
    let uuid = cluster["uuid"].as_str().unwrap();
    let limits = async |want: Value| {
        let group = daemon.group(&token, uuid, "default-worker").await;
        assert_eq!(json!([group["min_node_count"], group["max_node_count"]]), want, "{group}");
        let masters = daemon.group(&token, uuid, "default-master").await;
        assert_eq!(masters["max_node_count"], Value::Null, "{masters}");
    };
    limits(json!([1, 3])).await;
    let path = format!("/v1/clusters/{uuid}/actions/resize");
    let (status, body) =
        daemon.ask(&token, Method::POST, &path, Some(json!({"node_count": 4}))).await;
    assert_eq!(status, StatusCode::BAD_REQUEST, "{body}");
    assert!(detail(&body).contains("max_node_count = 3"), "{body}");

    let tight = json!({"labels": {"max_node_count": "1"}});
    made(&daemon, &token, "tight", tight).await;
    let (status, body) = upgrade(&daemon, &token, &cluster, "tight").await;
    assert_eq!(status, StatusCode::BAD_REQUEST, "{body}");
    assert!(detail(&body).contains("at least node_count, 2."), "{body}");
    let wide = json!({"labels": {"min_node_count": "2", "max_node_count": "9"}});
    made(&daemon, &token, "wide", wide).await;
    upgraded(&daemon, &token, &cluster, "wide").await;
    limits(json!([2, 9])).await;

    let scaled =
        json!({"labels": {"auto_scaling_enabled": "true", "cloud_provider_enabled": "true"}});
    made(&daemon, &token, "scaled", scaled).await;
    let asked = json!({"name": "k2", "cluster_template_id": "scaled", "node_count": 1});
    let (status, body) = create(&daemon, &token, asked).await;
    assert_eq!(status, StatusCode::ACCEPTED, "{body}");
    let group = daemon.group(&token, body["uuid"].as_str().unwrap(), "default-worker").await;
    assert_eq!(group["max_node_count"], 2, "as Magnum has it: {group}");
}

/// Regression: a misspelt label was taken, and nobody ever said that it did nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_label_that_nobody_knows_is_told_of_or_refused() {
    let mut lab = Lab::new().await;
    let daemon = lab.daemon().await;
    let token = lab.token("demo").await;
    let typo = json!({"labels": {"master_lb_allowed_cidr": "10.0.0.0/8", "fleet": "blue"}});
    made(&daemon, &token, "typo", typo.clone()).await;
    let warning = "warnings: Driver k8s_kubeadm_v1 does not know the labels fleet, \
                   master_lb_allowed_cidr (did you mean master_lb_allowed_cidrs?): they have no effect.";
    let asked = json!({"name": "k1", "cluster_template_id": "typo", "node_count": 1});
    let (status, body) = create(&daemon, &token, asked.clone()).await;
    assert_eq!(status, StatusCode::ACCEPTED, "{body}");
    let uuid = body["uuid"].as_str().unwrap().to_owned();
    let says = |cluster: &Value| {
        cluster["status_reason"].as_str().unwrap_or_default().lines().any(|line| line == warning)
    };
    let (_, at_once) = daemon.get(&token, &format!("/v1/clusters/{uuid}")).await;
    assert!(says(&at_once), "{at_once}");
    let done = daemon.until(&token, &uuid, |c| {
        assert!(says(c), "{c}");
        c["status"] == "CREATE_COMPLETE"
    });
    let reason = done.await["status_reason"].as_str().unwrap().to_owned();
    assert_eq!(reason, format!("Stack CREATE completed successfully\n{warning}"));
    daemon.resize(&token, &uuid, json!({"node_count": 2})).await;
    let grown = daemon.settled(&token, &uuid).await;
    assert!(says(&grown) && grown["status"] == "UPDATE_COMPLETE", "{grown}");
    // A group says it of its own labels alone.
    let groups = format!("/v1/clusters/{uuid}/nodegroups");
    let more = json!({"name": "more", "labels": {"rack": "7"}, "merge_labels": true});
    let (status, body) = daemon.ask(&token, Method::POST, &groups, Some(more)).await;
    assert_eq!(status, StatusCode::ACCEPTED, "{body}");
    assert!(says(&daemon.settled(&token, &uuid).await));
    let group = daemon.group(&token, &uuid, "more").await;
    let reason = group["status_reason"].as_str().unwrap_or_default();
    assert!(
        reason.contains("label rack: it has no effect") && !reason.contains("fleet"),
        "{group}"
    );
    daemon.end().await;

    lab.configure("[cluster]", "unknown_labels = 'refuse'");
    let daemon = lab.daemon().await;
    let said = "Driver k8s_kubeadm_v1 knows no label fleet. Leave it away.";
    let (status, body) = make(&daemon, &token, "again", &typo).await;
    assert_eq!((status, detail(&body)), (StatusCode::BAD_REQUEST, said));
    let (status, body) = create(&daemon, &token, asked).await;
    assert_eq!((status, detail(&body)), (StatusCode::BAD_REQUEST, said), "of an older template");
    let more = json!({"name": "yet-more", "labels": {"kube_tgs": "7"}, "merge_labels": true});
    let (status, body) = daemon.ask(&token, Method::POST, &groups, Some(more)).await;
    assert_eq!(status, StatusCode::BAD_REQUEST, "{body}");
    assert!(detail(&body).contains("no label kube_tgs. Did you mean kube_tag?"), "{body}");
    // What is there already lives on.
    daemon.resize(&token, &uuid, json!({"node_count": 1})).await;
    let shrunk = daemon.settled(&token, &uuid).await;
    assert_eq!(shrunk["status"], "UPDATE_COMPLETE", "{shrunk}");
}

/// Regression: a template that no cluster could ever be made from was accepted, and who had
/// filled in a form was told only when the cluster was asked for, by somebody else perhaps.
#[tokio::test(flavor = "multi_thread")]
async fn a_template_is_refused_for_what_no_cluster_can_mend() {
    let lab = Lab::new().await;
    let daemon = lab.daemon().await;
    let token = lab.token("demo").await;
    let cases = [
        (
            json!({"volume_driver": "cinder"}),
            "volume_driver cinder needs the volume service (Cinder), which this cloud does not have. \
             Leave volume_driver away in the cluster template.",
        ),
        (
            json!({"volume_driver": "cinder", "image_id": "fedora-coreos"}),
            "volume_driver cinder is not possible: driver k8s_fedora_coreos_v1 does not deploy what it \
             needs. Leave volume_driver away in the cluster template.",
        ),
        (json!({"labels": {"etcd_bootstrap": "magic"}}), "label etcd_bootstrap. Value: 'magic'."),
        (json!({"labels": {"etcd_volume_size": "5"}}), "needs the volume service (Cinder)"),
        (json!({"labels": {"api_server_cert_sans": "a b"}}), "comma list of DNS names"),
        (
            json!({"labels": {"octavia_provider": "ovn", "octavia_lb_algorithm": "SOURCE_IP"}}),
            "SOURCE_IP_PORT with octavia_provider ovn",
        ),
        (json!({"labels": {"octavia_provider": "OVN"}}), "in small letters: ovn."),
        (
            json!({"labels": {"octavia_provider": "ovn\u{200b}"}}),
            "label octavia_provider. Value: 'ovn\\u{200b}'. It must be written without U+200B",
        ),
        (json!({"labels": {"octavia_provider": " ovn"}}), "without blanks at its ends"),
        (json!({"labels": {"octavia_provider": "\u{43e}vn"}}), "of the form [A-Za-z0-9._-]+"),
        (json!({"labels": {"availability_zone": "nova\u{a0}"}}), "without U+00A0"),
        (
            json!({"docker_volume_size": 5}),
            "docker_volume_size 5 needs the volume service (Cinder), which this cloud does not have. \
             Leave docker_volume_size away.",
        ),
        (
            json!({"master_lb_enabled": true}),
            "master_lb_enabled needs the load balancer service (Octavia), which this cloud does not \
             have. Set master_lb_enabled to false.",
        ),
    ];
    for (change, words) in &cases {
        let (status, body) = make(&daemon, &token, "bad", change).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{change}: {body}");
        assert!(detail(&body).contains(words), "{change}: {body}");
    }
    // Nor may a template become so.
    made(&daemon, &token, "good", json!({"labels": {"api_server_cert_sans": "k8s.example.org"}}))
        .await;
    let path = "/v1/clustertemplates/good";
    for (field, value, words) in [
        ("volume_driver", json!("cinder"), "volume_driver cinder needs the volume service"),
        ("docker_volume_size", json!(7), "docker_volume_size 7 needs the volume service"),
        ("master_lb_enabled", json!(true), "needs the load balancer service"),
        ("labels/octavia_provider", json!("OVN"), "in small letters: ovn."),
        ("labels/octavia_provider", json!("ovn\u{200b}"), "without U+200B"),
    ] {
        let patch = json!([{"op": "add", "path": format!("/{field}"), "value": value}]);
        let patch = match field {
            "master_lb_enabled" => {
                json!([{"op": "replace", "path": "/master_lb_enabled", "value": value}])
            }
            _ => patch,
        };
        let (status, body) = daemon.patch(&token, path, patch).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{body}");
        assert!(detail(&body).contains(words), "{body}");
    }
}

/// Regression: a subnet without its network was looked up and forgotten, and the cluster got a
/// network of its own.
#[tokio::test(flavor = "multi_thread")]
async fn a_subnet_alone_says_which_network() {
    let lab = Lab::new().await;
    let daemon = lab.daemon().await;
    let token = lab.token("demo").await;
    made(&daemon, &token, "k8s", json!({"fixed_subnet": "private"})).await;
    let asked = json!({"name": "k1", "cluster_template_id": "k8s", "node_count": 1});
    let cluster = built(&daemon, &token, asked).await;
    let (_, base) = lab.cloud.endpoints().into_iter().find(|e| e.0 == "network").unwrap();
    let url = format!("{base}/v2.0/networks?name=private");
    let (_, networks) = lab.cloud_call(Method::GET, &url, &token, None).await;
    assert_eq!(cluster["fixed_network"], networks["networks"][0]["id"], "{cluster}");
    let addresses = cluster["node_addresses"].as_array().unwrap();
    let masters = daemon.group(&token, cluster["uuid"].as_str().unwrap(), "default-master").await;
    let (_, stack) = lab.stack(&token, &cluster).await;
    let private = stack["outputs"].as_array().unwrap().iter();
    let private = private.filter(|o| o["output_key"] == "kube_minions_private");
    let private: Vec<String> = private.map(|o| o["output_value"].to_string()).collect();
    assert!(private.iter().all(|a| a.contains("10.20.")), "{private:?} {addresses:?} {masters}");
    assert_eq!(private.len(), 1);
    let (status, body) = make(
        &daemon,
        &token,
        "bad",
        &json!({"fixed_subnet": "private", "fixed_network": "public"}),
    )
    .await;
    assert_eq!(status, StatusCode::BAD_REQUEST, "{body}");
    // The network is the subnet's: an upgrade to another place is one it cannot do.
    made(&daemon, &token, "own", json!({})).await;
    let (status, body) = upgrade(&daemon, &token, &cluster, "own").await;
    assert_eq!(status, StatusCode::BAD_REQUEST, "{body}");
    assert!(detail(&body).contains("its fixed_network is none, the cluster has"), "{body}");
    made(&daemon, &token, "named", json!({"fixed_network": "private"})).await;
    upgraded(&daemon, &token, &cluster, "named").await;
}
