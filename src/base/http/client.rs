//! One outgoing request: a deadline, a size limit, and no hidden retries.

use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, StatusCode};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::ClientConfig;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// No connection was made, so the request was certainly not seen.
    #[error("cannot connect to {host}: {reason}")]
    Connect { host: String, reason: String },
    /// The request may or may not have been carried out.
    #[error("no answer from {host} within {after:?}")]
    Deadline { host: String, after: Duration },
    /// The request may or may not have been carried out.
    #[error("the connection to {host} broke: {reason}")]
    Broken { host: String, reason: String },
    #[error("{host} answered with more than {limit} bytes")]
    TooLarge { host: String, limit: usize },
    #[error("'{url}' is not a usable http or https URL")]
    BadUrl { url: String },
}

/// What to ask; build with [`Outgoing::new`] and change what differs.
#[derive(Debug)]
pub struct Outgoing {
    pub method: Method,
    pub url: String,
    pub headers: HeaderMap,
    pub body: Bytes,
    pub deadline: Duration,
    /// Most bytes of body accepted in the answer.
    pub limit: usize,
}

impl Outgoing {
    pub fn new(method: Method, url: impl Into<String>) -> Self {
        Self {
            method,
            url: url.into(),
            headers: HeaderMap::new(),
            body: Bytes::new(),
            deadline: Duration::from_secs(60),
            limit: 8 << 20,
        }
    }

    /// Adds a header; a value with characters HTTP forbids is marked and left out by the caller's
    /// validation, so here it is an error of the program.
    pub fn header(mut self, name: HeaderName, value: &str) -> Self {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.insert(name, value);
        }
        self
    }

    pub fn json(mut self, body: &serde_json::Value) -> Self {
        self.body = Bytes::from(body.to_string());
        self.header(hyper::header::CONTENT_TYPE, "application/json")
    }

    pub fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    pub const fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }
}

/// A complete answer.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Answer {
    /// A header's text, if present and printable.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

/// A pool of connections that share one idea of whom to trust.
#[derive(Clone, Debug)]
pub struct HttpClient {
    inner: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
}

impl HttpClient {
    pub fn new(tls: ClientConfig, connect_timeout: Duration) -> Self {
        Self::from_source(tls, connect_timeout, None)
    }

    /// One whose connections come from an address of this machine, where one is given.
    pub fn from_source(
        tls: ClientConfig,
        connect_timeout: Duration,
        source: Option<IpAddr>,
    ) -> Self {
        let mut tcp = HttpConnector::new();
        tcp.set_local_address(source);
        tcp.set_connect_timeout(Some(connect_timeout));
        tcp.set_nodelay(true);
        tcp.enforce_http(false);
        let https = hyper_rustls::HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_http1()
            .wrap_connector(tcp);
        let inner = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            // Shorter than the idle limit of common Python servers, so that a
            // connection is not reused at the moment the far end drops it.
            .pool_idle_timeout(Duration::from_secs(4))
            // A retry must be visible to whoever decides whether it is safe.
            .retry_canceled_requests(false)
            .build(https);
        Self { inner }
    }

    /// Sends one request and reads the whole answer, all under its deadline.
    pub async fn send(&self, outgoing: Outgoing) -> Result<Answer, HttpError> {
        let Outgoing { method, url, headers, body, deadline, limit } = outgoing;
        let uri: hyper::Uri = url.parse().map_err(|_| HttpError::BadUrl { url: url.clone() })?;
        if !matches!(uri.scheme_str(), Some("http" | "https")) || uri.host().is_none() {
            return Err(HttpError::BadUrl { url });
        }
        let host = uri.authority().map(ToString::to_string).unwrap_or_default();
        let mut request = hyper::Request::new(Full::new(body));
        *request.method_mut() = method;
        *request.uri_mut() = uri;
        *request.headers_mut() = headers;
        // Boxed: the connection's machinery is large, and callers nest and multiply it.
        let exchange = Box::pin(async {
            let response = self.inner.request(request).await.map_err(|e| {
                let reason = root_cause(&e);
                match e.is_connect() {
                    true => HttpError::Connect { host: host.clone(), reason },
                    false => HttpError::Broken { host: host.clone(), reason },
                }
            })?;
            let (parts, body) = response.into_parts();
            let body = Limited::new(body, limit).collect().await.map_err(|e| {
                match e.is::<http_body_util::LengthLimitError>() {
                    true => HttpError::TooLarge { host: host.clone(), limit },
                    false => HttpError::Broken { host: host.clone(), reason: e.to_string() },
                }
            })?;
            Ok(Answer { status: parts.status, headers: parts.headers, body: body.to_bytes() })
        });
        tokio::time::timeout(deadline, exchange)
            .await
            .unwrap_or_else(|_| Err(HttpError::Deadline { host: host.clone(), after: deadline }))
    }
}

/// The innermost error says what happened; the outer ones only where.
fn root_cause(error: &dyn std::error::Error) -> String {
    let mut inner = error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    inner.to_string()
}
