//! A look into a cluster through its own API: does it answer, and are its nodes ready?
//!
//! Whoever answers there belongs to a tenant and is believed nothing: only certificates of the
//! cluster's CA are accepted, only ours is shown, every answer has a size and the whole look a
//! deadline, and what comes out are short plain words.

mod nodes;

use std::time::{Duration, Instant};

use bytes::Bytes;
use hyper::header::ACCEPT;
use hyper::{Method, StatusCode};

use crate::base::http::client::{Answer, HttpClient, HttpError, Outgoing};
use crate::base::http::tls::mutual_client_config;
use crate::base::printable;
use crate::base::secret::Secret;

pub use nodes::Node;
use nodes::Page;

/// Where a cluster's API is, whom to believe there, and who we are.
#[derive(Debug)]
pub struct Access {
    /// `https://` and an address.
    pub url: String,
    /// One or several CA certificates in PEM.
    pub authorities: String,
    /// Our certificate, and below it its key in PEM.
    pub certificate: String,
    pub key: Secret<String>,
}

/// Why a look found no healthy API; the sentence is for the cluster's owner.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KubeError {
    /// Nobody is there, or nobody whom the cluster's CA vouches for.
    #[error("the API cannot be reached: {0}")]
    Unreachable(String),
    #[error("the API did not answer within {} s", .0.as_secs_f64())]
    Silent(Duration),
    /// It answered, but not as a healthy API does.
    #[error("{0}")]
    Unwell(String),
    /// What we have of the cluster does not fit together.
    #[error("the cluster cannot be asked: {0}")]
    Unusable(String),
}

/// Most nodes of a cluster; more than Kubernetes promises to bear.
const MOST_NODES: usize = 5000;
/// Nodes in one answer, and the most bytes of it: a node with all its images has some 20 KiB.
const PAGE: usize = 50;
const PAGE_BYTES: usize = 4 << 20;
const HEALTHZ_BYTES: usize = 64 << 10;

/// Asks whether the API is well, then for every node; all within `deadline`.
pub async fn look(access: &Access, deadline: Duration) -> Result<Vec<Node>, KubeError> {
    let call = Call::new(access, deadline)?;
    let health = call.get("/healthz", HEALTHZ_BYTES).await?;
    let said = String::from_utf8_lossy(&health);
    if said.trim() != "ok" {
        return Err(KubeError::Unwell(format!("/healthz says {}", plain(&said))));
    }
    let mut nodes: Vec<Node> = Vec::new();
    let mut next = String::new();
    loop {
        let body = call.get(&format!("/api/v1/nodes?limit={PAGE}{next}"), PAGE_BYTES).await?;
        let Page { nodes: more, next: rest } = nodes::read(&body)
            .map_err(|why| KubeError::Unwell(format!("/api/v1/nodes: {}", plain(&why))))?;
        nodes.extend(more);
        if nodes.len() > MOST_NODES {
            return Err(KubeError::Unwell(format!(
                "/api/v1/nodes lists more than {MOST_NODES} nodes"
            )));
        }
        match rest {
            None => return Ok(nodes),
            Some(token) => next = format!("&continue={token}"),
        }
    }
}

/// One connection to one API, for as long as a look takes.
struct Call<'a> {
    http: HttpClient,
    base: &'a str,
    began: Instant,
    deadline: Duration,
}

impl<'a> Call<'a> {
    fn new(access: &'a Access, deadline: Duration) -> Result<Self, KubeError> {
        let base = access.url.trim_end_matches('/');
        // With a path of its own an address could lead to any port of any host.
        let host = base.strip_prefix("https://").filter(|h| !h.contains(['/', '?', '#', '@']));
        if host.is_none() {
            let why = format!("its address {} is not https, a host and a port", plain(base));
            return Err(KubeError::Unusable(why));
        }
        let tls = mutual_client_config(&access.authorities, &access.certificate, &access.key)
            .map_err(|e| KubeError::Unusable(e.to_string()))?;
        let http = HttpClient::new(tls, deadline);
        Ok(Self { http, base, began: Instant::now(), deadline })
    }

    /// The body of a success.
    async fn get(&self, path: &str, limit: usize) -> Result<Bytes, KubeError> {
        let left = self.deadline.saturating_sub(self.began.elapsed());
        let mut asked = Outgoing::new(Method::GET, format!("{}{path}", self.base))
            .header(ACCEPT, "application/json")
            .deadline(left);
        asked.limit = limit;
        let bare = path.split('?').next().unwrap_or_default();
        match self.http.send(asked).await {
            Ok(Answer { status: StatusCode::OK, body, .. }) => Ok(body),
            Ok(Answer { status, .. }) => {
                Err(KubeError::Unwell(format!("{bare} is answered with {}", status.as_u16())))
            }
            // The words must be the same at every look: who reads them is told of news only.
            Err(HttpError::Deadline { .. }) => Err(KubeError::Silent(self.deadline)),
            Err(HttpError::Connect { reason, .. }) => Err(KubeError::Unreachable(plain(&reason))),
            Err(HttpError::Broken { reason, .. }) => {
                Err(KubeError::Unwell(format!("{bare}: the connection broke: {}", plain(&reason))))
            }
            Err(HttpError::TooLarge { limit, .. }) => {
                Err(KubeError::Unwell(format!("{bare} is answered with more than {limit} bytes")))
            }
            Err(HttpError::BadUrl { url }) => {
                Err(KubeError::Unusable(format!("its address {} is not a URL", plain(&url))))
            }
        }
    }
}

/// Words that came from outside, short and on one line.
fn plain(text: &str) -> String {
    const MOST: usize = 200;
    let text = printable::line(text);
    let words = text.split(char::is_whitespace);
    let words: Vec<&str> = words.filter(|word| !word.is_empty()).collect();
    let mut line = words.join(" ");
    if let Some((cut, _)) = line.char_indices().nth(MOST) {
        line.truncate(cut);
        line.push('…');
    }
    line
}

#[cfg(test)]
mod tests;
