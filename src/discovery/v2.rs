//! Reading requests of the plain HTTP protocol. Pure: what a request asks, or why not.

use std::collections::HashMap;

use hyper::Method;
use hyper::header::{CONTENT_ENCODING, CONTENT_TYPE};
use percent_encoding::percent_decode_str;

use super::answer::Fault;
use super::{is_member_id, is_token};
use crate::base::http::server::{BodyError, Request};

/// Where etcd's own v2 API keeps tokens when it plays the discovery service.
const ALIAS: &str = "/v2/keys/_etcd/registry";
const FORM: &str = "application/x-www-form-urlencoded";
/// More fields than any client sends.
const MOST_FIELDS: usize = 32;

/// What a request is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// `/TOKEN`: the members.
    Members,
    /// `/TOKEN/_config/size`
    Size,
    /// `/TOKEN/ID`
    Member(String),
}

/// A request that can be answered once its token is found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    /// 32 lower-case hex digits.
    pub token: String,
    pub target: Target,
    pub action: Action,
}

/// What is to be done with the target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    Get,
    /// Wait for the first event at or after this index; 0 means the next one.
    Wait(u64),
    /// Only ever for a member.
    Register(String),
}

/// Reads a request that came under `prefix` (empty, or `/` and something).
pub fn read(request: &Request, prefix: &str) -> Result<Ask, Fault> {
    let (token, target) = route(&request.path, prefix).ok_or_else(Fault::not_found)?;
    let body = match &request.body {
        Ok(body) => body,
        Err(e @ BodyError::TooLarge { .. }) => return Err(Fault::too_large(e)),
        Err(e) => return Err(Fault::bad_form(e.to_string())),
    };
    let mut fields = Fields::default();
    fields.add(request.query.as_deref().unwrap_or_default())?;
    let target = match target {
        Route::Members => Target::Members,
        Route::Size => Target::Size,
        Route::Member(id) if is_member_id(id) => Target::Member(id.to_owned()),
        Route::Member(_) => {
            return Err(Fault::bad_field("a member id is 1 to 16 lower-case hex digits"));
        }
    };
    let action = match (&request.method, &target) {
        (&Method::GET, _) => wait(&fields)?,
        (&Method::PUT, Target::Member(_)) => {
            fields.add(form(request, body)?)?;
            register(&mut fields)?
        }
        (method, Target::Member(_)) => return Err(Fault::not_allowed(method, "GET, PUT")),
        (method, _) => return Err(Fault::not_allowed(method, "GET")),
    };
    Ok(Ask { token: token.to_owned(), target, action })
}

enum Route<'p> {
    Members,
    Size,
    Member(&'p str),
}

/// Nothing we serve needs percent-encoding, so an encoded path is simply not ours.
fn route<'p>(path: &'p str, prefix: &str) -> Option<(&'p str, Route<'p>)> {
    let under = |prefix: &str| path.strip_prefix(prefix)?.strip_prefix('/').and_then(parts);
    under(prefix).or_else(|| under(ALIAS))
}

fn parts(path: &str) -> Option<(&str, Route<'_>)> {
    let (token, rest) = path.split_once('/').unwrap_or((path, ""));
    if !is_token(token) {
        return None;
    }
    let route = match rest {
        "" => Route::Members,
        "_config/size" => Route::Size,
        id if !id.contains('/') && id != "_config" => Route::Member(id),
        _ => return None,
    };
    Some((token, route))
}

/// The body of a PUT, if it is a form that nobody has compressed.
fn form<'r>(request: &Request, body: &'r [u8]) -> Result<&'r str, Fault> {
    if request.headers.contains_key(CONTENT_ENCODING) {
        return Err(Fault::bad_form("a compressed body is not read".to_owned()));
    }
    let kind = request.header(CONTENT_TYPE.as_str()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    if !kind.eq_ignore_ascii_case(FORM) {
        return Err(Fault::bad_form(format!("the body must be {FORM}")));
    }
    std::str::from_utf8(body).map_err(|_| Fault::bad_form("the body is not UTF-8".to_owned()))
}

/// Form fields from query and body together, as etcd reads them; none may come twice.
#[derive(Debug, Default)]
struct Fields(HashMap<String, String>);

impl Fields {
    fn add(&mut self, text: &str) -> Result<(), Fault> {
        for pair in text.split('&').filter(|p| !p.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (key, value) = (decoded(key)?, decoded(value)?);
            if self.0.len() >= MOST_FIELDS {
                return Err(Fault::bad_form("there are too many fields".to_owned()));
            }
            if self.0.insert(key, value).is_some() {
                return Err(Fault::bad_field("a field is given twice"));
            }
        }
        Ok(())
    }

    fn flag(&self, key: &str) -> Result<bool, Fault> {
        match self.0.get(key).map(String::as_str) {
            None | Some("false" | "0" | "") => Ok(false),
            Some("true" | "1") => Ok(true),
            Some(_) => Err(Fault::bad_field(format!("{key} must be true or false"))),
        }
    }
}

fn decoded(text: &str) -> Result<String, Fault> {
    let spaced = text.replace('+', " ");
    let decoded = percent_decode_str(&spaced).decode_utf8();
    decoded.map(Into::into).map_err(|_| Fault::bad_form("a field is not UTF-8".to_owned()))
}

fn wait(fields: &Fields) -> Result<Action, Fault> {
    if !fields.flag("wait")? {
        return Ok(Action::Get);
    }
    match fields.0.get("waitIndex").filter(|text| !text.is_empty()) {
        None => Ok(Action::Wait(0)),
        Some(text) => text.parse().map(Action::Wait).map_err(|_| Fault::bad_index()),
    }
}

fn register(fields: &mut Fields) -> Result<Action, Fault> {
    const FORBIDDEN: [&str; 6] = ["dir", "ttl", "prevValue", "prevIndex", "recursive", "refresh"];
    if let Some(field) = FORBIDDEN.into_iter().find(|f| fields.0.contains_key(*f)) {
        return Err(Fault::forbidden(format!("{field} is not allowed here")));
    }
    if fields.flag("prevExist")? {
        return Err(Fault::forbidden("members cannot be changed".to_owned()));
    }
    match fields.0.remove("value") {
        Some(value) => Ok(Action::Register(value)),
        None => Err(Fault::bad_field("value is missing")),
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use hyper::HeaderMap;
    use hyper::header::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    const TOKEN: &str = "0123456789abcdef0123456789abcdef";

    fn request(method: &str, path: &str, query: &str, body: &[u8]) -> Request {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
        Request {
            method: Method::from_bytes(method.as_bytes()).unwrap_or(Method::TRACE),
            path: path.to_owned(),
            query: (!query.is_empty()).then(|| query.to_owned()),
            headers,
            certificate: None,
            peer: ([192, 0, 2, 1], 40000).into(),
            since: std::time::Instant::now(),
            body: Ok(Bytes::copy_from_slice(body)),
        }
    }

    fn status(method: &str, path: &str, query: &str, body: &str) -> (u16, u16) {
        let path = path.replace("TOKEN", TOKEN);
        match read(&request(method, &path, query, body.as_bytes()), "/some/where") {
            Ok(_) => (200, 0),
            Err(fault) => (fault.status.as_u16(), fault.code),
        }
    }

    #[test]
    fn what_etcd_sends() {
        let ask = |method: &str, path: &str, query: &str, body: &str| {
            read(&request(method, path, query, body.as_bytes()), "").unwrap()
        };
        let query = "quorum=false&recursive=false&sorted=false";
        let size = ask("GET", &format!("/{TOKEN}/_config/size"), query, "");
        assert_eq!((size.target, size.action), (Target::Size, Action::Get));
        for path in [format!("/{TOKEN}"), format!("/{TOKEN}/"), format!("{ALIAS}/{TOKEN}")] {
            let list = ask("GET", &path, query, "");
            assert_eq!(
                (list.target, list.action, list.token.as_str()),
                (Target::Members, Action::Get, TOKEN)
            );
        }
        let body = "value=m1%3Dhttp%3A%2F%2F10.0.0.11%3A2380%2Cm1%3Dhttp%3A%2F%2F10.0.0.12%3A2380";
        let put = ask("PUT", &format!("/{TOKEN}/bd79e0ab770b6f12"), "prevExist=false", body);
        assert_eq!(put.target, Target::Member("bd79e0ab770b6f12".to_owned()));
        let value = "m1=http://10.0.0.11:2380,m1=http://10.0.0.12:2380";
        assert_eq!(put.action, Action::Register(value.to_owned()));
        let wait = ask("GET", &format!("/{TOKEN}"), "recursive=true&wait=true&waitIndex=4", "");
        assert_eq!(wait.action, Action::Wait(4));
    }

    #[test]
    fn what_nobody_may_send() {
        let good = "value=m1%3Dhttp%3A%2F%2F10.0.0.11%3A2380";
        for (method, path, query, body, expected) in [
            ("GET", "/TOKEN/_config/size", "", "", (404, 100)),
            ("GET", "/some/where/TOKEN/_config/size", "", "", (200, 0)),
            ("GET", "/some/where//TOKEN", "", "", (404, 100)),
            ("GET", "/some/where/TOKEN//", "", "", (404, 100)),
            ("GET", "/some/where/TOKEN/_config", "", "", (404, 100)),
            ("GET", "/some/where/TOKEN/_config/size/", "", "", (404, 100)),
            ("GET", "/some/where/../where/TOKEN", "", "", (404, 100)),
            ("GET", "/some/where/TOKEN/../TOKEN", "", "", (404, 100)),
            ("GET", "/some/where/TOKEN%2Fa", "", "", (404, 100)),
            ("GET", "/some/where/TOKEN/%61", "", "", (400, 209)),
            ("GET", "/some/where/0123456789ABCDEF0123456789ABCDEF", "", "", (404, 100)),
            ("GET", "/new", "size=3", "", (404, 100)),
            ("GET", "/", "", "", (404, 100)),
            ("GET", "*", "", "", (404, 100)),
            ("GET", "/some/where/TOKEN/xyz", "", "", (400, 209)),
            ("GET", "/some/where/TOKEN/00000000000000000", "", "", (400, 209)),
            ("GET", "/some/where/TOKEN", "wait=perhaps", "", (400, 209)),
            ("GET", "/some/where/TOKEN", "wait=true&waitIndex=-1", "", (400, 203)),
            (
                "GET",
                "/some/where/TOKEN",
                "wait=true&waitIndex=99999999999999999999",
                "",
                (400, 203),
            ),
            ("GET", "/some/where/TOKEN", "wait=true&wait=true", "", (400, 209)),
            ("GET", "/some/where/TOKEN", "a=%ff", "", (400, 210)),
            ("PUT", "/some/where/TOKEN", "", good, (405, 110)),
            ("PUT", "/some/where/TOKEN/_config/size", "", "value=9", (405, 110)),
            ("DELETE", "/some/where/TOKEN/a", "", "", (405, 110)),
            ("POST", "/some/where/TOKEN/a", "", good, (405, 110)),
            ("PUT", "/some/where/TOKEN/a", "", good, (200, 0)),
            ("PUT", "/some/where/TOKEN/a", "prevExist=true", good, (403, 110)),
            ("PUT", "/some/where/TOKEN/a", "ttl=5", good, (403, 110)),
            ("PUT", "/some/where/TOKEN/a", "dir=true", "", (403, 110)),
            ("PUT", "/some/where/TOKEN/a", "prevIndex=5", good, (403, 110)),
            ("PUT", "/some/where/TOKEN/a", good, good, (400, 209)),
            ("PUT", "/some/where/TOKEN/a", "", "value=a&value=b", (400, 209)),
            ("PUT", "/some/where/TOKEN/a", "", "", (400, 209)),
        ] {
            assert_eq!(status(method, path, query, body), expected, "{method} {path}?{query}");
        }
    }

    #[test]
    fn bodies_that_are_no_forms() {
        let path = format!("/{TOKEN}/a");
        let mut json = request("PUT", &path, "", b"{}");
        json.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let mut packed = request("PUT", &path, "", b"\x1f\x8b");
        packed.headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        let mut huge = request("PUT", &path, "", b"");
        huge.body = Err(BodyError::TooLarge { limit: 4096 });
        let mut broken = request("PUT", &path, "", b"");
        broken.body = Err(BodyError::Broken);
        let latin = request("PUT", &path, "", b"value=\xe4");
        for (request, expected) in
            [(json, 400), (packed, 400), (huge, 413), (broken, 400), (latin, 400)]
        {
            assert_eq!(read(&request, "").unwrap_err().status.as_u16(), expected, "{request:?}");
        }
    }

    proptest! {
        #[test]
        fn no_request_panics_and_none_is_our_fault(
            method in "GET|PUT|DELETE|[A-Z]{1,7}",
            path in "(/(0123456789abcdef0123456789abcdef|_config|size|[0-9a-f]{0,20}|\\PC{0,8})){0,4}/?",
            query in "((wait|waitIndex|value|prevExist|\\PC{0,5})=?[a-z0-9%+=]{0,8}&?){0,4}",
            body in proptest::collection::vec(any::<u8>(), 0..64),
        ) {
            if let Err(fault) = read(&request(&method, &path, &query, &body), "") {
                prop_assert!(fault.status.is_client_error());
            }
        }
    }
}
