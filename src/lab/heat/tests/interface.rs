//! The REST interface: addresses, lists, refusals at the door, and anything at all.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{Lab, hot};

#[tokio::test]
async fn a_stack_is_found_by_name_and_by_tag() {
    let lab = Lab::new();
    let path = lab.create(&hot(""), json!({"tags": "a,b"})).await;
    let other = lab.create(&hot(""), json!({"stack_name": "t", "tags": "b"})).await;
    lab.settled(&path).await;
    lab.settled(&other).await;
    let id = path.rsplit('/').next().unwrap();
    let (status, headers, _) =
        lab.raw("GET", "/stacks/s/resources?nested_depth=2", Vec::new()).await;
    assert_eq!(status, 302);
    assert_eq!(
        headers["location"],
        format!("http://heat.example:8004/v1/p/stacks/s/{id}/resources?nested_depth=2")
    );
    assert_eq!(lab.raw("GET", &format!("/stacks/{id}"), Vec::new()).await.0, 302);
    assert_eq!(lab.raw("DELETE", "/stacks/s", Vec::new()).await.0, 302);
    let names = async |query: &str| {
        let list = lab.get(&format!("/stacks?{query}")).await["stacks"].clone();
        let mut names: Vec<String> = list
            .as_array()
            .unwrap()
            .iter()
            .map(|s| s["stack_name"].as_str().unwrap().to_owned())
            .collect();
        names.sort();
        names.join(",")
    };
    for (query, expected) in [
        ("", "s,t"),
        ("tags=a", "s"),
        ("tags=a,b", "s"),
        ("tags=b", "s,t"),
        ("tags_any=a%2Cz", "s"),
        ("not_tags=a,b", "t"),
        ("not_tags_any=a", "t"),
        ("tags=z", ""),
        ("name=t", "t"),
        ("status=COMPLETE&action=CREATE", "s,t"),
        ("status=FAILED", ""),
        ("limit=0", ""),
    ] {
        assert_eq!(names(query).await, expected, "{query}");
    }
    let summary = &lab.get("/stacks?tags=a&with_count=True").await;
    assert_eq!(summary["count"], 1);
    assert_eq!(
        summary["stacks"][0]["links"][0]["href"],
        format!("http://heat.example:8004/v1/p{path}")
    );
    assert!(summary["stacks"][0].get("parameters").is_none());
    let wrong = path.replace("/s/", "/x/");
    assert_eq!(lab.call("GET", &wrong, Value::Null).await.0, 404, "name and id must agree");
}

#[tokio::test]
async fn names_are_taken_once_and_must_be_names() {
    let lab = Lab::new();
    lab.create(&hot(""), json!({})).await;
    let (status, answer) =
        lab.call("POST", "/stacks", json!({"stack_name": "s", "template": hot("")})).await;
    assert_eq!((status, answer["error"]["type"].as_str()), (409, Some("StackExists")));
    assert_eq!(answer["error"]["message"], "The Stack (s) already exists.");
    assert_eq!(answer["title"], "Conflict");
    for name in [json!("1x"), json!("a b"), json!("x".repeat(256)), json!(""), json!(5)] {
        let (status, answer) =
            lab.call("POST", "/stacks", json!({"stack_name": name, "template": hot("")})).await;
        assert_eq!(status, 400);
        assert!(answer["error"]["message"].as_str().unwrap().starts_with("Invalid stack name"));
    }
}

#[tokio::test]
async fn the_door_refuses_what_is_not_a_request() {
    let mut lab = Lab::new();
    let (path, _) = lab.made(&hot(""), json!({})).await;
    for (method, path, body, status) in [
        ("POST", "/stacks", b"{".to_vec(), 400),
        ("POST", "/stacks", b"[]".to_vec(), 400),
        ("POST", "/stacks", Vec::new(), 400),
        ("POST", "/stacks", br#"{"stack_name": "x"}"#.to_vec(), 400),
        ("POST", "/stacks", br#"{"template": "heat_template_version: rocky"}"#.to_vec(), 400),
        ("POST", "/stacks", vec![b' '; (1 << 20) + 1], 400),
        ("PUT", "/stacks", Vec::new(), 405),
        ("GET", "/nowhere", Vec::new(), 404),
        ("GET", "/stacks/nobody", Vec::new(), 404),
        ("GET", &format!("{path}?resolve_outputs=maybe"), Vec::new(), 400),
        ("GET", &format!("{path}/resources?nested_depth=x"), Vec::new(), 400),
        ("GET", &format!("{path}/resources?nonsense=1"), Vec::new(), 400),
        ("GET", &format!("{path}/resources/nobody"), Vec::new(), 404),
        ("GET", &format!("{path}/outputs/nothing"), Vec::new(), 404),
        ("GET", "/stacks?global_tenant=true", Vec::new(), 403),
        ("POST", &format!("{path}/actions"), br#"{"dance": null}"#.to_vec(), 400),
    ] {
        let (found, _, bytes) = lab.raw(method, path, body).await;
        let answer: Value = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(found, status, "{method} {path}: {answer}");
        assert_eq!(answer["code"], status);
        assert!(answer["error"]["message"].is_string() && answer["explanation"].is_string());
    }
    for (timeout, sentence) in [
        (json!("x"), "Only integer is acceptable by 'timeout_mins'."),
        (
            json!(-1),
            "Value '-1' is invalid for 'timeout_mins' which only accepts non-negative integer.",
        ),
    ] {
        let body = json!({"stack_name": "z", "template": hot(""), "timeout_mins": timeout});
        let (_, answer) = lab.call("POST", "/stacks", body).await;
        assert_eq!(answer["error"]["message"], sentence);
    }
    lab.caller.owner.roles = vec!["reader".to_owned()];
    assert_eq!(lab.call("DELETE", &path, Value::Null).await.0, 403);
    assert_eq!(lab.call("GET", &path, Value::Null).await.0, 200);
    lab.caller.owner.project_id = "other".to_owned();
    let (status, answer) = lab.call("GET", &path, Value::Null).await;
    assert_eq!((status, answer["title"].as_str()), (403, Some("Forbidden")));
}

#[tokio::test]
async fn parts_of_a_stack_are_shown() {
    let lab = Lab::new();
    let template = hot(
        "resources: {net: {type: OS::Neutron::Net, metadata: {k: v}}, sub: {type: OS::Neutron::Subnet, properties: {network: {get_resource: net}, cidr: 10.0.0.0/24}}}
outputs: {name: {value: {get_attr: [net, name]}}}",
    );
    let (path, _) = lab.made(&template, json!({"files": {"f": "x"}})).await;
    assert_eq!(lab.get(&format!("{path}/files")).await, json!({"f": "x"}));
    let template = lab.get(&format!("{path}/template")).await;
    assert_eq!(template["resources"]["net"]["type"], "OS::Neutron::Net");
    let outputs = lab.get(&format!("{path}/outputs")).await;
    assert!(outputs["outputs"][0].get("output_value").is_none());
    let output = lab.get(&format!("{path}/outputs/name")).await;
    assert!(output["output"]["output_value"].as_str().unwrap().starts_with("s-net-"));
    let shown = lab.get(&format!("{path}?resolve_outputs=False")).await;
    assert!(shown["stack"].get("outputs").is_none());
    let resource = &lab.get(&format!("{path}/resources/net")).await["resource"];
    assert_eq!(resource["attributes"]["status"], "ACTIVE");
    assert_eq!(resource["required_by"], json!(["sub"]));
    assert_eq!(
        lab.get(&format!("{path}/resources/net/metadata")).await["metadata"],
        json!({"k": "v"})
    );
    let events = lab.get(&format!("{path}/events")).await["events"].clone();
    let states: Vec<String> = events
        .as_array()
        .unwrap()
        .iter()
        .map(|e| {
            format!(
                "{} {}",
                e["resource_name"].as_str().unwrap(),
                e["resource_status"].as_str().unwrap()
            )
        })
        .collect();
    assert_eq!(
        states,
        [
            "s CREATE_IN_PROGRESS",
            "net CREATE_IN_PROGRESS",
            "net CREATE_COMPLETE",
            "sub CREATE_IN_PROGRESS",
            "sub CREATE_COMPLETE",
            "s CREATE_COMPLETE"
        ]
    );
    let id = events[1]["id"].as_str().unwrap();
    let event = lab.get(&format!("{path}/resources/net/events/{id}")).await;
    assert_eq!(event["event"]["resource_type"], "OS::Neutron::Net");
    assert_eq!(
        lab.get(&format!("{path}/resources/net/events")).await["events"].as_array().unwrap().len(),
        2
    );
    assert!(lab.get("/resource_types").await["resource_types"].as_array().unwrap().len() > 20);
    let kind = lab.get("/resource_types/OS::Neutron::Subnet").await;
    assert_eq!(kind["properties"]["network"]["required"], true);
    assert_eq!(
        lab.get("/template_versions").await["template_versions"].as_array().unwrap().len(),
        11
    );
}

fn anything() -> impl Strategy<Value = Value> {
    let words = prop::sample::select(vec![
        "get_param",
        "get_resource",
        "get_attr",
        "get_file",
        "str_replace",
        "list_join",
        "repeat",
        "digest",
        "str_split",
        "map_merge",
        "map_replace",
        "if",
        "filter",
        "list_concat",
        "contains",
        "make_url",
        "resources",
        "outputs",
        "parameters",
        "conditions",
        "type",
        "properties",
        "value",
        "template",
        "params",
        "for_each",
        "a",
        "b",
        "OS::Heat::Value",
        "OS::Neutron::Net",
        "string",
        "default",
        "constraints",
        "range",
        "count",
        "resource_def",
        "OS::Heat::ResourceGroup",
        "equals",
        "not",
        "condition",
        "name",
        "description",
        "json",
        "number",
        "depends_on",
        "",
    ]);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        words.clone().prop_map(Value::from),
        "\\PC{0,5}".prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 60, 6, move |inner| {
        let words = words.clone();
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((words, inner), 0..4).prop_map(|pairs| Value::Object(
                pairs.into_iter().map(|(k, v)| (k.to_owned(), v)).collect()
            )),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn no_template_is_answered_with_a_panic(
        resources in anything(), value in anything(), outputs in anything(),
        parameters in anything(), conditions in anything(), given in anything(),
    ) {
        let template = json!({
            "heat_template_version": "2021-04-16",
            "parameters": parameters, "conditions": conditions, "outputs": outputs,
            "resources": resources,
        });
        let tame = json!({
            "heat_template_version": "2021-04-16",
            "conditions": {"b": true},
            "resources": {"b": {"type": "OS::Heat::Value", "properties": {"value": value.clone()}},
                          "a": {"type": "OS::Neutron::Port", "properties": value}},
            "outputs": {"a": {"value": given.clone()}},
        });
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let lab = Lab::new();
            for (name, template) in [("s", template), ("t", tame)] {
                let text = template.to_string();
                let body = json!({"stack_name": name, "template": text, "parameters": given});
                let (status, answer) = lab.call("POST", "/stacks", body.clone()).await;
                assert!(matches!(status, 201 | 400), "{status} {answer}");
                let (status, _) = lab.call("POST", "/validate", body).await;
                assert!(matches!(status, 200 | 400), "{status}");
                if let Some(id) = answer["stack"]["id"].as_str() {
                    tokio::time::sleep(std::time::Duration::from_millis(1)).await;
                    let (status, _) = lab.call("GET", &format!("/stacks/{name}/{id}"), Value::Null).await;
                    assert_eq!(status, 200);
                }
            }
        });
    }

    #[test]
    fn no_text_is_answered_with_a_panic(text in "(heat_template_version: rocky\\n)?[-a-c:{}\\[\\], \\n&*!|>'\"?<%#]{0,60}", path in "[/a-z%?=&0-9.]{0,30}") {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let lab = Lab::new();
            let body = json!({"stack_name": "s", "template": text, "environment": text});
            let (status, _) = lab.call("POST", "/stacks", body).await;
            assert!(matches!(status, 201 | 400), "{status}");
            let (status, _, _) = lab.raw("GET", &path, Vec::new()).await;
            assert!(status < 500);
        });
    }
}
