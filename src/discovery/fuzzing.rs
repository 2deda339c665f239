//! Parsers of what members of etcd send, for fuzzing by coverage.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Instant;

use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{HeaderMap, Method};

use super::v2;
use crate::base::http::server::Request;

/// A request of the plain protocol: method, path, query and form, each on a line.
pub fn v2(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let mut lines = text.splitn(4, '\n');
    let method = match lines.next() {
        Some("PUT") => Method::PUT,
        Some("DELETE") => Method::DELETE,
        _ => Method::GET,
    };
    let path = lines.next().unwrap_or_default().to_owned();
    let query = lines.next().map(str::to_owned);
    let body = lines.next().unwrap_or_default().to_owned();
    let form = HeaderValue::from_static("application/x-www-form-urlencoded");
    let request = Request {
        method,
        path,
        query,
        headers: HeaderMap::from_iter([(CONTENT_TYPE, form)]),
        peer: SocketAddr::from((Ipv4Addr::LOCALHOST, 1)),
        certificate: None,
        since: Instant::now(),
        body: Ok(body.into()),
    };
    for prefix in ["", "/discovery"] {
        let _refused = v2::read(&request, prefix);
    }
}

/// A message of the gRPC protocol: the first byte chooses which.
#[cfg(feature = "etcd-v3")]
pub fn v3(data: &[u8]) {
    super::v3::fuzzing::message(data);
}
