//! Stacks that succeed: order, attributes, outputs, and their end.

use serde_json::{Value, json};

use super::{Lab, Rule, Thing, hot};

/// The driver's stack in small: one of everything a container cluster is made of.
pub const CLUSTER: &str = r"
parameters:
  cluster_uuid: {type: string}
  secret: {type: string, hidden: true, default: s3cret}
resources:
  network:   {type: OS::Neutron::Net, properties: {name: demo}}
  subnet:    {type: OS::Neutron::Subnet, properties: {network: {get_resource: network}, cidr: 10.0.0.0/24}}
  router:    {type: OS::Neutron::Router, properties: {external_gateway_info: {network: EXT}}}
  router_if: {type: OS::Neutron::RouterInterface, properties: {router: {get_resource: router}, subnet: {get_resource: subnet}}}
  sg_master: {type: OS::Neutron::SecurityGroup, properties: {rules: [ {protocol: tcp, port_range_min: 6443, port_range_max: 6443}, {remote_mode: remote_group_id}, {remote_ip_prefix: 10.100.0.0/16} ]}}
  sg_node:   {type: OS::Neutron::SecurityGroup, properties: {rules: [ {remote_mode: remote_group_id}, {remote_mode: remote_group_id, remote_group_id: {get_resource: sg_master}}, {remote_ip_prefix: 10.100.0.0/16} ]}}
  master_0_port: {type: OS::Neutron::Port, properties: {network: {get_resource: network}, fixed_ips: [{subnet: {get_resource: subnet}}], security_groups: [{get_resource: sg_master}], allowed_address_pairs: [{ip_address: 10.100.0.0/16}]}}
  master_0_fip:  {type: OS::Neutron::FloatingIP, depends_on: router_if, properties: {floating_network: EXT, port_id: {get_resource: master_0_port}}}
  etcd_vol_0:    {type: OS::Cinder::Volume, properties: {size: 5}}
  master_0:
    type: OS::Nova::Server
    properties:
      name: demo-master-0
      image: IMG
      flavor: FLAVOR
      config_drive: true
      user_data_format: RAW
      user_data: {str_replace: {template: {get_file: master.yaml}, params: {__MASTER_IPS__: {list_join: [',', [{get_attr: [master_0_port, fixed_ips, 0, ip_address]}]]}}}}
      networks: [{port: {get_resource: master_0_port}}]
      block_device_mapping_v2:
        - {boot_index: 0, image: IMG, volume_size: 20, delete_on_termination: true}
        - {volume_id: {get_resource: etcd_vol_0}, boot_index: -1}
  kube_minions:
    type: OS::Heat::ResourceGroup
    depends_on: router_if
    properties:
      count: 2
      resource_def:
        type: OS::Nova::Server
        properties:
          name: demo-node-%index%
          image: IMG
          flavor: FLAVOR
          config_drive: true
          user_data_format: RAW
          user_data: {get_file: node.yaml}
          security_groups: [{get_resource: sg_node}]
          networks: [{network: {get_resource: network}, subnet: {get_resource: subnet}, port_extra_properties: {allowed_address_pairs: [{ip_address: 10.100.0.0/16}]}}]
outputs:
  api_address: {value: {get_attr: [master_0_fip, floating_ip_address]}}
  kube_masters: {value: [{get_attr: [master_0_port, fixed_ips, 0, ip_address]}], description: Masters}
  kube_minions: {value: {get_attr: [kube_minions, first_address]}}
  server_ids: {value: {get_attr: [kube_minions, refs_map]}}
";

pub fn more() -> Value {
    json!({
        "parameters": {"cluster_uuid": "c-1"},
        "files": {"master.yaml": "#cloud-config __MASTER_IPS__", "node.yaml": "#cloud-config"},
        "tags": "magnum-cluster-c-1,other",
        "timeout_mins": 30,
        "disable_rollback": true,
    })
}

#[tokio::test]
async fn a_cluster_is_built_in_order_shown_and_deleted() {
    let lab = Lab::new();
    lab.cloud.rule("OS::Nova::Server", Rule::Slow(3));
    let (path, stack) = lab.made(&hot(CLUSTER), more()).await;
    assert_eq!(stack["stack_status"], "CREATE_COMPLETE", "{stack}");
    assert_eq!(stack["stack_status_reason"], "Stack CREATE completed successfully");
    assert_eq!(stack["tags"], json!(["magnum-cluster-c-1", "other"]));
    assert_eq!((&stack["timeout_mins"], &stack["stack_owner"]), (&json!(30), &json!("demo")));
    assert_eq!(stack["parameters"]["secret"], "******");
    assert_eq!(stack["parameters"]["cluster_uuid"], "c-1");
    assert_eq!(stack["parameters"]["OS::stack_name"], "s");
    assert_eq!(stack["parameters"]["OS::stack_id"], stack["id"]);

    let log = lab.cloud.log();
    let at = |prefix: &str| {
        log.iter()
            .position(|l| l.starts_with(prefix))
            .unwrap_or_else(|| panic!("{prefix} in {log:?}"))
    };
    for (first, then) in [
        ("+net-", "+subnet-"),
        ("+subnet-", "+port-"),
        ("+subnet-", "+routerinterface-"),
        ("+routerinterface-", "+floatingip-"),
        ("+port-", "+server-"),
        ("+volume-", "+server-"),
    ] {
        assert!(at(first) < at(then), "{first} before {then}: {log:?}");
    }
    let servers = lab.cloud.of("OS::Nova::Server");
    let names: Vec<&str> = servers.iter().map(|s| s.name.as_str()).collect();
    assert_eq!(names.len(), 3);
    assert!(["demo-master-0", "demo-node-0", "demo-node-1"].iter().all(|n| names.contains(n)));
    let master = servers.iter().find(|s| s.name == "demo-master-0").unwrap();
    let port =
        lab.cloud.things.lock().unwrap().keys().find(|k| k.starts_with("port-")).unwrap().clone();
    let address = format!("10.0.0.{}", port.trim_start_matches("port-"));
    assert_eq!(master.properties["user_data"], format!("#cloud-config {address}"));
    assert_eq!(master.properties["networks"][0]["port"], json!(port));
    assert_eq!(master.properties["config_drive"], true);

    let output = |key: &str| {
        let outputs = stack["outputs"].as_array().unwrap();
        outputs.iter().find(|o| o["output_key"] == key).unwrap().clone()
    };
    assert_eq!(output("kube_masters")["output_value"], json!([address]));
    assert_eq!(output("kube_masters")["description"], "Masters");
    assert!(output("api_address")["output_value"].as_str().unwrap().starts_with("172.24.4."));
    assert_eq!(output("kube_minions")["output_value"].as_array().unwrap().len(), 2);
    let ids = output("server_ids")["output_value"].clone();
    assert!(ids["0"].as_str().unwrap().starts_with("server-"), "{ids}");

    let resources = lab.resources(&path).await;
    assert_eq!(resources["kube_minions.1"]["resource_status"], "CREATE_COMPLETE");
    assert_eq!(resources["kube_minions.1"]["physical_resource_id"], ids["1"]);
    assert_eq!(resources["kube_minions"]["links"][2]["rel"], "nested");

    let (status, _) = lab.call("DELETE", &path, Value::Null).await;
    assert_eq!(status, 204);
    let ids: std::collections::BTreeMap<&str, &str> = resources
        .iter()
        .map(|(name, r)| (name.as_str(), r["physical_resource_id"].as_str().unwrap()))
        .collect();
    let stack = lab.settled(&path).await;
    assert_eq!(stack["stack_status"], "DELETE_COMPLETE");
    assert!(stack["deletion_time"].is_string() && stack.get("outputs").is_none());
    assert_eq!(stack["parameters"]["cluster_uuid"], "c-1", "a deleted stack is still known by id");
    let log = lab.cloud.log();
    let at = |name: &str| log.iter().position(|l| *l == format!("-{}", ids[name])).unwrap();
    for (first, then) in [
        ("master_0", "master_0_port"),
        ("master_0", "etcd_vol_0"),
        ("kube_minions.1", "subnet"),
        ("kube_minions.0", "sg_node"),
        ("master_0_fip", "router_if"),
        ("router_if", "router"),
        ("master_0_port", "subnet"),
        ("subnet", "network"),
        ("master_0_port", "sg_master"),
    ] {
        assert!(at(first) < at(then), "{first} before {then}: {log:?}");
    }
    assert!(lab.cloud.things.lock().unwrap().is_empty());
    assert!(lab.cloud.trusts.lock().unwrap().is_empty());
    let (status, answer) = lab.call("DELETE", &path, Value::Null).await;
    assert_eq!((status, answer["error"]["type"].as_str()), (404, Some("EntityNotFound")));
    assert_eq!(lab.call("GET", "/stacks/s", Value::Null).await.0, 404);
    assert!(lab.heat.stacks().is_empty());
}

#[tokio::test]
async fn a_stack_can_be_deleted_while_it_is_being_made() {
    let lab = Lab::new();
    lab.cloud.rule("OS::Nova::Server", Rule::Stuck);
    let path = lab.create(&hot(CLUSTER), more()).await;
    while lab.cloud.of("OS::Nova::Server").len() < 3 {
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
    assert_eq!(lab.call("DELETE", &path, Value::Null).await.0, 204);
    assert_eq!(lab.settled(&path).await["stack_status"], "DELETE_COMPLETE");
    assert!(lab.cloud.things.lock().unwrap().is_empty());
}

#[tokio::test]
async fn what_is_retained_or_external_survives() {
    let lab = Lab::new();
    let theirs = Thing {
        kind: "OS::Neutron::Net".to_owned(),
        name: "theirs".to_owned(),
        properties: json!({}),
        looks: 0,
    };
    lab.cloud.things.lock().unwrap().insert("net-of-theirs".to_owned(), theirs);
    let template = hot(
        "resources:
  kept: {type: OS::Neutron::Net, deletion_policy: retain}
  theirs: {type: OS::Neutron::Net, external_id: net-of-theirs}
  ours: {type: OS::Neutron::Subnet, properties: {network: {get_resource: theirs}, cidr: 10.0.0.0/24}}
",
    );
    let (path, _) = lab.made(&template, json!({})).await;
    let subnet = &lab.cloud.of("OS::Neutron::Subnet")[0];
    assert_eq!(subnet.properties["network"], "net-of-theirs");
    lab.call("DELETE", &path, Value::Null).await;
    assert_eq!(lab.settled(&path).await["stack_status"], "DELETE_COMPLETE");
    assert_eq!(lab.cloud.of("OS::Neutron::Net").len(), 2);
    assert!(lab.cloud.of("OS::Neutron::Subnet").is_empty());
}

#[tokio::test]
async fn signals_release_a_wait_condition_and_a_failure_breaks_it() {
    let template = hot(
        "resources:
  handle: {type: OS::Heat::WaitConditionHandle}
  wait: {type: OS::Heat::WaitCondition, properties: {handle: {get_resource: handle}, count: 2, timeout: 1000}}
outputs: {data: {value: {get_attr: [wait, data]}}}
",
    );
    for (status, expected, reason) in [
        ("SUCCESS", "CREATE_COMPLETE", "Stack CREATE completed successfully"),
        (
            "FAILURE",
            "CREATE_FAILED",
            "Resource CREATE failed: WaitConditionFailure: resources.wait: broken",
        ),
    ] {
        let lab = Lab::new();
        let path = lab.create(&template, json!({})).await;
        let signal = format!("{path}/resources/handle/signal");
        for id in ["a", "b"] {
            let body = json!({"id": id, "status": status, "reason": "broken", "data": "d"});
            while lab.call("POST", &signal, body.clone()).await.0 != 200 {
                tokio::time::sleep(std::time::Duration::from_millis(1)).await;
            }
            if status == "FAILURE" {
                break;
            }
        }
        let stack = lab.settled(&path).await;
        assert_eq!(
            (&stack["stack_status"], &stack["stack_status_reason"]),
            (&json!(expected), &json!(reason))
        );
        if status == "SUCCESS" {
            assert_eq!(stack["outputs"][0]["output_value"], r#"{"a": "d", "b": "d"}"#);
        }
    }
}

#[tokio::test]
async fn an_environment_chooses_types_values_and_nested_templates() {
    let lab = Lab::new();
    let template =
        hot("parameters: {size: {type: number, default: 1}, who: {type: string, default: a}}
resources:
  maybe: {type: 'Lab::Optional::Volume', properties: {size: {get_param: size}}}
  inner: {type: 'Lab::Inner', properties: {name: {get_param: who}}}
  random: {type: OS::Heat::RandomString, properties: {length: 12}}
outputs:
  name: {value: {get_attr: [inner, shown]}}
  id: {value: {get_resource: inner}}
  text: {value: {get_resource: random}}
");
    let inner = "heat_template_version: rocky
parameters: {name: {type: string}, greeting: {type: string}}
resources: {net: {type: OS::Neutron::Net, properties: {name: {list_join: ['-', [{get_param: greeting}, {get_param: name}]]}}}}
outputs: {shown: {value: {get_attr: [net, name]}}, 'OS::stack_id': {value: {get_resource: net}}}
";
    let environment = "parameters: {who: world}\nparameter_defaults: {greeting: hello}\n\
                       resource_registry: {'Lab::Optional::*': 'OS::Cinder::*', 'Lab::Inner': inner.yaml}";
    let more = json!({
        "files": {"inner.yaml": inner, "env.yaml": environment},
        "environment_files": ["env.yaml"],
        "parameters": {"size": 7},
    });
    let (path, stack) = lab.made(&template, more).await;
    assert_eq!(stack["stack_status"], "CREATE_COMPLETE", "{stack}");
    assert_eq!(lab.cloud.of("OS::Cinder::Volume")[0].properties["size"], 7);
    let value = |i: usize| stack["outputs"][i]["output_value"].as_str().unwrap().to_owned();
    assert_eq!(value(0), "hello-world");
    assert!(value(1).starts_with("net-"), "{}", value(1));
    assert_eq!(value(2).len(), 12);
    let resources = lab.resources(&path).await;
    assert_eq!(resources["inner.net"]["resource_status"], "CREATE_COMPLETE");
    assert_eq!(resources["inner"]["resource_type"], "Lab::Inner");
}
