//! The resources of v1, each with its views beside it.

pub mod certificates;
pub mod clusters;
pub mod clustertemplates;
pub mod credentials;
pub mod federations;
pub mod mservices;
pub mod nodegroups;
pub mod quotas;
pub mod stats;

use serde_json::{Map, Value, json};

use super::link::{Link, links};
use super::version;

/// `GET /`
pub fn root(base: &str) -> Value {
    json!({
        "name": "OpenStack Magnum API",
        "description": "Container cluster management by magnumd, OpenStack Magnum in one process.",
        "versions": [{
            "id": "v1",
            "links": [Link::new(format!("{base}/v1/"), "self")],
            "status": "CURRENT",
            "max_version": version::MAX.to_string(),
            "min_version": version::MIN.to_string(),
        }],
    })
}

/// `GET /v1`
pub fn version(base: &str) -> Value {
    let mut document = Map::new();
    document.insert("id".to_owned(), json!("v1"));
    let media = json!([{
        "base": "application/json",
        "type": "application/vnd.openstack.magnum.v1+json",
    }]);
    document.insert("media_types".to_owned(), media);
    let described = Link {
        href: "https://docs.openstack.org/api-ref/container-infrastructure-management/".to_owned(),
        rel: "describedby",
        kind: Some("text/html"),
    };
    let own = Link::new(format!("{base}/v1/"), "self");
    document.insert("links".to_owned(), json!([own, described]));
    for name in [
        "clustertemplates",
        "clusters",
        "quotas",
        "certificates",
        "mservices",
        "stats",
        "federations",
        "credentials",
    ] {
        document.insert(name.to_owned(), json!(links(base, &format!("{name}/"))));
    }
    // Not a place to fill in: the words in braces are what upstream shows.
    let nodegroups = links(base, "clusters/{cluster_id}/nodegroups");
    document.insert("nodegroups".to_owned(), json!(nodegroups));
    Value::Object(document)
}

/// Moments as clients parse them.
fn text(at: Option<crate::base::clock::Timestamp>) -> Option<String> {
    at.map(|at| at.to_string())
}
