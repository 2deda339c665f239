//! `magnumd setup`: the accounts and the catalogue entry that a cloud needs for magnumd.

use std::net::{IpAddr, UdpSocket};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use magnumd::base::id::Entropy;
use magnumd::config::DEFAULT_FILE;
use magnumd::openstack::Credentials;
use magnumd::setup::{Action, Line, Names, Setup as Work};
use serde_json::json;

use super::paint::{Colour, paint};
use super::{Output, agreed, complain, credentials};

/// Make what a cloud needs for magnumd, and write its configuration.
///
/// Run it as an administrator, with OS_CLOUD or OS_AUTH_URL and the rest in the environment. The
/// plan is shown first. What setup has not made it neither changes nor removes. A second run
/// changes nothing, or finishes what the first one could not. Exit code 1 when what the plan says
/// was not done: without a terminal to ask on, only --yes does it.
#[derive(Debug, Args)]
pub struct Setup {
    /// Take back what setup has made; the configuration stays.
    #[arg(long)]
    remove: bool,
    /// Do it without asking.
    #[arg(long)]
    yes: bool,
    /// How to say it.
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
    /// The configuration to write or to complete.
    #[arg(long, value_name = "FILE", default_value = DEFAULT_FILE)]
    config: PathBuf,
    /// This machine as clients and nodes reach it; default: the address from which it reaches
    /// Keystone.
    #[arg(long, value_name = "IP")]
    address: Option<IpAddr>,
    /// The service account.
    #[arg(long, value_name = "NAME", default_value = "magnum")]
    user: String,
    /// The project of the service account.
    #[arg(long, value_name = "NAME", default_value = "service")]
    project: String,
    /// The domain of the clusters' users.
    #[arg(long, value_name = "NAME", default_value = "magnum")]
    domain: String,
    /// Default: OS_REGION_NAME or that of the cloud, else the only one there is.
    #[arg(long, value_name = "NAME")]
    region: Option<String>,
}

type Failure = Box<dyn std::error::Error>;

impl Setup {
    pub fn run(self) -> ExitCode {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let done = runtime.map_err(Failure::from).and_then(|rt| rt.block_on(self.work()));
        match done {
            Ok(code) => code,
            Err(e) => {
                complain(&e);
                ExitCode::FAILURE
            }
        }
    }

    async fn work(&self) -> Result<ExitCode, Failure> {
        let credentials = credentials::of_environment()?.ok_or(
            "there are no credentials: set OS_CLOUD, or OS_AUTH_URL, OS_USERNAME and the rest, to \
             those of an administrator",
        )?;
        let names = self.names(&credentials)?;
        let entropy = Entropy::new();
        let work = Work::log_in(&credentials, names, &self.config, entropy).await?;
        if self.remove {
            let lines = work.plan_removal().await?;
            let any = lines.iter().any(|line| line.action == Action::Remove);
            return self.go(lines, any, || work.remove()).await;
        }
        let plan = work.plan().await?;
        self.go(plan.lines.clone(), plan.changes(), || work.carry_out(&plan)).await
    }

    /// Shows the plan, asks, does it, and says what is next.
    async fn go<F: Future<Output = Result<(), magnumd::setup::SetupError>>>(
        &self,
        lines: Vec<Line>,
        any: bool,
        act: impl FnOnce() -> F,
    ) -> Result<ExitCode, Failure> {
        let refused = lines.iter().any(|line| line.action == Action::Refuse);
        if self.output == Output::Text {
            print_lines(&lines);
        }
        let goes =
            any && !refused && (self.yes || (self.output == Output::Text && agreed("Do it?")?));
        if goes {
            act().await?;
        }
        // What runs it without a terminal must not take a plan for the work.
        let (outcome, code) = match (refused, any, goes) {
            (true, ..) => ("nothing was changed: something is in the way", ExitCode::FAILURE),
            (_, false, _) => ("nothing is to be done", ExitCode::SUCCESS),
            (_, _, false) => ("nothing was changed; --yes does it", ExitCode::FAILURE),
            (_, _, true) => ("done", ExitCode::SUCCESS),
        };
        self.say(&lines, outcome, goes);
        Ok(code)
    }

    fn names(&self, credentials: &Credentials) -> Result<Names, Failure> {
        let address = match self.address {
            Some(address) => address,
            None => towards(&credentials.auth_url).ok_or_else(|| {
                format!("no way to {} was found; give --address", credentials.auth_url)
            })?,
        };
        let region = self.region.clone().or_else(|| credentials.region.clone());
        Ok(Names {
            user: self.user.clone(),
            project: self.project.clone(),
            domain: self.domain.clone(),
            region: region.unwrap_or_default(),
            address,
        })
    }

    fn say(&self, lines: &[Line], outcome: &str, done: bool) {
        let config = self.config.display();
        match self.output {
            Output::Text => {
                say!("{outcome}");
                match (done, self.remove) {
                    (true, false) => say!("next: magnumd preflight --config {config}"),
                    (true, true) => say!("{config} is left as it is"),
                    (false, _) => {}
                }
            }
            Output::Json => {
                let line = |l: &Line| json!({"action": l.action.as_str(), "what": l.what});
                let plan: Vec<_> = lines.iter().map(line).collect();
                let file = config.to_string();
                say!("{}", json!({"plan": plan, "done": done, "outcome": outcome, "config": file}));
            }
        }
    }
}

fn print_lines(lines: &[Line]) {
    for Line { action, what } in lines {
        let colour = match action {
            Action::Create => Colour::Green,
            Action::Change => Colour::Yellow,
            Action::Remove | Action::Refuse => Colour::Red,
            Action::Keep => Colour::Dim,
        };
        say!("{}  {what}", paint(colour, &format!("{:6}", action.as_str())));
    }
}

/// The address of ours from which packets go to a URL's host; nothing is sent.
fn towards(url: &str) -> Option<IpAddr> {
    let uri = url.parse::<hyper::Uri>().ok()?;
    let host = uri.host()?.trim_matches(['[', ']']).to_owned();
    let any = if host.contains(':') { "[::]:0" } else { "0.0.0.0:0" };
    let socket = UdpSocket::bind(any).ok()?;
    socket.connect((host.as_str(), uri.port_u16().unwrap_or(443))).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_to_ourselves_is_our_own_address() {
        assert_eq!(towards("http://127.0.0.1:5000/v3"), Some([127, 0, 0, 1].into()));
        assert_eq!(towards("nowhere"), None);
    }
}
