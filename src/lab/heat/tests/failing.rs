//! Stacks that fail, and what they say about it.

use serde_json::{Value, json};

use super::building::{CLUSTER, more};
use super::{Lab, Rule, hot};
use crate::lab::heat::services::Refused;

fn refused(status: u16, kind: &'static str, message: &str) -> Refused {
    Refused { status, kind, message: message.to_owned() }
}

#[tokio::test]
async fn a_broken_server_in_a_group_speaks_through_every_storey() {
    let lab = Lab::new();
    lab.cloud.rule("demo-node-0", Rule::Break("No valid host was found. ".to_owned()));
    lab.cloud.rule("demo-node-1", Rule::Stuck);
    lab.cloud.rule("demo-master-0", Rule::Stuck);
    let (path, stack) = lab.made(&hot(CLUSTER), more()).await;
    let sentence = "Went to status ERROR due to \"Message: No valid host was found. , Code: 500\"";
    assert_eq!(stack["stack_status"], "CREATE_FAILED");
    assert_eq!(
        stack["stack_status_reason"],
        format!(
            "Resource CREATE failed: ResourceInError: resources.kube_minions.resources[0]: {sentence}"
        )
    );
    let resources = lab.resources(&path).await;
    let reason = |name: &str| resources[name]["resource_status_reason"].as_str().unwrap();
    let status = |name: &str| resources[name]["resource_status"].as_str().unwrap();
    assert_eq!(status("kube_minions"), "CREATE_FAILED");
    assert_eq!(
        reason("kube_minions"),
        format!("ResourceInError: resources.kube_minions.resources[0]: {sentence}")
    );
    assert_eq!(reason("kube_minions.0"), format!("ResourceInError: resources[0]: {sentence}"));
    for neighbour in ["kube_minions.1", "master_0"] {
        assert_eq!((status(neighbour), reason(neighbour)), ("CREATE_FAILED", "CREATE aborted"));
    }
    assert_eq!(status("network"), "CREATE_COMPLETE");
    // Outputs that can be known are known.
    let outputs = stack["outputs"].as_array().unwrap();
    assert!(
        outputs
            .iter()
            .any(|o| o["output_key"] == "kube_masters" && o["output_value"][0].is_string())
    );

    let (_, _) = lab.call("DELETE", &path, Value::Null).await;
    assert_eq!(lab.settled(&path).await["stack_status"], "DELETE_COMPLETE");
    assert!(lab.cloud.things.lock().unwrap().is_empty(), "what failed is collected too");
}

#[tokio::test]
async fn a_service_that_refuses_fails_the_stack_in_its_words() {
    let lab = Lab::new();
    let no = refused(409, "OverQuotaClient", "Quota exceeded for resources: ['port'].");
    lab.cloud.rule("OS::Neutron::Port", Rule::Refuse(no));
    let (path, stack) = lab.made(&hot(CLUSTER), more()).await;
    assert_eq!(
        stack["stack_status_reason"],
        "Resource CREATE failed: OverQuotaClient: resources.master_0_port: Quota exceeded for \
         resources: ['port']."
    );
    let resources = lab.resources(&path).await;
    assert_eq!(resources["master_0"]["resource_status"], "INIT_COMPLETE");
    assert_eq!(resources["master_0"]["physical_resource_id"], "");
}

#[tokio::test]
async fn a_stack_that_takes_too_long_times_out() {
    let lab = Lab::new();
    lab.cloud.rule("demo-node-1", Rule::Stuck);
    let mut more = more();
    more["timeout_mins"] = json!(1);
    let (path, stack) = lab.made(&hot(CLUSTER), more).await;
    assert_eq!(stack["stack_status"], "CREATE_FAILED");
    assert_eq!(stack["stack_status_reason"], "Timed out");
    let resources = lab.resources(&path).await;
    let group = resources["kube_minions"]["resource_status_reason"].as_str().unwrap();
    let id = stack["id"].as_str().unwrap();
    let expected = format!(
        "CREATE aborted (Task create from ResourceGroup \"kube_minions\" Stack \"s\" [{id}] Timed out)"
    );
    assert_eq!(group, expected);
    assert!(
        resources["kube_minions.1"]["resource_status_reason"]
            .as_str()
            .unwrap()
            .ends_with("Timed out)")
    );
    assert_eq!(resources["master_0"]["resource_status"], "CREATE_COMPLETE");
}

#[tokio::test]
async fn a_network_in_use_keeps_the_stack_until_it_is_free() {
    let lab = Lab::new();
    let (path, _) = lab.made(&hot(CLUSTER), more()).await;
    let used = "Unable to complete operation on network net-1. There are one or more ports still \
                in use on the network.";
    lab.cloud.rule("OS::Neutron::Net", Rule::Keep(refused(409, "Conflict", used)));
    lab.call("DELETE", &path, Value::Null).await;
    let stack = lab.settled(&path).await;
    assert_eq!(stack["stack_status"], "DELETE_FAILED");
    assert_eq!(
        stack["stack_status_reason"],
        format!("Resource DELETE failed: Conflict: resources.network: {used}")
    );
    let resources = lab.resources(&path).await;
    assert_eq!(resources["network"]["resource_status"], "DELETE_FAILED");
    assert_eq!(resources.len(), 1, "all else is gone: {resources:?}");
    let update = json!({"existing": true});
    let (status, answer) = lab.call("PATCH", &path, update).await;
    assert_eq!((status, answer["error"]["type"].as_str()), (400, Some("NotSupported")));

    lab.cloud.rules.lock().unwrap().clear();
    assert_eq!(lab.call("DELETE", &path, Value::Null).await.0, 204);
    assert_eq!(lab.settled(&path).await["stack_status"], "DELETE_COMPLETE");
    assert!(lab.cloud.things.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_failed_creation_is_rolled_back_when_asked() {
    let lab = Lab::new();
    lab.cloud.rule("demo-node-0", Rule::Break("broken".to_owned()));
    let mut more = more();
    more["disable_rollback"] = json!(false);
    let (_, stack) = lab.made(&hot(CLUSTER), more).await;
    assert_eq!(stack["stack_status"], "ROLLBACK_COMPLETE");
    assert!(lab.cloud.things.lock().unwrap().is_empty());
}

#[tokio::test]
async fn values_known_only_later_fail_later() {
    let lab = Lab::new();
    // The constraint cannot be checked while the other resource does not exist.
    let template = hot("resources:
  v: {type: OS::Heat::Value, properties: {value: nonsense}}
  s: {type: OS::Neutron::Subnet, properties: {network: x, cidr: {get_attr: [v, value]}}}
");
    let (_, stack) = lab.made(&template, json!({})).await;
    assert_eq!(
        stack["stack_status_reason"],
        "Resource CREATE failed: StackValidationFailed: resources.s: Property error: \
         s.Properties.cidr: Error validating value 'nonsense': Invalid net cidr invalid IPNetwork \
         nonsense "
    );
}

#[tokio::test]
async fn a_trust_scoped_token_makes_no_stack() {
    let mut lab = Lab::new();
    lab.caller.token = "trust-scoped".to_owned();
    let body = json!({"stack_name": "s", "template": hot("")});
    let (status, answer) = lab.call("POST", "/stacks", body).await;
    assert_eq!((status, answer["error"]["type"].as_str()), (403, Some("Forbidden")));
    assert!(lab.heat.stacks().is_empty());
}
