//! The API's port: the API, and beside it what operators and load balancers ask.

use std::sync::Arc;

use crate::api::Api;
use crate::base::http::server::{Request, Response, Service};
use crate::ops::{Ops, Page};

pub struct Front {
    pub api: Arc<Api>,
    pub ops: Arc<Ops>,
    /// Metrics are shown here unless they have a listener of their own.
    pub shows_metrics: bool,
}

impl Front {
    fn page(&self, request: &Request) -> Option<Page> {
        Page::of(&request.path).filter(|page| self.shows_metrics || *page != Page::Metrics)
    }
}

impl Service for Front {
    async fn handle(&self, request: Request) -> Response {
        match self.page(&request) {
            Some(page) => self.ops.show(page, &request).await,
            None => self.api.handle(request).await,
        }
    }

    fn route(&self, request: &Request) -> &'static str {
        self.page(request).map_or_else(|| self.api.route(request), Page::path)
    }
}
