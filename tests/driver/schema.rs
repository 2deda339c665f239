//! Every property and attribute against the schemas of a real Heat, taken down from Heat 27:
//! what the clouds at hand lack, such as Octavia and Cinder, is checked here all the same.

use std::path::Path;

use serde_json::{Map, Value};

use super::*;

fn schemas() -> Value {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lab/heat/schemas.json");
    serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap()
}

fn is_function(value: &Value) -> bool {
    let map = value.as_object().filter(|map| map.len() == 1);
    map.and_then(|map| map.keys().next())
        .is_some_and(|key| ["get_resource", "get_attr", "get_param", "get_file"].contains(&&**key))
}

fn check_map(at: &str, given: &Map<String, Value>, schema: &Map<String, Value>) {
    for (name, value) in given {
        let property = schema.get(name).unwrap_or_else(|| panic!("{at} has no property {name}"));
        check(&format!("{at}.{name}"), value, property);
    }
    let missing = schema.iter().find(|(name, p)| p["req"] == true && !given.contains_key(*name));
    assert!(missing.is_none(), "{at} lacks {missing:?}");
}

fn check(at: &str, value: &Value, schema: &Value) {
    if is_function(value) {
        return;
    }
    if let Some(allowed) = schema["allowed"].as_array() {
        let items = value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice);
        let fits = items.iter().all(|item| allowed.contains(item));
        assert!(fits, "{at}: {value} is not among what Heat allows");
    }
    if let Some(least) = schema["range"][0].as_i64() {
        assert!(value.as_i64().is_some_and(|n| n >= least), "{at}: {value}");
    }
    match (schema["t"].as_str(), value) {
        (Some("list"), Value::Array(items)) => {
            for item in items.iter().filter(|_| schema.get("item").is_some()) {
                check(at, item, &schema["item"]);
            }
        }
        (Some("map"), Value::Object(given)) => {
            if let Some(inner) = schema["map"].as_object() {
                check_map(at, given, inner);
            }
        }
        (Some("string"), Value::String(_)) | (Some("boolean"), Value::Bool(_)) => {}
        (Some("integer"), Value::Number(_)) | (Some("any"), _) => {}
        (kind, value) => panic!("{at}: {value} is not a {kind:?}"),
    }
}

/// Attributes that references name; those of a group come from its members.
fn check_references(value: &Value, resources: &Map<String, Value>, schemas: &Value) {
    if let Some(path) = value.get("get_attr").and_then(Value::as_array) {
        let kind = resources[path[0].as_str().unwrap()]["type"].as_str().unwrap();
        let known = schemas[kind]["a"].as_array().unwrap();
        let group = kind == "OS::Heat::ResourceGroup";
        assert!(group || known.contains(&path[1]), "{kind} has no attribute {}", path[1]);
    }
    let mut visit = |inner: &Value| check_references(inner, resources, schemas);
    match value {
        Value::Array(items) => items.iter().for_each(&mut visit),
        Value::Object(map) => map.values().for_each(&mut visit),
        _ => {}
    }
}

#[test]
fn heat_knows_every_property_and_attribute() {
    let schemas = schemas();
    let mut kinds = std::collections::BTreeSet::new();
    for plan in [plan(1, 1), plan(3, 10), public(), existing(), nested(), everything()] {
        let bundle = driver().bundle(&plan).unwrap();
        let member = bundle.files.get("kubeminion.yaml").map(String::as_str);
        for text in [Some(bundle.template.as_str()), member].into_iter().flatten() {
            let template: Value = serde_saphyr::from_str(text).unwrap();
            let resources = template["resources"].as_object().unwrap();
            check_references(&template, resources, &schemas);
            let inner = |resource: &Value| resource["properties"]["resource_def"].clone();
            let members = resources.iter().map(|(n, r)| (n.clone(), inner(r)));
            let all = resources.iter().map(|(n, r)| (n.clone(), r.clone())).chain(members);
            for (name, resource) in all.filter(|(_, r)| r.is_object()) {
                let kind = resource["type"].as_str().unwrap();
                if kind == "kubeminion.yaml" {
                    continue;
                }
                kinds.insert(kind.to_owned());
                let schema = schemas[kind]["p"].as_object().unwrap();
                check_map(&name, resource["properties"].as_object().unwrap(), schema);
            }
        }
    }
    assert!(kinds.contains("OS::Octavia::PoolMember") && kinds.contains("OS::Cinder::Volume"));
    assert_eq!(kinds.len(), 17, "{kinds:?}");
}
