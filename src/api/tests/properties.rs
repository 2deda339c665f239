//! Whatever arrives, the answer is a refusal or a success, never a fault of ours.

use hyper::Method;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::place::{Place, admin, demo, request};
use crate::api::Caller;

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "[ -~é\\u{0}\\n'\"{}]{0,12}".prop_map(Value::from),
        Just(json!("base")),
        Just(json!("kubernetes")),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::btree_map("[a-z./~ ]{0,6}", inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

fn object(names: &'static [&'static str]) -> impl Strategy<Value = Value> {
    let pairs = proptest::collection::vec((prop::sample::select(names), value()), 0..6);
    pairs.prop_map(|pairs| {
        Value::Object(pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
    })
}

const NAMES: &[&str] = &[
    "name",
    "cluster_template_id",
    "node_count",
    "master_count",
    "labels",
    "merge_labels",
    "create_timeout",
    "discovery_url",
    "coe",
    "image_id",
    "dns_nameserver",
    "public",
    "uuid",
    "cluster_uuid",
    "csr",
    "ca_cert_type",
    "op",
    "path",
    "value",
    "links",
    "tags",
];

const PATHS: &[&str] = &[
    "/v1/clusters",
    "/v1/clusters/k1",
    "/v1/clustertemplates",
    "/v1/clustertemplates/base",
    "/v1/certificates",
    "/v1/certificates/k1",
    "/v1/clusters/k1/nodegroups",
    "/v1/clusters/k1/actions/resize",
    "/v1/quotas",
    "/v1/quotas/p1/Cluster",
    "/v1/stats",
    "/v1/mservices",
    "/v1/federations",
    "/v1/credentials/k1",
    "/v1/clusters/k1/nodegroups/default-worker",
    "/v1/clusters/detail",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// 503 is allowed: the cloud behind this place is away.
    #[test]
    fn no_request_is_answered_with_500(
        requests in proptest::collection::vec(
            (
                prop::sample::select(vec!["GET", "POST", "PATCH", "DELETE"]),
                prop::sample::select(PATHS),
                "(\\?[a-z_]{1,8}=[a-zA-Z0-9%+.-]{0,8})?",
                prop_oneof![object(NAMES), value(), object(NAMES).prop_map(|o| json!([o]))],
                "[a-z -]{0,18}[0-9.]{0,4}",
                any::<bool>(),
            ),
            20,
        ),
    ) {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1).enable_all().build().unwrap();
        runtime.block_on(async {
            let place = Place::new();
            place.put(&place.template(1, "p1", "base")).await;
            place.cluster(7, "p1", "k1").await;
            for (method, path, query, body, version, is_admin) in requests {
                let method: Method = method.parse().unwrap();
                let version = match version.len() % 2 {
                    0 => version,
                    _ => "container-infra latest".to_owned(),
                };
                let how = [
                    ("content-type", "application/json"),
                    ("openstack-api-version", version.as_str()),
                ];
                let text = body.to_string();
                let asked = request(method, &format!("{path}{query}"), &how, text.as_bytes());
                let who = if is_admin { admin() } else { demo() };
                let caller = Caller {
                    requester: std::sync::Arc::new(who),
                    token: crate::base::secret::Secret::new("t".to_owned()),
        is_confirmed: false,
                };
                let response = place.api.respond(&asked, Some(Ok(caller))).await;
                let status = response.status().as_u16();
                prop_assert!(status < 500 || status == 503, "{status} for {asked:?}");
            }
            Ok(())
        })?;
    }
}
