//! The operators' listeners: is the daemon alive, may it be sent requests, what has it been doing;
//! and [`control`], a socket for verbs that need the state while the daemon has it.
//!
//! The others ask for no token, so they tell nothing of tenants and nothing of where things are:
//! whoever may know more reads the log.

pub mod control;
pub mod health;
pub mod metrics;

use hyper::header::{ALLOW, CACHE_CONTROL, HeaderValue};
use hyper::{Method, StatusCode};

use crate::base::http::server::{Request, Response, Service, response};
use health::Health;
use metrics::Metrics;

/// What is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Page {
    /// Whether the process should be left running.
    Live,
    /// Whether it should be sent requests.
    Ready,
    Metrics,
}

impl Page {
    pub fn of(path: &str) -> Option<Self> {
        match path {
            "/livez" => Some(Self::Live),
            "/readyz" => Some(Self::Ready),
            "/metrics" => Some(Self::Metrics),
            _ => None,
        }
    }

    pub const fn path(self) -> &'static str {
        match self {
            Self::Live => "/livez",
            Self::Ready => "/readyz",
            Self::Metrics => "/metrics",
        }
    }
}

/// Answers for a running daemon.
pub struct Ops {
    health: Health,
    metrics: Metrics,
}

impl Ops {
    pub const fn new(health: Health, metrics: Metrics) -> Self {
        Self { health, metrics }
    }

    pub async fn show(&self, page: Page, request: &Request) -> Response {
        if !matches!(request.method, Method::GET | Method::HEAD) {
            let mut refused = text(StatusCode::METHOD_NOT_ALLOWED, "Only GET is answered here.\n");
            refused.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return refused;
        }
        let mut answer = match page {
            Page::Live => self.health.live(request),
            Page::Ready => self.health.ready(request),
            Page::Metrics => self.metrics.show().await,
        };
        answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        answer
    }
}

/// The listener of its own.
impl Service for Ops {
    async fn handle(&self, request: Request) -> Response {
        match Page::of(&request.path) {
            Some(page) => self.show(page, &request).await,
            None => text(StatusCode::NOT_FOUND, "Here are /livez, /readyz and /metrics.\n"),
        }
    }

    fn route(&self, request: &Request) -> &'static str {
        Page::of(&request.path).map_or("none", Page::path)
    }
}

fn text(status: StatusCode, body: impl Into<bytes::Bytes>) -> Response {
    response(status, "text/plain; charset=UTF-8", body)
}
