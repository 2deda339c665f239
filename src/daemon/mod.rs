//! The daemon: builds every room from the configuration, opens the listeners, closes them again.
//!
//! A stop cannot be told from a power cut by the next start, so there is one path: resume
//! what is on disk. Stopping gently only saves the next start some work.

mod certificate;
mod front;
mod handle;
mod health;
mod keys;
mod listeners;
mod settings;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::api::{self, Api, PolicyError};
use crate::base::backoff::Backoff;
use crate::base::clock::Clock;
use crate::base::fail_points::FailPoints;
use crate::base::http::server::ListenerMetrics;
use crate::base::http::tls::{self, TlsError};
use crate::base::id::Entropy;
use crate::base::pool::Pool;
use crate::bootstrap::{self, Bootstrap};
use crate::conductor::custodian::Custodian;
use crate::conductor::{Conductor, Parts};
use crate::config::Config;
use crate::discovery::{self, Discovery};
use crate::driver::DriverError;
use crate::openstack::Cloud;
use crate::ops::Ops;
use crate::ops::control::{Control, Keeper};
use crate::ops::metrics::{self, Metrics};
use crate::pki::key_generator::KeyGenerator;
use crate::pki::{PkiError, listener};
use crate::store::restore::STATE;
use crate::store::{OpenError, Store, StoreError};
use certificate::{OwnCertificate, Presented};
use front::Front;
use handle::Vitals;
pub use handle::{Change as ConfigChange, Handle, Load, RELOADABLE};
pub use listeners::Addresses;
use listeners::Listeners;
use settings::Advertised;

pub use keys::{SEALING_KEY, read_sealer};
pub use settings::{drivers, preflight};

/// Why the daemon did not start; one sentence with place and cure.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("{path}: the sealing key {reason}")]
    SealingKey { path: PathBuf, reason: String },
    #[error(
        "{path}: the state cannot be kept there: {reason}; check storage.path, its owner and its disk"
    )]
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
    #[error("api.tls: {0}")]
    ApiTls(TlsError),
    #[error(transparent)]
    Pki(#[from] PkiError),
    #[error("policy: {0}")]
    Policy(#[from] PolicyError),
    #[error("{option}: {path}: {reason}")]
    File { option: String, path: PathBuf, reason: String },
    #[error("a thread cannot be started: {0}")]
    Thread(std::io::Error),
    #[error("drivers: {0}")]
    Drivers(#[from] DriverError),
}

/// What a test or a lab does differently from production.
pub struct Environment {
    pub clock: Clock,
    pub entropy: Entropy,
    pub points: FailPoints,
}

impl Default for Environment {
    fn default() -> Self {
        Self { clock: Clock::real(), entropy: Entropy::new(), points: FailPoints::none() }
    }
}

/// Every room, built; nothing answers before [`Daemon::run`].
pub struct Daemon {
    cloud: Cloud,
    /// The API's policy wants it; Keystone knows it.
    trustee_domain_id: Arc<OnceLock<String>>,
    conductor: Conductor,
    clock: Clock,
    listeners: Listeners,
    addresses: Addresses,
    vitals: Arc<Vitals>,
    front: Arc<Front>,
    discovery: Arc<Discovery>,
    bootstrap: Arc<Bootstrap>,
    /// None where the state's directory takes no socket.
    control: Option<Control>,
    keeper: Arc<Keeper>,
    has_started: Arc<AtomicBool>,
    stop: CancellationToken,
}

/// Of the threads that read lists: others, who wait for one record, go first.
const SCANS_NICENESS: i32 = 5;
/// How often discovery tokens are tidied up.
const COLLECT_INTERVAL: Duration = Duration::from_secs(60);

impl Daemon {
    /// Opens the state, binds the listeners and builds the rooms. Talks to no OpenStack: a cloud
    /// that is down must not keep its tenants from reading what we know.
    pub async fn start(
        config: &Config,
        environment: Environment,
        stop: CancellationToken,
    ) -> Result<Self, StartError> {
        let Environment { clock, entropy, points } = environment;
        let started = clock.now();
        // What the operator has to mend is found before anything is opened.
        let certificate = Presented::read(&config.api.tls, started)?;
        let certificate = certificate.map(|presented| Arc::new(OwnCertificate::new(presented)));
        let drivers = settings::drivers(config)?;
        let (policy, policy_watch) = settings::policy(config).watch()?;
        let directory = keys::make_directory(&config.storage.path)?;
        let state = directory.join(STATE);
        let configured = config.storage.sealing_key_file.as_deref();
        let sealer = keys::sealer(&directory, &state, configured, &entropy)?;
        let store = Store::open(&state, sealer)?;

        let listener_metrics = ListenerMetrics::default();
        let (mut listeners, addresses) = Listeners::bind(config, &listener_metrics).await?;
        if let Some(own) = &certificate {
            listeners.api = listeners.api.with_tls(own.settings());
        }
        let url = settings::with_port(&config.bootstrap.advertise_url, addresses.bootstrap.port());
        let now = clock.now();
        let authority = keys::bootstrap_authority(&store, now, &entropy).await?;
        let own = listener::certificate(&authority, &settings::host_of(&url), now, &entropy)?;
        // A node has no certificate before its first contact, and shows one afterwards.
        let nodes = tls::optional_client_verifier(&authority.pem)?;
        let tls = tls::server_config_for(&own.pem, own.key.expose(), nodes)?;
        listeners.bootstrap = listeners.bootstrap.with_tls(watch::channel(Arc::new(tls)).1);
        let advertised = Advertised {
            discovery: settings::with_port(
                &config.discovery.advertise_url,
                addresses.discovery.port(),
            ),
            bootstrap: url,
            bootstrap_ca: authority.pem.clone(),
            api: settings::advertised_api(config, addresses.api.port()),
            openstack_ca: settings::openstack_ca(config)?,
        };

        let host = config.runtime.host.clone().unwrap_or_else(host_name);
        let enrolment = keys::enrolment(&store, &entropy).await?;
        let cloud = settings::cloud(config, clock.clone())?;
        cloud.keystone().works_for(&store.instance()?);
        let conductor = Conductor::new(Parts {
            store: store.clone(),
            cloud: cloud.clone(),
            drivers,
            settings: settings::conductor(config, &advertised, &host),
            clock: clock.clone(),
            entropy: entropy.clone(),
            enrolment: enrolment.clone(),
            key_generator: KeyGenerator::start(half_of_the_processors(), settings::keys(config))?,
            points,
        });
        let trustee_domain_id = Arc::new(OnceLock::new());
        let scans = Pool::start("scan", half_of_the_processors(), SCANS_NICENESS)
            .map_err(StartError::Thread)?;
        let api = Api::new(api::Parts {
            scans,
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
                max_templates_per_project: config.quota.max_templates_per_project,
            },
        });
        api.follow(policy, policy_watch);
        let discovery = Discovery::new(discovery::Parts {
            store: store.clone(),
            clock: clock.clone(),
            entropy: entropy.clone(),
            allow_loopback: config.discovery.allow_loopback,
            trusted: config.bootstrap.rules().trusted,
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
            store: store.clone(),
            conductor: conductor.clone(),
            enrolment,
            authority,
            clock: clock.clone(),
            entropy,
            artifact_dir: config.bootstrap.artifact_dir.clone(),
        });
        let (api, discovery) = (Arc::new(api), Arc::new(discovery));
        let has_started = Arc::new(AtomicBool::new(false));
        let health = health::health(&health::Subjects {
            store: store.clone(),
            conductor: conductor.clone(),
            cloud: cloud.clone(),
            has_started: Arc::clone(&has_started),
            stop: stop.clone(),
            disable_file: config.api.healthcheck_disable_file.clone(),
        });
        let tokens = cloud.tokens();
        let metrics = Metrics::new(metrics::Parts {
            store: store.clone(),
            conductor: conductor.clone(),
            tokens: tokens.clone(),
            started,
            waiting: Box::new({
                let discovery = Arc::clone(&discovery);
                move || discovery.waiting()
            }),
            listener_expiry: Box::new({
                let certificate = certificate.clone();
                move || certificate.as_ref().and_then(|own| own.expiry())
            }),
            metrics: vec![
                &listener_metrics,
                store.metrics(),
                conductor.metrics(),
                cloud.metrics(),
                tokens.metrics(),
                discovery.metrics(),
                bootstrap.metrics(),
            ],
        });
        let ops = Arc::new(Ops::new(health, metrics));
        let shows_metrics = listeners.ops.is_none();
        let front = Front { api: Arc::clone(&api), ops, shows_metrics };
        let vitals =
            Vitals { store, conductor: conductor.clone(), api, certificate, clock: clock.clone() };
        Ok(Self {
            cloud,
            trustee_domain_id,
            conductor,
            clock,
            listeners,
            addresses,
            vitals: Arc::new(vitals),
            front: Arc::new(front),
            discovery,
            bootstrap: Arc::new(bootstrap),
            control,
            keeper: Arc::new(keeper),
            has_started,
            stop,
        })
    }

    pub const fn addresses(&self) -> Addresses {
        self.addresses
    }

    /// For the process around the daemon; to be taken before [`Daemon::run`].
    pub fn handle(&self) -> Handle {
        Handle::new(&self.vitals)
    }

    /// The conductor, for whoever shows progress in the same process.
    pub fn conductor(&self) -> Conductor {
        self.conductor.clone()
    }

    /// Serves until its `stop`: then the listeners close, open requests and running steps finish
    /// within their limits, and the state is closed.
    ///
    /// A task that panics stops everything likewise: whoever supervises the process starts it
    /// anew, and what is on disk is taken up again.
    pub async fn run(self) -> Result<(), Panicked> {
        let Self { conductor, clock, listeners, addresses, discovery, bootstrap, stop, .. } = self;
        let conductor_stop = CancellationToken::new();
        // In sets, so that whoever drops this future ends the conductor too.
        let mut working = Tasks::default();
        working.spawn("the conductor", {
            let (conductor, stop) = (conductor.clone(), conductor_stop.clone());
            async move { conductor.run(stop).await }
        });
        working.spawn("the health check", {
            let stop = conductor_stop.clone();
            async move { conductor.watch_health(stop).await }
        });
        if let Some(listener) = listeners.ops {
            // Open to the end: operators want to see what it still waits for.
            let serves = listener.serve(Arc::clone(&self.front.ops), conductor_stop.clone());
            working.spawn("the ops listener", serves);
        }
        let mut serving = Tasks::default();
        let api = Arc::clone(&self.vitals.api);
        let store = self.vitals.store.clone();
        serving.spawn_until("the look at policy files", &stop, api.keep_policy());
        serving.spawn_until("the look at the state", &stop, health::watch_state(store));
        let watch = health::watch_keystone(self.cloud.clone());
        serving.spawn_until("the look at Keystone", &stop, watch);
        let tells = health::tell_unclear_services(self.cloud.clone());
        serving.spawn_until("the look at the catalogue", &stop, tells);
        serving.spawn("the API's listener", listeners.api.serve(self.front, stop.clone()));
        let serves = listeners.discovery.serve(Arc::clone(&discovery), stop.clone());
        serving.spawn("the discovery listener", serves);
        let serves = listeners.bootstrap.serve(Arc::clone(&bootstrap), stop.clone());
        serving.spawn("the bootstrap listener", serves);
        let reads = async move { bootstrap.read_artifacts().await };
        serving.spawn_until("the look at artifacts", &stop, reads);
        if let Some(control) = self.control {
            serving.spawn("the control socket", control.serve(self.keeper, stop.clone()));
        }
        serving.spawn_until("the tidying of discovery tokens", &stop, async move {
            loop {
                clock.sleep(COLLECT_INTERVAL).await;
                discovery.collect().await;
            }
        });
        let (cloud, known) = (self.cloud, self.trustee_domain_id);
        serving.spawn_until("the login of the domain's administrator", &stop, async move {
            learn_trustee_domain(&cloud, &known).await;
        });
        self.has_started.store(true, Ordering::Relaxed);
        info!(
            api = %addresses.api,
            discovery = %addresses.discovery,
            bootstrap = %addresses.bootstrap,
            "magnumd {} is ready",
            env!("CARGO_PKG_VERSION")
        );
        let mut outcome = Ok(());
        loop {
            // Both at once: nobody works for listeners without a conductor.
            let ended = tokio::select! {
                ended = serving.join() => match ended {
                    Some(ended) => ended,
                    None => break,
                },
                Some(ended) = working.join() => ended,
            };
            if let Err(panicked) = ended {
                error!("{panicked}; stopping, so that the service manager starts magnumd anew");
                outcome = Err(panicked);
                stop.cancel();
            }
        }
        conductor_stop.cancel();
        while let Some(ended) = working.join().await {
            if let Err(panicked) = ended {
                error!("{panicked}");
                outcome = Err(panicked);
            }
        }
        info!("stopped");
        outcome
    }
}

/// A task of the daemon ended with a panic.
#[derive(Debug, thiserror::Error)]
#[error("{task} panicked: {reason}")]
pub struct Panicked {
    task: &'static str,
    reason: String,
}

/// Tasks by what they are called in a sentence.
#[derive(Debug, Default)]
struct Tasks {
    running: JoinSet<()>,
    names: HashMap<tokio::task::Id, &'static str>,
}

impl Tasks {
    fn spawn(&mut self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        self.names.insert(self.running.spawn(task).id(), name);
    }

    /// Runs a task that has no end of its own until `stop`.
    fn spawn_until(
        &mut self,
        name: &'static str,
        stop: &CancellationToken,
        task: impl Future<Output = ()> + Send + 'static,
    ) {
        let stop = stop.clone();
        self.spawn(name, async move {
            stop.run_until_cancelled(task).await;
        });
    }

    /// How the next one ended; None when there is none.
    async fn join(&mut self) -> Option<Result<(), Panicked>> {
        Some(match self.running.join_next_with_id().await? {
            Ok((id, ())) => {
                self.names.remove(&id);
                Ok(())
            }
            Err(error) => {
                let task = self.names.remove(&error.id()).unwrap_or("a task");
                Err(Panicked { task, reason: error.to_string() })
            }
        })
    }
}

/// A custodian for a state that no daemon has open.
pub fn custodian(config: &Config, store: Store) -> Result<Custodian, StartError> {
    let clock = Clock::real();
    let cloud = settings::cloud(config, clock.clone())?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_task_that_panics_is_named() {
        let mut tasks = Tasks::default();
        let stop = CancellationToken::new();
        tasks.spawn_until("the patient one", &stop, std::future::pending());
        tasks.spawn("the weak one", async { panic!("no room") });
        let Some(Err(panicked)) = tasks.join().await else { panic!("it ended well") };
        assert!(panicked.to_string().starts_with("the weak one panicked: "), "{panicked}");
        assert!(panicked.to_string().contains("no room"), "{panicked}");
        stop.cancel();
        assert!(matches!(tasks.join().await, Some(Ok(()))));
        assert!(tasks.join().await.is_none());
    }
}
