//! Parsers of what OpenStack's services answer, for fuzzing by coverage: a service that lies may
//! cost an operation, never the process.

use hyper::{HeaderMap, StatusCode};
use serde_json::Value;

use super::catalog::Catalog;
use super::error::Service;
use super::{call, error, heat, keystone, lookup, octavia, survey};
use crate::base::http::client::Answer;

/// The body of any service's answer, as every kind of answer that is read.
pub fn answer(data: &[u8]) {
    let answer = Answer {
        status: StatusCode::CONFLICT,
        headers: HeaderMap::new(),
        body: data.to_vec().into(),
    };
    let _sentence = error::reason(&answer);
    let Ok(body) = serde_json::from_slice::<Value>(data) else { return };
    // As it is taken from the wire, and as if nobody had looked whether it is an object.
    let taken = call::object(Service::Nova, data);
    assert_eq!(taken.is_ok(), body.is_object(), "an answer is an object");
    for key in ["images", "flavors", "keypair", "networks", "subnets", "users"] {
        let _field = call::field(Service::Nova, body.clone(), key);
        if let Ok(list) = call::list(Service::Nova, body.clone(), key) {
            assert!(list.is_array(), "a list is a list");
            lookup::read(&list);
        }
    }
    let _stack = heat::stack(&body["stack"]).or_else(|| heat::stack(&body));
    let _failed = heat::failed(&body["resources"]);
    let _requester = keystone::requester(&body["token"]);
    let _catalog = Catalog::parse(&body["token"]["catalog"], "p");
    let _found = (octavia::floating_ips(&body), octavia::balancers(&body));
    let _left = survey::allowances(&body["quota_set"], "in_use");
    let date = body["date"].as_str().and_then(survey::http_date);
    assert!(date.is_none_or(|at| at.micros() % 1_000_000 == 0), "a date has whole seconds");
}
