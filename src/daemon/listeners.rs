//! Every listener, bound before anything is built that needs its address.

use std::net::SocketAddr;

use super::StartError;
use crate::base::http::server::{HttpListener, Limits, ListenerMetrics};
use crate::bootstrap;
use crate::config::Config;
use crate::discovery;

/// Where a daemon listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addresses {
    pub api: SocketAddr,
    pub discovery: SocketAddr,
    pub bootstrap: SocketAddr,
    /// The operators', if it is one of its own.
    pub ops: Option<SocketAddr>,
}

pub struct Listeners {
    pub api: HttpListener,
    pub discovery: HttpListener,
    pub bootstrap: HttpListener,
    pub ops: Option<HttpListener>,
}

impl Listeners {
    pub async fn bind(
        config: &Config,
        metrics: &ListenerMetrics,
    ) -> Result<(Self, Addresses), StartError> {
        let bind = async |name, option, address, limits| {
            let listen =
                |e: std::io::Error| StartError::Listen { option, address, reason: e.to_string() };
            let listener = HttpListener::bind(address, limits).await.map_err(listen)?;
            let bound = listener.address().map_err(listen)?;
            Ok::<_, StartError>((listener.counted(name, metrics), bound))
        };
        let defaults = Limits::default();
        let limits = Limits {
            connections: config.api.max_connections,
            per_source: config.api.connections_per_source(),
            body_bytes: config.api.max_body_bytes,
            bodies_bytes: defaults.bodies_bytes.max(config.api.max_body_bytes.saturating_mul(2)),
            ..defaults
        };
        let (api, at_api) = bind("api", "api.listen", config.api.listen, limits).await?;
        let (wanted, limits) = (config.discovery.listen, discovery::limits());
        let limits = Limits { per_source: config.discovery.max_connections_per_source, ..limits };
        let (discovery, at_discovery) =
            bind("discovery", "discovery.listen", wanted, limits).await?;
        let (wanted, limits) = (config.bootstrap.listen, bootstrap::limits());
        let limits = Limits { per_source: config.bootstrap.max_connections_per_source, ..limits };
        let (bootstrap, at_bootstrap) =
            bind("bootstrap", "bootstrap.listen", wanted, limits).await?;
        let (ops, at_ops) = match config.ops.listen {
            Some(wanted) => {
                let limits = Limits {
                    connections: 64,
                    // A Prometheus and a prober for each instance of it come from few addresses.
                    per_source: 32,
                    body_bytes: 1024,
                    answers_bytes: 4 << 20,
                    ..defaults
                };
                let (listener, bound) = bind("ops", "ops.listen", wanted, limits).await?;
                (Some(listener), Some(bound))
            }
            None => (None, None),
        };
        let addresses = Addresses {
            api: at_api,
            discovery: at_discovery,
            bootstrap: at_bootstrap,
            ops: at_ops,
        };
        Ok((Self { api, discovery, bootstrap, ops }, addresses))
    }
}
