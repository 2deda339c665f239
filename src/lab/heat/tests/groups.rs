//! Resource groups: members, attributes, growing, shrinking, removing the named.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{Lab, hot};

const GROUP: &str = "
parameters: {count: {type: number}, gone: {type: json, default: []}}
resources:
  g:
    type: OS::Heat::ResourceGroup
    properties:
      count: {get_param: count}
      removal_policies: [{resource_list: {get_param: gone}}]
      resource_def: {type: member.yaml, properties: {name: 'node-%index%'}}
outputs:
  refs: {value: {get_attr: [g, refs]}}
  map: {value: {get_attr: [g, refs_map]}}
  second: {value: {get_attr: [g, refs, 1]}}
  one: {value: {get_attr: [g, resource.0]}}
  names: {value: {get_attr: [g, shown]}}
  name: {value: {get_attr: [g, resource.0.shown]}}
  all: {value: {get_attr: [g, attributes, shown]}}
";
const MEMBER: &str = "heat_template_version: rocky
parameters: {name: {type: string}}
resources:
  kube-minion: {type: OS::Nova::Server, properties: {name: {get_param: name}, image: i, flavor: f, networks: [{network: n}]}}
  node_config_deployment: {type: OS::Heat::SoftwareConfig}
outputs:
  OS::stack_id: {value: {get_resource: kube-minion}}
  shown: {value: {get_attr: [kube-minion, name]}}
";

fn outputs(stack: &Value) -> BTreeMap<String, Value> {
    let list = stack["outputs"].as_array().unwrap();
    list.iter()
        .map(|o| (o["output_key"].as_str().unwrap().to_owned(), o["output_value"].clone()))
        .collect()
}

async fn resized(lab: &Lab, path: &str, parameters: Value) -> Value {
    let (status, answer) = lab.call("PATCH", path, json!({"parameters": parameters})).await;
    assert_eq!(status, 202, "{answer}");
    let stack = lab.settled(path).await;
    assert_eq!(stack["stack_status"], "UPDATE_COMPLETE", "{stack}");
    stack
}

#[tokio::test]
async fn a_group_is_read_in_every_way_heat_offers() {
    let lab = Lab::new();
    let more = json!({"files": {"member.yaml": MEMBER}, "parameters": {"count": 3}});
    let (path, stack) = lab.made(&hot(GROUP), more).await;
    assert_eq!(stack["stack_status"], "CREATE_COMPLETE", "{stack}");
    let outputs = outputs(&stack);
    let refs = outputs["refs"].as_array().unwrap();
    assert_eq!(refs.len(), 3);
    assert!(refs[0].as_str().unwrap().starts_with("server-"), "{refs:?}");
    assert_eq!(outputs["map"], json!({"0": refs[0], "1": refs[1], "2": refs[2]}));
    assert_eq!((&outputs["one"], &outputs["second"]), (&refs[0], &refs[1]));
    assert_eq!(outputs["names"], json!(["node-0", "node-1", "node-2"]));
    assert_eq!(outputs["name"], "node-0");
    assert_eq!(outputs["all"]["2"], "node-2");
    let resources = lab.resources(&path).await;
    assert_eq!(resources["2.kube-minion"]["resource_status"], "CREATE_COMPLETE");
    // A group's own stack can be asked for its members, as the autoscaler does.
    let nested = &resources["g"]["physical_resource_id"];
    let (status, headers, _) =
        lab.raw("GET", &format!("/stacks/{}", nested.as_str().unwrap()), Vec::new()).await;
    assert_eq!(status, 302);
    let location = headers["location"].to_str().unwrap();
    let stack = lab.get(location.split("/v1/p").nth(1).unwrap()).await;
    assert_eq!(stack["stack"]["parent"], path.rsplit('/').next().unwrap());
    assert_eq!(stack["stack"]["outputs"][0]["output_key"], "refs_map");
}

#[tokio::test]
async fn a_group_grows_shrinks_and_loses_whom_it_is_told_to() {
    let lab = Lab::new();
    let more = json!({"files": {"member.yaml": MEMBER}, "parameters": {"count": 2}});
    let (path, stack) = lab.made(&hot(GROUP), more).await;
    let before = outputs(&stack);
    let stack = resized(&lab, &path, json!({"count": 4})).await;
    let grown = outputs(&stack);
    assert_eq!(grown["names"], json!(["node-0", "node-1", "node-2", "node-3"]));
    assert_eq!(grown["map"]["1"], before["map"]["1"], "who was there stays");
    // By the server's id, which is the member's reference.
    let victim = grown["map"]["1"].clone();
    let stack = resized(&lab, &path, json!({"count": 3, "gone": [victim]})).await;
    let shrunk = outputs(&stack);
    assert_eq!(shrunk["names"], json!(["node-0", "node-2", "node-3"]));
    assert!(lab.cloud.log().contains(&format!("-{}", victim.as_str().unwrap())));
    let stack = resized(&lab, &path, json!({"count": 4, "gone": []})).await;
    assert_eq!(
        outputs(&stack)["names"],
        json!(["node-0", "node-2", "node-3", "node-4"]),
        "a removed number never returns"
    );
    assert_eq!(lab.cloud.of("OS::Nova::Server").len(), 4);
    let stack = resized(&lab, &path, json!({"count": 0, "gone": []})).await;
    assert_eq!(outputs(&stack)["refs"], json!([]));
    assert!(lab.cloud.of("OS::Nova::Server").is_empty());
}

#[tokio::test]
async fn a_thousand_resources_is_the_end() {
    let lab = Lab::new();
    let template = hot(
        "resources: {g: {type: OS::Heat::ResourceGroup, properties: {count: 4000000000, resource_def: {type: OS::Heat::None}}}}",
    );
    let (_, stack) = lab.made(&template, json!({})).await;
    assert_eq!(stack["stack_status"], "CREATE_FAILED");
    assert_eq!(
        stack["stack_status_reason"],
        "Resource CREATE failed: RequestLimitExceeded: resources.g: Request limit exceeded: \
         Maximum resources per stack exceeded."
    );
}
