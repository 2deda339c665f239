//! Networks, servers, images as tenants meet them.

use serde_json::{Value, json};

use super::Tenant;

impl Tenant {
    /// Makes something at Neutron; returns its id.
    pub(super) async fn make(&self, token: &str, kind: &str, mut body: Value) -> String {
        let one = kind.trim_end_matches('s').replace('-', "_");
        body = json!({ (one.clone()): body });
        let url = self.url("network", &format!("/v2.0/{kind}"));
        let told = self.send("POST", url, token, body).await;
        assert_eq!(told.status, 201, "{kind}: {}", told.text);
        told.body[one]["id"].as_str().unwrap().to_owned()
    }

    async fn drop_net(&self, token: &str, kind: &str, id: &str) -> (u16, String) {
        let url = self.url("network", &format!("/v2.0/{kind}/{id}"));
        let told = self.send("DELETE", url, token, Value::Null).await;
        (told.status, told.body["NeutronError"]["type"].as_str().unwrap_or_default().to_owned())
    }
}

#[tokio::test]
async fn what_is_in_use_stays() {
    let t = Tenant::quick().await;
    let demo = t.token("demo", "demo").await;
    let net = t.make(&demo, "networks", json!({"name": "n"})).await;
    let subnet = t.make(&demo, "subnets", json!({"network_id": net, "cidr": "10.9.0.0/29"})).await;
    let group = t.make(&demo, "security-groups", json!({"name": "g"})).await;
    let port = t.make(&demo, "ports", json!({"network_id": net, "security_groups": [group]})).await;
    let public = t.get(t.url("network", "/v2.0/networks?name=public"), &demo).await;
    assert_eq!(public.body["networks"][0]["router:external"], true);
    let public = public.body["networks"][0]["id"].as_str().unwrap().to_owned();
    let gateway = json!({"external_gateway_info": {"network_id": public}});
    let router = t.make(&demo, "routers", gateway).await;

    // No router yet: the port cannot be reached from outside.
    let floating = json!({"floating_network_id": public, "port_id": port});
    let url = t.url("network", "/v2.0/floatingips");
    let refused = t.send("POST", url, &demo, json!({"floatingip": floating})).await;
    assert_eq!(refused.status, 404);
    assert_eq!(refused.body["NeutronError"]["type"], "ExternalGatewayForFloatingIPNotFound");
    assert_eq!(t.lab.count("floating_ips"), 0);

    let verb = |verb: &str| t.url("network", &format!("/v2.0/routers/{router}/{verb}"));
    let body = json!({"subnet_id": subnet});
    let url = verb("add_router_interface");
    assert_eq!(t.send("PUT", url, &demo, body.clone()).await.status, 200);
    let fip = t.make(&demo, "floatingips", floating).await;

    for (kind, id, why) in [
        ("networks", &net, "NetworkInUse"),
        ("subnets", &subnet, "SubnetInUse"),
        ("security-groups", &group, "SecurityGroupInUse"),
        ("routers", &router, "RouterInUse"),
    ] {
        assert_eq!(t.drop_net(&demo, kind, id).await, (409, why.to_owned()));
    }
    let told = t.send("PUT", verb("remove_router_interface"), &demo, body.clone()).await;
    assert_eq!(told.body["NeutronError"]["type"], "RouterInterfaceInUseByFloatingIP");
    let alt = t.token("alt", "alt").await;
    assert_eq!(t.drop_net(&alt, "ports", &port).await.0, 404, "another project's");
    assert_eq!(t.drop_net(&alt, "networks", &public).await.0, 404, "seen, not owned");
    let reader = t.token("reader", "demo").await;
    assert_eq!(t.drop_net(&reader, "ports", &port).await.0, 403);

    assert_eq!(t.lab.leftovers().len(), 7, "{:?}", t.lab.leftovers());
    assert_eq!(t.drop_net(&demo, "floatingips", &fip).await.0, 204);
    let told = t.send("PUT", verb("remove_router_interface"), &demo, body).await;
    assert_eq!(told.status, 200);
    for (kind, id) in [
        ("ports", &port),
        ("routers", &router),
        ("security-groups", &group),
        ("subnets", &subnet),
        ("networks", &net),
    ] {
        assert_eq!(t.drop_net(&demo, kind, id).await.0, 204, "{kind}");
    }
    assert!(t.lab.leftovers().is_empty(), "{:?}", t.lab.leftovers());
}

#[tokio::test]
async fn addresses_are_given_once_and_run_out() {
    let t = Tenant::quick().await;
    let demo = t.token("demo", "demo").await;
    let net = t.make(&demo, "networks", json!({})).await;
    let subnet = json!({"network_id": net, "cidr": "10.9.0.0/29"});
    t.make(&demo, "subnets", subnet.clone()).await;
    let url = || t.url("network", "/v2.0/ports");
    let port = |body: Value| t.send("POST", url(), &demo, json!({"port": body}));
    // A /29 has six hosts, and the gateway is one of them.
    for last in 2..=6 {
        let told = port(json!({"network_id": net})).await;
        let address = told.body["port"]["fixed_ips"][0]["ip_address"].as_str().unwrap().to_owned();
        assert_eq!(address, format!("10.9.0.{last}"));
    }
    let full = port(json!({"network_id": net})).await;
    assert_eq!(
        (full.status, full.body["NeutronError"]["type"].as_str().unwrap()),
        (409, "IpAddressGenerationFailure")
    );
    let wish = |ip: &str| json!({"network_id": net, "fixed_ips": [{"ip_address": ip}]});
    assert_eq!(port(wish("10.9.0.3")).await.body["NeutronError"]["type"], "IpAddressInUse");
    assert_eq!(port(wish("10.8.0.3")).await.status, 400);
    assert_eq!(port(wish("nonsense")).await.status, 400);
    let url = t.url("network", "/v2.0/subnets");
    assert_eq!(t.send("POST", url, &demo, json!({"subnet": subnet})).await.status, 400, "overlap");
    t.lab.set_quota("demo", "ports", 5);
    assert_eq!(port(json!({"network_id": net})).await.body["NeutronError"]["type"], "OverQuota");
}

#[tokio::test]
async fn a_server_builds_runs_and_goes() {
    let t = Tenant::quick().await;
    let demo = t.token("demo", "demo").await;
    let net = t.make(&demo, "networks", json!({"name": "n"})).await;
    t.make(&demo, "subnets", json!({"network_id": net, "cidr": "10.9.0.0/24"})).await;
    let port = t.make(&demo, "ports", json!({"network_id": net})).await;
    let images = t.get(t.url("image", "/v2/images?name=ubuntu"), &demo).await;
    assert_eq!(images.body["images"][0]["os_distro"], "ubuntu");
    let server = |flavor: &str, network: Value| {
        json!({"server": {
        "name": "s", "flavorRef": flavor, "imageRef": images.body["images"][0]["id"],
        "key_name": "default", "user_data": "aGVsbG8=", "networks": [network]}})
    };
    let url = || t.url("compute", "/servers");
    let made = t.send("POST", url(), &demo, server("2", json!({"port": port}))).await;
    assert_eq!(made.status, 202, "{}", made.text);
    let id = made.body["server"]["id"].as_str().unwrap().to_owned();
    let again = t.send("POST", url(), &demo, server("2", json!({"port": port}))).await;
    assert_eq!(again.status, 409, "the port is taken: {}", again.text);
    let one = t.url("compute", &format!("/servers/{id}"));
    let show = async |token: &str| t.get(one.clone(), token).await.body["server"].take();
    assert_eq!(show(&demo).await["status"], "BUILD");
    t.until("active", async || show(&demo).await["status"] == "ACTIVE").await;
    let shown = show(&demo).await;
    assert_eq!(shown["addresses"]["n"][0]["addr"], "10.9.0.2");
    assert_eq!(shown["flavor"]["id"], "2");
    assert!(shown.get("OS-EXT-SRV-ATTR:user_data").is_none());
    let alt = t.token("alt", "alt").await;
    assert!(show(&alt).await.is_null(), "another project's");

    // An own port stays when its server goes; one that Nova made goes along.
    let other = t.send("POST", url(), &demo, server("2", json!({"uuid": net}))).await;
    let other = other.body["server"]["id"].as_str().unwrap().to_owned();
    assert_eq!(t.lab.count("ports"), 2);
    for id in [&id, &other] {
        assert_eq!(t.delete(t.url("compute", &format!("/servers/{id}")), &demo).await, 204);
    }
    t.until("gone", async || t.lab.count("servers") == 0).await;
    assert_eq!(t.lab.count("ports"), 1);

    t.lab.set_quota("demo", "instances", 0);
    let refused = t.send("POST", url(), &demo, server("2", json!({"uuid": net}))).await;
    assert_eq!(refused.status, 403);
    assert!(refused.body["forbidden"]["message"].as_str().unwrap().contains("Quota exceeded"));
    assert_eq!(t.lab.count("ports"), 1, "nothing is left of the refused one");
}

#[tokio::test]
async fn nova_speaks_versions_and_glance_refuses_in_html() {
    let t = Tenant::quick().await;
    let admin = t.token("admin", "admin").await;
    let version = |v: &str| {
        let ask = crate::base::http::client::Outgoing::new(
            hyper::Method::GET,
            t.url("compute", "/flavors/detail"),
        );
        ask.header(hyper::header::HeaderName::from_static("x-auth-token"), &admin)
            .header(hyper::header::HeaderName::from_static("openstack-api-version"), v)
    };
    let old = t.http.send(version("compute 2.1")).await.unwrap();
    assert!(!String::from_utf8_lossy(&old.body).contains("extra_specs"));
    let new = t.http.send(version("compute latest")).await.unwrap();
    assert_eq!(new.header("openstack-api-version"), Some("compute 2.96"));
    assert!(String::from_utf8_lossy(&new.body).contains("extra_specs"));
    assert_eq!(t.http.send(version("compute 2.999")).await.unwrap().status.as_u16(), 406);

    let missing = t.get(t.url("image", "/v2/images/no-such"), &admin).await;
    assert_eq!(missing.status, 404);
    assert!(missing.text.contains("<h1>404 Not Found</h1>"), "{}", missing.text);
    let keypair = t.get(t.url("compute", "/os-keypairs/default"), &admin).await;
    assert!(keypair.body["keypair"]["public_key"].as_str().unwrap().starts_with("ssh-"));
    assert_eq!(t.get(t.url("compute", "/os-keypairs/other"), &admin).await.status, 404);
}

#[tokio::test]
async fn nonsense_is_answered_not_crashed() {
    let t = Tenant::quick().await;
    let demo = t.token("demo", "demo").await;
    for (kind, path) in [
        ("network", "/v2.0/networks"),
        ("network", "/v2.0/ports"),
        ("network", "/v2.0/floatingips"),
        ("network", "/v2.0/security-group-rules"),
        ("compute", "/servers"),
        ("compute", "/os-keypairs"),
        ("identity", "/OS-TRUST/trusts"),
        ("identity", "/users"),
    ] {
        for body in
            [json!({}), json!([]), json!("x"), json!({"port": 7, "server": [], "trust": {}})]
        {
            let told = t.send("POST", t.url(kind, path), &demo, body).await;
            assert!((400..500).contains(&told.status), "{path}: {} {}", told.status, told.text);
        }
    }
    for path in ["/v2.0/%FF", "/v2.0/networks?name=%FF", "/v2.0/nothing", "/v2.0/ports/a/b/c"] {
        let told = t.get(t.url("network", path), &demo).await;
        assert!((400..500).contains(&told.status), "{path}: {}", told.status);
    }
}
