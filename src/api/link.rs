//! Where we are, as the client sees it: the base of every link.

use hyper::header::{HOST, HeaderMap};
use serde::Serialize;

/// One entry of a `links` list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Link {
    pub href: String,
    pub rel: &'static str,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<&'static str>,
}

impl Link {
    pub const fn new(href: String, rel: &'static str) -> Self {
        Self { href, rel, kind: None }
    }
}

/// The links to a thing: itself, and its address without a version.
pub fn links(base: &str, path: &str) -> [Link; 2] {
    [
        Link::new(format!("{base}/v1/{path}"), "self"),
        Link::new(format!("{base}/{path}"), "bookmark"),
    ]
}

/// Scheme, host and prefix under which this request reached us, without a slash at the end.
///
/// `configured` gives the scheme, and the host for clients that name none. A proxy's headers
/// are believed only where the operator said that there is one; what could not stand in a
/// link is not put there.
pub fn base(headers: &HeaderMap, configured: &str, trust_proxy: bool) -> String {
    let (scheme, fallback) = configured.split_once("://").unwrap_or(("http", configured));
    let text = |name: &str| {
        // A chain of proxies makes a list; the first entry is what the client used.
        let value = headers.get(name)?.to_str().ok()?;
        Some(value.split(',').next().unwrap_or_default().trim())
    };
    let forwarded = |name: &str| if trust_proxy { text(name) } else { None };
    let scheme =
        forwarded("x-forwarded-proto").filter(|s| matches!(*s, "http" | "https")).unwrap_or(scheme);
    let host = forwarded("x-forwarded-host")
        .filter(|host| is_host(host))
        .or_else(|| text(HOST.as_str()).filter(|host| is_host(host)))
        .unwrap_or_else(|| fallback.trim_end_matches('/'));
    let prefix = forwarded("x-forwarded-prefix")
        .filter(|prefix| is_prefix(prefix))
        .unwrap_or_default()
        .trim_end_matches('/');
    format!("{scheme}://{host}{prefix}")
}

fn is_host(text: &str) -> bool {
    (1..=255).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b".-_:[]".contains(&b))
}

fn is_prefix(text: &str) -> bool {
    text.starts_with('/')
        && !text.starts_with("//")
        && text.len() <= 255
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"/.-_~".contains(&b))
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(k, v)| (k.parse().unwrap(), HeaderValue::from_static(v))).collect()
    }

    #[test]
    fn links_follow_the_host_that_was_asked() {
        let asked = headers(&[("host", "magnum.example:9511")]);
        let configured = "https://10.0.0.1:9511/";
        assert_eq!(base(&asked, configured, false), "https://magnum.example:9511");
        assert_eq!(base(&HeaderMap::new(), configured, false), "https://10.0.0.1:9511");
        let odd = headers(&[("host", "a\"b")]);
        assert_eq!(base(&odd, configured, false), "https://10.0.0.1:9511");
    }

    #[test]
    fn a_proxy_is_believed_only_where_there_is_one() {
        let asked = headers(&[
            ("host", "inner:9511"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "cloud.example, proxy2"),
            ("x-forwarded-prefix", "/container-infra/"),
        ]);
        assert_eq!(base(&asked, "http://x", false), "http://inner:9511");
        assert_eq!(base(&asked, "http://x", true), "https://cloud.example/container-infra");
        let hostile = headers(&[
            ("host", "inner"),
            ("x-forwarded-proto", "javascript"),
            ("x-forwarded-prefix", "//evil.example"),
        ]);
        assert_eq!(base(&hostile, "http://x", true), "http://inner");
    }
}
