//! Updates: what stays, what changes in place, what is replaced, and what is refused.

use serde_json::{Value, json};

use super::{Lab, Rule, hot};
use crate::lab::heat::services::Refused;

const FIRST: &str = "
parameters: {name: {type: string, default: a}, frozen: {type: string, default: x, immutable: true}}
resources:
  net: {type: OS::Neutron::Net, properties: {name: {get_param: name}}}
  sub: {type: OS::Neutron::Subnet, properties: {network: {get_resource: net}, cidr: 10.0.0.0/24}}
  old: {type: OS::Neutron::SecurityGroup}
";

#[tokio::test]
async fn a_change_touches_only_what_differs() {
    let lab = Lab::new();
    let (path, stack) = lab.made(&hot(FIRST), json!({"tags": "t"})).await;
    assert!(stack["updated_time"].is_null());
    let before = lab.cloud.log();
    let (status, _) = lab.call("PATCH", &path, json!({"parameters": {"name": "b"}})).await;
    assert_eq!(status, 202);
    let stack = lab.settled(&path).await;
    assert_eq!(stack["stack_status"], "UPDATE_COMPLETE", "{stack}");
    assert_eq!(stack["tags"], json!(["t"]), "a PATCH keeps what it does not name");
    assert!(stack["updated_time"].is_string());
    assert_eq!(lab.cloud.log()[before.len()..], ["~net-1 name"]);
    assert_eq!(lab.cloud.of("OS::Neutron::Net")[0].properties["name"], "b");
}

#[tokio::test]
async fn what_cannot_change_is_replaced_and_what_is_not_wanted_goes() {
    let lab = Lab::new();
    let (path, _) = lab.made(&hot(FIRST), json!({})).await;
    let begun = lab.cloud.log().len();
    let second = FIRST
        .replace("10.0.0.0/24", "10.1.0.0/24")
        .replace("  old: {type: OS::Neutron::SecurityGroup}", "  new: {type: OS::Neutron::Router}");
    let (status, _) = lab.call("PUT", &path, json!({"template": hot(&second)})).await;
    assert_eq!(status, 202);
    let stack = lab.settled(&path).await;
    assert_eq!(stack["stack_status"], "UPDATE_COMPLETE", "{stack}");
    let log = lab.cloud.log()[begun..].to_vec();
    let at = |prefix: &str| log.iter().position(|l| l.starts_with(prefix)).unwrap();
    assert!(at("+subnet-") < at("-subnet-"), "the new one first: {log:?}");
    assert!(at("+router-") < at("-securitygroup-"), "{log:?}");
    assert_eq!(log.len(), 4, "{log:?}");
    let subnets = lab.cloud.of("OS::Neutron::Subnet");
    assert_eq!((subnets.len(), &subnets[0].properties["cidr"]), (1, &json!("10.1.0.0/24")));
    let names: Vec<String> = lab.resources(&path).await.into_keys().collect();
    assert_eq!(names, ["net", "new", "sub"]);
}

#[tokio::test]
async fn a_busy_stack_refuses_a_second_change() {
    let lab = Lab::new();
    lab.cloud.rule("OS::Neutron::Subnet", Rule::Stuck);
    let path = lab.create(&hot(FIRST), json!({})).await;
    for (method, body) in [("PATCH", json!({})), ("PUT", json!({"template": hot(FIRST)}))] {
        let (status, answer) = lab.call(method, &path, body).await;
        assert_eq!(status, 409, "{answer}");
        assert_eq!(answer["error"]["type"], "ActionInProgress");
        assert_eq!(
            answer["error"]["message"],
            "Stack s already has an action (CREATE) in progress."
        );
    }
    assert_eq!(lab.call("POST", &format!("{path}/actions"), json!({"check": null})).await.0, 409);
}

#[tokio::test]
async fn immutable_parameters_and_wrong_templates_change_nothing() {
    let lab = Lab::new();
    let (path, _) = lab.made(&hot(FIRST), json!({})).await;
    for (body, kind) in [
        (json!({"parameters": {"frozen": "y"}}), "ImmutableParameterModified"),
        (json!({"template": hot("resources: {a: {type: OS::Nope}}")}), "StackValidationFailed"),
        (json!({"parameters": []}), "ValueError"),
    ] {
        let (status, answer) = lab.call("PATCH", &path, body).await;
        assert_eq!((status, answer["error"]["type"].as_str()), (400, Some(kind)), "{answer}");
    }
    assert_eq!(lab.call("PUT", &path, json!({})).await.0, 400, "a PUT needs a template");
    assert_eq!(lab.settled(&path).await["stack_status"], "CREATE_COMPLETE");
}

#[tokio::test]
async fn a_failed_update_names_itself_and_can_be_repaired() {
    let no = || Refused { status: 400, kind: "BadRequest", message: "no".to_owned() };
    let wanted =
        format!("{FIRST}  port: {{type: OS::Neutron::Port, properties: {{network: x}}}}\n");
    let lab = Lab::new();
    lab.cloud.rule("OS::Neutron::Port", Rule::Refuse(no()));
    let (path, _) = lab.made(&hot(FIRST), json!({})).await;
    lab.call("PUT", &path, json!({"template": hot(&wanted)})).await;
    let stack = lab.settled(&path).await;
    assert_eq!(stack["stack_status"], "UPDATE_FAILED");
    assert_eq!(
        stack["stack_status_reason"],
        "Resource CREATE failed: BadRequest: resources.port: no"
    );
    lab.cloud.rules.lock().unwrap().clear();
    lab.call("PUT", &path, json!({"template": hot(&wanted)})).await;
    let stack = lab.settled(&path).await;
    assert_eq!(stack["stack_status"], "UPDATE_COMPLETE", "{stack}");
    assert_eq!(lab.cloud.of("OS::Neutron::Port").len(), 1);
    lab.call("DELETE", &path, Value::Null).await;
    lab.settled(&path).await;
    assert!(lab.cloud.things.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_failed_update_goes_back_when_asked() {
    let lab = Lab::new();
    let no = Refused { status: 400, kind: "BadRequest", message: "no".to_owned() };
    lab.cloud.rule("OS::Neutron::Port", Rule::Refuse(no));
    let (path, _) = lab.made(&hot(FIRST), json!({})).await;
    let wanted =
        format!("{FIRST}  port: {{type: OS::Neutron::Port, properties: {{network: x}}}}\n");
    let wanted = wanted.replace("10.0.0.0/24", "10.1.0.0/24");
    let body = json!({"template": hot(&wanted), "disable_rollback": false});
    lab.call("PUT", &path, body).await;
    assert_eq!(lab.settled(&path).await["stack_status"], "ROLLBACK_COMPLETE");
    let subnets = lab.cloud.of("OS::Neutron::Subnet");
    assert_eq!((subnets.len(), &subnets[0].properties["cidr"]), (1, &json!("10.0.0.0/24")));
}
