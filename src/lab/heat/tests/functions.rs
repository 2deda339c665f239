//! Functions: each with a value, through a real stack's outputs.

use serde_json::{Value, json};

use super::{Lab, hot};

async fn value(function: Value) -> Value {
    let template = json!({
        "heat_template_version": "2021-04-16",
        "parameters": {
            "p": {"type": "json", "default": {"a": ["x", "y"], "b": 1}},
            "l": {"type": "comma_delimited_list", "default": "u,v"},
            "f": {"type": "boolean", "default": "off"},
            "n": {"type": "number", "default": "3"},
        },
        "conditions": {"never": {"get_param": "f"}, "always": {"not": "never"}},
        "resources": {"v": {"type": "OS::Heat::Value", "properties": {"value": [1, {"k": "w"}]}}},
        "outputs": {"o": {"value": function}},
    });
    let lab = Lab::new();
    let (_, stack) = lab.made(&template.to_string(), json!({"files": {"f.txt": "text"}})).await;
    assert_eq!(stack["stack_status"], "CREATE_COMPLETE", "{stack}");
    match stack["outputs"][0].get("output_error") {
        Some(error) => error.clone(),
        None => stack["outputs"][0]["output_value"].clone(),
    }
}

#[tokio::test]
async fn functions_mean_what_heat_means() {
    for (function, expected) in [
        (json!({"get_param": "n"}), json!(3)),
        (json!({"get_param": ["p", "a", 1]}), json!("y")),
        (json!({"get_param": ["p", "a", "-1"]}), json!("y")),
        (json!({"get_param": ["p", "nowhere"]}), json!("")),
        (json!({"get_param": "l"}), json!(["u", "v"])),
        (json!({"get_param": "OS::project_id"}), json!("p")),
        (json!({"get_file": "f.txt"}), json!("text")),
        (json!({"get_attr": ["v", "value", 1, "k"]}), json!("w")),
        (json!({"get_attr": ["v", "value", 7]}), Value::Null),
        (
            json!({"str_replace": {"template": "a-aa-b", "params": {"a": "aa", "aa": 1, "b": [1, {"x": true}]}}}),
            json!("aa-1-[1, {\"x\": true}]"),
        ),
        (json!({"str_replace": {"template": "x", "params": {"x": true}}}), json!("True")),
        (json!({"list_join": ["-", ["a", null], {"get_param": "l"}, null]}), json!("a--u-v")),
        (json!({"list_concat": [["a"], null, ["a", 1]]}), json!(["a", "a", 1])),
        (json!({"list_concat_unique": [["a"], ["a", 1]]}), json!(["a", 1])),
        (json!({"map_merge": [{"a": 1}, null, {"a": 2, "b": 3}]}), json!({"a": 2, "b": 3})),
        (
            json!({"map_replace": [{"a": "x"}, {"keys": {"a": "A"}, "values": {"x": "X"}}]}),
            json!({"A": "X"}),
        ),
        (
            json!({"repeat": {"template": {"%k%": "v-%k%-%j%"}, "for_each": {"%k%": ["a", "b"], "%j%": ["1", 2]}}}),
            json!([{"a": "v-a-1"}, {"a": "v-a-2"}, {"b": "v-b-1"}, {"b": "v-b-2"}]),
        ),
        (
            json!({"repeat": {"template": "%k%%j%", "for_each": {"%k%": ["a", "b"], "%j%": ["1", "2"]}, "permutations": false}}),
            json!(["a1", "b2"]),
        ),
        (
            json!({"digest": ["sha256", "heat"]}),
            json!("5a2a0ed9aa3ab7d82b53e8209b13bf598377870fd38f8e1063bfbe0c4d7d7f96"),
        ),
        (json!({"str_split": [",", "a,b", 1]}), json!("b")),
        (json!({"str_split": [",", "a,b"]}), json!(["a", "b"])),
        (json!({"filter": [[1], [1, 2]]}), json!([2])),
        (json!({"contains": ["u", {"get_param": "l"}]}), json!(true)),
        (
            json!({"make_url": {"scheme": "https", "host": "::1", "port": 6443, "path": "a b"}}),
            json!("https://[::1]:6443/a%20b"),
        ),
        (json!({"if": ["always", "yes", {"get_resource": "nobody"}]}), json!("yes")),
        (json!([1, {"if": ["never", 2]}, 3]), json!([1, 3])),
        (json!({"a": {"if": ["never", 2]}, "b": 1}), json!({"b": 1})),
        (json!({"if": [{"and": ["always", {"equals": [1, 1.0]}]}, 1, 2]}), json!(1)),
        (json!({"if": [{"or": ["never", {"equals": ["1", 1]}]}, 1, 2]}), json!(2)),
        (json!({"two": 1, "keys": {"get_param": "n"}}), json!({"two": 1, "keys": 3})),
    ] {
        let found = value(function.clone()).await;
        assert_eq!(found, expected, "{function}");
    }
}

#[tokio::test]
async fn a_function_that_cannot_be_evaluated_spoils_only_its_output() {
    for (function, sentence) in [
        (
            json!({"get_file": "nowhere"}),
            "No content found in the \"files\" section for get_file path: nowhere",
        ),
        (
            json!({"str_split": [",", "a", 5]}),
            "Incorrect index to \"str_split\" should be between 0 and 0",
        ),
        (
            json!({"get_resource": "nobody"}),
            "The specified reference \"nobody\" (in unknown) is incorrect.",
        ),
        (json!({"digest": ["sha999", "x"]}), "Algorithm must be one of"),
    ] {
        let error = value(function).await;
        assert!(error.as_str().unwrap().starts_with(sentence), "{error}");
    }
}

#[tokio::test]
async fn what_the_lab_cannot_evaluate_it_refuses_beforehand() {
    let lab = Lab::new();
    for function in ["yaql: {expression: $.data}", "resource_facade: metadata"] {
        let template = hot(&format!("outputs: {{o: {{value: {{{function}}}}}}}"));
        let body = json!({"stack_name": "s", "template": template});
        let (status, answer) = lab.call("POST", "/stacks", body).await;
        assert_eq!(status, 400);
        assert!(answer["error"]["message"].as_str().unwrap().contains("not available in this lab"));
    }
}
