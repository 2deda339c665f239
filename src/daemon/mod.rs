//! The daemon: builds every room from the configuration, opens the doors, closes them again.
//!
//! A stop cannot be told from a power cut by the next start, so there is one path: resume
//! what is on disk. Stopping gently only saves the next start some work.

mod keys;
mod settings;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::api::{self, Api, PolicyError, PolicyWatch};
use crate::base::backoff::Backoff;
use crate::base::clock::Clock;
use crate::base::http::server::{Door, Limits};
use crate::base::http::tls::{self, TlsError};
use crate::base::id::Entropy;
use crate::base::points::Points;
use crate::bootstrap::{self, Bootstrap};
use crate::conductor::custodian::Custodian;
use crate::conductor::{Conductor, Parts};
use crate::config::Config;
use crate::discovery::{self, Discovery};
use crate::driver::Drivers;
use crate::openstack::Cloud;
use crate::ops::control::{Control, Keeper};
use crate::pki::mill::Mill;
use crate::pki::{PkiError, listener};
use crate::store::restore::STATE;
use crate::store::{OpenError, Store, StoreError};
use settings::Advertised;

pub use keys::{SEALING_KEY, read_sealer};
pub use settings::preflight;

/// Why the daemon did not start; one sentence with place and cure.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("{path}: the sealing key {reason}")]
    SealingKey { path: PathBuf, reason: String },
    #[error("{path}: the directory for the state cannot be made: {reason}; check storage.path")]
    Directory { path: PathBuf, reason: String },
    #[error("the key '{name}' in the state {reason}")]
    Keyring { name: &'static str, reason: String },
    #[error("{option} = {address}: cannot listen there: {reason}")]
    Listen { option: &'static str, address: SocketAddr, reason: String },
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("TLS: {0}")]
    Tls(#[from] TlsError),
    #[error(transparent)]
    Pki(#[from] PkiError),
    #[error("policy: {0}")]
    Policy(#[from] PolicyError),
}

/// What a test or a lab does differently from production.
pub struct Environment {
    pub clock: Clock,
    pub entropy: Entropy,
    pub points: Points,
}

impl Default for Environment {
    fn default() -> Self {
        Self { clock: Clock::real(), entropy: Entropy::new(), points: Points::none() }
    }
}

/// Where a daemon listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addresses {
    pub api: SocketAddr,
    pub discovery: SocketAddr,
    pub bootstrap: SocketAddr,
}

/// Every room, built; nothing answers before [`Daemon::run`].
pub struct Daemon {
    cloud: Cloud,
    /// The API's policy wants it; Keystone knows it.
    trustee_domain_id: Arc<OnceLock<String>>,
    conductor: Conductor,
    clock: Clock,
    doors: Doors,
    addresses: Addresses,
    api: Arc<Api>,
    policy_watch: PolicyWatch,
    discovery: Arc<Discovery>,
    bootstrap: Arc<Bootstrap>,
    /// None where the state's directory takes no socket.
    control: Option<Control>,
    keeper: Arc<Keeper>,
    stop: CancellationToken,
}

struct Doors {
    api: Door,
    discovery: Door,
    bootstrap: Door,
    /// Keeps the listeners' TLS settings alive; a reload would send new ones.
    _tls: Vec<watch::Sender<Arc<rustls::ServerConfig>>>,
}

/// How often discovery tokens are tidied up.
const COLLECT_INTERVAL: Duration = Duration::from_secs(60);

impl Daemon {
    /// Opens the state, binds the doors and builds the rooms. Talks to no OpenStack: a cloud
    /// that is down must not keep its tenants from reading what we know.
    pub async fn start(
        config: &Config,
        environment: Environment,
        stop: CancellationToken,
    ) -> Result<Self, StartError> {
        let Environment { clock, entropy, points } = environment;
        let directory = keys::make_directory(&config.storage.path)?;
        let state = directory.join(STATE);
        let configured = config.storage.sealing_key_file.as_deref();
        let sealer = keys::sealer(&directory, &state, configured, &entropy)?;
        let store = Store::open(&state, sealer)?;

        let bind = async |option, address, limits| {
            let listen =
                |e: std::io::Error| StartError::Listen { option, address, reason: e.to_string() };
            let door = Door::bind(address, limits).await.map_err(listen)?;
            let bound = door.address().map_err(listen)?;
            Ok::<_, StartError>((door, bound))
        };
        let limits = Limits {
            connections: config.api.max_connections,
            body_bytes: config.api.max_body_bytes,
            ..Limits::default()
        };
        let (api_door, api) = bind("api.listen", config.api.listen, limits).await?;
        let (discovery_door, discovery) =
            bind("discovery.listen", config.discovery.listen, discovery::limits()).await?;
        let (bootstrap_door, bootstrap) =
            bind("bootstrap.listen", config.bootstrap.listen, bootstrap::limits()).await?;
        let addresses = Addresses { api, discovery, bootstrap };

        let mut held = Vec::new();
        let mut with_tls = |door: Door, settings: rustls::ServerConfig| {
            let (sender, receiver) = watch::channel(Arc::new(settings));
            held.push(sender);
            door.with_tls(receiver)
        };
        let api_door = match (&config.api.tls.cert, &config.api.tls.key) {
            (Some(cert), Some(key)) => {
                with_tls(api_door, tls::server_config_from_files(cert, key)?)
            }
            _ => api_door,
        };
        let url = settings::with_port(&config.bootstrap.advertise_url, bootstrap.port());
        let (bootstrap_door, bootstrap_ca) = match url.starts_with("https") {
            true => {
                let now = clock.now();
                let ca = keys::bootstrap_authority(&store, now, &entropy).await?;
                let own = listener::certificate(&ca, &settings::host_of(&url), now, &entropy)?;
                let tls = tls::server_config(&own.pem, own.key.expose())?;
                (with_tls(bootstrap_door, tls), ca.pem)
            }
            false => (bootstrap_door, String::new()),
        };
        let advertised = Advertised {
            discovery: settings::with_port(&config.discovery.advertise_url, discovery.port()),
            bootstrap: url,
            bootstrap_ca,
        };

        let host = config.runtime.host.clone().unwrap_or_else(host_name);
        let enrolment = keys::enrolment(&store, &entropy).await?;
        let cloud = Cloud::new(settings::cloud(config), clock.clone())?;
        cloud.keystone().works_for(&store.instance()?);
        let conductor = Conductor::new(Parts {
            store: store.clone(),
            cloud: cloud.clone(),
            drivers: Drivers::builtin(&config.drivers.disabled),
            settings: settings::conductor(config, &advertised, &host),
            clock: clock.clone(),
            entropy: entropy.clone(),
            enrolment: enrolment.clone(),
            mill: Mill::start(half_of_the_processors(), config.ca.rsa_bits)?,
            points,
        });
        let trustee_domain_id = Arc::new(OnceLock::new());
        let (policy, policy_watch) = settings::policy(config).watch()?;
        let api = Api::new(api::Parts {
            store: store.clone(),
            conductor: conductor.clone(),
            tokens: cloud.tokens(),
            clock: clock.clone(),
            entropy: entropy.clone(),
            settings: api::Settings {
                www_authenticate_uri: settings::public_keystone(config),
                own_url: settings::own_url(config, addresses.api, &host),
                max_limit: config.api.max_limit,
                trust_proxy_headers: config.api.trust_proxy_headers,
                cors_origins: config.api.cors.allowed_origins.clone(),
                healthcheck_disable_file: config.api.healthcheck_disable_file.clone(),
                service_down_time: config.runtime.service_down_time.0,
                csr_rules: settings::csr_rules(config),
                certificate_validity: settings::certificate_validity(config),
                trustee_domain_id: Arc::clone(&trustee_domain_id),
                max_clusters_per_project: config.quota.max_clusters_per_project,
            },
        })
        .with_policy(policy);
        let discovery = Discovery::new(discovery::Parts {
            store: store.clone(),
            clock: clock.clone(),
            entropy: entropy.clone(),
            allow_loopback: config.discovery.allow_loopback,
            advertise_url: advertised.discovery,
            stop: stop.clone(),
        });
        let control = Control::bind(&directory)
            .inspect_err(|error| {
                warn!(%error, "no control socket: backup and its like need magnumd stopped");
            })
            .ok();
        let keeper = Keeper {
            store: store.clone(),
            clock: clock.clone(),
            custodian: Custodian::new(store.clone(), cloud.clone(), clock.clone()),
        };
        let bootstrap = Bootstrap::new(bootstrap::Parts {
            store,
            conductor: conductor.clone(),
            enrolment,
            clock: clock.clone(),
            entropy,
        });
        Ok(Self {
            cloud,
            trustee_domain_id,
            conductor,
            clock,
            doors: Doors {
                api: api_door,
                discovery: discovery_door,
                bootstrap: bootstrap_door,
                _tls: held,
            },
            addresses,
            api: Arc::new(api),
            policy_watch,
            discovery: Arc::new(discovery),
            bootstrap: Arc::new(bootstrap),
            control,
            keeper: Arc::new(keeper),
            stop,
        })
    }

    pub const fn addresses(&self) -> Addresses {
        self.addresses
    }

    /// The conductor, for whoever shows progress in the same process.
    pub fn conductor(&self) -> Conductor {
        self.conductor.clone()
    }

    /// Serves until its `stop`: then the doors close, open requests and running steps finish
    /// within their limits, and the state is closed.
    pub async fn run(self) {
        let Self { conductor, clock, doors, addresses, api, discovery, bootstrap, stop, .. } = self;
        let conductor_stop = CancellationToken::new();
        // In a set, so that whoever drops this future ends the conductor too.
        let mut working = JoinSet::new();
        working.spawn({
            let (conductor, stop) = (conductor.clone(), conductor_stop.clone());
            async move { conductor.run(stop).await }
        });
        working.spawn({
            let stop = conductor_stop.clone();
            async move { conductor.watch_health(stop).await }
        });
        let mut serving = JoinSet::new();
        serving.spawn({
            let (api, watch, stop) = (Arc::clone(&api), self.policy_watch, stop.clone());
            async move {
                stop.run_until_cancelled(api.follow(watch)).await;
            }
        });
        serving.spawn(doors.api.serve(api, stop.clone()));
        serving.spawn(doors.discovery.serve(Arc::clone(&discovery), stop.clone()));
        serving.spawn(doors.bootstrap.serve(bootstrap, stop.clone()));
        if let Some(control) = self.control {
            serving.spawn(control.serve(self.keeper, stop.clone()));
        }
        serving.spawn({
            let stop = stop.clone();
            async move {
                let tidy = async {
                    loop {
                        clock.sleep(COLLECT_INTERVAL).await;
                        discovery.collect().await;
                    }
                };
                stop.run_until_cancelled(tidy).await;
            }
        });
        serving.spawn({
            let (cloud, known, stop) = (self.cloud, self.trustee_domain_id, stop.clone());
            async move {
                stop.run_until_cancelled(learn_trustee_domain(&cloud, &known)).await;
            }
        });
        info!(
            api = %addresses.api,
            discovery = %addresses.discovery,
            bootstrap = %addresses.bootstrap,
            "magnumd {} is ready",
            env!("CARGO_PKG_VERSION")
        );
        while let Some(ended) = serving.join_next().await {
            if let Err(panic) = ended {
                error!(error = %panic, "a door fell; stopping so that the service manager restarts us");
                stop.cancel();
            }
        }
        conductor_stop.cancel();
        while let Some(ended) = working.join_next().await {
            if let Err(panic) = ended {
                error!(error = %panic, "the conductor fell");
            }
        }
        info!("stopped");
    }
}

/// A custodian for a state that no daemon has open.
pub fn custodian(config: &Config, store: Store) -> Result<Custodian, StartError> {
    let clock = Clock::real();
    let cloud = Cloud::new(settings::cloud(config), clock.clone())?;
    cloud.keystone().works_for(&store.instance()?);
    Ok(Custodian::new(store, cloud, clock))
}

/// Asks Keystone until it answers; a cloud may come up after us.
async fn learn_trustee_domain(cloud: &Cloud, known: &OnceLock<String>) {
    let backoff = Backoff { first: Duration::from_secs(1), most: Duration::from_secs(60) };
    for attempt in 0.. {
        match cloud.keystone().trustee_domain_id().await {
            Ok(id) => return drop(known.set(id)),
            Err(error) => warn!(%error, "the trustee domain is not known yet"),
        }
        tokio::time::sleep(backoff.delay(attempt, 0.5)).await;
    }
}

fn half_of_the_processors() -> usize {
    std::thread::available_parallelism().map_or(1, |n| n.get().div_ceil(2))
}

fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    match name.trim() {
        "" => "localhost".to_owned(),
        name => name.to_owned(),
    }
}
