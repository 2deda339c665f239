//! `/livez` and `/readyz`: a list of checks, and one verdict.

use hyper::StatusCode;
use serde_json::{Value, json};

use super::text;
use crate::base::http::server::{Request, Response, json as json_response};

type Look = Box<dyn Fn() -> Finding + Send + Sync>;

/// How one thing is; the sentence says in words fit for anybody what is not in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    Fine,
    /// An administrator should know; others need not be sent elsewhere.
    Degraded(String),
    Failed(String),
}

impl Finding {
    fn reason(&self) -> Option<&str> {
        match self {
            Self::Fine => None,
            Self::Degraded(reason) | Self::Failed(reason) => Some(reason),
        }
    }

    const fn is_failed(&self) -> bool {
        matches!(self, Self::Failed(_))
    }
}

/// One thing that must be in order. Looking must not block.
pub struct Check {
    name: &'static str,
    look: Look,
}

impl Check {
    /// `look` says in one sentence, fit for anybody, what is not in order.
    pub fn new(
        name: &'static str,
        look: impl Fn() -> Result<(), String> + Send + Sync + 'static,
    ) -> Self {
        Self::graded(name, move || look().map_or_else(Finding::Failed, |()| Finding::Fine))
    }

    /// One that knows something between fine and failed.
    pub fn graded(name: &'static str, look: impl Fn() -> Finding + Send + Sync + 'static) -> Self {
        Self { name, look: Box::new(look) }
    }
}

/// What makes a daemon alive, and what more makes it ready.
pub struct Health {
    live: Vec<Check>,
    ready: Vec<Check>,
}

impl Health {
    /// Whoever is not alive is not ready either.
    pub const fn new(live: Vec<Check>, ready: Vec<Check>) -> Self {
        Self { live, ready }
    }

    pub fn live(&self, request: &Request) -> Response {
        show(self.live.iter(), request)
    }

    pub fn ready(&self, request: &Request) -> Response {
        show(self.live.iter().chain(&self.ready), request)
    }
}

fn show<'c>(checks: impl Iterator<Item = &'c Check>, request: &Request) -> Response {
    let found: Vec<(&str, Finding)> = checks.map(|check| (check.name, (check.look)())).collect();
    let is_well = !found.iter().any(|(_, finding)| finding.is_failed());
    let is_degraded = found.iter().any(|(_, finding)| matches!(finding, Finding::Degraded(_)));
    let status = if is_well { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    if request.header("accept").is_some_and(|accept| accept.contains("json")) {
        let checks: Vec<Value> = found
            .iter()
            .map(|(name, finding)| {
                let (ok, reason) = (!finding.is_failed(), finding.reason());
                match finding {
                    Finding::Degraded(_) => {
                        json!({"name": name, "ok": ok, "degraded": true, "reason": reason})
                    }
                    _ => json!({"name": name, "ok": ok, "reason": reason}),
                }
            })
            .collect();
        let verdict = match is_degraded {
            true => json!({"ok": is_well, "degraded": true, "checks": checks}),
            false => json!({"ok": is_well, "checks": checks}),
        };
        return json_response(status, &verdict);
    }
    let is_verbose = request.query.as_deref().is_some_and(|q| q.split('&').any(is_verbose));
    if is_well && !is_degraded && !is_verbose {
        return text(status, "ok\n");
    }
    let line = |(name, finding): &(&str, Finding)| match finding {
        Finding::Fine => format!("[+] {name}: ok\n"),
        Finding::Degraded(reason) => format!("[!] {name}: degraded: {reason}\n"),
        Finding::Failed(reason) => format!("[-] {name}: {reason}\n"),
    };
    text(status, found.iter().map(line).collect::<String>())
}

fn is_verbose(argument: &str) -> bool {
    argument == "verbose" || argument.starts_with("verbose=")
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;
    use hyper::{HeaderMap, Method};

    use super::*;

    async fn ask(health: &Health, query: Option<&str>, accept: &str) -> (u16, String) {
        let mut headers = HeaderMap::new();
        headers.insert("accept", accept.parse().unwrap());
        let request = Request {
            method: Method::GET,
            path: "/readyz".to_owned(),
            query: query.map(str::to_owned),
            headers,
            certificate: None,
            peer: ([127, 0, 0, 1], 1).into(),
            since: std::time::Instant::now(),
            body: Ok(bytes::Bytes::new()),
        };
        let (parts, body) = health.ready(&request).into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        (parts.status.as_u16(), String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn one_thing_out_of_order_is_enough_and_is_named() {
        let fine = || Check::new("loop", || Ok(()));
        let well = Health::new(vec![fine()], Vec::new());
        assert_eq!(ask(&well, None, "*/*").await, (200, "ok\n".to_owned()));
        assert_eq!(ask(&well, Some("verbose"), "*/*").await, (200, "[+] loop: ok\n".to_owned()));
        let ill = vec![Check::new("state", || Err("the disk is full".to_owned()))];
        let ill = Health::new(vec![fine()], ill);
        let lines = "[+] loop: ok\n[-] state: the disk is full\n".to_owned();
        assert_eq!(ask(&ill, None, "*/*").await, (503, lines));
        let (status, body) = ask(&ill, None, "application/json").await;
        let body: Value = serde_json::from_str(&body).unwrap();
        assert_eq!((status, &body["ok"]), (503, &json!(false)));
        assert_eq!(body["checks"][1]["reason"], "the disk is full");
        assert_eq!(body["checks"][0], json!({"name": "loop", "ok": true, "reason": null}));
    }

    #[tokio::test]
    async fn what_is_degraded_is_told_and_still_sent_requests() {
        let fine = || Check::new("loop", || Ok(()));
        let degraded = Check::graded("records", || Finding::Degraded("cluster 7".to_owned()));
        let health = Health::new(vec![fine()], vec![degraded]);
        let lines = "[+] loop: ok\n[!] records: degraded: cluster 7\n".to_owned();
        assert_eq!(ask(&health, None, "*/*").await, (200, lines));
        let (status, body) = ask(&health, None, "application/json").await;
        let body: Value = serde_json::from_str(&body).unwrap();
        assert_eq!((status, &body["ok"], &body["degraded"]), (200, &json!(true), &json!(true)));
        assert_eq!(body["checks"][1]["reason"], "cluster 7");
    }
}
