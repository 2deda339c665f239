//! `magnumd preflight`: is this cloud ready, and would this cluster be built?

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;
use magnumd::base::clock::Clock;
use magnumd::base::id::Entropy;
use magnumd::daemon;
use magnumd::preflight::{self, Finding, Options, Parts, Scene, Verdict, Wanted, trial};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::paint::{Colour, paint};
use super::source::Source;
use super::{Output, WRONG_CONFIGURATION, complain, credentials, signals};

/// Look whether a cloud is ready for magnumd, and for a cluster.
///
/// Every line is ok, warn or fail, with what cures it. With OS_CLOUD, or OS_AUTH_URL and the rest, in the environment the cloud is seen with these
/// credentials, those of the tenant who wants a cluster; else with the service account's. Exit
/// code 0 when nothing fails, 1 when something does, 78 when the configuration or the environment
/// is not usable.
#[derive(Debug, Args)]
pub struct Preflight {
    /// A cluster template, by name or UUID: also look whether a cluster of it would be built.
    template: Option<String>,
    /// Also make a throw-away trust and boot a throw-away server, and remove them again.
    #[arg(long)]
    deep: bool,
    #[command(flatten)]
    source: Source,
    /// How to say it.
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
    #[command(flatten)]
    asked: Asked,
}

// What to look at beside or instead of a template's own, named as `openstack coe` names it. No
// documentation comment: clap would show it as the verb's.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "A cluster without a template, or with other options than its")]
struct Asked {
    /// With it no template is needed.
    #[arg(long, value_name = "IMAGE")]
    image: Option<String>,
    /// Of workers.
    #[arg(long, value_name = "FLAVOR")]
    flavor: Option<String>,
    /// Default: the workers' flavor.
    #[arg(long, value_name = "FLAVOR")]
    master_flavor: Option<String>,
    /// To which the cluster's router leads.
    #[arg(long, value_name = "NETWORK")]
    external_network: Option<String>,
    /// Instead of a network of the cluster's own.
    #[arg(long, value_name = "NETWORK")]
    fixed_network: Option<String>,
    /// Of the fixed network.
    #[arg(long, value_name = "SUBNET")]
    fixed_subnet: Option<String>,
    /// Such as flannel.
    #[arg(long, value_name = "DRIVER")]
    network_driver: Option<String>,
    /// Such as cinder.
    #[arg(long, value_name = "DRIVER")]
    volume_driver: Option<String>,
    /// One address, or several with commas.
    #[arg(long, value_name = "ADDRESS")]
    dns_nameserver: Option<String>,
    /// Of a volume for every node.
    #[arg(long, value_name = "GIB")]
    docker_volume_size: Option<u32>,
    /// A floating IP for every node.
    #[arg(long)]
    floating_ip_enabled: bool,
    /// A load balancer before the masters.
    #[arg(long)]
    master_lb_enabled: bool,
    /// As the template's field of that name.
    #[arg(long)]
    tls_disabled: bool,
    /// Labels of the cluster; may be repeated.
    #[arg(long, value_name = "NAME=VALUE", value_delimiter = ',', value_parser = label)]
    labels: Vec<(String, String)>,
    /// Masters.
    #[arg(long, value_name = "N", default_value_t = 1)]
    master_count: u32,
    /// Workers.
    #[arg(long, value_name = "N", default_value_t = 1)]
    node_count: u32,
    /// Default: what the configuration says.
    #[arg(long, value_name = "MINUTES")]
    timeout: Option<u32>,
}

fn label(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("must be NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

impl Asked {
    fn options(self) -> Options {
        Options {
            image: self.image,
            flavor: self.flavor,
            master_flavor: self.master_flavor,
            external_network: self.external_network,
            fixed_network: self.fixed_network,
            fixed_subnet: self.fixed_subnet,
            network_driver: self.network_driver,
            volume_driver: self.volume_driver,
            dns_nameserver: self.dns_nameserver,
            docker_volume_size: self.docker_volume_size,
            floating_ips: self.floating_ip_enabled,
            master_lb: self.master_lb_enabled,
            tls_disabled: self.tls_disabled,
            labels: self.labels,
            masters: self.master_count,
            nodes: self.node_count,
            timeout: self.timeout.unwrap_or(0),
        }
    }
}

impl Preflight {
    pub fn run(self) -> ExitCode {
        let parts = match self.parts() {
            Ok(parts) => parts,
            Err(e) => {
                complain(&e);
                return ExitCode::from(WRONG_CONFIGURATION);
            }
        };
        let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(e) => {
                complain(&e);
                return ExitCode::FAILURE;
            }
        };
        let began = Instant::now();
        let found = runtime.block_on(look(parts, self.deep));
        let took = began.elapsed();
        match self.output {
            Output::Text => print_lines(&found, took),
            Output::Json => print_json(&found, took),
        }
        match worst(&found) {
            Verdict::Fail => ExitCode::FAILURE,
            Verdict::Ok | Verdict::Warn => ExitCode::SUCCESS,
        }
    }

    /// Everything that can be wrong before the first question.
    fn parts(&self) -> Result<Parts, Box<dyn std::error::Error>> {
        let config = self.source.config()?;
        let clock = Clock::real();
        let (cloud, driver_settings) = daemon::preflight(&config, clock.clone())?;
        let guest = credentials::of_environment()?;
        let wanted = self.template.is_some() || self.asked.image.is_some();
        Ok(Parts {
            drivers: daemon::drivers(&config)?,
            config,
            cloud,
            driver_settings,
            clock,
            entropy: Entropy::new(),
            guest,
            wanted: wanted.then(|| Wanted {
                template: self.template.clone(),
                options: self.asked.clone().options(),
            }),
        })
    }
}

async fn look(parts: Parts, deep: bool) -> Vec<Finding> {
    let began = Instant::now();
    let scene = Arc::new(Scene::set(parts).await);
    let mut found =
        preflight::run(&scene, preflight::DEADLINE.saturating_sub(began.elapsed())).await;
    if deep {
        // Whoever interrupts a trial must not keep what it made.
        let stop = CancellationToken::new();
        signals::stop_on_signal(stop.clone());
        found.extend(trial::run(&scene, &stop).await);
    }
    found
}

fn worst(found: &[Finding]) -> Verdict {
    found.iter().map(|finding| finding.judgement.verdict).max().unwrap_or(Verdict::Ok)
}

fn print_lines(found: &[Finding], took: Duration) {
    let width = found.iter().map(|finding| finding.check.len()).max().unwrap_or(0);
    for Finding { check, judgement, .. } in found {
        let colour = match judgement.verdict {
            Verdict::Ok => Colour::Green,
            Verdict::Warn => Colour::Yellow,
            Verdict::Fail => Colour::Red,
        };
        let verdict = paint(colour, &format!("{:4}", judgement.verdict.as_str()));
        say!("{verdict}  {check:width$}  {}", judgement.sentence);
        if let Some(cure) = &judgement.cure {
            let arrow = paint(Colour::Dim, "cure:");
            say!("{:4}  {:width$}  {arrow} {cure}", "", "");
        }
    }
    let number = |verdict| found.iter().filter(|f| f.judgement.verdict == verdict).count();
    say!(
        "{} ok, {} warn, {} fail, in {:.1} s",
        number(Verdict::Ok),
        number(Verdict::Warn),
        number(Verdict::Fail),
        took.as_secs_f64()
    );
}

fn print_json(found: &[Finding], took: Duration) {
    let ms = |length: Duration| u64::try_from(length.as_millis()).unwrap_or(u64::MAX);
    let line = |finding: &Finding| {
        let Finding { check, judgement, took } = finding;
        json!({
            "check": check,
            "verdict": judgement.verdict.as_str(),
            "sentence": judgement.sentence,
            "cure": judgement.cure,
            "ms": ms(*took),
        })
    };
    let checks: Vec<_> = found.iter().map(line).collect();
    say!("{}", json!({"verdict": worst(found).as_str(), "ms": ms(took), "checks": checks}));
}
