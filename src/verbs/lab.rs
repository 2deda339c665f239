//! `magnumd lab`: a small simulated cloud on loopback, magnumd in it, and a first cluster.

use std::io::IsTerminal;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use magnumd::base::fail_points::FailPoints;
use magnumd::base::id::Entropy;
use magnumd::config::{Config, Log};
use magnumd::daemon::{Daemon, Environment};
use magnumd::lab::{Fault, LabCloud, LabOptions};
use tokio_util::sync::CancellationToken;

use super::{Output, complain, logging, signals};

mod demo;

#[derive(Debug, Args)]
pub struct Lab {
    /// Where state, clouds.yaml and magnumd.toml go; a fresh temporary directory by default.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// First of eight ports on 127.0.0.1: api, discovery, bootstrap, identity, orchestration,
    /// compute, network, image. 0 takes free ones.
    #[arg(long, value_name = "N", default_value_t = 9511)]
    port: u16,
    /// Do not build a first cluster.
    #[arg(long)]
    no_demo: bool,
    /// Only the cloud: start magnumd apart, with serve --config DIR/magnumd.toml.
    #[arg(long)]
    cloud_only: bool,
    /// How many seconds pass in the lab in one real second.
    #[arg(long, value_name = "X", default_value_t = 1.0, value_parser = speed)]
    speed: f64,
    /// What shall go wrong, such as heat:POST:/stacks:status=500:times=2. May be repeated.
    #[arg(long, value_name = "SPEC")]
    fault: Vec<Fault>,
    /// How to print the endpoints.
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

/// Where everything of the lab listens.
struct Ports {
    api: u16,
    discovery: u16,
    bootstrap: u16,
    /// The first of the cloud's own; none lets each take a free one.
    cloud: Option<u16>,
}

/// Why the lab did not start.
#[derive(Debug, thiserror::Error)]
enum LabError {
    #[error("{path}: {reason}")]
    File { path: PathBuf, reason: std::io::Error },
    #[error("no free port: {0}")]
    Port(std::io::Error),
    #[error("--port {0}: eight ports from there on do not fit below 65536")]
    TooHigh(u16),
    #[error(transparent)]
    Cloud(#[from] magnumd::lab::LabError),
    #[error(transparent)]
    Config(#[from] magnumd::config::ConfigError),
    #[error(transparent)]
    Start(#[from] magnumd::daemon::StartError),
    #[error("magnumd ended before its time: {0}")]
    Daemon(std::io::Error),
    #[error(transparent)]
    Panicked(#[from] magnumd::daemon::Panicked),
    #[error("the demonstration failed: {0}")]
    Demo(#[from] demo::DemoError),
}

/// Marks a directory that a lab may clear: its cloud died with the process that played it.
const MARK: &str = ".magnumd-lab";

fn speed(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(speed) if (0.1..=100.0).contains(&speed) => Ok(speed),
        _ => Err("must be a number from 0.1 to 100".to_owned()),
    }
}

impl Lab {
    pub fn run(self) -> ExitCode {
        let level = if std::io::stderr().is_terminal() { "warn" } else { "info" };
        let log = Log { level: level.to_owned(), ..Log::default() };
        if let Err(e) = logging::start(&log) {
            complain(&e);
            return ExitCode::FAILURE;
        }
        let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(e) => {
                complain(&e);
                return ExitCode::FAILURE;
            }
        };
        match runtime.block_on(self.play()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(e) => {
                complain(&e);
                ExitCode::FAILURE
            }
        }
    }

    async fn play(self) -> Result<(), LabError> {
        let stop = CancellationToken::new();
        signals::stop_on_signal(stop.clone());
        let directory = self.directory()?;
        let ports = ports(self.port)?;
        let cloud = LabCloud::start(
            LabOptions {
                port: ports.cloud,
                api_url: format!("http://127.0.0.1:{}/v1", ports.api),
                speed: self.speed,
                faults: self.fault.clone(),
                vendor_data: true,
            },
            stop.clone(),
        )
        .await?;
        let configuration = configuration(&cloud, &ports, &directory);
        let path = directory.join("magnumd.toml");
        write(&path, &configuration)?;
        write(&directory.join("clouds.yaml"), &cloud.clouds_yaml())?;
        if self.cloud_only {
            self.print_endpoints(&cloud, &ports, &directory);
            stop.cancelled().await;
            return Ok(());
        }
        let config = Config::parse(&path, &configuration)?;
        let environment = Environment {
            // One clock for cloud and daemon: tokens expire by it.
            clock: cloud.clock(),
            entropy: Entropy::new(),
            points: FailPoints::none(),
        };
        let daemon = Daemon::start(&config, environment, stop.clone()).await?;
        let conductor = daemon.conductor();
        let running = tokio::spawn(daemon.run());
        self.print_endpoints(&cloud, &ports, &directory);
        let mut outcome = Ok(());
        if !self.no_demo {
            let api = format!("http://127.0.0.1:{}/v1", ports.api);
            let identity = cloud.identity_url();
            let shown = demo::show(&api, &identity, &directory, &conductor);
            if let Some(Err(error)) = stop.run_until_cancelled(shown).await {
                // The lab stays up: whoever injected a fault wants to look around.
                complain(&error);
                outcome = Err(error);
            }
        }
        stop.cancelled().await;
        running.await.map_err(std::io::Error::other).map_err(LabError::Daemon)??;
        Ok(outcome?)
    }

    /// The lab's directory, emptied of what an earlier lab left.
    fn directory(&self) -> Result<PathBuf, LabError> {
        let file = |path: &Path| {
            let path = path.to_owned();
            move |reason| LabError::File { path, reason }
        };
        let directory = match &self.dir {
            Some(directory) => directory.clone(),
            None => {
                let name = format!("magnumd-lab-{}", &Entropy::new().hex_token()[..8]);
                std::env::temp_dir().join(name)
            }
        };
        std::fs::create_dir_all(&directory).map_err(file(&directory))?;
        let directory = directory.canonicalize().map_err(file(&directory))?;
        let (mark, state) = (directory.join(MARK), directory.join("state"));
        if state.exists() {
            if !mark.exists() {
                let reason = "holds a state that no lab made; choose another --dir";
                return Err(file(&state)(std::io::Error::other(reason)));
            }
            std::fs::remove_dir_all(&state).map_err(file(&state))?;
        }
        std::fs::write(&mark, "").map_err(file(&mark))?;
        Ok(directory)
    }

    fn print_endpoints(&self, cloud: &LabCloud, ports: &Ports, directory: &Path) {
        let own = [("api", ports.api), ("discovery", ports.discovery)]
            .map(|(name, port)| (name, format!("http://127.0.0.1:{port}")));
        let bootstrap = ("bootstrap", format!("https://127.0.0.1:{}", ports.bootstrap));
        let endpoints: Vec<(&str, String)> =
            own.into_iter().chain([bootstrap]).chain(cloud.endpoints()).collect();
        match self.output {
            Output::Text => {
                endpoints.iter().for_each(|(name, url)| say!("{name} {url}"));
                say!("files {}", directory.display());
            }
            Output::Json => {
                let endpoints: serde_json::Map<_, _> =
                    endpoints.into_iter().map(|(n, url)| (n.to_owned(), url.into())).collect();
                let files = directory.display().to_string();
                say!("{}", serde_json::json!({"endpoints": endpoints, "files": files}));
            }
        }
    }
}

fn write(path: &Path, text: &str) -> Result<(), LabError> {
    std::fs::write(path, text).map_err(|reason| LabError::File { path: path.to_owned(), reason })
}

fn ports(base: u16) -> Result<Ports, LabError> {
    match base {
        0 => {
            // All held at once, so that they differ.
            let held = [(); 3].map(|()| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)));
            let mut free = Vec::with_capacity(held.len());
            for listener in held {
                let address = listener.as_ref().map(TcpListener::local_addr);
                match address {
                    Ok(Ok(address)) => free.push(address.port()),
                    Ok(Err(e)) => return Err(LabError::Port(e)),
                    Err(_) => listener.map_err(LabError::Port).map(drop)?,
                }
            }
            Ok(Ports { api: free[0], discovery: free[1], bootstrap: free[2], cloud: None })
        }
        base if base > u16::MAX - 7 => Err(LabError::TooHigh(base)),
        base => {
            Ok(Ports { api: base, discovery: base + 1, bootstrap: base + 2, cloud: Some(base + 3) })
        }
    }
}

/// What a magnumd needs to serve this lab.
fn configuration(cloud: &LabCloud, ports: &Ports, directory: &Path) -> String {
    let Ports { api, discovery, bootstrap, .. } = ports;
    format!(
        "# Written by magnumd lab; valid while that lab runs.\n\
         [keystone]\n\
         auth_url = \"{identity}\"\n\
         username = \"magnum\"\n\
         password = \"secret\"\n\n\
         [trust]\n\
         domain_name = \"magnum\"\n\
         admin_name = \"magnum_domain_admin\"\n\
         admin_password = \"secret\"\n\n\
         [clients.default]\n\
         region = \"RegionOne\"\n\n\
         [api]\n\
         listen = \"127.0.0.1:{api}\"\n\n\
         [discovery]\n\
         listen = \"127.0.0.1:{discovery}\"\n\
         advertise_url = \"http://127.0.0.1:{discovery}\"\n\
         allow_loopback = true\n\n\
         [bootstrap]\n\
         listen = \"127.0.0.1:{bootstrap}\"\n\
         advertise_url = \"https://127.0.0.1:{bootstrap}\"\n\n\
         [periodic]\n\
         status_interval = \"500ms\"\n\
         health_interval = \"5s\"\n\
         health_allow_loopback = true\n\n\
         [storage]\n\
         path = {state:?}\n",
        identity = cloud.identity_url(),
        state = directory.join("state").display().to_string(),
    )
}
