//! Cross-origin requests: which sites' pages may read our answers in a browser.

use hyper::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_METHOD,
    HeaderMap, HeaderValue, ORIGIN, VARY,
};
use hyper::{Method, StatusCode};

use crate::base::http::server::{Request, Response, empty};

const METHODS: HeaderValue = HeaderValue::from_static("GET, POST, PATCH, DELETE");
/// What clients of OpenStack send, besides what every page may.
const ACCEPTED: HeaderValue = HeaderValue::from_static(
    "Content-Type, OpenStack-API-Version, X-Auth-Token, X-OpenStack-Request-ID, \
     X-Subject-Token, X-Service-Token, X-Server-Management-Url",
);
const EXPOSED: HeaderValue = HeaderValue::from_static(
    "Location, OpenStack-API-Maximum-Version, OpenStack-API-Minimum-Version, \
     OpenStack-API-Version, X-Auth-Token, X-OpenStack-Request-ID, X-Subject-Token, \
     X-Service-Token, X-Server-Management-Url",
);
/// How long a browser may remember an answer to its question.
const REMEMBER: HeaderValue = HeaderValue::from_static("3600");

/// The origin of the page that asks, if the operator lets it.
pub fn allowed(headers: &HeaderMap, origins: &[String]) -> Option<HeaderValue> {
    let origin = headers.get(ORIGIN)?;
    let text = origin.to_str().ok()?;
    origins.iter().any(|known| known == "*" || known == text).then(|| origin.clone())
}

/// The answer to a browser that asks before it sends: no token comes with such a question.
pub fn preflight(request: &Request) -> Option<Response> {
    let asks = request.method == Method::OPTIONS
        && request.headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD);
    asks.then(|| {
        let mut response = empty(StatusCode::OK);
        let headers = response.headers_mut();
        headers.insert(ACCESS_CONTROL_ALLOW_METHODS, METHODS);
        headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, ACCEPTED);
        headers.insert(ACCESS_CONTROL_MAX_AGE, REMEMBER);
        response
    })
}

/// Lets the page at `origin` read the answer. Cookies mean nothing to us, so that credentials
/// of the browser are not asked for.
pub fn share(response: &mut Response, origin: &HeaderValue) {
    let headers = response.headers_mut();
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
    headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
    headers.append(VARY, HeaderValue::from_static("Origin"));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Policy;
    use crate::api::Service;
    use crate::api::tests::place::{Answer, Place, read, request};

    const PAGE: &str = "https://horizon.example";

    async fn ask(origins: &[&str], method: Method, how: &[(&str, &str)]) -> Answer {
        let origins = origins.iter().map(|o| (*o).to_owned()).collect();
        let with = |settings| crate::api::Settings { cors_origins: origins, ..settings };
        let place = Place::with(with, Policy::builtin());
        read(place.api.handle(request(method, "/v1/clusters", how, b"")).await).await
    }

    #[tokio::test]
    async fn pages_of_known_sites_are_answered() {
        let asks = [("origin", PAGE), ("access-control-request-method", "PATCH")];
        for origins in [&[PAGE][..], &["*"], &["https://other.example", PAGE]] {
            let told = ask(origins, Method::OPTIONS, &asks).await;
            assert_eq!(told.status, StatusCode::OK);
            assert_eq!(told.header("access-control-allow-origin"), PAGE);
            assert!(told.header("access-control-allow-methods").contains("PATCH"));
            assert!(told.header("access-control-allow-headers").contains("X-Auth-Token"));
            assert!(told.header("x-openstack-request-id").starts_with("req-"));
            let refused = ask(origins, Method::GET, &[("origin", PAGE)]).await;
            assert_eq!(refused.status, StatusCode::UNAUTHORIZED, "a page needs a token too");
            assert_eq!(refused.header("access-control-allow-origin"), PAGE);
            let vary: Vec<_> = refused.headers.get_all("vary").iter().collect();
            assert_eq!(vary, ["OpenStack-API-Version", "Origin"]);
        }
    }

    #[tokio::test]
    async fn others_are_not() {
        let asks = [("origin", PAGE), ("access-control-request-method", "PATCH")];
        for origins in [&[][..], &["https://horizon.example.evil"], &["http://horizon.example"]] {
            let told = ask(origins, Method::OPTIONS, &asks).await;
            assert_eq!(told.status, StatusCode::UNAUTHORIZED);
            assert_eq!(told.header("access-control-allow-origin"), "");
        }
        let plain = ask(&[PAGE], Method::OPTIONS, &[("origin", PAGE)]).await;
        assert_eq!(plain.status, StatusCode::UNAUTHORIZED, "no question of a browser");
    }
}
