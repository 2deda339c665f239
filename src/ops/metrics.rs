//! `/metrics`: what the rooms have counted, and what can be seen now, in OpenMetrics text.
//!
//! Labels take few values and none of a tenant's: kinds, steps, routes, statuses, services.

use std::collections::BTreeMap;
use std::sync::Mutex as SyncMutex;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use bytes::Bytes;
use hyper::StatusCode;
use tokio::sync::Mutex;
use tracing::error;

use super::text;
use crate::base::clock::Timestamp;
use crate::base::http::server::{Response, response};
use crate::base::metrics::{EncodeLabelSet, Family, Gauge, MetricSet, Registry, Unit, encode};
use crate::conductor::Conductor;
use crate::openstack::token::Tokens;
use crate::pki;
use crate::store::{Scope, Store, StoreError};

const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// How old what is counted by looking at every record may be.
const CENSUS_AGE: Duration = Duration::from_secs(60);
/// How old what is shown may be: no scraper asks more often, and whoever does costs nothing.
const PAGE_AGE: Duration = Duration::from_millis(500);

type Number = Gauge<u64, AtomicU64>;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct With {
    status: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Kind {
    kind: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Build {
    version: &'static str,
    profile: &'static str,
}

/// What is looked at.
pub struct Parts<'f> {
    pub store: Store,
    pub conductor: Conductor,
    pub tokens: Tokens,
    pub started: Timestamp,
    /// How many members wait in discovery.
    pub waiting: Box<dyn Fn() -> usize + Send + Sync>,
    /// When the API's own certificate ends, if it has one.
    pub listener_expiry: Box<dyn Fn() -> Option<Timestamp> + Send + Sync>,
    /// What the rooms count.
    pub metrics: Vec<&'f dyn MetricSet>,
}

/// All metrics, ready to be shown.
pub struct Metrics {
    store: Store,
    conductor: Conductor,
    tokens: Tokens,
    waiting: Box<dyn Fn() -> usize + Send + Sync>,
    listener_expiry: Box<dyn Fn() -> Option<Timestamp> + Send + Sync>,
    registry: SyncMutex<Registry>,
    now: Now,
    census: Mutex<Option<Instant>>,
    shown: Mutex<Option<(Instant, Bytes)>>,
}

/// What is looked up whenever it is shown.
#[derive(Clone, Default)]
struct Now {
    waiting: Number,
    running: Number,
    lanes: Number,
    tokens: Number,
    file: Number,
    free: Number,
    writable: Number,
    damaged: Number,
    waiters: Number,
    discoveries: Number,
    clusters: Family<With, Number>,
    expiry: Family<Kind, Gauge>,
}

/// What a look at every record has found.
#[derive(Default)]
struct Census {
    clusters: BTreeMap<&'static str, u64>,
    discoveries: u64,
    expiry: BTreeMap<&'static str, Timestamp>,
}

impl Metrics {
    pub fn new(parts: Parts<'_>) -> Self {
        let Parts { store, conductor, tokens, started, waiting, listener_expiry, metrics } = parts;
        let mut registry = Registry::with_prefix("magnumd");
        for room in metrics {
            room.register(&mut registry);
        }
        let now = Now::default();
        now.register(&mut registry);
        now.lanes.set(conductor.lanes() as u64);
        let build: Family<Build, Number> = Family::default();
        let profile = if cfg!(debug_assertions) { "debug" } else { "release" };
        build.get_or_create(&Build { version: env!("CARGO_PKG_VERSION"), profile }).set(1);
        registry.register("build_info", "What is running", build);
        let began = Number::default();
        began.set(u64::try_from(started.micros() / 1_000_000).unwrap_or(0));
        registry.register_with_unit(
            "start_time",
            "When the daemon was started, after the Unix epoch",
            Unit::Seconds,
            began,
        );
        let (registry, census) = (SyncMutex::new(registry), Mutex::new(None));
        let shown = Mutex::new(None);
        Self { store, conductor, tokens, waiting, listener_expiry, registry, now, census, shown }
    }

    /// One page for all who ask at about the same time, and in memory once.
    pub async fn show(&self) -> Response {
        let mut last = self.shown.lock().await;
        if let Some((at, page)) = &*last
            && at.elapsed() < PAGE_AGE
        {
            return response(StatusCode::OK, CONTENT_TYPE, page.clone());
        }
        self.look();
        self.count().await;
        let mut shown = String::with_capacity(32 << 10);
        let written = match self.registry.lock() {
            Ok(registry) => encode(&mut shown, &registry).map_err(|e| e.to_string()),
            Err(e) => Err(e.to_string()),
        };
        match written {
            Ok(()) => {
                let page = Bytes::from(shown);
                *last = Some((Instant::now(), page.clone()));
                response(StatusCode::OK, CONTENT_TYPE, page)
            }
            Err(reason) => {
                error!(reason, "the metrics cannot be written down");
                text(StatusCode::INTERNAL_SERVER_ERROR, "The metrics cannot be written down.\n")
            }
        }
    }

    fn look(&self) {
        let (now, count) = (&self.now, |n: usize| n as u64);
        let (waiting, running) = self.conductor.load();
        now.waiting.set(count(waiting));
        now.running.set(count(running));
        now.tokens.set(self.tokens.len());
        let (file, free) = self.store.sizes();
        now.file.set(file.unwrap_or(0));
        now.free.set(free.unwrap_or(0));
        now.writable.set(u64::from(self.store.trouble().is_none()));
        now.damaged.set(count(self.store.damage().records.len()));
        now.waiters.set(count((self.waiting)()));
        if let Some(end) = (self.listener_expiry)() {
            now.expiry.get_or_create(&Kind { kind: "api-listener" }).set(seconds(end));
        }
    }

    /// Counts what takes a look at every record, if that was long ago.
    async fn count(&self) {
        let mut last = self.census.lock().await;
        if last.is_some_and(|at| at.elapsed() < CENSUS_AGE) {
            return;
        }
        let store = self.store.clone();
        let taken = tokio::task::spawn_blocking(move || census(&store)).await;
        match taken {
            Ok(Ok(census)) => {
                self.now.adopt(&census);
                *last = Some(Instant::now());
            }
            Ok(Err(error)) => error!(%error, "the records cannot be counted"),
            Err(panic) => error!(error = %panic, "the records cannot be counted"),
        }
    }
}

impl Now {
    fn adopt(&self, census: &Census) {
        self.discoveries.set(census.discoveries);
        // What is no more shall not be shown for ever.
        self.clusters.clear();
        for (&status, &count) in &census.clusters {
            self.clusters.get_or_create(&With { status }).set(count);
        }
        for (&kind, &end) in &census.expiry {
            self.expiry.get_or_create(&Kind { kind }).set(seconds(end));
        }
    }
}

impl MetricSet for Now {
    fn register(&self, registry: &mut Registry) {
        let mut number = |name: &str, help: &str, gauge: &Number| {
            registry.register(name, help, gauge.clone());
        };
        number("queue_waiting", "Clusters that wait for a look", &self.waiting);
        number("queue_running", "Clusters that are looked at now", &self.running);
        number("queue_lanes", "How many clusters may be looked at together", &self.lanes);
        number("token_cache_entries", "Tokens that are remembered", &self.tokens);
        number("state_writable", "0 while the state file cannot be written", &self.writable);
        number(
            "state_damaged_records",
            "Records that cannot be read and are left out, as far as they were met",
            &self.damaged,
        );
        number("discovery_waiters", "etcd members that wait for others", &self.waiters);
        number("discovery_tokens", "etcd discovery tokens", &self.discoveries);
        let mut bytes = |name: &str, help: &str, gauge: &Number| {
            registry.register_with_unit(name, help, Unit::Bytes, gauge.clone());
        };
        bytes("state_file_size", "Size of the state file", &self.file);
        bytes("state_disk_free", "Free space where the state file lies", &self.free);
        registry.register("clusters", "Clusters by status", self.clusters.clone());
        registry.register_with_unit(
            "certificate_expiry_timestamp",
            "When the first certificate of a kind ends, over all clusters, after the Unix epoch",
            Unit::Seconds,
            self.expiry.clone(),
        );
    }
}

fn seconds(at: Timestamp) -> i64 {
    at.micros() / 1_000_000
}

fn census(store: &Store) -> Result<Census, StoreError> {
    store.read(|view| {
        let mut census = Census::default();
        view.each_cluster(Scope::Everyone, |cluster| {
            *census.clusters.entry(cluster.status.as_str()).or_default() += 1;
        })?;
        view.each_certificate(|certificate| {
            if let Some(end) = pki::expiry(&certificate.pem) {
                let first = census.expiry.entry(certificate.kind.as_str()).or_insert(end);
                *first = end.min(*first);
            }
        })?;
        census.discoveries = view.discoveries()?.len() as u64;
        Ok(census)
    })
}
