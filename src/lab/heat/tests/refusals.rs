//! What Heat refuses, in its own words: the sentences were taken from a real engine.

use serde_json::json;

use super::{Lab, Rule, hot};

/// Template, exception, sentence: refused when a stack is to be made.
const REFUSED: &[(&str, &str, &str)] = &[
    ("resourcez: {}", "StackValidationFailed", "The template section is invalid: resourcez"),
    (
        "resources: {a: {type: OS::Heat::None, propertie: {}}}",
        "StackValidationFailed",
        "\"propertie\" is not a valid keyword inside a resource definition",
    ),
    (
        "resources: {a: {properties: {}}}",
        "StackValidationFailed",
        "Each resource must contain a type key.",
    ),
    ("resources: {a: }", "StackValidationFailed", "Each resource must contain a type key."),
    (
        "resources: {a: foo}",
        "StackValidationFailed",
        "\"resources\" must contain a map of resource maps. Found a [<class 'str'>] instead",
    ),
    (
        "resources: {a: {type: OS::Foo::Bar}}",
        "StackValidationFailed",
        "The Resource Type (OS::Foo::Bar) could not be found.",
    ),
    (
        "resources: {a: {type: foo.yaml}}",
        "StackValidationFailed",
        "Could not fetch remote template \"foo.yaml\": Invalid URL scheme ",
    ),
    (
        "resources: {a: {type: OS::Neutron::Net, properties: {nam: x}}}",
        "StackValidationFailed",
        "Property error: resources.a.properties: Unknown Property nam",
    ),
    (
        "resources: {a: {type: OS::Neutron::Subnet, properties: {cidr: 10.0.0.0/24}}}",
        "StackValidationFailed",
        "Property error: resources.a.properties: Property network not assigned",
    ),
    (
        "resources: {a: {type: OS::Cinder::Volume, properties: {size: abc}}}",
        "StackValidationFailed",
        "Property error: resources.a.properties.size: Value 'abc' is not an integer",
    ),
    (
        "resources: {a: {type: OS::Cinder::Volume, properties: {size: 0}}}",
        "StackValidationFailed",
        "Property error: resources.a.properties.size: 0 is out of range (min: 1, max: None)",
    ),
    (
        "resources: {a: {type: OS::Neutron::Net, properties: {shared: maybe}}}",
        "StackValidationFailed",
        "Property error: resources.a.properties.shared: \"maybe\" is not a valid boolean",
    ),
    (
        "resources: {a: {type: OS::Neutron::Router, properties: {external_gateway_info: x}}}",
        "StackValidationFailed",
        "Property error: resources.a.properties.external_gateway_info: \"x\" is not a map",
    ),
    (
        "resources: {a: {type: OS::Neutron::SecurityGroup, properties: {rules: x}}}",
        "StackValidationFailed",
        "Property error: resources.a.properties.rules: \"'x'\" is not a list",
    ),
    (
        "resources: {a: {type: OS::Neutron::Net, properties: {name: [x]}}}",
        "StackValidationFailed",
        "Property error: resources.a.properties.name: Value must be a string; got ['x']",
    ),
    (
        "resources: {a: {type: OS::Neutron::SecurityGroup, properties: {rules: [{foo: 1}]}}}",
        "StackValidationFailed",
        "Property error: resources.a.properties.rules[0]: Unknown Property foo",
    ),
    (
        "resources: {a: {type: OS::Neutron::SecurityGroup, properties: {rules: [{protocol: tcp}, {direction: up}]}}}",
        "StackValidationFailed",
        "Property error: resources.a.properties.rules[1].direction: \"up\" is not an allowed value [\"ingress\", \"egress\"]",
    ),
    (
        "resources: {a: {type: OS::Neutron::Subnet, properties: {network: {get_resource: nope}, cidr: 10.0.0.0/24}}}",
        "InvalidTemplateReference",
        "The specified reference \"nope\" (in a.Properties.network) is incorrect.",
    ),
    (
        "resources: {a: {type: OS::Heat::None, depends_on: nope}}",
        "InvalidTemplateReference",
        "The specified reference \"nope\" (in a) is incorrect.",
    ),
    (
        "resources: {a: {type: OS::Heat::None, depends_on: {a: b}}}",
        "StackValidationFailed",
        "Resource a depends_on type must be list or string",
    ),
    (
        "resources: {a: {type: OS::Heat::Value, properties: {value: {get_attr: [nope, x]}}}}",
        "InvalidTemplateReference",
        "The specified reference \"nope\" (in a.Properties.value) is incorrect.",
    ),
    (
        "resources: {n: {type: OS::Neutron::Net}, a: {type: OS::Heat::Value, properties: {value: {get_attr: [n, nope]}}}}",
        "StackValidationFailed",
        "resources.a.properties.value.get_attr: The Referenced Attribute (n nope) is incorrect.",
    ),
    (
        "resources: {n: {type: OS::Neutron::Net}}\noutputs: {o: {value: {get_attr: [n, nope]}}}",
        "StackValidationFailed",
        "outputs.o.value.get_attr: The Referenced Attribute (n nope) is incorrect.",
    ),
    (
        "outputs: {o: {value: {get_attr: [nope, x]}}}",
        "StackValidationFailed",
        "outputs.o.value.get_attr: The specified reference \"nope\" (in unknown) is incorrect.",
    ),
    (
        "outputs: {o: {valu: 1}}",
        "StackValidationFailed",
        "Output validation error: outputs.o: Each output definition must contain a value key.",
    ),
    (
        "outputs: {o: x}",
        "StackValidationFailed",
        "Output validation error: outputs.o: Output definitions must be a map. Found a str instead",
    ),
    (
        "resources: {a: {type: OS::Heat::None, depends_on: b}, b: {type: OS::Heat::None, depends_on: a}}",
        "CircularDependencyException",
        "Circular Dependency Found: {NoneResource \"a\": {NoneResource \"b\"}, NoneResource \"b\": {NoneResource \"a\"}}",
    ),
    (
        "resources: {a: {type: OS::Heat::Value, properties: {value: {get_resource: b}}}, b: {type: OS::Heat::Value, properties: {value: {get_resource: a}}}}",
        "CircularDependencyException",
        "Circular Dependency Found: {Value \"a\": {Value \"b\"}, Value \"b\": {Value \"a\"}}",
    ),
    (
        "resources: {a: {type: OS::Heat::None, depends_on: a}}",
        "CircularDependencyException",
        "Circular Dependency Found: {NoneResource \"a\": {NoneResource \"a\"}}",
    ),
    (
        "parameters: {p: {type: string}}",
        "UserParameterMissing",
        "The Parameter (p) was not provided.",
    ),
    (
        "resources: {a: {type: OS::Heat::Value, properties: {value: {get_param: p}}}}",
        "StackValidationFailed",
        "Property error: resources.a.properties.value: The Parameter (p) was not provided.",
    ),
    (
        "resources: {a: {type: OS::Nova::Server, properties: {flavor: m, image: i, networks: [], user_data: {get_file: x.sh}}}}",
        "StackValidationFailed",
        "Property error: resources.a.properties.user_data: No content found in the \"files\" section for get_file path: x.sh",
    ),
    ("parameters: {p: {type: foo}}", "InvalidSchemaError", "Invalid type (foo)"),
    (
        "parameters: {p: {default: foo}}",
        "InvalidSchemaError",
        "Missing parameter type for parameter: p",
    ),
    (
        "parameters: {p: {type: string, foo: 1}}",
        "InvalidSchemaError",
        "Invalid key 'foo' for parameter (p)",
    ),
    ("parameters: {p: foo}", "InvalidSchemaError", "Invalid parameter (p), expected a mapping"),
    (
        "parameters: {p: {type: number, default: foo}}",
        "StackValidationFailed",
        "Parameter 'p' is invalid: could not convert string to float: 'foo'",
    ),
    (
        "parameters: {p: {type: string, default: foo, constraints: [{allowed_values: [a, b]}]}}",
        "InvalidSchemaError",
        "Parameter 'p' is invalid: Invalid default foo (\"foo\" is not an allowed value [\"a\", \"b\"])",
    ),
    (
        "parameters: {p: {type: string, default: foo, constraints: [{length: {min: 5}}]}}",
        "InvalidSchemaError",
        "Parameter 'p' is invalid: Invalid default foo (length (3) is out of range (min: 5, max: None))",
    ),
    (
        "parameters: {p: {type: string, default: foo, constraints: [{allowed_pattern: \"[0-9]+\"}]}}",
        "InvalidSchemaError",
        "Parameter 'p' is invalid: Invalid default foo (\"foo\" does not match pattern \"[0-9]+\")",
    ),
    (
        "parameters: {p: {type: number, default: 3, constraints: [{range: {min: 5, max: 9}}]}}",
        "InvalidSchemaError",
        "Parameter 'p' is invalid: Invalid default 3 (3 is out of range (min: 5, max: 9))",
    ),
    (
        "parameters: {p: {type: number, default: 3, constraints: [{rang: {min: 5, max: 9}}]}}",
        "InvalidSchemaError",
        "Invalid key 'rang' for parameter constraints",
    ),
    (
        "parameters: {p: {type: number, default: 3, constraints: [{modulo: {step: 2, offset: 0}}]}}",
        "InvalidSchemaError",
        "Parameter 'p' is invalid: Invalid default 3 (3 is not a multiple of 2 with an offset of 0)",
    ),
    (
        "parameters: {p: {type: number, default: 3, constraints: [{modulo: {step: 0.5, offset: 0}}]}}",
        "InvalidSchemaError",
        "step/offset must be integer",
    ),
    (
        "parameters: {p: {type: boolean, default: foo}}",
        "StackValidationFailed",
        "Parameter 'p' is invalid: Unrecognized value 'foo', acceptable values are: '0', '1', 'f', 'false', 'n', 'no', 'off', 'on', 't', 'true', 'y', 'yes'",
    ),
    (
        "parameters: {a: {type: string, default: x}}\nresources: {a: {type: OS::Heat::None}}",
        "StackValidationFailed",
        "Duplicate names {'a'}",
    ),
    (
        "parameters: {a: {type: string, default: x}}\nparameter_groups: [{parameters: [b]}]",
        "StackValidationFailed",
        "Parameter Groups error: parameter_groups.: The grouped parameter b does not reference a valid parameter.",
    ),
    (
        "resources: {a: {type: OS::Heat::Value, properties: {value: {str_replace_strict: {template: x, params: {y: 1}}}}}}",
        "StackValidationFailed",
        "Property error: resources.a.properties.value: The following params were not found in the template: y",
    ),
    (
        "resources: {a: {type: OS::Heat::Value, properties: {value: {list_join: x}}}}",
        "StackValidationFailed",
        "resources.a.properties.value.list_join: Incorrect arguments to \"list_join\" should be: \"list_join\" : [ \" \", [ \"str1\", \"str2\"] ...]",
    ),
    (
        "resources: {a: {type: OS::Heat::Value, properties: {value: {list_join: [\",\", [1]]}}}}",
        "StackValidationFailed",
        "Property error: resources.a.properties.value: Items to join must be string, map or list not 1",
    ),
    (
        "resources: {a: {type: OS::Heat::Value, properties: {value: {get_attr: 3}}}}",
        "StackValidationFailed",
        "resources.a.properties.value.get_attr: Argument to \"get_attr\" must be a list",
    ),
    (
        "conditions: {c: {equals: [1, 1]}}\nresources: {a: {type: OS::Heat::None, condition: d}}",
        "StackValidationFailed",
        "resources.a.condition: Invalid condition \"d\"",
    ),
    (
        "conditions: {c: {foo: [1, 1]}}\nresources: {a: {type: OS::Heat::None, condition: c}}",
        "StackValidationFailed",
        "Condition validation error: The definition of condition \"c\" is invalid: {'foo': [1, 1]}",
    ),
    (
        "conditions: {c: {not: c}}\nresources: {a: {type: OS::Heat::None, condition: c}}",
        "StackValidationFailed",
        "Condition validation error: Circular definition for condition \"c\"",
    ),
    (
        "resources: {a: {type: OS::Heat::Value, properties: {value: {if: [c, 1, 2]}}}}",
        "StackValidationFailed",
        "resources.a.properties.value.if: Invalid condition \"c\"",
    ),
    (
        "resources: {a: {type: OS::Heat::Value, properties: {value: {if: [true, 1]}}}}",
        "StackValidationFailed",
        "resources.a.properties.value.if: Arguments to \"if\" must be of the form: [condition_name, value_if_true, value_if_false]",
    ),
    (
        "resources: {a: {type: OS::Heat::Value, properties: {value: {\"Fn::Join\": [\",\", [a]]}}}}",
        "StackValidationFailed",
        "resources.a.properties.value.Fn::Join: The template version is invalid: The function Fn::Join is not supported in this version of HOT.",
    ),
    (
        "resources: {g: {type: OS::Heat::ResourceGroup, properties: {count: -1, resource_def: {type: OS::Heat::None}}}}",
        "StackValidationFailed",
        "Property error: resources.g.properties.count: -1 is out of range (min: 0, max: None)",
    ),
    (
        "resources: {g: {type: OS::Heat::ResourceGroup, properties: {resource_def: {type: OS::Neutron::Net, properties: {nam: x}}}}}",
        "StackValidationFailed",
        "Property error: resources.g<nested_stack>.resources[0].properties: Unknown Property nam",
    ),
    (
        "resources: {a: {type: OS::Heat::None, deletion_policy: keep}}",
        "StackValidationFailed",
        "Invalid deletion policy \"keep\"",
    ),
    (
        "conditions: {c: false}\nresources: {a: {type: OS::Heat::None, condition: c}, b: {type: OS::Heat::Value, properties: {value: {get_resource: a}}}}",
        "InvalidTemplateReference",
        "The specified reference \"a\" (in b.Properties.value) is incorrect.",
    ),
    (
        "resources: {a: {type: OS::Nova::Server, properties: {flavor: m, networks: []}}}",
        "StackValidationFailed",
        "Neither image nor bootable volume is specified for instance a",
    ),
    (
        "resources: {a: {type: OS::Neutron::Subnet, properties: {network: x, cidr: 10.0.0}}}",
        "StackValidationFailed",
        "Property error: resources.a.properties.cidr: Error validating value '10.0.0': Invalid net cidr invalid IPNetwork 10.0.0 ",
    ),
];

#[tokio::test]
async fn what_heat_refuses_is_refused_in_its_words() {
    let lab = Lab::new();
    for (template, kind, sentence) in REFUSED {
        let body = json!({"stack_name": "s", "template": hot(template)});
        let (status, answer) = lab.call("POST", "/stacks", body).await;
        assert_eq!(answer["error"]["message"], *sentence, "{template}");
        assert_eq!(answer["error"]["type"], *kind, "{template}");
        assert_eq!((status, &answer["code"]), (400, &json!(400)), "{template}");
        assert_eq!(answer["title"], "Bad Request");
    }
    assert_eq!(lab.get("/stacks").await["stacks"], json!([]), "nothing was made");
    assert!(lab.cloud.log().is_empty() && lab.cloud.trusts.lock().unwrap().is_empty());
}

#[tokio::test]
async fn what_heat_accepts_is_accepted() {
    for template in [
        "resources: {}",
        "",
        "outputs: {o: {value: 1, foo: 2}}",
        "conditions: {c: false}\nresources: {a: {type: OS::Heat::None, condition: c}, b: {type: OS::Heat::None, depends_on: a}}",
        "outputs: {o: {value: {get_resource: nope}}}",
        "resources: {a: {type: OS::Heat::Value, properties: {value: {get_param: 'OS::stack_name'}}}}",
    ] {
        let lab = Lab::new();
        let (_, stack) = lab.made(&hot(template), json!({})).await;
        assert_eq!(stack["stack_status"], "CREATE_COMPLETE", "{template}");
    }
}

#[tokio::test]
async fn versions_limits_and_broken_texts_are_refused() {
    let lab = Lab::new();
    let say = async |template: String| {
        let body = json!({"stack_name": "s", "template": template});
        let (status, answer) = lab.call("POST", "/stacks", body).await;
        assert_eq!(status, 400, "{answer}");
        answer["error"]["message"].as_str().unwrap().to_owned()
    };
    assert_eq!(
        say("heat_template_version: '2030-01-01'".into()).await,
        "The template version is invalid: \"heat_template_version: 2030-01-01\". \
         \"heat_template_version\" should be one of: 2013-05-23, 2014-10-16, 2015-04-30, \
         2015-10-15, 2016-04-08, 2016-10-14, 2017-02-24, 2017-09-01, 2018-03-02, 2018-08-31, \
         2021-04-16, newton, ocata, pike, queens, rocky, wallaby"
    );
    assert_eq!(
        say("resources: {}".into()).await,
        "Template not in valid format: Template format version not found."
    );
    assert!(say("a: [}".into()).await.starts_with("Template not in valid format: Error parsing"));
    assert!(
        say(hot("resources: {a: {type: OS::Heat::None}, a: {type: OS::Heat::None}}"))
            .await
            .contains("duplicate")
    );
    let many: String = (0..1001).map(|i| format!("  r{i}: {{type: OS::Heat::None}}\n")).collect();
    assert_eq!(
        say(hot(&format!("resources:\n{many}"))).await,
        "Request limit exceeded: Maximum resources per stack exceeded."
    );
    let long = hot(&format!("description: '{}'", "x".repeat(600_000)));
    assert!(say(long).await.contains("exceeds maximum allowed size (524288 bytes)"));
}

#[tokio::test]
async fn parameters_are_checked_against_the_template() {
    let lab = Lab::new();
    let template = hot("parameters: {p: {type: number}}");
    for (given, kind, sentence) in [
        (
            json!({"q": 1, "p": 1}),
            "UnknownUserParameter",
            "The Parameter (q) was not defined in template.",
        ),
        (
            json!({"p": "x"}),
            "StackValidationFailed",
            "Parameter 'p' is invalid: could not convert string to float: 'x'",
        ),
        (json!({"p": null}), "UserParameterMissing", "The Parameter (p) was not provided."),
    ] {
        let body = json!({"stack_name": "s", "template": template, "parameters": given});
        let (status, answer) = lab.call("POST", "/stacks", body).await;
        assert_eq!((status, answer["error"]["type"].as_str()), (400, Some(kind)));
        assert_eq!(answer["error"]["message"], sentence);
    }
}

#[tokio::test]
async fn services_and_names_that_are_not_there_are_named() {
    let lab = Lab::new();
    lab.cloud.rule("OS::Octavia", Rule::Absent);
    lab.cloud.rule("neutron.network", Rule::Unknown("nowhere".to_owned()));
    let lb = "resources: {a: {type: OS::Octavia::LoadBalancer, properties: {vip_subnet: s}}}";
    for path in ["/stacks", "/validate"] {
        let body = json!({"stack_name": "s", "template": hot(lb)});
        let (status, answer) = lab.call("POST", path, body).await;
        assert_eq!(
            (status, answer["error"]["type"].as_str()),
            (400, Some("ResourceTypeUnavailable"))
        );
        assert!(
            answer["error"]["message"].as_str().unwrap().starts_with("HEAT-E99001 Service octavia")
        );
    }
    let port = "resources: {a: {type: OS::Neutron::Port, properties: {network: nowhere}}}";
    let body = json!({"stack_name": "s", "template": hot(port)});
    let (_, answer) = lab.call("POST", "/stacks", body).await;
    assert_eq!(
        answer["error"]["message"],
        "Property error: resources.a.properties.network: Error validating value 'nowhere': \
         Unable to find network with name or id 'nowhere'"
    );
}

#[tokio::test]
async fn a_template_resource_is_checked_down_to_its_own_template() {
    let lab = Lab::new();
    let nested = "heat_template_version: 2018-08-31\nparameters: {x: {type: string}}\n\
                  resources: {n: {type: OS::Neutron::Net, properties: {NAME: {get_param: x}}}}\n";
    let group = "resources: {g: {type: OS::Heat::ResourceGroup, properties: {resource_def: {type: n.yaml, properties: {x: 1}}}}}";
    for (template, inner, sentence) in [
        (
            "resources: {a: {type: n.yaml, properties: {y: 1}}}",
            "name",
            "Property error: resources.a.properties: Unknown Property y",
        ),
        (
            "resources: {a: {type: n.yaml}}",
            "name",
            "Property error: resources.a.properties: Property x not assigned",
        ),
        (
            "resources: {a: {type: n.yaml, properties: {x: 1}}}",
            "nam",
            "Property error: resources.a<n.yaml>.resources.n.properties: Unknown Property nam",
        ),
        (group, "name", ""),
    ] {
        let files = json!({"n.yaml": nested.replace("NAME", inner)});
        let body = json!({"stack_name": "s", "template": hot(template), "files": files});
        let (status, answer) = lab.call("POST", "/stacks", body).await;
        match sentence {
            "" => assert_eq!(status, 201, "{answer}"),
            sentence => assert_eq!(answer["error"]["message"], sentence),
        }
    }
}

#[tokio::test]
async fn validation_alone_looks_at_names_and_not_at_values() {
    let lab = Lab::new();
    let validate = async |template: &str| {
        lab.call("POST", "/validate", json!({"template": hot(template)})).await
    };
    for fine in [
        "resources: {a: {type: OS::Neutron::Subnet, properties: {cidr: 10.0.0.0/24}}}",
        "parameters: {p: {type: string}}",
        "resources: {a: {type: OS::Heat::Value, properties: {value: {get_param: p}}}}",
    ] {
        assert_eq!(validate(fine).await.0, 200, "{fine}");
    }
    let (status, answer) =
        validate("resources: {a: {type: OS::Neutron::Net, properties: {nam: x}}}").await;
    assert_eq!(status, 400);
    assert_eq!(answer["error"]["type"], "HTTPBadRequest");
    assert_eq!(
        answer["error"]["message"],
        "Property error: resources.a.properties: Unknown Property nam"
    );
    let (_, shown) = validate(
        "parameters: {p: {type: string, default: x, hidden: true, label: P, constraints: [{length: {max: 9}}]}}",
    )
    .await;
    assert_eq!(
        shown["Parameters"]["p"],
        json!({"Type": "String", "Description": "", "NoEcho": "true", "Label": "P",
               "Default": "x", "MaxLength": 9})
    );
}
