//! Stacks over HTTP, from template to nothing left.

use serde_json::{Value, json};

use super::Tenant;
use crate::lab::cidr::Cidr;

const TEMPLATE: &str = r#"
heat_template_version: '2018-08-31'
parameters:
  flavor: {type: string, default: m1.small}
resources:
  network: {type: OS::Neutron::Net, properties: {name: demo}}
  subnet:
    type: OS::Neutron::Subnet
    properties: {network: {get_resource: network}, cidr: 10.0.0.0/24}
  router:
    type: OS::Neutron::Router
    properties: {external_gateway_info: {network: public}}
  router_if:
    type: OS::Neutron::RouterInterface
    properties: {router: {get_resource: router}, subnet: {get_resource: subnet}}
  group:
    type: OS::Neutron::SecurityGroup
    properties:
      rules:
        - {protocol: tcp, port_range_min: 6443, port_range_max: 6443}
        - {remote_mode: remote_group_id}
  port:
    type: OS::Neutron::Port
    properties:
      network: {get_resource: network}
      fixed_ips: [{subnet: {get_resource: subnet}}]
      security_groups: [{get_resource: group}]
      allowed_address_pairs: [{ip_address: 10.100.0.0/16}]
  address:
    type: OS::Neutron::FloatingIP
    depends_on: router_if
    properties: {floating_network: public, port_id: {get_resource: port}}
  server:
    type: OS::Nova::Server
    properties:
      name: demo-master-0
      image: ubuntu
      flavor: {get_param: flavor}
      user_data: hello
      user_data_format: RAW
      networks: [{port: {get_resource: port}}]
outputs:
  private: {value: {get_attr: [server, first_address]}}
  public: {value: {get_attr: [address, floating_ip_address]}}
  fixed: {value: {get_attr: [port, fixed_ips, 0, ip_address]}}
"#;

impl Tenant {
    async fn stack(&self, token: &str, name: &str, parameters: Value) -> (String, super::Told) {
        let demo = self.project_url("demo");
        let body = json!({"stack_name": name, "template": TEMPLATE, "parameters": parameters,
                          "timeout_mins": 60, "disable_rollback": true});
        let made = self.send("POST", format!("{demo}/stacks"), token, body).await;
        let id = made.body["stack"]["id"].as_str().unwrap_or_default();
        (format!("{demo}/stacks/{name}/{id}"), made)
    }

    fn project_url(&self, name: &str) -> String {
        let state = self.lab.world.lock();
        let id = state.identity.projects.iter().find(|p| p.name == name).unwrap().id.clone();
        drop(state);
        self.url("orchestration", "").replace("%(tenant_id)s", &id)
    }
}

#[tokio::test]
async fn a_stack_is_built_shown_and_taken_away() {
    let t = Tenant::quick().await;
    let demo = t.token("demo", "demo").await;
    let (stack, made) = t.stack(&demo, "first", json!({})).await;
    assert_eq!(made.status, 201, "{}", made.text);
    assert_eq!(t.lab.count("trusts"), 1, "Heat keeps a trust of its own");
    let show = async || t.get(stack.clone(), &demo).await.body["stack"].take();
    t.until("built", async || show().await["stack_status"] == "CREATE_COMPLETE").await;
    let shown = show().await;
    let output = |key: &str| {
        let all = shown["outputs"].as_array().unwrap().clone();
        all.iter().find(|o| o["output_key"] == key).unwrap()["output_value"].clone()
    };
    assert_eq!(output("fixed"), "10.0.0.2", "{shown}");
    assert_eq!(output("private"), "10.0.0.2");
    let public: Cidr = t.lab.public_range().parse().unwrap();
    assert!(public.contains(output("public").as_str().unwrap().parse().unwrap()), "{shown}");
    assert_eq!((t.lab.count("stacks"), t.lab.count("servers")), (1, 1));
    assert!(t.lab.leftovers().iter().any(|l| l.starts_with("stack ")), "{:?}", t.lab.leftovers());
    let calls = t.lab.calls();
    assert!(calls.contains(&"POST heat /stacks 201".to_owned()), "{calls:?}");
    assert!(calls.contains(&"POST nova /servers 202".to_owned()), "{calls:?}");

    assert_eq!(t.delete(stack.clone(), &demo).await, 204);
    t.until("nothing is left", async || t.lab.leftovers().is_empty()).await;
}

#[tokio::test]
async fn a_server_without_a_host_fails_the_stack_in_its_own_words() {
    let t = Tenant::quick().await;
    let demo = t.token("demo", "demo").await;
    t.lab.inject("nova:POST:/servers:error=No valid host was found.".parse().unwrap());
    let (stack, _) = t.stack(&demo, "second", json!({})).await;
    let show = async || t.get(stack.clone(), &demo).await.body["stack"].take();
    t.until("failed", async || show().await["stack_status"] == "CREATE_FAILED").await;
    let reason = show().await["stack_status_reason"].to_string();
    assert!(reason.contains("No valid host was found."), "{reason}");
    assert_eq!(t.delete(stack.clone(), &demo).await, 204);
    t.until("nothing is left", async || t.lab.leftovers().is_empty()).await;

    // What does not exist is refused before anything is made.
    let (_, refused) = t.stack(&demo, "third", json!({"flavor": "m1.none"})).await;
    let (_, other) = t.stack(&t.token("alt", "alt").await, "fourth", json!({})).await;
    assert_eq!(other.status, 403, "another project's address: {}", other.text);
    if refused.status == 201 {
        t.until("failed", async || t.lab.heat.stacks().iter().any(|s| s.3 == "CREATE_FAILED"))
            .await;
    } else {
        assert_eq!(refused.status, 400, "{}", refused.text);
    }
}
